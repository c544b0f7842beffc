"""Webhooks: a forge reports a push or a pull request, and the loop reconciles at once instead of at the next poll.

A webhook is only a hint: nothing of it is used but that it came, and the loop asks Git itself.  Every request has a
connection to itself, few bytes and little time, and is answered before anything is done.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import WSGITask

from gitops_mvd.config.settings.forge import host_and_port
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.ports import Receiver
from gitops_mvd.daemon.connections import Hooks
from gitops_mvd.net.line import dial

log = logging.getLogger(__name__)

Post = Callable[[str], None]
Answer = tuple[HTTPStatus, str]

PATH = "/webhook"
WAKING_EVENTS = frozenset({"push", "pull_request"})  # the events that the loop knows by the same names
OTHER_PORT = "Change `webhook.listen` in the settings"
POST_ONLY = "webhooks of gitops-mvd are posted here"
LARGEST_BODY = 3 << 20  # bytes
LARGEST_HEADERS = 16 << 10  # bytes
THREADS = 2
MOST_CONNECTIONS = 64
CONNECTION_SECONDS = 15.0  # for one connection, from its first byte to the last of the answer
REPEAT_SECONDS = 600.0  # in which the same body is a repeated one
MOST_REPEATS = 4096
IDLE_SECONDS = 3600.0  # that an idle listener sleeps
LOG_INTERVAL_SECONDS = 60.0  # between two lines that say the same
ANSWER_SECONDS = 3.0


class WebhookThread:
    """Posts events of the forge as `push` or `pull_request`."""

    def __init__(self, hooks: Hooks, branch: str, post: Post) -> None:
        self._listen = hooks.listen
        self._throttle = LogThrottle()
        self._application = Webhooks(hooks.receiver, hooks.secret, branch, post, self._throttle)
        self._server: Server | None = None

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Listen until `stop`.  Raises Unavailable for a port that cannot be opened: polling goes on."""
        try:
            listener = listen(*host_and_port(self._listen))
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else "unknown address"
            raise Unavailable(f"cannot listen for webhooks at {self._listen}: {why}", OTHER_PORT) from error
        self._server = Server(listener, self._application, self._throttle)
        log.info("listening for webhooks at=%s", self._listen)
        up()
        self._server.run(stop)

    def wake(self) -> None:
        if self._server:
            self._server.wake()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.  Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def listens(host: str, port: int) -> bool:
    """Does gitops-mvd listen there?  Raises OSError if nothing does."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    connection = http.client.HTTPConnection(host, port)
    try:
        with dial(everywhere.get(host, host), port, ANSWER_SECONDS) as connection.sock:
            connection.request("GET", PATH)
            answer = connection.getresponse()
            return answer.status == HTTPStatus.METHOD_NOT_ALLOWED and POST_ONLY.encode() in answer.read(1024)
    except (http.client.HTTPException, ConnectionResetError, BrokenPipeError, TimeoutError):  # another program does
        return False
    finally:
        connection.close()


# ---- the answers ------------------------------------------------------------------------------------------------


class Webhooks:
    """The WSGI application: checks each webhook, and posts what it reports."""

    def __init__(self, receiver: Receiver, secret: str, branch: str, post: Post, throttle: LogThrottle) -> None:
        self._receiver = receiver
        self._secret = secret
        self._refs = {f"refs/heads/{branch}", ""}  # not every forge names the branch
        self._post = post
        self._throttle = throttle
        self._repeats = Repeats()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        status, text = self._answer(environ)
        body = f"{text}\n".encode()
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append(("Allow", "POST"))
        start_response(f"{status.value} {status.phrase}", headers)
        return [body]

    def _answer(self, environ: WSGIEnvironment) -> Answer:
        came_from = str(environ.get("REMOTE_ADDR", ""))
        if environ.get("PATH_INFO") != PATH:
            return self._refuse(came_from, HTTPStatus.NOT_FOUND, "not found", f"the path is not {PATH}")
        if environ.get("REQUEST_METHOD") != "POST":  # as `mvd doctor` and port checks ask
            return HTTPStatus.METHOD_NOT_ALLOWED, POST_ONLY
        try:
            return self._receive(came_from, dict(_headers(environ)), environ["wsgi.input"].read())
        except Exception as error:  # its text may be from the body
            why = f"its content cannot be read ({type(error).__name__})"
            return self._refuse(came_from, HTTPStatus.BAD_REQUEST, "cannot be read", why)

    def _receive(self, came_from: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if not self._receiver.authentic(headers, body, self._secret):
            why = "wrong signature or secret"
            return self._refuse(came_from, HTTPStatus.UNAUTHORIZED, "unauthorized", why)
        if self._repeats.has(body):
            self._throttle.log(logging.INFO, "webhook repeated", came_from)
            return HTTPStatus.ACCEPTED, "nothing to do"
        event = self._receiver.event(headers, body)
        if event.kind == "ping":
            log.info("webhook ping from=%s", came_from)
            return HTTPStatus.OK, "pong"
        if event.kind not in WAKING_EVENTS or (event.kind == "push" and event.ref not in self._refs):
            return HTTPStatus.ACCEPTED, "nothing to do"
        self._post(event.kind)
        log.info("webhook %s from=%s", event.kind, came_from)
        return HTTPStatus.ACCEPTED, "reconciling"

    def _refuse(self, came_from: str, status: HTTPStatus, text: str, why: str) -> Answer:
        self._throttle.log(logging.WARNING, "webhook refused", came_from, why)
        return status, text


def _headers(environ: WSGIEnvironment) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            yield name.removeprefix("HTTP_").replace("_", "-").lower(), value


class Repeats:
    """The bodies that came lately, by their digest; the oldest are forgotten first.

    A body is all that is signed, so it is all that a repeated one can be told by.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, body: bytes) -> bool:
        """Did this body come before?  From now on it did."""
        digest, now = hashlib.sha256(body).digest(), self._now()
        with self._lock:
            while self._seen and next(iter(self._seen.values())) < now - REPEAT_SECONDS:
                self._seen.popitem(last=False)
            if digest in self._seen:
                return True
            self._seen[digest] = now
            if len(self._seen) > MOST_REPEATS:
                self._seen.popitem(last=False)
            return False


# ---- the log ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    level: int
    until: float
    more: int = 0


class LogThrottle:
    """Logs one line for any number of alike webhooks, and once a minute how many more there were.

    `what` and `why` are constants of this module, so there are few of them.
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
        """Are there webhooks that were only counted?"""
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


class _Task(WSGITask):
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
        application: Webhooks,
        throttle: LogThrottle,
        within: float,
        known: dict[int, Any],
    ) -> None:
        self._throttle = throttle
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
        self._throttle.log(logging.WARNING, "webhook refused", address[0], why)

    def maintenance(self, now: float) -> None:
        for channel in self._undecided():
            if now - channel.creation_time > self._within:
                self._end(channel)

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

    `within` is the seconds that a connection may take, from its first byte to the last of the answer.
    """

    def __init__(
        self, listener: socket.socket, application: Webhooks, throttle: LogThrottle, within: float = CONNECTION_SECONDS
    ) -> None:
        logging.getLogger("waitress").setLevel(logging.ERROR)  # what is worth a line is logged here, and throttled
        self._known: dict[int, Any] = {}
        self._throttle = throttle
        self._server = _Server(listener, application, throttle, within, self._known)

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
