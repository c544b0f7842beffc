"""Sends commit statuses to the forge, and retries until each is accepted or rejected."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import CommitStatus
from gitops_mvd.core.ports import Forge
from gitops_mvd.state.history import Entry, SqliteHistory, channel
from gitops_mvd.status.wave_status import wave_status

log = logging.getLogger(__name__)

BACKOFF = Backoff(2.0, 300.0)
LONGEST_PAUSE_SECONDS = 3600.0  # whatever a forge asks for
FAILURES_IN_A_ROW = 2  # then the forge is at fault, and not the status
MOST_LOOKS = 5  # at the statuses of a wave, while others change them
HISTORY_RETRY_SECONDS = 60.0  # until a history that cannot be used, as on a full disk, is tried again


class Outbox:
    """Sends the statuses that wait in the history, which is on disk and so survives outages and restarts.

    A status that cannot be sent never fails a deploy: it waits or, if the forge rejects it, is dropped with one line in
    the log.  A status that makes the forge fail waits by itself and delays no other; if the forge as a whole does not
    answer, or its rate limit is reached, nothing is sent for a while.  Rejected statuses are tried again after a
    restart, as the settings may have been the reason.
    """

    def __init__(
        self, history: SqliteHistory, forge: Forge | None, name: str = "", now: Callable[[], float] = time.time
    ) -> None:
        """Deliveries are counted by `name`; `now` is the seconds since 1970."""
        self._history = history
        self._forge = forge
        self._name = name
        self._now = now
        self._woken = threading.Event()
        self._has_begun = False
        self._last_warning = ""
        self._taken: dict[tuple[str, str], CommitStatus] = {}  # by commit and channel: ends that their wave lacks
        self._outages = 0  # rounds that found the forge down since it last accepted a status
        self._paused_until = 0.0  # seconds since 1970

    def wake(self) -> None:
        """Send what is new."""
        self._woken.set()

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Send what waits until `stop`; `up` is called once it is at work."""
        while not stop.is_set():
            self._woken.clear()
            try:
                if not self._has_begun:
                    self._history.requeue_rejected()
                    self._has_begun = True
                self.deliver()
                pause = self._pause(self._now())
                up()
            except Unavailable as error:
                self._warn_once(f"statuses wait: {error}")
                pause = HISTORY_RETRY_SECONDS
            if (pause is None or pause > 0) and not stop.is_set():
                self._woken.wait(pause)

    def _pause(self, now: float) -> float | None:
        """Seconds until a status is due, None if none waits."""
        due = self._history.next_due(now)
        return None if due is None else min(max(due, self._paused_until - now), LONGEST_PAUSE_SECONDS)

    def deliver(self) -> None:
        """Send every status that is due, those that never failed first, unless the forge asked for a pause."""
        now = self._now()
        if not self._forge or now < self._paused_until:
            return
        failures = 0
        for entry in self._history.due(now):
            failures = 0 if self._send(self._forge, entry) else failures + 1
            if failures == FAILURES_IN_A_ROW or self._now() < self._paused_until:
                break
        if failures == FAILURES_IN_A_ROW:
            self._pause_for(BACKOFF.pause(self._outages))
            self._outages += 1

    def _send(self, forge: Forge, entry: Entry) -> bool:
        """Send one status; False if the forge did not answer."""
        try:
            self._publish(forge, entry)
        except RateLimited as error:
            self._history.count_delivery(self._name, "limited")
            self._pause_for(error.retry_after)
            self._warn_once(f"statuses wait: {error}")
            return False
        except Unavailable as error:
            self._history.count_delivery(self._name, "failed")
            self._history.put_off(entry, retry_at=self._now() + BACKOFF.pause(entry.tries))
            self._warn_once(f"statuses wait: {error}")
            return False
        except StepFailed as error:
            self._history.count_delivery(self._name, "refused")
            self._history.mark_rejected(entry)
            log.warning("status rejected commit=%s %s: %s", entry.commit[:7], channel(entry.status), error)
        else:
            self._history.count_delivery(self._name, "posted")
            self._history.mark_sent(entry)
            what = entry.commit[:7], channel(entry.status), entry.status.operation, entry.status.description
            log.info("status sent commit=%s %s %s: %s", *what)
        if self._outages:
            self._history.retry_now()
        self._last_warning, self._outages = "", 0
        return True

    def _publish(self, forge: Forge, entry: Entry) -> None:
        """Post a status and, if it is an end, what that makes of its wave.

        If the forge fails in between, the end is not posted once more by the next try: a bake would begin anew by it.
        """
        place = entry.commit, channel(entry.status)
        if self._taken.pop(place, None) != entry.status:
            forge.publish(entry.commit, entry.status)
        if entry.status.peers:
            self._taken[place] = entry.status
            self._tell_wave(forge, entry)
            del self._taken[place]

    def _tell_wave(self, forge: Forge, entry: Entry) -> None:
        """Post what an end makes of its wave, and look whether others have made something else of it meanwhile."""
        try:
            for _ in range(MOST_LOOKS):
                if not (made := wave_status(entry.status, forge.statuses(entry.commit))):
                    break
                forge.publish(entry.commit, made)
                self._history.count_delivery(self._name, "posted")
                log.info("status sent commit=%s %s: %s", entry.commit[:7], made.context, made.description)
        except StepFailed as error:
            log.warning("status of a wave rejected commit=%s %s: %s", entry.commit[:7], entry.status.wave, error)

    def _pause_for(self, seconds: float) -> None:
        self._paused_until = self._now() + min(seconds, LONGEST_PAUSE_SECONDS)

    def _warn_once(self, warning: str) -> None:
        """Log a warning, unless it is the same as the last one."""
        if warning != self._last_warning:
            log.warning("%s", warning)
        self._last_warning = warning
