"""The pings of systemd's watchdog: as long as the loop goes on, and no longer.

They come from a thread that does nothing else, and so asks nobody: a Docker that hangs does not make systemd kill the
daemon, while a loop that hangs is killed, with its stack in the journal, and started again.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LONGEST_PAUSE_SECONDS = 10.0  # between two pings
PINGS_IN_TIME = 3  # within the time that systemd gives
LOOP_SECONDS = 60.0  # in which the loop reads its mail again: it does so every 10 s, also while apps are reconciled


class Pulse:
    """`ping` tells systemd that the daemon lives; `beat` says that the loop goes on."""

    def __init__(self, tell: Callable[[str], object], now: Callable[[], float] = time.monotonic) -> None:
        self._tell = tell
        self._now = now
        self._good_until = now() + LOOP_SECONDS

    def beat(self) -> None:
        """The loop goes on, and beats again within LOOP_SECONDS."""
        self.allow(LOOP_SECONDS)

    def allow(self, seconds: float) -> None:
        """What the loop does now takes at most so long."""
        self._good_until = self._now() + seconds

    @contextmanager
    def step(self, within: float) -> Iterator[None]:
        """Inside, the loop asks others, each with a deadline; all of it takes at most so many seconds."""
        self.allow(within)
        try:
            yield
        finally:
            self.beat()

    def is_alive(self) -> bool:
        """Is the loop not overdue?"""
        return self._now() < self._good_until

    def ping(self) -> None:
        """Tell systemd, unless the loop is overdue."""
        if self.is_alive():
            self._tell("WATCHDOG=1")

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        pause = _pause(os.environ.get("WATCHDOG_USEC", ""))
        up()
        self.ping()
        while not stop.wait(pause):
            self.ping()


def _pause(microseconds: str) -> float:
    """Seconds between two pings, by what systemd says in the environment."""
    given = float(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
    return min(LONGEST_PAUSE_SECONDS, given / PINGS_IN_TIME) if given else LONGEST_PAUSE_SECONDS
