"""systemd, asked over D-Bus and by the programs that it comes with.

Each call opens a connection of its own, which costs a millisecond: so any thread may call, nothing has to be guarded,
and a bus that was restarted is no matter.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.systemd.bus import (
    ANSWER_WITHIN_SECONDS,
    JOB_REMOVED,
    NO_SUCH_UNIT,
    SHUTTING_DOWN,
    CallRefused,
    asking_systemd,
    path_of,
)
from gitops_mvd.systemd.programs import (
    MISSING,
    PROGRAM_WITHIN_SECONDS,
    decoded,
    outside,
    plain,
    printed,
    run_program,
    written_by,
)

START_WITHIN_SECONDS = 330.0  # managed units have TimeoutStartSec=300
BATCH_JOBS = 10  # at once: systemd does not throttle, and more of them make the engine slower

SHUTDOWN = "shutdown.target"
CHANGES = ("InactiveExit", "ActiveEnter", "ActiveExit", "InactiveEnter")  # StateChange is set by a reload, too
READ = ("FragmentPath", "DropInPaths", "NeedDaemonReload")

# Results of a start that say nothing about the unit: the server goes down, somebody stopped it, or Docker is missing.
DISRUPTED = {"canceled", "dependency"}


class Unit(NamedTuple):
    """The states of a loaded unit, in systemd's words: `loaded`, `active`, `running`."""

    load: str
    active: str
    sub: str


class Loaded(NamedTuple):
    """What systemd has read of a unit: its file ("" for none), its drop-ins; `is_stale` if these have changed since."""

    fragment: str
    drop_ins: tuple[str, ...]
    is_stale: bool


class Phase(NamedTuple):
    """The state of a unit, and when it changed last, in seconds on the monotonic clock; 0.0 if it never did."""

    active: str
    changed: float


class Systemd:
    """The systemd of this host.  Every method raises Unavailable if it does not answer."""

    def __init__(self, within: float = ANSWER_WITHIN_SECONDS) -> None:
        """`within` is the seconds that an answer may take."""
        self._within = within
        self._reloading = threading.Lock()
        self._begun = self._done = 0  # reloads, counted

    # ---- asking ------------------------------------------------------------------------------------------------------

    def units(self, pattern: str, within: float = 0.0) -> dict[str, Unit]:
        """The loaded units whose names match a glob; an inactive unit may well not be loaded."""
        with asking_systemd("list the units", within or self._within) as manager:
            [found] = manager.call("ListUnitsByPatterns", "asas", ([], [pattern]))
        return {name: Unit(load, active, sub) for name, _, load, active, sub, *_ in found}

    def phase(self, name: str) -> Phase | None:
        """The state of a unit, and since when it has it; None if it is not loaded."""
        with asking_systemd(f"read the state of {name}", self._within) as manager:
            unit = manager.unit(name)
            if not unit:
                return None
            times = [f"{it}TimestampMonotonic" for it in CHANGES]
            *changed, active = manager.properties([unit], "Unit", [*times, "ActiveState"])
            return Phase(active, max(changed) / 1e6)

    def loaded(self, names: Iterable[str]) -> dict[str, Loaded]:
        """What systemd has read of these units, by name; one that is not loaded is read for that."""
        names = list(names)
        with asking_systemd("read the files of units", self._within) as manager:
            values = iter(manager.properties(map(path_of, names), "Unit", READ))
        return {name: Loaded(next(values), tuple(next(values)), next(values)) for name in names}

    def is_going_down(self) -> bool:
        """Is a shutdown under way, or asked for?  SystemState does not show one that is asked for during a boot."""
        with asking_systemd("read its own state", self._within) as manager:
            unit = manager.unit(SHUTDOWN)
            return bool(unit) and (
                manager.property(unit, "Unit", "Job")[0] != 0
                or manager.property(unit, "Unit", "ActiveState") == "active"
            )

    def verify(self, paths: Sequence[Path]) -> str:
        """The complaints of `systemd-analyze verify` about these unit files; "" without any.

        Its exit code is not reliable, and it complains about other units, too, that these refer to.
        """
        output = printed("systemd-analyze", "verify", "--man=no", *map(str, paths))
        return "\n".join(line for line in output.splitlines() if any(path.stem in line for path in paths))

    def outside(self, *argv: str) -> str:
        """What a program prints that runs outside of the sandbox of this process; "" if it could not be run."""
        return outside(*argv)

    def refusal(self, schedule: str) -> str:
        """Why this is not a time in the language of OnCalendar=, as `systemd-analyze calendar` says it; else ""."""
        words = ("systemd-analyze", "calendar", "--", schedule)
        asked = run_program(words, PROGRAM_WITHIN_SECONDS, stderr=subprocess.STDOUT)
        return decoded(asked.stdout).strip() if asked.returncode else ""

    def journal(self, unit: str, lines: int = 10, since: float = 0.0) -> list[str]:
        """The last lines that a unit's container, or the commands that should start it, printed.

        With `since`, in Unix time, the first ones from then on.
        """
        # enough, with what the docker command prints itself
        which = [f"--since=@{since:.6f}"] if since else [f"--lines={lines * 3 + 10}"]
        printed("journalctl", "--sync")  # what was printed a moment ago may still be on its way
        output = printed("journalctl", "--quiet", "--no-pager", "--output=cat", *which, *written_by(unit))
        said = plain(output.splitlines(), unit.removesuffix(".service"))
        return said[:lines] if since else said[-lines:]

    def grep(self, unit: str, pattern: str, since: float, within: float) -> bool:
        """Has a unit's container since that Unix time printed a line in which a regular expression (PCRE2) is found?"""
        last = (
            "--reverse",
            "--lines=20",
            f"--since=@{since:.6f}",
        )  # enough, with what the docker command prints itself
        which = ("--case-sensitive=true", f"--grep={pattern}", *written_by(unit))
        words = ("journalctl", "--quiet", "--no-pager", "--output=cat", *last, *which)
        done = run_program(words, within, stderr=subprocess.PIPE)
        if done.stderr and not done.stdout:  # it quotes the pattern, which is nobody else's business
            why = decoded(done.stderr).strip().rpartition(": ")[2]
            raise Unavailable(f"journalctl cannot search the journal for the pattern: {why}")
        name = unit.removesuffix(".service")
        return any(line != MISSING.format(name) for line in plain(decoded(done.stdout).splitlines(), name))

    # ---- changing ----------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Have all unit files read again.  Callers that wait share one reload, begun after they asked."""
        asked = self._begun
        with self._reloading:
            if self._done > asked:
                return
            self._begun = begun = self._begun + 1
            with asking_systemd("reload the unit files", self._within) as manager:
                manager.call("Reload")
            self._done = begun

    def enable(self, names: Iterable[str]) -> None:
        """Have these units started at boot, as their [Install] says.

        After that, systemd takes all units for changed until they are read again, since version 254.
        """
        with asking_systemd("enable units", self._within) as manager:
            manager.call("EnableUnitFiles", "asbb", (list(names), False, True))
        self.reload()

    def disable(self, names: Iterable[str]) -> None:
        """Have these units no longer started at boot; systemd 257 refuses one that does not exist, and so is not."""
        with asking_systemd("disable units", self._within) as manager:
            for name in names:
                try:
                    manager.call("DisableUnitFiles", "asb", ([name], False))
                except CallRefused as refused:
                    if refused.name not in NO_SUCH_UNIT:
                        raise

    def start(self, names: Iterable[str]) -> None:
        """Start units and wait.  Raises StepFailed for units that cannot be started, Unavailable amid a disruption.

        That a unit was started only means that the program behind it was executed.
        """
        results = self._work_off("StartUnit", names, START_WITHIN_SECONDS)
        if failed := [f"{unit}: {result}" for unit, result in results.items() if result != "done"]:
            why = f"systemd could not start {', '.join(failed)}"
            raise Unavailable(why) if DISRUPTED & set(results.values()) else StepFailed(why)

    def stop(self, names: Iterable[str], within: float) -> dict[str, str]:
        """Stop units and wait, each batch of ten for `within` seconds.  One that does not exist counts as stopped."""
        return self._work_off("StopUnit", names, within)

    def reset_failed(self, names: Iterable[str]) -> None:
        """Have systemd forget that these units failed, and how often they were started."""
        with asking_systemd("reset units", self._within) as manager:
            for name in names:
                with suppress(CallRefused):
                    manager.call("ResetFailedUnit", "s", (name,))

    def clean(self, names: Iterable[str]) -> None:
        """Have systemd remove what it keeps of stopped units in /var/lib: of a timer the stamp of its last run."""
        with asking_systemd("clean units", self._within) as manager:
            for name in names:
                with suppress(CallRefused):  # there is no such unit, or none that keeps anything
                    manager.call("CleanUnit", "sas", (name, ["state"]))

    def _work_off(self, method: str, names: Iterable[str], within: float) -> dict[str, str]:
        results: dict[str, str] = {}
        waiting = deque(names)
        removed: deque[Any] = deque()  # the filter's own would hold one signal and lose the others
        with (
            asking_systemd("start or stop units", self._within) as manager,
            manager.bus.filter(JOB_REMOVED, queue=removed),
        ):
            manager.subscribe()
            while waiting:
                jobs = {}
                for name in [waiting.popleft() for _ in range(min(BATCH_JOBS, len(waiting)))]:
                    try:
                        [job] = manager.call(method, "ss", (name, "replace"))
                        jobs[job] = name
                    except CallRefused as refused:
                        gone = method == "StopUnit" and refused.name in NO_SUCH_UNIT
                        if refused.name in SHUTTING_DOWN:
                            results[name] = "canceled"
                        else:
                            results[name] = "done" if gone else str(refused)
                deadline = time.monotonic() + within
                while jobs:
                    signal = manager.bus.recv_until_filtered(removed, timeout=max(0, deadline - time.monotonic()))
                    _, job, _, result = signal.body
                    if job in jobs:
                        results[jobs.pop(job)] = result
        return results
