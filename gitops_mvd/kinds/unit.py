"""`unit`: one systemd unit and its one container for each instance of a service.

It is observed by the unit files, the links that start them at boot, one list of systemd's and one of the
engine's; a managed container without a unit file is observed, too.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import RUNNING, STAGED, STOP_GRACE_SECONDS, App, Change, Resource, Role, Service
from gitops_mvd.core.specs import UnitSpec, service_of, unit_spec
from gitops_mvd.docker.aliases import Aliases
from gitops_mvd.docker.answers import label, managed, port_of
from gitops_mvd.docker.command import DockerCommand
from gitops_mvd.docker.create import create
from gitops_mvd.docker.types import ListedContainer
from gitops_mvd.kinds import Tools
from gitops_mvd.systemd.client import Unit
from gitops_mvd.systemd.unit import EDITED, Header, parse, render
from gitops_mvd.systemd.unit_files import UnitFile, UnitFiles, write_unit

PATTERN = "mvd-*.service"
UP = {"active", "activating", "reloading", "deactivating"}  # a restart passes through all of them
STOP_SLACK_SECONDS = 60.0  # beyond the grace period: the unit's own TimeoutStopSec has 25


class Units:
    """The `payload` of a wanted instance is its Service, that of a found one its UnitFile, None if that is missing."""

    name = "unit"
    after = ("image", "network", "volume", "config")
    role = Role.INSTANCE
    prunes = True
    keeps_previous = False

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._engine = tools.engine
        self._systemd = tools.systemd
        self._files = UnitFiles(tools.units)
        self._docker = DockerCommand()
        self._aliases = Aliases(tools.engine, self._docker)

    def wanted(self, app: App) -> Iterable[Resource]:
        for service in app.services:
            for name in service.instances(app.name):
                spec = UnitSpec(digest=service.digest, port=0, state=RUNNING, grace=service.stop_grace)
                yield Resource(self.name, name, app.name, service.name, spec, service)

    # ---- observing ---------------------------------------------------------------------------------------------------

    def observe(self) -> Iterable[Resource]:
        units, containers = self._systemd.units(PATTERN), managed(self._engine.containers())
        at_boot = self._files.at_boot()
        for name, file in self._files.read().items():
            header, container = file.header, containers.pop(name, None)
            port = port_of(container) if container and header.digest == EDITED else header.port
            state = _state(header, units.get(f"{name}.service"), container, linked=name in at_boot)
            if state == RUNNING and container and self._aliases.is_staged(container):
                state = STAGED
            spec = UnitSpec(digest=header.digest, port=port, state=state, grace=header.grace)
            yield Resource(self.name, name, header.app, header.service, spec, file)
        for name, container in containers.items():
            spec = UnitSpec(
                digest=label(container, "digest"),
                port=port_of(container),
                state="no unit file",
                grace=STOP_GRACE_SECONDS,
            )
            yield Resource(self.name, name, label(container, "app"), label(container, "service"), spec)

    # ---- changing ----------------------------------------------------------------------------------------------------

    def apply(self, changes: Sequence[Change]) -> None:
        if deleted := [change.resource.name for change in changes if not change.to]:
            self._delete(deleted)
        if renamed := [change.to for change in changes if change.to and _is_renamed(change)]:
            containers = managed(self._engine.containers())
            for resource in renamed:
                self._set_aliases(resource, containers.get(resource.name))
        if made := [change.to for change in changes if change.to and change.to.payload and not _is_renamed(change)]:
            self._make(made)

    def _make(self, wanted: Sequence[Resource]) -> None:
        files, containers = self._files.read(), managed(self._engine.containers())
        texts = {resource.name: self._text(resource, files.get(resource.name)) for resource in wanted}
        new = {name: text for name, text in texts.items() if name not in files or text != files[name].text}
        self._verify(new)
        stale = [r.name for r in wanted if _is_stale(r, files.get(r.name), containers.get(r.name))]
        for name, text in new.items():
            self._files.write(name, text)
        headers = {name: parse(text) for name, text in texts.items()}
        self._systemd.enable(_units(name for name, header in headers.items() if header and header.at_boot))
        started = _units(name for name, header in headers.items() if not (header and header.scheduled))
        if self._systemd.units(PATTERN).keys() & set(_units(texts)):  # what is not loaded is read as it starts
            self._systemd.reload()
        self._stop({name: _grace(headers[name]) for name in stale})
        for resource in wanted:
            self._set_aliases(resource, None if resource.name in stale else containers.get(resource.name))
        self._systemd.reset_failed(started)
        self._systemd.start(started)

    def _set_aliases(self, wanted: Resource, container: ListedContainer | None) -> None:
        """Create the container of a staged instance, which its unit then adopts; give it its aliases, or take them."""
        service = wanted.payload if isinstance(wanted.payload, Service) else None
        state = unit_spec(wanted)["state"]
        if state == STAGED and container is None:
            if service:
                for words in self._creates(wanted, service, named=False):
                    self._docker.run(*words)
        elif state == STAGED and container and not self._aliases.is_staged(container):
            self._aliases.take(container)
        elif state != STAGED and container and service and self._aliases.is_staged(container):
            self._aliases.give(container, service.run.get("networks", {}))

    def _creates(self, wanted: Resource, service: Service, *, named: bool = True) -> list[list[str]]:
        """The commands that create the container of an instance."""
        folder = str(self._tools.files / service.instances(wanted.app)[0])
        port, address = unit_spec(wanted)["port"], self._tools.address
        return create(wanted.app, service, wanted.name, port=port, address=address, folder=folder, named=named)

    def _text(self, wanted: Resource, found: UnitFile | None) -> str:
        """The text to have.  One that was found and not tampered with stays, whichever version of mvd wrote it."""
        if isinstance(wanted.payload, UnitFile):
            return wanted.payload.text
        service = service_of(wanted)
        spec = unit_spec(wanted)
        if found and (found.header.digest, found.header.port) == (spec["digest"], spec["port"]):
            return found.text
        try:
            creates = self._creates(wanted, service)
            return render(wanted.app, service, wanted.name, creates, spec["port"], docker=self._docker.path)
        except (KeyError, ValueError) as error:
            raise StepFailed(f"{wanted.app}/{wanted.service}: no unit can be made of it: {error}") from error

    def _verify(self, texts: Mapping[str, str]) -> None:
        """Nothing is written before systemd has read it without a complaint."""
        if texts:
            with tempfile.TemporaryDirectory(prefix="mvd-verify-") as folder:
                paths = [write_unit(Path(folder), name, text) for name, text in texts.items()]
                if complaints := self._systemd.verify(paths):
                    raise StepFailed(f"systemd does not accept the unit: {complaints}")

    def _delete(self, names: Sequence[str]) -> None:
        files = self._files.read()
        for name in names:
            self._files.disable(name)
        self._stop({name: _grace(files[name].header if name in files else None) for name in names})
        for name in names:
            self._files.remove(name)
        self._systemd.reset_failed(_units(names))
        if self._systemd.units(PATTERN).keys() & set(_units(names)):  # still loaded: multi-user.target wants it
            self._systemd.reload()

    def _stop(self, graces: Mapping[str, float]) -> None:
        """Stop units and remove what is left of them: a client that was killed leaves its container running."""
        if graces:
            self._systemd.stop(_units(graces), max(graces.values()) + STOP_SLACK_SECONDS)
        for name in graces:
            self._engine.remove(name)


def _state(header: Header, unit: Unit | None, container: ListedContainer | None, *, linked: bool) -> str:
    """`running` is what it should be; whether it is healthy, gates and probes find out."""
    if header.scheduled:
        return RUNNING  # its timer starts it, and most of the time it just waits for that
    active = unit.active if unit else "inactive"
    gave_up = active == "failed" and header.restart.startswith("on-failure")
    ended = header.restart == "no" and container is not None and container["State"] != "created"
    if active not in UP and not gave_up and not ended:
        return "stopped"
    return RUNNING if linked or not header.at_boot else "disabled"


def _is_renamed(change: Change) -> bool:
    """Does it only get or lose its aliases?"""
    if not (change.was and change.to):
        return False
    states = {unit_spec(change.was)["state"], unit_spec(change.to)["state"]}
    return states == {RUNNING, STAGED} and change.was.with_spec(state="") == change.to.with_spec(state="")


def _is_stale(wanted: Resource, found: UnitFile | None, container: ListedContainer | None) -> bool:
    """Was the existing container made of something else than is wanted?

    One whose unit was edited, and that is older than the edit, is still what it was.
    """
    if container is None or isinstance(wanted.payload, UnitFile):
        return False
    spec = unit_spec(wanted)
    if (label(container, "digest"), port_of(container)) != (spec["digest"], spec["port"]):
        return True
    return found is not None and found.header.digest == EDITED and container["Created"] >= found.changed


def _grace(header: Header | None) -> float:
    return header.grace if header else STOP_GRACE_SECONDS


def _units(names: Iterable[str]) -> list[str]:
    return [f"{name}.service" for name in names]


def connect(tools: Tools) -> Units:
    return Units(tools)
