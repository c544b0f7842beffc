"""`timer`: one systemd timer for each service that runs on a schedule, of the same name as the unit that it starts.

Its file is sealed and says whose it is, as that of a unit does.  systemd keeps the time of the last run in a file of
its own, the stamp: so it catches up on what was missed while the server was off.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Change, Resource, Role
from gitops_mvd.core.specs import TimerSpec, timer_spec
from gitops_mvd.kinds import Tools
from gitops_mvd.state.files import Entry, readable, remove, write
from gitops_mvd.systemd.client import Unit
from gitops_mvd.systemd.overrides import STALE, Overrides
from gitops_mvd.systemd.unit import EDITED, NOTICE, sealed, unsealed
from gitops_mvd.systemd.unit_files import link, require_managed

PATTERN = "mvd-*.timer"
TARGET = "timers.target"
STOP_WITHIN_SECONDS = 30.0  # a timer has nothing to wait for


class TimerFile(NamedTuple):
    """A timer file that says whose it is; `intact` if it is just as it was written."""

    text: str
    app: str
    service: str
    schedule: str
    intact: bool


class Timers:
    name = "timer"
    after = ("unit",)
    role = Role.TIMER
    prunes = True
    keeps_previous = False

    def __init__(self, tools: Tools) -> None:
        self._systemd = tools.systemd
        self._folder = tools.units
        self._wants = tools.units / f"{TARGET}.wants"
        self._overrides = Overrides(tools.systemd, tools.units)
        self._accepted: dict[str, str] = {}  # by name, the schedule that systemd has read as a time

    def wanted(self, app: App) -> Iterable[Resource]:
        for service in app.services:
            if service.schedule:
                spec = TimerSpec(schedule=service.schedule, state="active")
                yield Resource(self.name, service.instances(app.name)[0], app.name, service.name, spec)

    # ---- observing ---------------------------------------------------------------------------------------------------

    def observe(self) -> Iterable[Resource]:
        files = self._files()
        if not files:
            return
        timers, linked = self._systemd.units(PATTERN), self._linked()
        overrides = self._overrides.of(_timers(files))
        for name, file in files.items():
            state = _state(file, timers.get(f"{name}.timer"), linked=name in linked)
            override = overrides[f"{name}.timer"]
            if state == "active" and override.is_stale:
                state = STALE
            spec = TimerSpec(schedule=file.schedule, state=state)
            if override.by:
                spec["overridden"] = f"{override.by} changes its timer: put the change into Git and remove the file"
            yield Resource(self.name, name, file.app, file.service, spec, file)

    def _files(self) -> Mapping[str, TimerFile]:
        """The files of managed timers, by instance."""
        with readable(self._folder):
            names = [name for name in os.listdir(self._folder) if name.startswith("mvd-") and name.endswith(".timer")]
            files = {_instance(name): self._file(self._folder / name) for name in names}
        return {name: file for name, file in files.items() if file}

    def _file(self, path: Path) -> TimerFile | None:
        try:
            return parse(path.read_text("utf-8", "surrogateescape")) if S_ISREG(path.lstat().st_mode) else None
        except FileNotFoundError:  # another app was changed meanwhile
            return None

    def _linked(self) -> set[str]:
        """The instances whose timers start when the server does."""
        with readable(self._wants):
            return {_instance(name) for name in os.listdir(self._wants)} if self._wants.is_dir() else set()

    # ---- changing ----------------------------------------------------------------------------------------------------

    def prepare(self, changes: Sequence[Change]) -> None:
        for resource in _new([change.to for change in changes if change.to], self._files()):
            self._check(resource)
            self._accepted[resource.name] = timer_spec(resource)["schedule"]

    def _check(self, timer: Resource) -> None:
        """Raise StepFailed if systemd does not read the schedule as a time, NotNow if somebody has its place."""
        require_managed(self._path(timer.name))
        if refusal := self._systemd.refusal(timer_spec(timer)["schedule"]):
            raise StepFailed(f"{timer.app}/{timer.service}: systemd does not accept the schedule: {refusal}")

    def apply(self, changes: Sequence[Change]) -> None:
        self._delete([change.resource.name for change in changes if not change.to])
        if made := [change.to for change in changes if change.to]:
            self._make(made)

    def _make(self, wanted: Sequence[Resource]) -> None:
        files = self._files()
        texts = {resource.name: _text(resource, files.get(resource.name)) for resource in wanted}
        new = _new(wanted, files)
        for resource in new:
            if self._accepted.pop(resource.name, "") != timer_spec(resource)["schedule"]:
                self._check(resource)
        # By its old stamp, a new time that is past today would count as missed, and be caught up at once.
        self._delete([r.name for r in new if r.name in files and files[r.name].schedule != timer_spec(r)["schedule"]])
        for resource in new:
            write(self._path(resource.name), Entry(texts[resource.name].encode("utf-8", "surrogateescape"), 0o644))
        timers = _timers(texts)
        for timer in timers:
            link(self._folder, timer, TARGET)
        self._reload_if_loaded(timers)
        self._systemd.start(timers)

    def _delete(self, names: Sequence[str]) -> None:
        if not names:
            return
        timers = _timers(names)
        self._systemd.stop(timers, STOP_WITHIN_SECONDS)
        self._systemd.reset_failed(timers)  # what failed is not cleaned
        self._systemd.clean(timers)  # only while its file is there does systemd know of the stamp
        for name in names:
            remove(self._wants / f"{name}.timer")
            remove(self._path(name))
        self._reload_if_loaded(timers)  # as it is while timers.target wants it

    def _reload_if_loaded(self, timers: Sequence[str]) -> None:
        if self._systemd.units(PATTERN).keys() & set(timers):
            self._systemd.reload()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.timer"


def render(timer: Resource) -> str:
    """The text of a timer.  Pure."""
    schedule = timer_spec(timer)["schedule"]
    header = {"app": timer.app, "service": timer.service, "schedule": schedule}
    lines = [
        f"# {json.dumps(header, sort_keys=True)}",
        NOTICE,
        "[Unit]",
        f"Description={timer.app}/{timer.service} on its schedule (gitops-mvd)",
        "",
        "[Timer]",
        f"OnCalendar={schedule}",
        "AccuracySec=1s",  # left out, systemd takes the liberty of a minute
        "Persistent=true",
        f"Unit={timer.name}.service",
        "",
        "[Install]",
        f"WantedBy={TARGET}",
        "",
    ]
    return sealed("\n".join(lines))


def parse(text: str) -> TimerFile | None:
    """The header of a text; None if it is not that of a managed timer.  Pure."""
    parsed = unsealed(text)
    if parsed is None or not parsed.header.keys() >= {"app", "service", "schedule"}:
        return None
    header = parsed.header
    return TimerFile(text, header["app"], header["service"], header["schedule"], parsed.intact)


def _new(wanted: Iterable[Resource], files: Mapping[str, TimerFile]) -> list[Resource]:
    """The timers whose text is not on the disk."""
    return [it for it in wanted if it.name not in files or files[it.name].text != _text(it, files[it.name])]


def _text(wanted: Resource, found: TimerFile | None) -> str:
    """The text to have.  One that was found and not tampered with stays, whichever version of mvd wrote it."""
    if isinstance(wanted.payload, TimerFile):
        return wanted.payload.text
    if found and found.intact and found.schedule == timer_spec(wanted)["schedule"]:
        return found.text
    return render(wanted)


def _state(file: TimerFile, timer: Unit | None, *, linked: bool) -> str:
    """`active`, which is what it should be, whether it waits or its unit is running."""
    if not file.intact:
        return EDITED
    if not timer or timer.active != "active":
        return "stopped"
    return "active" if linked else "disabled"


def _instance(timer: str) -> str:
    return timer.removesuffix(".timer")


def _timers(names: Iterable[str]) -> list[str]:
    return [f"{name}.timer" for name in names]


def connect(tools: Tools) -> Timers:
    return Timers(tools)
