"""`unit`: one systemd unit and its one container for each instance of a service.

What there is, is read from the unit files, the links that start them at boot, one list of systemd's and one of the
engine's; a container of ours without a unit file is seen too.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gitops_mvd.dockerrun import GRACE, LABEL
from gitops_mvd.errors import StepFailed, Unavailable
from gitops_mvd.files import Entry, remove, write
from gitops_mvd.kinds import Tools
from gitops_mvd.model import App, Change, Resource
from gitops_mvd.systemd import Unit
from gitops_mvd.unitfile import EDITED, TARGET, Header, parse, render

PATTERN = "mvd-*.service"
UP = {"active", "activating", "reloading", "deactivating"}  # a restart passes through all of them
STOP_SLACK = 60.0  # seconds beyond the grace period: the unit's own TimeoutStopSec has 25

Container = Mapping[str, Any]


class Units:
    name = "unit"
    after = ("image", "network", "volume", "config")
    prunes = True

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._engine = tools.engine
        self._systemd = tools.systemd
        self._folder = tools.units
        self._docker = shutil.which("docker") or "/usr/bin/docker"
        self._seen: dict[str, tuple[tuple[int, ...], Header | None, str]] = {}

    def wanted(self, app: App) -> Iterable[Resource]:
        for service in app.services:
            for name in service.instances(app.name):
                spec = {"digest": service.digest, "port": 0, "state": "running"}
                yield Resource(self.name, name, app.name, service.name, spec, service)

    # ---- looking -----------------------------------------------------------------------------------------------------

    def observe(self) -> Iterable[Resource]:
        units, containers = self._systemd.units(PATTERN), self._containers()
        files, links = self._read()
        for name, (header, text) in files.items():
            container = containers.pop(name, None)
            port = _label(container, "port") if container and header.digest == EDITED else header.port
            state = _state(header, units.get(f"{name}.service"), container, linked=name in links)
            spec = {"digest": header.digest, "port": int(port), "state": state}
            yield Resource(self.name, name, header.app, header.service, spec, text)
        for name, container in containers.items():
            owner = _label(container, "app"), _label(container, "service")
            port = int(_label(container, "port"))
            spec = {"digest": _label(container, "digest"), "port": port, "state": "no unit file"}
            yield Resource(self.name, name, *owner, spec, "")

    def _containers(self) -> dict[str, Container]:
        listed = {found["Names"][0].lstrip("/"): found for found in self._engine.containers() if found["Names"]}
        return {name: found for name, found in listed.items() if name.startswith("mvd-") and _label(found, "digest")}

    def _read(self) -> tuple[dict[str, tuple[Header, str]], set[str]]:
        """Our unit files by instance, reading only those that changed since, and the instances that start at boot."""
        seen = {}
        try:
            for entry in os.scandir(self._folder):
                if not (entry.name.startswith("mvd-") and entry.name.endswith(".service")):
                    continue
                found = entry.stat(follow_symlinks=False)
                stamp = (found.st_mode, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
                known = self._seen.get(entry.name)
                if known and known[0] == stamp:
                    seen[entry.name] = known
                elif entry.is_file(follow_symlinks=False):
                    text = Path(entry.path).read_text("utf-8", "surrogateescape")
                    seen[entry.name] = stamp, parse(text), text
            wants = self._folder / f"{TARGET}.wants"
            links = os.listdir(wants) if wants.is_dir() else []
        except OSError as error:
            raise Unavailable(f"{error.filename or self._folder} could not be read: {error.strerror}") from error
        self._seen = seen
        ours = {name: (header, text) for name, (_, header, text) in seen.items() if header}
        return {_instance(name): file for name, file in ours.items()}, {_instance(name) for name in links}

    # ---- changing ----------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> None:
        if gone := [change.resource.name for change in changes if not change.to]:
            self._delete(gone)
        if there := [change.to for change in changes if change.to and change.to.payload]:
            self._make(there)

    def _make(self, wanted: Sequence[Resource]) -> None:
        found, _ = self._read()
        containers = self._containers()
        texts = {resource.name: self._text(resource, found.get(resource.name)) for resource in wanted}
        self._verify({name: text for name, text in texts.items() if name not in found or text != found[name][1]})
        old = [resource.name for resource in wanted if self._is_stale(resource, found, containers)]
        for name, text in texts.items():
            if name not in found or text != found[name][1]:
                write(self._path(name), Entry(text.encode("utf-8", "surrogateescape"), 0o644))
        headers = {name: parse(text) for name, text in texts.items()}
        self._systemd.enable(_units(name for name, header in headers.items() if header and header.at_boot))
        self._systemd.reload()
        self._remove_containers({name: _grace(headers[name]) for name in old})
        self._systemd.reset_failed(_units(texts))
        results = self._systemd.start(_units(texts))
        if failed := [f"{unit} {result}" for unit, result in results.items() if result != "done"]:
            raise StepFailed(f"could not be started: {', '.join(failed)}")

    def _text(self, resource: Resource, found: tuple[Header, str] | None) -> str:
        """The text to have; one that is there and was not tampered with stays, whichever version of ours wrote it."""
        service = resource.payload
        if isinstance(service, str):
            return service
        if found and (found[0].digest, found[0].port) == (resource.spec["digest"], resource.spec["port"]):
            return found[1]
        try:
            return render(
                resource.app,
                service,
                resource.name,
                port=resource.spec["port"],
                address=self._tools.address,
                folder=str(self._tools.files / service.instances(resource.app)[0]),
                docker=self._docker,
            )
        except (KeyError, ValueError) as error:
            raise StepFailed(f"{resource.app}/{service.name}: no container can be made of it: {error}") from error

    def _verify(self, texts: Mapping[str, str]) -> None:
        """Nothing is written before systemd has read it without a word."""
        if not texts:
            return
        with tempfile.TemporaryDirectory(prefix="mvd-verify-") as folder:
            paths = {name: Path(folder, f"{name}.service") for name in texts}
            for name, path in paths.items():
                write(path, Entry(texts[name].encode("utf-8", "surrogateescape"), 0o600))
            if said := self._systemd.verify(list(paths.values())):
                raise StepFailed(f"systemd does not accept the unit: {said}")

    def _is_stale(
        self, wanted: Resource, found: Mapping[str, tuple[Header, str]], containers: Mapping[str, Container]
    ) -> bool:
        """Was the container that is there made of something else than is wanted?

        One whose unit was edited and that is older than the edit is still what it was.
        """
        container = containers.get(wanted.name)
        if not container or isinstance(wanted.payload, str):
            return False
        made_of = _label(container, "digest"), int(_label(container, "port"))
        if made_of != (wanted.spec["digest"], wanted.spec["port"]):
            return True
        edited = wanted.name in found and found[wanted.name][0].digest == EDITED
        return edited and container["Created"] >= int(self._path(wanted.name).stat().st_ctime)

    def _delete(self, names: Sequence[str]) -> None:
        found, _ = self._read()
        for name in names:  # systemd's own way to disable a unit refuses one whose file is gone
            remove(self._folder / f"{TARGET}.wants" / f"{name}.service")
        self._remove_containers({name: found[name][0].grace if name in found else GRACE for name in names})
        for name in names:
            remove(self._path(name))
        self._systemd.reset_failed(_units(names))
        self._systemd.reload()

    def _remove_containers(self, graces: Mapping[str, float]) -> None:
        """Stop units and remove what is left of them: a client that was killed leaves its container running."""
        if graces:
            self._systemd.stop(_units(graces), max(graces.values()) + STOP_SLACK)
        for name in graces:
            self._engine.remove(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.service"


def _state(header: Header, unit: Unit | None, container: Container | None, *, linked: bool) -> str:
    """`running` is what it should be; that it does well is for the gates and the probes to tell."""
    active = unit.active if unit else "inactive"
    gave_up = active == "failed" and header.restart.startswith("on-failure")
    ended = header.restart == "no" and container is not None and container["State"] != "created"
    if active not in UP and not gave_up and not ended:
        return "stopped"
    return "running" if linked or not header.at_boot else "disabled"


def _label(container: Container, name: str) -> str:
    return str(container["Labels"].get(LABEL + name, "0" if name == "port" else ""))


def _grace(header: Header | None) -> float:
    return header.grace if header else GRACE


def _instance(unit: str) -> str:
    return unit.removesuffix(".service")


def _units(names: Iterable[str]) -> list[str]:
    return [f"{name}.service" for name in names]


def connect(tools: Tools) -> Units:
    return Units(tools)
