"""`unit`: one systemd unit and its one container for each instance of a service.

What there is, is read from the unit files, the links that start them at boot, one list of systemd's and one of the
engine's; a container of ours without a unit file is seen too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from stat import S_ISREG
from typing import Any, NamedTuple

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import LABEL, RUNNING, STAGED, STOP_GRACE_SECONDS, App, Change, Json, Resource, Role, Service
from gitops_mvd.docker.answers import verdict
from gitops_mvd.docker.create import create, rejoin
from gitops_mvd.kinds import Tools
from gitops_mvd.state.files import Entry, readable, remove, write
from gitops_mvd.systemd.client import Unit
from gitops_mvd.systemd.unit import EDITED, TARGET, Header, parse, render

PATTERN = "mvd-*.service"
UP = {"active", "activating", "reloading", "deactivating"}  # a restart passes through all of them
STOP_SLACK = 60.0  # seconds beyond the grace period: the unit's own TimeoutStopSec has 25
CLIENT_WITHIN = 60.0  # seconds for one call of the docker command

# What the docker command says where it is as it should be already.
SO_ALREADY = ("is already in use by container", "already exists in network", "is not connected to")
# What it says if the engine did not answer: at all, to the end, or in its latest words.
NO_ANSWER = ("Cannot connect to the Docker daemon", "error during connect", "failed to connect to the docker API")
NO_NETWORK = ("default", "bridge", "host", "none")  # where nobody has a name

Container = Mapping[str, Any]
_stamp = attrgetter("st_mode", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


class File(NamedTuple):
    """A unit file of ours: `stamp` changes whenever it does."""

    stamp: tuple[int, ...]
    text: str
    header: Header

    @property
    def changed(self) -> int:
        """When, in whole seconds since the epoch; no program can set this time back."""
        return self.stamp[-1] // 10**9


class Units:
    name = "unit"
    after = ("image", "network", "volume", "config")
    role = Role.INSTANCE
    prunes = True
    keeps_previous = False

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._engine = tools.engine
        self._systemd = tools.systemd
        self._folder = tools.units
        self._docker = shutil.which("docker") or "/usr/bin/docker"
        self._seen: Mapping[str, File] = {}
        self._named: dict[tuple[str, ...], bool] = {}  # a container and its endpoints -> has it its names?

    def wanted(self, app: App) -> Iterable[Resource]:
        for service in app.services:
            for name in service.instances(app.name):
                spec = {"digest": service.digest, "port": 0, "state": "running", "grace": service.stop_grace}
                yield Resource(self.name, name, app.name, service.name, spec, service)

    # ---- looking -----------------------------------------------------------------------------------------------------

    def observe(self) -> Iterable[Resource]:
        units, containers = self._systemd.units(PATTERN), self._containers()
        at_boot = self._at_boot()
        for name, file in self._files().items():
            header, container = file.header, containers.pop(name, None)
            port = int(_label(container, "port")) if container and header.digest == EDITED else header.port
            state = _state(header, units.get(f"{name}.service"), container, linked=name in at_boot)
            if state == RUNNING and container and self._is_staged(container):
                state = STAGED
            spec = {"digest": header.digest, "port": port, "state": state, "grace": header.grace}
            yield Resource(self.name, name, header.app, header.service, spec, file.text)
        for name, container in containers.items():
            digest, port = _label(container, "digest"), int(_label(container, "port"))
            spec = {"digest": digest, "port": port, "state": "no unit file", "grace": STOP_GRACE_SECONDS}
            yield Resource(self.name, name, _label(container, "app"), _label(container, "service"), spec, "")

    def _containers(self) -> dict[str, Container]:
        listed = {found["Names"][0].lstrip("/"): found for found in self._engine.containers() if found["Names"]}
        return {name: found for name, found in listed.items() if name.startswith("mvd-") and _label(found, "digest")}

    def _is_staged(self, container: Container) -> bool:
        """Does it lack the name of its service on its networks, made without it or having lost it?

        The list of containers has no names.  As it was made it says so by a label; where it joined its networks anew,
        which the list shows by an address that was asked for, it is asked once for each endpoint.
        """
        there = _networks(container)
        if (first := container["HostConfig"].get("NetworkMode")) in there:
            if all(endpoint["IPAMConfig"] is None for endpoint in there.values()):
                return bool(_label(container, "staged"))
        elif first in NO_NETWORK or first.startswith("container:"):
            return False
        key = (container["Id"], *sorted(endpoint["EndpointID"] for endpoint in there.values()))
        if key not in self._named:
            aliases = self._engine.aliases(container["Id"])
            networks = _label(container, "staged").split(",") if _label(container, "staged") else [first]
            self._named[key] = all(_label(container, "service") in aliases.get(name, ()) for name in networks)
        return not self._named[key]

    def _files(self) -> Mapping[str, File]:
        """Our unit files by instance.  Reads only those that changed since the last time."""
        with readable(self._folder):
            names = [name for name in os.listdir(self._folder) if name.startswith("mvd-") and name.endswith(".service")]
            files = {_instance(name): self._file(name) for name in names}
        self._seen = {name: file for name, file in files.items() if file}
        return self._seen

    def _file(self, name: str) -> File | None:
        path = os.path.join(self._folder, name)
        try:
            found = os.lstat(path)
            stamp = _stamp(found)
            known = self._seen.get(_instance(name))
            if known and known.stamp == stamp:
                return known
            text = Path(path).read_text("utf-8", "surrogateescape") if S_ISREG(found.st_mode) else ""
        except FileNotFoundError:  # another app was settled meanwhile
            return None
        header = parse(text)
        return File(stamp, text, header) if header else None

    def _at_boot(self) -> set[str]:
        """The instances that start when the server does."""
        wants = self._folder / f"{TARGET}.wants"
        with readable(wants):
            return {_instance(name) for name in os.listdir(wants)} if wants.is_dir() else set()

    # ---- changing ----------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> None:
        if gone := [change.resource.name for change in changes if not change.to]:
            self._delete(gone)
        if renamed := [change.to for change in changes if change.to and _is_renamed(change)]:
            containers = self._containers()
            for resource in renamed:
                self._set_names(resource, containers.get(resource.name))
        if there := [change.to for change in changes if change.to and change.to.payload and not _is_renamed(change)]:
            self._make(there)

    def _make(self, wanted: Sequence[Resource]) -> None:
        files, containers = self._files(), self._containers()
        texts = {resource.name: self._text(resource, files.get(resource.name)) for resource in wanted}
        new = {name: text for name, text in texts.items() if name not in files or text != files[name].text}
        self._verify(new)
        stale = [r.name for r in wanted if _is_stale(r, files.get(r.name), containers.get(r.name))]
        for name, text in new.items():
            write(self._path(name), _entry(text))
        headers = {name: parse(text) for name, text in texts.items()}
        self._systemd.enable(_units(name for name, header in headers.items() if header and header.at_boot))
        started = _units(name for name, header in headers.items() if not (header and header.scheduled))
        if self._systemd.units(PATTERN).keys() & set(_units(texts)):  # what is not loaded is read as it starts
            self._systemd.reload()
        self._stop({name: _grace(headers[name]) for name in stale})
        for resource in wanted:
            self._set_names(resource, None if resource.name in stale else containers.get(resource.name))
        self._systemd.reset_failed(started)
        self._systemd.start(started)

    def _set_names(self, wanted: Resource, container: Container | None) -> None:
        """Make the container of a staged instance, which its unit then adopts; give it its names, or take them away."""
        service = wanted.payload if isinstance(wanted.payload, Service) else None
        if wanted.spec["state"] == STAGED and container is None:
            if service:
                for words in create(wanted.app, service, wanted.name, **self._where(wanted), named=False):
                    self._client(*words)
        elif wanted.spec["state"] == STAGED and container and not self._is_staged(container):
            self._rejoin(container, {network: {} for network in _networks(container)})
        elif wanted.spec["state"] != STAGED and container and service and self._is_staged(container):
            self._rejoin(container, service.run.get("networks", {}))

    def _rejoin(self, container: Container, endpoints: Mapping[str, Json]) -> None:
        """Have it join its networks anew, with its address where the network has them given.

        By the first one it is told whether it has its names: it loses that first, and gets it last.
        """
        name = container["Names"][0].lstrip("/")
        first, gets = container["HostConfig"]["NetworkMode"], any(endpoints.values())
        for network in sorted(endpoints, key=lambda network: (network != first) != gets):
            address = _networks(container).get(network, {}).get("IPAddress")
            leave, join = rejoin(name, network, endpoints[network])
            self._client(*leave)
            try:
                if not address:
                    raise StepFailed("its address is not known any more")
                self._client(*rejoin(name, network, {**endpoints[network], "ipv4_address": address})[1])
            except StepFailed:
                self._client(*join)

    def _client(self, *words: str) -> None:
        """Run the docker command.  What is so already, as after a crash in the middle, is fine."""
        command = (self._docker, *words)
        try:
            ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=CLIENT_WITHIN)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unavailable(f"docker {words[0]} could not be run: {type(error).__name__}") from error
        said = ran.stderr.decode(errors="replace").strip()
        if ran.returncode and not any(so in said for so in SO_ALREADY):
            status = 500 if any(so in said for so in NO_ANSWER) else 400
            raise verdict(status, said, f"docker {' '.join(words[:2])}")

    def _where(self, wanted: Resource) -> dict[str, Any]:
        folder = str(self._tools.files / wanted.payload.instances(wanted.app)[0])
        return {"port": wanted.spec["port"], "address": self._tools.address, "folder": folder}

    def _text(self, wanted: Resource, there: File | None) -> str:
        """The text to have.  One that is there and was not tampered with stays, whichever version of ours wrote it."""
        if isinstance(wanted.payload, str):
            return wanted.payload
        if there and (there.header.digest, there.header.port) == (wanted.spec["digest"], wanted.spec["port"]):
            return there.text
        try:
            creates = create(wanted.app, wanted.payload, wanted.name, **self._where(wanted))
            return render(wanted.app, wanted.payload, wanted.name, creates, wanted.spec["port"], docker=self._docker)
        except (KeyError, ValueError) as error:
            raise StepFailed(f"{wanted.app}/{wanted.service}: no unit can be made of it: {error}") from error

    def _verify(self, texts: Mapping[str, str]) -> None:
        """Nothing is written before systemd has read it without a word."""
        if texts:
            with tempfile.TemporaryDirectory(prefix="mvd-verify-") as folder:
                paths = {name: Path(folder, f"{name}.service") for name in texts}
                for name, path in paths.items():
                    write(path, _entry(texts[name]))
                if said := self._systemd.verify(list(paths.values())):
                    raise StepFailed(f"systemd does not accept the unit: {said}")

    def _delete(self, names: Sequence[str]) -> None:
        files = self._files()
        for name in names:  # systemd's own way to disable a unit refuses one whose file is gone
            remove(self._folder / f"{TARGET}.wants" / f"{name}.service")
        self._stop({name: _grace(files[name].header if name in files else None) for name in names})
        for name in names:
            remove(self._path(name))
        self._systemd.reset_failed(_units(names))
        if self._systemd.units(PATTERN).keys() & set(_units(names)):  # still loaded: multi-user.target wants it
            self._systemd.reload()

    def _stop(self, graces: Mapping[str, float]) -> None:
        """Stop units and remove what is left of them: a client that was killed leaves its container running."""
        if graces:
            self._systemd.stop(_units(graces), max(graces.values()) + STOP_SLACK)
        for name in graces:
            self._engine.remove(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.service"


def _state(header: Header, unit: Unit | None, container: Container | None, *, linked: bool) -> str:
    """`running` is what it should be; that it does well is for the gates and the probes to tell."""
    if header.scheduled:
        return "running"  # its timer starts it, and most of the time it just waits for that
    active = unit.active if unit else "inactive"
    gave_up = active == "failed" and header.restart.startswith("on-failure")
    ended = header.restart == "no" and container is not None and container["State"] != "created"
    if active not in UP and not gave_up and not ended:
        return "stopped"
    return "running" if linked or not header.at_boot else "disabled"


def _is_renamed(change: Change) -> bool:
    """Does it only get or lose its names?"""
    if not (change.was and change.to):
        return False
    states = {change.was.spec["state"], change.to.spec["state"]}
    return states == {RUNNING, STAGED} and change.was.with_spec(state="") == change.to.with_spec(state="")


def _is_stale(wanted: Resource, there: File | None, container: Container | None) -> bool:
    """Was the container that is there made of something else than is wanted?

    One whose unit was edited, and that is older than the edit, is still what it was.
    """
    if container is None or isinstance(wanted.payload, str):
        return False
    if (_label(container, "digest"), int(_label(container, "port"))) != (wanted.spec["digest"], wanted.spec["port"]):
        return True
    return there is not None and there.header.digest == EDITED and container["Created"] >= there.changed


def _networks(container: Container) -> Mapping[str, Json]:
    """The networks that it is on, by name, on which containers can have names."""
    networks: Mapping[str, Json] = container["NetworkSettings"]["Networks"] or {}
    return {name: endpoint for name, endpoint in networks.items() if name not in NO_NETWORK}


def _label(container: Container, name: str) -> str:
    return str(container["Labels"].get(LABEL + name, "0" if name == "port" else ""))


def _entry(text: str) -> Entry:
    return Entry(text.encode("utf-8", "surrogateescape"), 0o644)


def _grace(header: Header | None) -> float:
    return header.grace if header else STOP_GRACE_SECONDS


def _instance(unit: str) -> str:
    return unit.removesuffix(".service")


def _units(names: Iterable[str]) -> list[str]:
    return [f"{name}.service" for name in names]


def connect(tools: Tools) -> Units:
    return Units(tools)
