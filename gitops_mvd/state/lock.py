"""One at a time: the daemon and the command exclude each other on a server."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.model import Operation, Report
from gitops_mvd.state.history import SqliteHistory

SYNC_WITHIN_SECONDS = 900.0  # what `mvd sync` waits for the daemon


class Taken(MvdError):
    """Another process, most likely the daemon, is at work on this server."""

    def __init__(self, pid: int) -> None:
        super().__init__(f"another mvd, process {pid}, is changing this server", "systemctl status gitops-mvd")
        self.pid = pid

    def sync(self, history: SqliteHistory) -> Report:
        """Have the other process start a pass now, and return its report.  Raises Unavailable if there is none."""
        if not self.pid:  # which would be all of our own process group
            raise Unavailable("another mvd has just begun", "try again")
        asked = time.time()
        try:
            os.kill(self.pid, signal.SIGUSR1)
        except OSError as error:
            raise Unavailable(f"cannot signal the daemon, process {self.pid}: {error.strerror}") from error
        while time.time() < asked + SYNC_WITHIN_SECONDS:
            report = history.last_report(since=asked)
            if report and all(outcome.operation is not Operation.SUPERSEDED for outcome in report.outcomes):
                return report
            if why := history.last_error(since=asked):
                raise Unavailable(why)
            if not _runs(self.pid):
                raise Unavailable(f"the daemon, process {self.pid}, has ended", "journalctl -u gitops-mvd")
            time.sleep(0.05)
        raise Unavailable(
            f"the daemon did not finish the pass within {SYNC_WITHIN_SECONDS:g} s", "journalctl -u gitops-mvd"
        )


def _pid(text: bytes) -> int:
    """The process that a lock file names; 0 if it names none, as for a moment after its start, or is garbage."""
    return int(text) if re.fullmatch(rb"[0-9]{1,9}\n?", text) and int(text) > 1 else 0


def daemon_runs(state: Path) -> bool:
    """Is the process that holds the lock, or held it last, still there?"""
    try:
        pid = _pid((state / "lock").read_bytes())
    except OSError:
        return False
    return pid > 0 and _runs(pid)


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@contextmanager
def alone(state: Path) -> Iterator[None]:
    """Keep every other mvd from this server; it may ask for a pass by SIGUSR1.  Raises Taken."""
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # until somebody listens to it
    try:
        state.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = (state / "lock").open("a+b", buffering=0)
    except OSError as error:
        raise Unavailable(f"cannot write {state}: {error.strerror}", "run as root, or set `state`") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise Taken(_pid(file.read(100))) from None
        try:
            file.truncate(0)
            file.write(b"%d\n" % os.getpid())
        except OSError as error:
            raise Unavailable(f"cannot write {state}: {error.strerror}", "make room on its disk") from error
        yield
