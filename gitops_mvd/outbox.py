"""The thread that brings commit statuses to the forge, for as long as it takes."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType

from gitops_mvd.errors import StepFailed, Unavailable
from gitops_mvd.history import SqliteHistory
from gitops_mvd.ports import Forge

log = logging.getLogger(__name__)

BACKOFF = (2.0, 600.0)  # seconds
WITHOUT_HISTORY = 60.0  # seconds until it is tried again, as where the disk is full


class Outbox:
    """Sends what lies in the history's outbox; survives outages and restarts, since that lies on disk.

    A status that can not be delivered never fails a deploy: it waits, or is dropped with one line in the log where the
    forge will never take it.
    """

    def __init__(self, history: SqliteHistory, forge: Forge | None) -> None:
        self._history = history
        self._forge = forge
        self._woken = threading.Event()
        self._ended = False
        self._complaint = ""

    def __enter__(self) -> None:
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self.wake()
        self._thread.join(10)

    def wake(self) -> None:
        """There may be something new to send."""
        self._woken.set()

    def _run(self) -> None:
        while not self._ended:
            self._woken.clear()
            try:
                self.deliver()
                pause = self._history.next_due(time.time())
            except Unavailable as error:
                self._complain(f"statuses wait: {error}")
                pause = WITHOUT_HISTORY
            self._woken.wait(pause)

    def deliver(self) -> None:
        """Send all that is due, oldest first."""
        if not self._forge:
            return
        for entry in self._history.due(time.time()):
            try:
                self._forge.publish(entry.commit, entry.status)
            except Unavailable as error:
                shortest, longest = BACKOFF
                pause = max(min(longest, shortest * 2**entry.tries), getattr(error, "retry_after", 0.0))
                self._history.failed(entry, retry_at=time.time() + pause)
                self._complain(f"statuses wait: {error}")
            except StepFailed as error:
                self._history.refused(entry)
                log.warning("status refused commit=%s: %s", entry.commit[:7], error)
            else:
                self._complaint = ""
                self._history.posted(entry)
                log.info(
                    "status posted commit=%s %s: %s", entry.commit[:7], entry.status.operation, entry.status.description
                )

    def _complain(self, complaint: str) -> None:
        """One clear line, and not the same one again and again."""
        if complaint != self._complaint:
            log.warning("%s", complaint)
        self._complaint = complaint
