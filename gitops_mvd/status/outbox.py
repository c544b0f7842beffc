"""The thread that brings commit statuses to the forge, for as long as it takes."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from types import TracebackType

from gitops_mvd.core.errors import RateLimited, StepFailed, Unavailable
from gitops_mvd.core.ports import Forge
from gitops_mvd.state.history import Entry, SqliteHistory, channel

log = logging.getLogger(__name__)

BACKOFF = (2.0, 300.0)  # seconds
LONGEST_REST = 3600.0  # seconds, whatever a forge asks for
IN_A_ROW = 2  # deliveries that fail one after the other: then it is the forge, and not what is delivered
WITHOUT_HISTORY = 60.0  # seconds until it is tried again, as where the disk is full


class Outbox:
    """Sends what lies in the history's outbox; survives outages and restarts, since that lies on disk.

    A status that can not be delivered never fails a deploy: it waits, or is dropped with one line in the log where the
    forge will never take it.  One that the forge chokes on waits by itself, and holds up no other; where the forge as a
    whole does not answer, or wants to be left alone, it is left alone.  What was refused is tried again after a start,
    since the settings may have been the reason.
    """

    def __init__(
        self, history: SqliteHistory, forge: Forge | None, name: str = "", now: Callable[[], float] = time.time
    ) -> None:
        """`name` is what deliveries are counted by, `now` tells seconds since 1970."""
        self._history = history
        self._forge = forge
        self._name = name
        self._now = now
        self._woken = threading.Event()
        self._ended = False
        self._complaint = ""
        self._outages = 0  # rounds that found the forge down, since it last took something
        self._rests_until = 0.0  # seconds since 1970

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
        begun = False
        while not self._ended:
            self._woken.clear()
            try:
                if not begun:
                    self._history.requeue_rejected()
                    begun = True
                self.deliver()
                pause = self._pause(self._now())
            except Unavailable as error:
                self._complain(f"statuses wait: {error}")
                pause = WITHOUT_HISTORY
            if pause is None or pause > 0:
                self._woken.wait(pause)

    def _pause(self, now: float) -> float | None:
        """Seconds until there is something to do, None where nothing waits."""
        due = self._history.next_due(now)
        return None if due is None else max(due, self._rests_until - now)

    def deliver(self) -> None:
        """Send all that is due, what never failed first, unless the forge is to be left alone."""
        now = self._now()
        if not self._forge or now < self._rests_until:
            return
        failures = 0
        for entry in self._history.due(now):
            failures = 0 if self._send(self._forge, entry) else failures + 1
            if failures == IN_A_ROW or self._now() < self._rests_until:
                break
        if failures == IN_A_ROW:
            self._rest(_backed_off(self._outages))
            self._outages += 1

    def _send(self, forge: Forge, entry: Entry) -> bool:
        """Send one; False where the forge could not be asked."""
        try:
            forge.publish(entry.commit, entry.status)
        except RateLimited as error:
            self._history.count_delivery(self._name, "limited")
            self._rest(error.retry_after)
            self._complain(f"statuses wait: {error}")
            return False
        except Unavailable as error:
            self._history.count_delivery(self._name, "failed")
            self._history.put_off(entry, retry_at=self._now() + _backed_off(entry.tries))
            self._complain(f"statuses wait: {error}")
            return False
        except StepFailed as error:
            self._history.count_delivery(self._name, "refused")
            self._history.mark_rejected(entry)
            log.warning("status refused commit=%s %s: %s", entry.commit[:7], channel(entry.status), error)
        else:
            self._history.count_delivery(self._name, "posted")
            self._history.mark_sent(entry)
            what = entry.commit[:7], channel(entry.status), entry.status.operation, entry.status.description
            log.info("status posted commit=%s %s %s: %s", *what)
        if self._outages:
            self._history.retry_now()
        self._complaint, self._outages = "", 0
        return True

    def _rest(self, seconds: float) -> None:
        self._rests_until = self._now() + min(seconds, LONGEST_REST)

    def _complain(self, complaint: str) -> None:
        """One clear line, and not the same one again and again."""
        if complaint != self._complaint:
            log.warning("%s", complaint)
        self._complaint = complaint


def _backed_off(tries: int) -> float:
    """Later and later, and not all hosts at once."""
    shortest, longest = BACKOFF
    return float(min(longest, shortest * 2 ** min(tries, 20)) * random.uniform(0.8, 1.2))
