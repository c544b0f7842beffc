"""Webhooks: a forge says that something was pushed, and the loop looks at once instead of at the next poll.

What comes in is no more than a hint: nothing of it is used but that it came, and the loop goes on to ask Git itself.
Every request has a connection to itself, few bytes and little time, and is answered before anything is done.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import WSGITask

from gitops_mvd.config.settings import host_and_port
from gitops_mvd.core.ports import Receiver
from gitops_mvd.daemon.wiring import Wired

log = logging.getLogger(__name__)

Post = Callable[[str], None]
Answer = tuple[HTTPStatus, str]

PATH = "/webhook"
POSTED = frozenset({"push", "pull_request"})  # the events that wake the loop, which knows them by the same words
NO_GET = "webhooks of gitops-mvd are posted here"
LARGEST_BODY = 3 << 20  # bytes
LARGEST_HEADERS = 16 << 10  # bytes
THREADS = 2
MOST_CONNECTIONS = 64
WITHIN = 15.0  # seconds for one connection, from its first byte to the last of the answer
REMEMBERED = 600.0  # seconds in which the same body again is a repeated one
MOST_REMEMBERED = 4096
IDLE = 3600.0  # seconds that a listener sleeps whom nobody asks anything
QUIET = 60.0  # seconds between two lines that say the same
ASKED_WITHIN = 3.0  # seconds


@contextmanager
def webhooks(wired: Wired, post: Post) -> Iterator[None]:
    """Inside, what the forge tells of says `push` or `pull_request`.  Without a secret in the settings, nobody listens.

    Where the port can not be had, that is one line in the log: the poll does without.
    """
    hooks = wired.webhook
    if not hooks:
        yield
        return
    said = Said()
    application = Webhooks(hooks.receiver, hooks.secret, wired.settings.branch, post, said)
    try:
        listener = listen(*host_and_port(hooks.listen))
    except OSError as error:
        log.warning("webhooks can not be heard at=%s: %s", hooks.listen, error.strerror or error)
        yield
        return
    with serving(listener, application, said):
        log.info("webhooks are heard at=%s", hooks.listen)
        yield


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.  Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)


def listens(host: str, port: int) -> bool:
    """Is it us who listens there?  Raises OSError where nobody does."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    connection = http.client.HTTPConnection(everywhere.get(host, host), port, timeout=ASKED_WITHIN)
    try:
        connection.request("GET", PATH)
        answer = connection.getresponse()
        return answer.status == HTTPStatus.METHOD_NOT_ALLOWED and NO_GET.encode() in answer.read(1024)
    except (http.client.HTTPException, ConnectionResetError, TimeoutError):  # somebody does, who speaks otherwise
        return False
    finally:
        connection.close()


# ---- what is answered ------------------------------------------------------------------------------------------------


class Webhooks:
    """The WSGI application: who is let in, and what is posted for it."""

    def __init__(self, receiver: Receiver, secret: str, branch: str, post: Post, said: Said) -> None:
        self._receiver = receiver
        self._secret = secret
        self._refs = {f"refs/heads/{branch}", ""}  # not every forge says which branch
        self._post = post
        self._said = said
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
            return self._refuse(came_from, HTTPStatus.NOT_FOUND, "not found", f"it asked for another path than {PATH}")
        if environ.get("REQUEST_METHOD") != "POST":  # as `mvd doctor` asks, and those who only look whether we are up
            return HTTPStatus.METHOD_NOT_ALLOWED, NO_GET
        try:
            return self._hear(came_from, dict(_headers(environ)), environ["wsgi.input"].read())
        except Exception as error:  # whose text may be of the body
            why = f"it can not be read ({type(error).__name__})"
            return self._refuse(came_from, HTTPStatus.BAD_REQUEST, "can not be read", why)

    def _hear(self, came_from: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if not self._receiver.authentic(headers, body, self._secret):
            why = "it was not sent by somebody who knows the secret"
            return self._refuse(came_from, HTTPStatus.UNAUTHORIZED, "unauthorized", why)
        if self._repeats.has(body):
            self._said.say(logging.INFO, "webhook repeated", came_from)
            return HTTPStatus.ACCEPTED, "nothing to do"
        event = self._receiver.event(headers, body)
        if event.kind == "ping":
            log.info("webhook ping from=%s", came_from)
            return HTTPStatus.OK, "pong"
        if event.kind not in POSTED or (event.kind == "push" and event.ref not in self._refs):
            return HTTPStatus.ACCEPTED, "nothing to do"
        self._post(event.kind)
        log.info("webhook %s from=%s", event.kind, came_from)
        return HTTPStatus.ACCEPTED, "looking"

    def _refuse(self, came_from: str, status: HTTPStatus, text: str, why: str) -> Answer:
        self._said.say(logging.WARNING, "webhook refused", came_from, why)
        return status, text


def _headers(environ: WSGIEnvironment) -> Iterator[tuple[str, str]]:
    for name, value in environ.items():
        if name.startswith("HTTP_") or name in {"CONTENT_TYPE", "CONTENT_LENGTH"}:
            yield name.removeprefix("HTTP_").replace("_", "-").lower(), value


class Repeats:
    """The bodies that were heard lately, by their digest; the oldest are forgotten first.

    A body is all that is signed, so it is all that a repeated one can be told by.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._heard: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def has(self, body: bytes) -> bool:
        """Was it heard before?  From now on it was."""
        digest, now = hashlib.sha256(body).digest(), self._now()
        with self._lock:
            while self._heard and next(iter(self._heard.values())) < now - REMEMBERED:
                self._heard.popitem(last=False)
            if digest in self._heard:
                return True
            self._heard[digest] = now
            if len(self._heard) > MOST_REMEMBERED:
                self._heard.popitem(last=False)
            return False


# ---- what is said of it ----------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    level: int
    until: float
    more: int = 0


class Said:
    """Says of any number of bad ones what it says of one, and once a minute how many there were.

    `what` and `why` are words of ours, and so there are few of them.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lines: dict[tuple[str, str], _Line] = {}
        self._lock = threading.Lock()

    def say(self, level: int, what: str, came_from: str, why: str = "") -> None:
        now = self._now()
        with self._lock:
            line = self._lines.get((what, why))
            if line and (now < line.until or line.more):
                line.more += 1
                return
            self._lines[what, why] = _Line(level, now + QUIET)
        log.log(level, "%s from=%s%s", what, came_from, f": {why}" if why else "")

    def has_more(self) -> bool:
        """Is there something to sum up, now or later?"""
        with self._lock:
            return any(line.more for line in self._lines.values())

    def sum_up(self, at_last: bool = False) -> None:
        """Tell of those that were only counted, a minute after the last line of them or `at_last`."""
        now = self._now()
        with self._lock:
            due = {key: line for key, line in self._lines.items() if line.more and (at_last or now >= line.until)}
            told = [(line.level, *key, line.more) for key, line in due.items()]
            for line in due.values():
                line.until, line.more = now + QUIET, 0
        for level, what, why, more in told:
            log.log(level, "%s %d times more%s", what, more, f": {why}" if why else "")


# ---- the server ------------------------------------------------------------------------------------------------------


class _Task(WSGITask):
    """One request a connection: nobody keeps one, and what a forger pipelines behind it is not looked at."""

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
        """What the server did not foresee, such as half an IPv6 address for a host."""
        self.server.refuse(self, f"it can not be taken ({type(sys.exception()).__name__})")
        self.handle_close()


class _Server(TcpWSGIServer):
    """Takes time and room from those who are slow, however many they are: the oldest has to go first."""

    channel_class = _Channel
    active_channels: dict[int, _Channel]  # type: ignore[assignment]  # the stubs are wrong about it

    def __init__(
        self, listener: socket.socket, application: Webhooks, said: Said, within: float, known: dict[int, Any]
    ) -> None:
        self._said = said
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
        self._said.say(logging.WARNING, "webhook refused", address[0], why)

    def maintenance(self, now: float) -> None:
        for channel in self._undecided():
            if now - channel.creation_time > self._within:
                self._end(channel)

    def handle_accept(self) -> None:
        if len(self.active_channels) >= MOST_CONNECTIONS and (undecided := self._undecided()):
            self._end(min(undecided, key=lambda channel: channel.creation_time))
        super().handle_accept()

    def _undecided(self) -> list[_Channel]:
        """Those that have not sent all of their request, or not taken all of the answer."""
        return [each for each in self.active_channels.values() if not each.requests and not each.will_close]

    def _end(self, channel: _Channel) -> None:
        channel.will_close = True
        self.refuse(channel, "it was too slow")


@contextmanager
def serving(listener: socket.socket, application: Webhooks, said: Said, within: float = WITHIN) -> Iterator[None]:
    """Inside, what comes in at the listener is answered; afterwards it is closed, with all its connections.

    `within` so many seconds one has to have sent all, and taken the answer.
    """
    logging.getLogger("waitress").setLevel(logging.ERROR)  # the rest is told by us, and not as often
    known: dict[int, Any] = {}
    server = _Server(listener, application, said, within, known)
    trigger: Any = server.trigger
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                pause = 1.0 if server.active_channels or said.has_more() else IDLE
                wasyncore.loop(timeout=pause, use_poll=True, map=known, count=1)
            except Exception:
                log.exception("webhooks: internal error")
                ended.wait(1)
            said.sum_up()
        server.task_dispatcher.shutdown()
        said.sum_up(at_last=True)

    thread = threading.Thread(target=serve, name="webhook", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        trigger.pull_trigger()
        thread.join(10)
        wasyncore.close_all(known, ignore_all=True)  # not before: it may be waked as long as it runs
