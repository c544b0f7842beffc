"""Delivers the notices that wait for one receiver, in one message, and tries again later and later.

A receiver that hangs or is down holds up nobody but itself: each has a thread and a queue of its own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from gitops_mvd.config.settings.notify import NotifySettings
from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import Interrupted, Unavailable
from gitops_mvd.state.notices import Notices, Receiver
from gitops_mvd.status.notice_text import Message, folded, message

log = logging.getLogger(__name__)

BACKOFF = Backoff(5.0, 1800.0)
GATHER_SECONDS = 1.0  # from a notice until it is sent, as several come at once
LAST_SECONDS = 1.0  # for what is being sent when the daemon ends
HISTORY_RETRY_SECONDS = 60.0  # until a queue that cannot be used, as on a full disk, is tried again


class Send(Protocol):
    """Sends a message to a receiver, within a deadline of its own."""

    def __call__(self, receiver: NotifySettings, message: Message, is_ended: Callable[[], bool]) -> None:
        """Raises Unavailable, with the reason, if the receiver has not taken it, Interrupted once `is_ended`."""
        ...


class Deliveries:
    """The deliveries to one receiver.  Any thread may `wake` it; `deliver` is for one at a time."""

    def __init__(
        self,
        settings: NotifySettings,
        host: str,
        notices: Notices,
        send: Send,
        link: str = "",
        now: Callable[[], float] = time.time,
    ) -> None:
        """`link` is the template of an address for more, `now` is Unix time."""
        self.settings = settings
        self.name = settings.name
        self._host = host
        self._notices = notices
        self._send = send
        self._link = link
        self._now = now
        self._woken = threading.Event()
        self._stop = threading.Event()
        self._ends_at = 0.0  # by the monotonic clock, once it is told to stop
        self._retry_at = 0.0  # Unix time
        self._last_warning = ""
        self._taken = 0  # the last notice that the receiver has, while the queue cannot be told so

    def wake(self) -> None:
        """Send what is new."""
        self._woken.set()

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Send what waits until `stop`; `up` is called once it is at work."""
        self._stop = stop
        while not stop.is_set():
            self._woken.clear()
            try:
                pause = self.deliver()
                up()
            except Unavailable as error:
                self._warn_once(f"notices wait receiver={self.name}: {error}")
                pause = HISTORY_RETRY_SECONDS
            except Interrupted:
                return
            if not stop.is_set() and self._woken.wait(pause):
                stop.wait(GATHER_SECONDS)

    def state(self) -> Receiver:
        """How the receiver is."""
        return self._notices.receiver(self.name)

    def deliver(self) -> float | None:
        """Send what waits in one message, unless it is too early.  Seconds until that is due, None if nothing waits.

        Raises Unavailable if the queue cannot be used.
        """
        if self._taken:
            self._notices.mark_sent(self.name, self._taken)
            self._taken = 0
        notices, last = self._notices.waiting(self.name)
        if not last:
            return None
        now, quiet = self._now(), self.settings.quiet
        if (left := max(self._retry_at - now, quiet.left(now) if quiet else 0.0)) > 0:
            return left
        state = self.state()
        if found := folded(notices, self.settings.on):
            zone = quiet.zone if quiet else None
            told = message(self._host, found, now, link=self._link, dropped=state.dropped, zone=zone)
            try:
                self._send(self.settings, told, self._is_ended)
            except Unavailable as error:
                pause = BACKOFF.pause(state.failures)
                self._retry_at = self._now() + pause
                self._notices.mark_failed(self.name, str(error), self._now())
                self._warn_once(f"cannot notify receiver={self.name}, and try again: {error}")
                return pause
            log.info("notified receiver=%s: %s", self.name, told.title)
            self._retry_at, self._last_warning = 0.0, ""
            self._taken = last
            self._notices.mark_sent(self.name, last)
            self._taken = 0
        else:
            self._notices.discard(self.name, last)
        return 0.0

    def _is_ended(self) -> bool:
        """Has the daemon ended, and what was being sent had time to get there?  Else it may be sent twice."""
        if not self._stop.is_set():
            return False
        self._ends_at = self._ends_at or time.monotonic() + LAST_SECONDS
        return time.monotonic() > self._ends_at

    def _warn_once(self, warning: str) -> None:
        """Log a warning, unless it is the same as the last one."""
        if warning != self._last_warning:
            log.warning("%s", warning)
        self._last_warning = warning
