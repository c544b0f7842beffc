"""The local API over two unix sockets: one that only reads, and one that may act.

Who may do what is in the rights of the sockets alone, as `ls -l /run/gitops-mvd` shows it.  One thread moves all bytes,
a few answer; so many may wait or listen at once that others still get an answer.  Whoever does not read what was asked
for is cut off.
"""

from __future__ import annotations

import grp
import json
import logging
import os
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.server import UnixWSGIServer
from waitress.task import ThreadedTaskDispatcher

from gitops_mvd.api.description import JSON, LINES
from gitops_mvd.api.endpoints import ACTING_SOCKET, ACTORS, READERS, SETTINGS_HEADER, SOCKET, Endpoint
from gitops_mvd.api.questions import Wrong, find_endpoint, read_parameters
from gitops_mvd.api.views import ErrorView
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.redact import told_line
from gitops_mvd.daemon.answers import Answers, Busy, NotFound, questions
from gitops_mvd.daemon.small_server import Task

log = logging.getLogger(__name__)

THREADS = 24
MOST_WAITING = 20  # of the threads: those that wait for a change, follow a log, or have a slow question
MOST_CONNECTIONS = 100  # of one socket
LARGEST_BODY = 64 << 10  # bytes
UNREAD = 1 << 20  # bytes of an answer that wait for whoever asked
UNREAD_SECONDS = 60.0  # after which somebody who reads nothing is cut off
LOOK_SECONDS = 5.0


Start = Callable[..., Any]
Environ = dict[str, Any]


class Application:
    """Answers requests, as WSGI has it.  `acts` says whether this one may do more than read."""

    def __init__(self, answers: Answers, settings: Path, *, acts: bool, waiting: threading.Semaphore) -> None:
        self._questions = questions(answers)
        self._headers = [(SETTINGS_HEADER, urllib.parse.quote(str(settings))), ("Cache-Control", "no-store")]
        self._acts = acts
        self._waiting = waiting

    def __call__(self, environ: Environ, start: Start) -> Iterable[bytes]:
        try:
            endpoint, given = self._endpoint(environ)
            parameters = read_parameters(endpoint, given)
            if zero := next((name for name, value in parameters.items() if "\0" in str(value)), ""):
                raise Wrong(400, f"{zero}: must not have a NUL")
            answer = self._questions[endpoint.name]
            if endpoint.is_stream:
                lines = self._lines(answer, parameters, environ.get("waitress.client_disconnected", lambda: False))
                first = next(lines, b"")
                start("200 OK", [*self._headers, ("Content-Type", LINES)])
                return _with_first(first, lines)
            with self._turn() if endpoint.is_slow_with(parameters) else nullcontext():
                found = answer(**parameters)
                body = found.encode() if endpoint.form else msgspec.json.encode(found)
            return self._whole(start, 200, body, endpoint.form or JSON)
        except Exception as error:
            status, told = _told(error, environ)
            return self._whole(start, status, msgspec.json.encode(told))

    def _whole(self, start: Start, status: int, body: bytes, form: str = JSON) -> list[bytes]:
        length = ("Content-Length", str(len(body)))
        start(f"{status} {HTTPStatus(status).phrase}", [*self._headers, ("Content-Type", form), length])
        return [body]

    def _endpoint(self, environ: Environ) -> tuple[Endpoint, Mapping[str, Any]]:
        """What is asked, and what was given to it."""
        endpoint, named = find_endpoint(environ["REQUEST_METHOD"], environ["PATH_INFO"])
        if endpoint.method == "GET":
            query = urllib.parse.parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
            return endpoint, {**{name: values[-1] for name, values in query.items()}, **named}
        if not self._acts:
            raise Wrong(403, "this socket only reads", f"what acts goes to {ACTING_SOCKET}")
        return endpoint, _body(environ)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Inside, one of the threads that may wait does so.  Raises Busy if all do."""
        if not self._waiting.acquire(blocking=False):
            raise Busy("too many wait for the daemon at once", "end some of them, or go through `mvd web`")
        try:
            yield
        finally:
            self._waiting.release()

    def _lines(
        self, ask: Callable[..., Iterator[Any]], given: dict[str, Any], is_over: Callable[[], bool]
    ) -> Iterator[bytes]:
        with self._turn():
            for value in ask(**given, is_over=is_over):
                yield (msgspec.json.encode(value) if value is not None else b"") + b"\n"


def _with_first(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """What was asked for already, and the rest, which ends when this does."""
    try:
        yield first
        yield from rest
    finally:
        close = getattr(rest, "close", lambda: None)
        close()


def _body(environ: Environ) -> Mapping[str, Any]:
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if length > LARGEST_BODY:
        raise Wrong(413, f"the body has more than {LARGEST_BODY} bytes")
    try:
        value = json.loads(environ["wsgi.input"].read(length) or b"{}")
    except (ValueError, RecursionError):
        raise Wrong(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise Wrong(400, "the body is not a JSON object")
    return value


def _told(error: Exception, environ: Environ) -> tuple[int, ErrorView]:
    """The status of HTTP and the words for an error."""
    if not isinstance(error, MvdError):
        log.error("internal error api=%s", told_line(environ.get("PATH_INFO", ""), 100), exc_info=error)
        return 500, ErrorView("internal error, see the log of gitops-mvd", "journalctl -u gitops-mvd")
    match error:
        case Wrong():
            status = error.status
        case NotFound():
            status = 404
        case Busy() | Unavailable():
            status = 503
        case _:
            status = 400
    return status, ErrorView(told_line(error.message), told_line(error.hint))


# ---- the server ------------------------------------------------------------------------------------------------------


class _Channel(HTTPChannel):
    task_class = Task


class _Server(UnixWSGIServer):
    """Cuts off whoever does not read.  Its connections are counted apart: waitress counts those of both sockets."""

    channel_class = _Channel
    active_channels: dict[int, HTTPChannel]  # type: ignore[assignment]  # the stubs are wrong about it

    def readable(self) -> bool:
        return super().readable() and len(self.active_channels) < MOST_CONNECTIONS

    def maintenance(self, now: float) -> None:
        super().maintenance(int(now))
        for channel in list(self.active_channels.values()):
            if channel.total_outbufs_len and now - channel.last_activity > UNREAD_SECONDS:
                channel.handle_close()


class ApiThread:
    """The thread that serves the API; `folder` is where its sockets are made."""

    def __init__(self, answers: Answers, settings: Path, folder: Path) -> None:
        self._answers = answers
        self._settings = settings
        self._folder = folder
        self._wake: Callable[[], None] = lambda: None

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Answer until `stop`.  Raises Unavailable if the sockets cannot be made."""
        logging.getLogger("waitress").setLevel(logging.ERROR)
        known: dict[int, Any] = {}
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(THREADS)
        waiting = threading.Semaphore(MOST_WAITING)
        try:
            for where, group, acts in ((SOCKET, READERS, False), (ACTING_SOCKET, ACTORS, True)):
                listener = listen(self._folder / Path(where).name, group)
                application = Application(self._answers, self._settings, acts=acts, waiting=waiting)
                server = _served(listener, application, dispatcher, known)
            self._wake = server.pull_trigger
            up()
            while not stop.is_set():
                wasyncore.loop(timeout=LOOK_SECONDS, use_poll=True, map=known, count=1)
        finally:
            self._wake = lambda: None
            dispatcher.shutdown(timeout=1)
            wasyncore.close_all(known, ignore_all=True)

    def wake(self) -> None:
        with suppress(OSError):  # it has ended
            self._wake()


def _served(
    listener: socket.socket, application: Application, dispatcher: ThreadedTaskDispatcher, known: dict[int, Any]
) -> _Server:
    return _Server(
        application,
        known,
        _sock=listener,
        bind_socket=False,
        dispatcher=dispatcher,
        ident=None,
        connection_limit=3 * MOST_CONNECTIONS,  # which both sockets together never have
        max_request_body_size=LARGEST_BODY + 1,
        max_request_header_size=LARGEST_BODY,
        outbuf_overflow=UNREAD,
        outbuf_high_watermark=UNREAD,
        channel_request_lookahead=1,  # it goes on reading, and so sees that somebody has gone
        cleanup_interval=5,
        log_socket_errors=False,
        sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
    )


def listen(path: Path, group: str) -> socket.socket:
    """A socket at that path for root and a group, if this server has it.  Raises Unavailable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        os.fchmod(listener.fileno(), 0o600)  # what it is bound as: a umask would be that of all threads
        listener.bind(str(path))
        with suppress(KeyError, PermissionError):  # then it is ours alone
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
            path.chmod(0o660)
    except OSError as error:
        raise Unavailable(f"cannot listen at {path}: {error.strerror}", "set `run` in the settings") from error
    listener.setblocking(False)
    return listener
