"""Sends one message to one receiver, by a process of its own with limits of time and memory.

It loads apprise, which takes some 60 MB that the daemon need not have; and a receiver that hangs is just ended.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict

from gitops_mvd.config.settings.notify import NotifySettings
from gitops_mvd.core.errors import Interrupted, Unavailable
from gitops_mvd.core.notice_address import secrets_of_address
from gitops_mvd.core.redact import learn
from gitops_mvd.daemon.connections import read_secret
from gitops_mvd.daemon.planning import environment
from gitops_mvd.git.child import Limits, run
from gitops_mvd.status.notice_text import Message

CHILD = "gitops_mvd.daemon.notifying_child"
LIMITS = Limits(seconds=30.0, file=1 << 20, output=1 << 20)
MOST_AT_ONCE = 4


class ByApprise:
    """Sends messages by apprise; implements `deliveries.Send`.  Any thread may use it, a few at once."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self._limits = limits
        self._turns = threading.BoundedSemaphore(MOST_AT_ONCE)

    def __call__(
        self, receiver: NotifySettings, message: Message, is_ended: Callable[[], bool] = lambda: False
    ) -> None:
        key = f"notify.{receiver.name}"
        address = receiver.url or read_secret(receiver.url_file, f"{key}.url_file")
        if not address or "\n" in address:
            raise Unavailable(f"{receiver.url_file} ({key}.url_file) must have one line, the address")
        learn(f"{key}.address", *secrets_of_address(address))
        given = json.dumps({"address": address, **asdict(message)}).encode()
        with self._turns:
            ended = run([sys.executable, "-m", CHILD], environment(), self._limits, is_ended, given)
        if ended.status and is_ended():
            raise Interrupted("the daemon ends")
        if ended.status:
            last = ended.complaint.strip().rpartition("\n")[2]
            raise Unavailable(last if last.startswith("did not complete") else f"cannot send: {last or ended.status}")
        try:
            why = str(json.loads(ended.output)["why"])
        except (ValueError, KeyError, TypeError):
            raise Unavailable("cannot send: the process that sends has ended without an answer") from None
        if why:
            raise Unavailable(why)
