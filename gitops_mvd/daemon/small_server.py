"""A small server for whoever the network has: one question for each connection, few bytes, little time, few threads.

Slow, silent and many clients hold up nobody: a connection has so many seconds, and the oldest one that is not answered
yet goes if there are too many.  What is refused is one line in the log, and then counted.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import WSGITask

from gitops_mvd.config.settings.section import host_and_port
from gitops_mvd.core.errors import Unavailable

log = logging.getLogger(__name__)

LARGEST_BODY = 3 << 20  # bytes
LARGEST_HEADERS = 16 << 10  # bytes
THREADS = 2
MOST_CONNECTIONS = 64
CONNECTION_SECONDS = 15.0  # for one connection, from its first byte to the last of the answer
IDLE_SECONDS = 3600.0  # that an idle listener sleeps
LOG_INTERVAL_SECONDS = 60.0  # between two lines that say the same


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.  Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


# ---- the log ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    level: int
    until: float
    more: int = 0


class LogThrottle:
    """Logs one line for any number of alike requests, and once a minute how many more there were.

    `what` and `why` are constants of whoever logs, so there are few of them.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lines: dict[tuple[str, str], _Line] = {}
        self._lock = threading.Lock()

    def log(self, level: int, what: str, came_from: str, why: str = "") -> None:
        now = self._now()
        with self._lock:
            line = self._lines.get((what, why))
            if line and (now < line.until or line.more):
                line.more += 1
                return
            self._lines[what, why] = _Line(level, now + LOG_INTERVAL_SECONDS)
        log.log(level, "%s from=%s%s", what, came_from, f": {why}" if why else "")

    def has_more(self) -> bool:
        """Are there requests that were only counted?"""
        with self._lock:
            return any(line.more for line in self._lines.values())

    def sum_up(self, at_last: bool = False) -> None:
        """Log how many were only counted, a minute after their last line or `at_last`."""
        now = self._now()
        with self._lock:
            due = {key: line for key, line in self._lines.items() if line.more and (at_last or now >= line.until)}
            counted = [(line.level, *key, line.more) for key, line in due.items()]
            for line in due.values():
                line.until, line.more = now + LOG_INTERVAL_SECONDS, 0
        for level, what, why, more in counted:
            log.log(level, "%s %d times more%s", what, more, f": {why}" if why else "")


# ---- the server ------------------------------------------------------------------------------------------------------


class Task(WSGITask):
    """Sends no body to HEAD; waitress by itself sends whatever the application has."""

    @property
    def has_body(self) -> bool:
        return super().has_body and self.get_environment()["REQUEST_METHOD"] != "HEAD"


class _Task(Task):
    """One request for each connection; what is pipelined behind it is ignored."""

    def start(self) -> None:
        super().start()
        self.set_close_on_finish()


class _Channel(HTTPChannel):
    server: _Server
    task_class = _Task

    def service(self) -> None:
        error: Any = self.requests[0].error  # too large, or not HTTP
        if error:
            self.server.refuse(self, f"{error.code} {error.reason}")
        super().service()

    def handle_error(self) -> None:
        """Close a connection that the server could not parse, such as half an IPv6 address for a host."""
        self.server.refuse(self, f"its request cannot be parsed ({type(sys.exception()).__name__})")
        self.handle_close()


class _Server(TcpWSGIServer):
    """Closes slow connections: after a while, and the oldest first if there are too many."""

    channel_class = _Channel
    active_channels: dict[int, _Channel]  # type: ignore[assignment]  # the stubs are wrong about it

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        throttle: LogThrottle,
        within: float,
        known: dict[int, Any],
        refused: str,
    ) -> None:
        self._throttle = throttle
        self._refused = refused
        self._within = within
        super().__init__(
            application,
            known,
            _sock=listener,
            bind_socket=False,
            ident=None,
            threads=THREADS,
            backlog=128,
            connection_limit=2 * MOST_CONNECTIONS,
            max_request_body_size=LARGEST_BODY + 1,  # it refuses what is as large
            max_request_header_size=LARGEST_HEADERS,
            cleanup_interval=1,
            log_socket_errors=False,
        )

    def refuse(self, channel: HTTPChannel, why: str) -> None:
        address: Any = channel.addr
        self._throttle.log(logging.WARNING, self._refused, address[0], why)

    def maintenance(self, now: float) -> None:
        for channel in self._undecided():
            if now - channel.creation_time > self._within:
                self._end(channel)
        for channel in list(self.active_channels.values()):
            if channel.total_outbufs_len and now - channel.last_activity > self._within:
                self.refuse(channel, "its answer is not read")
                channel.handle_close()

    def handle_accept(self) -> None:
        if len(self.active_channels) >= MOST_CONNECTIONS and (undecided := self._undecided()):
            self._end(min(undecided, key=lambda channel: channel.creation_time))
        super().handle_accept()

    def _undecided(self) -> list[_Channel]:
        """Connections whose request or answer is not complete."""
        return [each for each in self.active_channels.values() if not each.requests and not each.will_close]

    def _end(self, channel: _Channel) -> None:
        channel.will_close = True
        self.refuse(channel, "its connection was too slow")


class Server:
    """Answers requests at the listener.

    `within` is the seconds that a connection may take, from its first byte to the last of the answer, and `refused`
    what the log says of one that takes longer, or that is no request, such as `webhook refused`.
    """

    def __init__(
        self,
        listener: socket.socket,
        application: WSGIApplication,
        throttle: LogThrottle,
        refused: str,
        within: float = CONNECTION_SECONDS,
    ) -> None:
        logging.getLogger("waitress").setLevel(logging.ERROR)  # what is worth a line is logged here, and throttled
        self._known: dict[int, Any] = {}
        self._throttle = throttle
        self._server = _Server(listener, application, throttle, within, self._known, refused)

    def run(self, stop: threading.Event) -> None:
        """Answer until `stop`; then the listener is closed, with all its connections."""
        try:
            while not stop.is_set():
                pause = 1.0 if self._server.active_channels or self._throttle.has_more() else IDLE_SECONDS
                wasyncore.loop(timeout=pause, use_poll=True, map=self._known, count=1)
                self._throttle.sum_up()
        finally:
            self._server.task_dispatcher.shutdown()
            self._throttle.sum_up(at_last=True)
            wasyncore.close_all(self._known, ignore_all=True)

    def wake(self) -> None:
        trigger: Any = self._server.trigger
        with suppress(OSError):  # it has ended
            trigger.pull_trigger()


class ServerThread:
    """Answers at an address in a thread of its own: a port that is taken holds up no other part.

    `setting` is the key of the settings that names the address, and `what` is listened for there.  The log calls a bad
    connection what is `refused`.
    """

    def __init__(
        self, at: str, application: Callable[[LogThrottle], WSGIApplication], *, setting: str, what: str, refused: str
    ) -> None:
        self._at = at
        self._application = application
        self._setting = setting
        self._what = what
        self._refused = refused
        self._throttle = LogThrottle()
        self._server: Server | None = None

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Answer until `stop`.  Raises Unavailable for a port that cannot be opened."""
        try:
            listener = listen(*host_and_port(self._at))
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else "unknown address"
            raise Unavailable(
                f"cannot listen for {self._what} at {self._at}: {why}", other_port(self._setting)
            ) from error
        self._server = Server(listener, self._application(self._throttle), self._throttle, self._refused)
        log.info("listening for %s at=%s", self._what, self._at)
        up()
        self._server.run(stop)

    def wake(self) -> None:
        if self._server:
            self._server.wake()


def other_port(setting: str) -> str:
    """What to do about a port that another program has."""
    return f"Change `{setting}` in the settings"


def answer(start: StartResponse, status: HTTPStatus, text: str, *more: tuple[str, str]) -> list[bytes]:
    """An answer of one line of text, as WSGI has it, with `more` headers."""
    body = f"{text}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *more]
    start(f"{status.value} {status.phrase}", headers)
    return [body]
