"""systemd, asked over D-Bus; the only module that talks to it.

Each call opens a connection of its own, which costs a millisecond: so any thread may call, nothing has to be guarded,
and a bus that was restarted is no matter.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from jeepney import DBusAddress, DBusErrorResponse, MatchRule, message_bus, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.bus import get_bus
from jeepney.io.blocking import DBusConnection, prep_socket
from jeepney.wrappers import unwrap_msg

from gitops_mvd.core.errors import StepFailed, Unavailable

ANSWER_WITHIN = 30.0  # seconds; a reload with 500 units takes half a one
STARTED_WITHIN = 330.0  # seconds; our units have TimeoutStartSec=300
BATCH = 10  # jobs at once: systemd does not throttle, and more of them make the engine slower

SHUTDOWN = "shutdown.target"

# Results of a start that say nothing about the unit: the server goes down, somebody stopped it, or Docker is not there.
DISRUPTED = {"canceled", "dependency"}
_MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)
# No `sender`: signals carry the bus's unique name of systemd, which a local filter would not match.
_JOB_REMOVED = MatchRule(
    type="signal", interface="org.freedesktop.systemd1.Manager", member="JobRemoved", path="/org/freedesktop/systemd1"
)
_SHUTTING_DOWN = {"org.freedesktop.systemd1.TransactionIsDestructive", "org.freedesktop.systemd1.ShuttingDown"}
_NO_SUCH_UNIT = {"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.DBus.Error.FileNotFound"}


class Unit(NamedTuple):
    """The states of a loaded unit, in systemd's words: `loaded`, `active`, `running`."""

    load: str
    active: str
    sub: str


class Phase(NamedTuple):
    """The state of a unit, and when it changed last, in seconds on the monotonic clock; 0.0 if it never did."""

    active: str
    changed: float


class Systemd:
    """The systemd of this host.  Every method raises Unavailable where it does not answer."""

    def __init__(self) -> None:
        self._reloading = threading.Lock()
        self._begun = self._done = 0  # reloads, counted

    # ---- asking ------------------------------------------------------------------------------------------------------

    def units(self, pattern: str, within: float = ANSWER_WITHIN) -> dict[str, Unit]:
        """The loaded units whose names match a glob; an inactive unit may well not be loaded."""
        with _manager("list the units", within) as manager:
            [found] = manager.call("ListUnitsByPatterns", "asas", ([], [pattern]))
        return {name: Unit(load, active, sub) for name, _, load, active, sub, *_ in found}

    def phase(self, name: str) -> Phase | None:
        """The state of a unit, and since when it has it; None if it is not loaded."""
        with _manager(f"tell the state of {name}") as manager:
            unit = manager.unit(name)
            if not unit:
                return None
            changed = manager.property(unit, "Unit", "StateChangeTimestampMonotonic")
            return Phase(manager.property(unit, "Unit", "ActiveState"), changed / 1e6)

    def is_going_down(self) -> bool:
        """Is a shutdown under way, or asked for?  SystemState does not tell of one that is asked for during a boot."""
        with _manager("tell its own state") as manager:
            unit = manager.unit(SHUTDOWN)
            return bool(unit) and (
                manager.property(unit, "Unit", "Job")[0] != 0
                or manager.property(unit, "Unit", "ActiveState") == "active"
            )

    def verify(self, paths: Sequence[Path]) -> str:
        """What `systemd-analyze verify` has to say of these unit files: "" if it is content.

        Its exit code is not to be relied on, and it also tells of the units that ours refer to.
        """
        said = _run("systemd-analyze", "verify", "--man=no", *map(str, paths))
        return "\n".join(line for line in said.splitlines() if any(path.stem in line for path in paths))

    def refusal(self, schedule: str) -> str:
        """Why this is no time in the language of OnCalendar=, in the words of `systemd-analyze calendar`; else ""."""
        words = ("systemd-analyze", "calendar", "--", schedule)
        asked = _program(words, ANSWER_WITHIN, stderr=subprocess.STDOUT)
        return _text(asked.stdout).strip() if asked.returncode else ""

    def journal(self, unit: str, lines: int = 10) -> list[str]:
        """The last lines that a unit's container, or the client that should start it, printed."""
        last = f"--lines={lines * 3 + 10}"  # enough, with what the client says of its own accord
        said = _run("journalctl", "--quiet", "--no-pager", "--output=cat", last, f"_SYSTEMD_UNIT={unit}")
        return plain(said.splitlines(), unit.removesuffix(".service"))[-lines:]

    def grep(self, unit: str, pattern: str, since: float, within: float) -> bool:
        """Has a unit's container since that Unix time printed a line in which a regular expression (PCRE2) is found?"""
        last = ("--reverse", "--lines=20", f"--since=@{since:.6f}")  # enough, with what the client says
        which = ("--case-sensitive=true", f"--grep={pattern}", f"_SYSTEMD_UNIT={unit}")
        words = ("journalctl", "--quiet", "--no-pager", "--output=cat", *last, *which)
        done = _program(words, within, stderr=subprocess.PIPE)
        if done.stderr and not done.stdout:  # it quotes the pattern, which is nobody else's business
            why = _text(done.stderr).strip().rpartition(": ")[2]
            raise Unavailable(f"journalctl cannot search the journal for the pattern: {why}")
        return bool(plain(_text(done.stdout).splitlines(), unit.removesuffix(".service")))

    # ---- changing ----------------------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Have all unit files read again.  Callers that wait share one reload, begun after they asked."""
        asked = self._begun
        with self._reloading:
            if self._done > asked:
                return
            self._begun = begun = self._begun + 1
            with _manager("reload the unit files") as manager:
                manager.call("Reload")
            self._done = begun

    def enable(self, names: Iterable[str]) -> None:
        """Have these units started at boot, as their [Install] says."""
        with _manager("enable units") as manager:
            manager.call("EnableUnitFiles", "asbb", (list(names), False, True))

    def start(self, names: Iterable[str]) -> None:
        """Start units and wait.  Raises StepFailed for units that cannot be started.

        That a unit was started only means that the program behind it was executed.
        """
        results = self._work_off("StartUnit", names, STARTED_WITHIN)
        if failed := [f"{unit} {result}" for unit, result in results.items() if result != "done"]:
            why = f"could not be started: {', '.join(failed)}"
            raise Unavailable(why) if DISRUPTED & set(results.values()) else StepFailed(why)

    def stop(self, names: Iterable[str], within: float) -> dict[str, str]:
        """Stop units and wait, each batch of ten for `within` seconds.  What is not there counts as stopped."""
        return self._work_off("StopUnit", names, within)

    def reset_failed(self, names: Iterable[str]) -> None:
        """Have systemd forget that these units failed, and how often they were started."""
        with _manager("reset units") as manager:
            for name in names:
                with suppress(_Refused):
                    manager.call("ResetFailedUnit", "s", (name,))

    def clean(self, names: Iterable[str]) -> None:
        """Have systemd remove what it keeps of stopped units in /var/lib: of a timer the stamp of its last run."""
        with _manager("clean units") as manager:
            for name in names:
                with suppress(_Refused):  # there is no such unit, or none that keeps anything
                    manager.call("CleanUnit", "sas", (name, ["state"]))

    def _work_off(self, method: str, names: Iterable[str], within: float) -> dict[str, str]:
        results: dict[str, str] = {}
        waiting = deque(names)
        removed: deque[Any] = deque()  # the filter's own would hold one signal and lose the others
        with _manager("start or stop units") as manager, manager.bus.filter(_JOB_REMOVED, queue=removed):
            manager.subscribe()
            while waiting:
                jobs = {}
                for name in [waiting.popleft() for _ in range(min(BATCH, len(waiting)))]:
                    try:
                        [job] = manager.call(method, "ss", (name, "replace"))
                        jobs[job] = name
                    except _Refused as refused:
                        gone = method == "StopUnit" and refused.name in _NO_SUCH_UNIT
                        if refused.name in _SHUTTING_DOWN:
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


def plain(said: Iterable[str], container: str) -> list[str]:
    """The lines without what the client says of its own accord, and each only once of those that repeat themselves."""
    name = re.escape(container)
    chatter = re.compile(
        rf"[0-9a-f]{{64}}|{name}|Error: No such container: {name}|.*: Conflict\. The container name .*"
        r"|Error response from daemon: ([Yy]ou )?cannot remove .* force remove"
        r"|.* msg=\"error waiting for container: .*"
    )
    preamble = re.compile(r"Error response from daemon: (driver failed programming [^(]*\([0-9a-f]{64}\): )?")
    lines = [preamble.sub("", line) for line in said if not chatter.fullmatch(line)]
    return [line for line, before in zip(lines, [None, *lines], strict=False) if line != before]


def journal_command(name: str, lines: int, follow: bool) -> list[str]:
    """What shows the output of `app` or `app/service`, whichever versions of it printed that."""
    known = _run("journalctl", "--quiet", "--field=SYSLOG_IDENTIFIER").splitlines()
    theirs = [identifier for identifier in known if f"{identifier}/".startswith(f"{name}/")] or [name]
    options = [f"--lines={lines}", *(["--follow"] if follow else [])]
    return ["journalctl", "--quiet", "--output=short-iso", *options, *(f"--identifier={one}" for one in theirs)]


# ---- the edge --------------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """systemd's own no; `name` is that of the D-Bus error."""

    def __init__(self, error: DBusErrorResponse) -> None:
        super().__init__(error.data[0] if error.data else error.name)
        self.name: str = error.name


class _Bus(DBusConnection):  # type: ignore[misc]  # jeepney has no types
    """A connection on which no call waits for ever, not even the first one, which is not ours."""

    def __init__(self, socket: object, within: float) -> None:
        self._within = within
        super().__init__(socket)

    def send_and_get_reply(self, message: object, *, timeout: float | None = None) -> Any:
        return super().send_and_get_reply(message, timeout=self._within if timeout is None else timeout)


class _Manager:
    def __init__(self, bus: _Bus) -> None:
        self.bus = bus

    def call(self, method: str, signature: str | None = None, body: tuple[Any, ...] = ()) -> Any:
        try:
            return unwrap_msg(self.bus.send_and_get_reply(new_method_call(_MANAGER, method, signature, body)))
        except DBusErrorResponse as error:
            if error.name.startswith("org.freedesktop.systemd1.") or error.name in _NO_SUCH_UNIT:
                raise _Refused(error) from error
            raise

    def property(self, path: str, interface: str, name: str) -> Any:
        """One property of an object of systemd's."""
        where = DBusAddress(path, bus_name=_MANAGER.bus_name, interface="org.freedesktop.DBus.Properties")
        ask = new_method_call(where, "Get", "ss", (f"org.freedesktop.systemd1.{interface}", name))
        [(_, value)] = unwrap_msg(self.bus.send_and_get_reply(ask))
        return value

    def unit(self, name: str) -> str:
        """The object of a loaded unit; "" if it is not loaded."""
        try:
            [path] = self.call("GetUnit", "s", (name,))
        except _Refused:
            return ""
        return str(path)

    def subscribe(self) -> None:
        self.call("Subscribe")
        unwrap_msg(self.bus.send_and_get_reply(message_bus.AddMatch(_JOB_REMOVED)))


@contextmanager
def _manager(doing: str, within: float = ANSWER_WITHIN) -> Iterator[_Manager]:
    try:
        with _Bus(prep_socket(get_bus("SYSTEM"), timeout=within), within) as bus:
            yield _Manager(bus)
    except _Refused as refused:
        raise StepFailed(f"systemd refused to {doing}: {refused}") from refused
    except TimeoutError as error:
        raise Unavailable(f"systemd did not {doing} in time") from error
    except (OSError, AuthenticationError, DBusErrorResponse) as error:
        raise Unavailable(f"systemd could not be asked to {doing}: {error}", "is dbus.service running?") from error


def _run(*argv: str) -> str:
    """All that a program prints."""
    return _text(_program(argv, ANSWER_WITHIN, stderr=subprocess.STDOUT).stdout)


def _program(argv: Sequence[str], within: float, stderr: int) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, timeout=within, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{argv[0]} did not end within {within:g} s") from error
    except OSError as error:
        raise Unavailable(f"{argv[0]} could not be run: {error.strerror}") from error


def _text(said: bytes) -> str:
    return said.decode(errors="replace")
