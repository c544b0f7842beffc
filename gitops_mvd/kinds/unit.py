"""`unit`: one systemd unit for each instance of a service, which starts, follows and stops its container.

It is observed by the unit files, the links that start them at boot, one list of systemd's and one of the engine's.
"""

from __future__ import annotations

import functools
import os
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain
from pathlib import Path

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import (
    LOST,
    OUTDATED,
    RUNNING,
    STAGED,
    STOP_GRACE_SECONDS,
    App,
    Change,
    Resource,
    Role,
    Service,
    unix_time,
)
from gitops_mvd.core.redact import Struck, secrets_of
from gitops_mvd.core.specs import UnitSpec, service_of, unit_spec
from gitops_mvd.docker.aliases import Aliases
from gitops_mvd.docker.answers import has_lost_networks, label, port_of, refused_start
from gitops_mvd.docker.command_line import equivalent, rejoins
from gitops_mvd.docker.create import Place, device_requests
from gitops_mvd.docker.fit import client
from gitops_mvd.docker.ownership import by_own_name, managed
from gitops_mvd.docker.possible import Possible
from gitops_mvd.docker.starts import Starts
from gitops_mvd.docker.taken import Taken, ports_of
from gitops_mvd.docker.types import ListedContainer
from gitops_mvd.kinds import Tools
from gitops_mvd.net import traffic
from gitops_mvd.systemd.client import Unit
from gitops_mvd.systemd.overrides import STALE, Overrides
from gitops_mvd.systemd.unit import (
    BUNDLES,
    CLIENT,
    EDITED,
    STARTED_FOLDER,
    SYSTEMD,
    Header,
    container_in,
    ends_left,
    engine_in,
    joined,
    parse,
    render,
)
from gitops_mvd.systemd.unit_files import UnitFile, UnitFiles, has_secret, write_unit

PATTERN = "mvd-*.service"
UP = {"active", "activating", "reloading", "deactivating"}  # a restart passes through all of them
ENDED = ("created", "exited", "dead")
CHANGES_UNIT = "changes its unit: put the change into Git and remove the file"
LOST_AFTER_SECONDS = 10.0  # that a unit is active and its container is not
MOST_SHAPES = 2000  # of texts that systemd need not read again
STOP_SLACK_SECONDS = 60.0  # beyond the grace period: the unit's own TimeoutStopSec has 25
_DIGEST = re.compile(r"\b[0-9a-f]{8,64}\b")


class Units:
    """The `payload` of a wanted instance is its Service, that of a found one its UnitFile, None if that is missing."""

    name = "unit"
    after = ("container",)
    role = Role.INSTANCE
    prunes = True
    keeps_previous = False

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._engine = tools.engine
        self._systemd = tools.systemd
        self._files = UnitFiles(tools.units)
        self._overrides = Overrides(tools.systemd, tools.units)
        self._aliases = Aliases(tools.engine)
        self._starts = Starts(tools.engine, Path(STARTED_FOLDER))
        self._accepted: set[str] = set()  # the shapes of texts that systemd has read without a complaint

    def wanted(self, app: App) -> Iterable[Resource]:
        for service in app.services:
            for name in service.instances(app.name):
                spec = UnitSpec(digest=service.digest, port=0, state=RUNNING, grace=service.stop_grace)
                yield Resource(self.name, name, app.name, service.name, spec, service)

    # ---- observing ---------------------------------------------------------------------------------------------------

    def observe(self) -> Iterable[Resource]:
        units, files = self._systemd.units(PATTERN), self._files.read()
        containers, at_boot, ended = self._containers(files), self._files.at_boot(), self._files.ended()
        overrides, bundles = self._overrides.of(_units(files)), _bundles()
        for name, file in files.items():
            header, container = file.header, containers.get(name)
            port = port_of(container) if container and header.digest == EDITED else header.port
            unit = units.get(f"{name}.service")
            override = overrides[f"{name}.service"]
            state = _state(header, unit, container, linked=name in at_boot, ended=name in ended)
            if override.is_stale and state == RUNNING:
                state = STALE
            elif self._is_lost(name, unit, container, bundles):
                state = LOST
            elif state == RUNNING and container and self._aliases.is_staged(container):
                state = STAGED
            elif state == RUNNING and (
                file.has_secret
                or engine_in(file.text) not in ("", self._engine.url)
                or _starts_in_vain(file, unit, container)
            ):
                state = OUTDATED
            spec = UnitSpec(digest=header.digest, port=port, state=state, grace=header.grace)
            if override.by:
                spec["overridden"] = f"{override.by} {CHANGES_UNIT}"
            yield Resource(self.name, name, header.app, header.service, spec, file)

    def _containers(self, files: Mapping[str, UnitFile]) -> dict[str, ListedContainer]:
        """The containers of the instances, also of those that somebody gave another name."""
        return by_own_name(self._engine.containers(), files.keys)

    def _containers_of(self, wanted: Iterable[Resource]) -> dict[str, ListedContainer]:
        """The containers of the apps of some instances, by name, without those that somebody gave another name."""
        listings = (self._engine.containers_of(app) for app in {it.app for it in wanted})
        return managed(chain.from_iterable(listings))

    def _is_lost(
        self, name: str, unit: Unit | None, container: ListedContainer | None, bundles: Set[str] | None
    ) -> bool:
        """Does a unit run without its container, or that without its process or its networks?

        It may follow one that an engine lost, or run another command.  Both must have been so for a while, as one of
        them is a moment ahead of the other.  What has not ended is left alone if it may be something that is run once.
        """
        if container is None or unit is None or (unit.active, unit.sub) != ("active", "running"):
            return False
        is_gone = self._has_lost_process(name, container, bundles)
        if not is_gone and container["State"] not in ENDED and not has_lost_networks(container):
            return False
        has_ended = container["State"] in ("exited", "dead")
        if not (has_ended or is_gone) and _follows(container) != SYSTEMD:
            return False
        phase = self._systemd.phase(f"{name}.service")
        if not phase or phase.active != "active" or time.monotonic() - phase.changed < LOST_AFTER_SECONDS:
            return False
        if not has_ended:
            return True
        ended = self._engine.instance(name)
        return bool(ended and ended.finished and time.time() - unix_time(ended.finished) >= LOST_AFTER_SECONDS)

    def _has_lost_process(self, name: str, container: ListedContainer, bundles: Set[str] | None) -> bool:
        """Has its process ended, and the engine not heard of it, as its containerd was away?

        The engine is asked only about a container that containerd has no folder of.
        """
        if container["State"] != "running" or bundles is None or container["Id"] in bundles:
            return False
        found = self._engine.instance(name)
        return bool(found and found.state == "running" and found.pid and not traffic.is_there(found.pid))

    # ---- changing ----------------------------------------------------------------------------------------------------

    def prepare(self, changes: Sequence[Change]) -> None:
        """Beside the units, also their containers are looked at, if any instance stops for another one."""
        wanted = {it.name: it for it in _made(changes)}
        files, containers = self._files.read(), self._containers_of(wanted.values())
        new = _new(self._texts(wanted.values(), files, containers), files)
        self._files.require_managed(new)
        self._verify(new)
        idle = [it for name, it in wanted.items() if name in containers and containers[name]["State"] != "running"]
        taken = Taken(self._engine, self._systemd.outside)
        possible = Possible(self._engine, self._systemd.outside)
        for instance in idle:
            if isinstance(instance.payload, Service):
                possible.refuse_devices(instance.payload.name, device_requests(instance.payload.run))
                if not instance.payload.schedule:
                    taken.refuse(ports_of(instance.payload))
        if any(change.to is None for change in changes):
            self._refuse_impossible([it.name for it in idle if containers[it.name]["State"] == "created"])

    def _refuse_impossible(self, names: Iterable[str]) -> None:
        """Raise StepFailed or NotNow for a container that could not start."""
        possible = Possible(self._engine, self._systemd.outside)
        for name in names:
            if found := self._engine.inspect(name):
                possible.refuse(found)

    def apply(self, changes: Sequence[Change]) -> None:
        if deleted := [change.resource.name for change in changes if not change.to]:
            self._delete(deleted)
        if renamed := [change.to for change in changes if change.to and _is_renamed(change)]:
            containers = self._containers_of(renamed)
            for resource in renamed:
                self._set_aliases(resource, containers.get(resource.name))
        if made := _made(changes):
            self._make(made)

    def _texts(
        self, wanted: Iterable[Resource], files: Mapping[str, UnitFile], containers: Mapping[str, ListedContainer]
    ) -> dict[str, str]:
        """The texts to have, by name."""
        return {it.name: self._text(it, files.get(it.name), containers.get(it.name)) for it in wanted}

    def _make(self, wanted: Sequence[Resource]) -> None:
        files, containers = self._files.read(), self._containers_of(wanted)
        texts = self._texts(wanted, files, containers)
        new = _new(texts, files)
        self._files.require_managed(new)
        self._verify(new)
        for name, text in new.items():
            self._files.write(name, text)
        new_here = [it for it in wanted if it.name not in files and it.name in containers]
        early = [containers[it.name]["Id"] for it in new_here if _may_start_early(it, containers[it.name])]
        with self._starts.begun(early):
            started = self._to_be_started(wanted, texts, files, containers)
        if started:
            self._start(started, {resource.name: resource.service for resource in wanted})

    def _to_be_started(
        self,
        wanted: Sequence[Resource],
        texts: Mapping[str, str],
        files: Mapping[str, UnitFile],
        containers: Mapping[str, ListedContainer],
    ) -> list[str]:
        """Have systemd know the units that are written; those that are to be started."""
        headers = {name: parse(text) for name, text in texts.items()}
        for name, header in headers.items():
            if header and header.at_boot:
                self._files.enable(name)
        loaded = self._systemd.units(PATTERN)
        units = {name: loaded[f"{name}.service"] for name in texts if f"{name}.service" in loaded}
        stale, bundles = {name for name, it in self._overrides.of(_units(files)).items() if it.is_stale}, _bundles()
        if units:  # what is not loaded is read as it starts
            self._systemd.reload()
        lost = {
            name
            for name, unit in units.items()
            if self._is_lost(name, unit, containers.get(name), bundles)
            or (unit.active == "activating" and f"{name}.service" in stale)  # by commands that are no longer its own
        }
        self._stop({name: _grace(headers[name]) for name in lost}, files)
        active = {name for name, unit in units.items() if unit.active == "active"} - lost
        started = [name for name, header in headers.items() if not (header and header.scheduled) and name not in active]
        for resource in wanted:
            self._set_aliases(resource, containers.get(resource.name))
        if started:
            self._systemd.reset_failed(_units(started))
        return started

    def _start(self, names: Sequence[str], services: Mapping[str, str]) -> None:
        """Start the units.  What the first one failed of at first is told, as its later tries may fail of that."""
        began = time.time()
        try:
            self._systemd.start(_units(names))
        except StepFailed as error:
            failed = next((name for name in names if f"{name}.service: " in error.message), "")
            said = self._systemd.journal(f"{failed}.service", lines=1, since=began) if failed else []
            if said:
                raise refused_start(services.get(failed, ""), said[0]) from error
            error.service = services.get(failed, "")
            raise

    def _set_aliases(self, wanted: Resource, container: ListedContainer | None) -> None:
        """Let a container have the aliases of its service, or take them while its instance is staged.

        One that never ran is left as it was made: it has no address yet, which it could keep.
        """
        if container is None or container["State"] == "created":
            return
        service = wanted.payload if isinstance(wanted.payload, Service) else None
        state = unit_spec(wanted)["state"]
        if state == STAGED and not self._aliases.is_staged(container):
            self._aliases.take(container)
        elif state != STAGED and service and self._aliases.is_staged(container):
            self._aliases.give(container, service.endpoints(wanted.app))

    def _text(self, wanted: Resource, found: UnitFile | None, container: ListedContainer | None) -> str:
        """The text to have.  One that was found and not tampered with stays, whichever version of mvd wrote it.

        Unless that version had units make their containers, or not end what an earlier start has left, or left a secret
        in its comment, or the container is another one by now, or somebody else is to follow it, or the engine's socket
        is another one.
        """
        if isinstance(wanted.payload, UnitFile):
            return wanted.payload.text
        service = service_of(wanted)
        spec = unit_spec(wanted)
        follows, its_id = _follows(container), container["Id"] if container else ""
        if (
            found
            and (found.header.digest, found.header.port, found.header.follows)
            == (spec["digest"], spec["port"], follows)
            and not found.has_secret
            and not _ends_nothing(found)
            and container_in(found.text) in ("", its_id)
            and engine_in(found.text) in ("", self._engine.url)
        ):
            return found.text
        place = Place(
            files=str(self._tools.files / service.instances(wanted.app)[0]),
            folders=str(self._tools.folders),
            port=spec["port"],
            address=self._tools.address,
            follows="" if follows == CLIENT else follows,
            revision=label(container, "revision") if container else "",
        )
        try:
            rendered = functools.partial(
                render,
                wanted.app,
                service,
                wanted.name,
                spec["port"],
                follows=follows,
                container=its_id,
                revision=place.revision,
                rejoins=rejoins(wanted.app, service, wanted.name),
                docker=client(),
                engine=self._engine.url,
            )
            struck = Struck(secrets_of(service, sure=True))
            commands = equivalent(wanted.app, service, wanted.name, place)
            text = rendered(like=[[*map(struck.out_of, words)] for words in commands])
            return rendered() if has_secret(text) else text
        except (KeyError, ValueError) as error:
            raise StepFailed(f"{wanted.app}/{wanted.service}: no unit can be made of it: {error}") from error

    def _verify(self, texts: Mapping[str, str]) -> None:
        """Nothing is written before systemd has read it, or one of its shape, without a complaint."""
        shapes = {_shape(name, text): name for name, text in texts.items()}
        new = [name for shape, name in shapes.items() if shape not in self._accepted]
        if not new:
            return
        with tempfile.TemporaryDirectory(prefix="mvd-verify-") as folder:
            paths = [write_unit(Path(folder), name, texts[name]) for name in new]
            if complaints := self._systemd.verify(paths):
                raise StepFailed(f"systemd does not accept the unit: {complaints}")
        if len(self._accepted) > MOST_SHAPES:
            self._accepted.clear()
        self._accepted.update(shapes)

    def _delete(self, names: Sequence[str]) -> None:
        files = self._files.read()
        for name in names:
            self._files.disable(name)
        self._stop({name: _grace(files[name].header if name in files else None) for name in names}, files)
        for name in names:
            self._files.remove(name)
        self._systemd.reset_failed(_units(names))
        if self._systemd.units(PATTERN).keys() & set(_units(names)):  # still loaded: multi-user.target wants it
            self._systemd.reload()

    def _stop(self, graces: Mapping[str, float], files: Mapping[str, UnitFile]) -> None:
        """Stop units and what is left of them: one whose follower was killed leaves its container running."""
        if not graces:
            return
        self._systemd.stop(_units(graces), max(graces.values()) + STOP_SLACK_SECONDS)
        containers = self._containers(files)
        for name in graces.keys() & containers.keys():
            if containers[name]["State"] not in ENDED:
                self._engine.stop(containers[name]["Id"], graces[name])


def _bundles() -> Set[str] | None:
    """The ids of the containers that containerd runs; None if it keeps them elsewhere."""
    try:
        return {*os.listdir(BUNDLES)}
    except OSError:
        return None


def _state(header: Header, unit: Unit | None, container: ListedContainer | None, *, linked: bool, ended: bool) -> str:
    """`running` is what it should be; whether it is healthy, gates and probes find out.

    `ended` says whether the container has ended by itself, as one may that is not always started again.
    """
    active, status = unit.active if unit else "inactive", container["Status"] if container else ""
    is_current = header.digest == EDITED or header.follows == _follows(container)
    gave_up = active == "failed" and ":" in header.restart and status.startswith("Exited")
    is_done = ended and header.restart.startswith("on-failure") and status.startswith("Exited (0)")
    was_run = header.restart == "no" and container is not None and container["State"] != "created"
    # A timer starts what is scheduled, which most of the time just waits for that.
    if not (header.scheduled or active in UP or (is_current and (gave_up or is_done or was_run))):
        return "stopped"
    if header.at_boot and not linked:
        return "disabled"
    return RUNNING if is_current else OUTDATED if container else "stopped"


def _ends_nothing(file: UnitFile) -> bool:
    """Is it the unit of an older version, which does not end what an earlier start of its container has left?"""
    return file.header.follows == SYSTEMD and not ends_left(file.text)


def _starts_in_vain(file: UnitFile, unit: Unit | None, container: ListedContainer | None) -> bool:
    """May such a unit ask for a start again and again, which the engine refuses because of what was left?"""
    is_starting = unit is not None and unit.active == "activating"
    return is_starting and container is not None and container["State"] in ENDED and _ends_nothing(file)


def _shape(name: str, text: str) -> str:
    """What systemd reads of a text, without its name and digests: the same for a service's next version.

    Also for another service with the same options, if systemd follows it: a client is given names to print.
    """
    lines = (line for line in text.splitlines() if not line.startswith(("#", "Description=")))
    return _DIGEST.sub("", "\n".join(lines).replace(name, ""))


def _follows(container: ListedContainer | None) -> str:
    """Who is to follow a container, as it says itself: those of older versions say nothing, and have a client."""
    return (label(container, "follows") if container else "") or CLIENT


def _made(changes: Iterable[Change]) -> list[Resource]:
    """The instances that changes write a unit for, or start."""
    return [change.to for change in changes if change.to and change.to.payload and not _is_renamed(change)]


def _new(texts: Mapping[str, str], files: Mapping[str, UnitFile]) -> dict[str, str]:
    """The texts that are not on the disk."""
    return {name: text for name, text in texts.items() if name not in files or text != files[name].text}


def _may_start_early(wanted: Resource, container: ListedContainer) -> bool:
    """May a new container run before its unit asks for its start, and then only follows it?

    It does no harm there if one ends before that, and is started once more.
    """
    service = wanted.payload
    return (
        (container["State"], _follows(container)) == ("created", SYSTEMD)
        and isinstance(service, Service)
        and service.restart in ("always", "unless-stopped")
        and not joined(service)
    )


def _is_renamed(change: Change) -> bool:
    """Does it only get or lose its aliases?"""
    if not (change.was and change.to):
        return False
    states = {unit_spec(change.was)["state"], unit_spec(change.to)["state"]}
    return states == {RUNNING, STAGED} and change.was.with_spec(state="") == change.to.with_spec(state="")


def _grace(header: Header | None) -> float:
    return header.grace if header else STOP_GRACE_SECONDS


def _units(names: Iterable[str]) -> list[str]:
    return [f"{name}.service" for name in names]


def connect(tools: Tools) -> Units:
    return Units(tools)
