"""The one mailbox: whatever happens only asks for a pass, with a reason."""

from __future__ import annotations

import threading
import time

from gitops_mvd.core.errors import Interrupted


class Mailbox:
    """Reasons for a pass, each kept once until it is taken; anyone posts, one thread takes."""

    def __init__(self) -> None:
        self._reasons: set[str] = set()
        self._arrived = threading.Condition()

    def post(self, reason: str) -> None:
        with self._arrived:
            self._reasons.add(reason)
            self._arrived.notify_all()

    def has_mail(self) -> bool:
        """Has something come up that was not taken yet?"""
        with self._arrived:
            return bool(self._reasons)

    def take(self, timeout: float) -> frozenset[str]:
        """The reasons since the last call, after at most `timeout` seconds for the first one; empty if none came."""
        with self._arrived:
            self._arrived.wait_for(lambda: bool(self._reasons), timeout)
            taken, self._reasons = frozenset(self._reasons), set()
            return taken


class Interruptible:
    """The real clock, whose waits end as soon as somebody interrupts them."""

    def __init__(self) -> None:
        self._why = ""
        self._interrupted = threading.Event()

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        if self._interrupted.wait(seconds) if seconds else self._interrupted.is_set():
            raise Interrupted(self._why)

    def interrupt(self, why: str) -> None:
        self._why = why
        self._interrupted.set()

    def resume(self) -> None:
        """Waits work again: a new pass begins."""
        self._interrupted.clear()
