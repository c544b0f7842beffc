"""A daemon that is not there: the local API over unix sockets, answered from values that a test changes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from msgspec.structs import replace

from gitops_mvd.api.questions import Wrong, find_endpoint, read_parameters
from gitops_mvd.api.views import (
    AppView,
    ChangesView,
    CommandView,
    CommitView,
    DoneView,
    ErrorView,
    EventsView,
    EventView,
    HistoryView,
    HostView,
    LogLine,
    OperationView,
    SuspensionView,
)

BEAT_SECONDS = 0.3


@dataclass
class World:
    """What the daemon knows; `note` tells those who wait that it has changed."""

    status: HostView
    operations: list[OperationView] = field(default_factory=list)
    events: list[EventView] = field(default_factory=list)
    lines: list[LogLine] = field(default_factory=list)
    plan: Any = field(default_factory=dict)
    doctor: Any = field(default_factory=list)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    number: int = 1
    following: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition)
    held: frozenset[str] = frozenset()
    """The endpoints that accept a question and do not answer it; `waiting` are those who asked."""
    waiting: int = 0

    def note(self) -> None:
        with self.changed:
            self.number += 1
            self.changed.notify_all()

    def show(self, status: HostView) -> None:
        self.status = status
        self.note()

    def app(self, name: str) -> AppView:
        return next(it for it in self.status.apps if it.name == name)

    def show_app(self, app: AppView) -> None:
        others = [it for it in self.status.apps if it.name != app.name]
        self.show(replace(self.status, apps=tuple(sorted((*others, app), key=lambda it: it.name))))

    def hold(self, *endpoints: str) -> None:
        """From now on, only these are held."""
        with self.changed:
            self.held = frozenset(endpoints)
            self.changed.notify_all()

    def print(self, *lines: LogLine) -> None:
        with self.changed:
            self.lines += lines
            self.changed.notify_all()

    # ---- the answers -------------------------------------------------------------------------------------------------

    def answer(self, name: str, given: dict[str, Any]) -> Any:
        if name not in ("status", "changes", "operations", "operation"):
            self.asked.append((name, given))
        match name:
            case "status":
                return self.status
            case "changes":
                with self.changed:
                    self.changed.wait_for(lambda: self.number != given["after"], given["within"])
                return ChangesView(self.number)
            case "operations":
                app = given["app"]
                found = [it for it in self.operations if it.commit.commit.startswith(given["commit"])]
                found = [it for it in found if not app or any(step.app == app for step in it.steps)]
                return [replace(it, steps=()) for it in found[: given["limit"]]]
            case "operation":
                known = (it for it in self.operations if it.id == given["id"])
                return next(known, ErrorView("there is no operation"))
            case "events":
                return EventsView(tuple(self.events), len(self.events))
            case "history":
                return list[HistoryView]()
            case "plan":
                return CommandView(self.plan, 2 if self.plan.get("changes") else 0)
            case "doctor":
                return CommandView(self.doctor, 0)
            case "explain":
                return CommandView({}, 0)
            case "sync":
                return DoneView("the daemon fetches and reconciles now")
            case "retry":
                return DoneView(f"{given['app']}: its failed version is tried again now")
            case "suspend":
                held = SuspensionView(given["by"], given["why"], time.time(), given["until"], given["stop"])
                if given["app"]:
                    self.show_app(replace(self.app(given["app"]), suspended=held))
                else:
                    self.show(replace(self.status, suspended=held))
                return DoneView(f"{given['app'] or 'this server'}: suspended")
            case "resume":
                if given["app"]:
                    self.show_app(replace(self.app(given["app"]), suspended=None))
                else:
                    self.show(replace(self.status, suspended=None))
                return DoneView(f"{given['app'] or 'this server'}: resumed")
        return ErrorView(f"the stand-in has no {name}")

    def follow(self, given: dict[str, Any]) -> Iterator[LogLine | None]:
        """The lines of an app or a service; None as a sign of life."""
        app, _, service = given["name"].partition("/")
        with self.changed:
            self.following += 1
        try:
            place = 0
            known = [it for it in self.lines if it.app == app and service in ("", it.service)]
            first = known[max(0, len(known) - given["lines"]) :]
            if after := given["after"]:
                cursors = [it.cursor for it in known]
                first = known[cursors.index(after) + 1 :] if after in cursors else known
            place = len(self.lines)
            yield from first
            while given["follow"]:
                with self.changed:
                    self.changed.wait_for(lambda place=place: len(self.lines) > place, BEAT_SECONDS)
                    new, place = self.lines[place:], len(self.lines)
                found = [it for it in new if it.app == app and service in ("", it.service)]
                yield from found or [None]
        finally:
            with self.changed:
                self.following -= 1


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 100
    world: World

    def __init__(self, path: str) -> None:
        super().__init__(path, _Handler)
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone."""

    def end(self) -> None:
        """Be gone at once, as a process is that ends."""
        self.shutdown()
        self.server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET", dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True)))

    def do_POST(self) -> None:
        self._answer("POST", msgspec.json.decode(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, method: str, given: dict[str, Any]) -> None:
        world = self.server.world
        with suppress(OSError):  # whoever asked has gone
            try:
                endpoint, named = find_endpoint(method, unquote(urlsplit(self.path).path))
                parameters = read_parameters(endpoint, {**given, **named})
            except Wrong as error:
                self._send(error.status, ErrorView(error.message, error.hint))
                return
            with world.changed:
                world.waiting += 1
                world.changed.wait_for(lambda: endpoint.name not in world.held)
                world.waiting -= 1
            if endpoint.is_stream:
                self._stream(parameters)
                return
            found = world.answer(endpoint.name, parameters)
            self._send(404 if isinstance(found, ErrorView) else 200, found)

    def _send(self, status: int, value: Any) -> None:
        body = msgspec.json.encode(value)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, given: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for line in self.server.world.follow(given):
            self.wfile.write((msgspec.json.encode(line) if line else b"") + b"\n")
            self.wfile.flush()


@contextmanager
def daemon(world: World, folder: Path) -> Iterator[None]:
    """Inside, the daemon answers at the sockets of that folder."""
    servers = []
    for name in ("api.sock", "act.sock"):
        (folder / name).unlink(missing_ok=True)
        server = _Server(str(folder / name))
        server.world = world
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
    try:
        yield
    finally:
        for server in servers:
            server.end()
        for name in ("api.sock", "act.sock"):
            (folder / name).unlink(missing_ok=True)


def commit(number: int, subject: str, author: str = "Jane Doe", ago: float = 600.0) -> CommitView:
    """A commit that is told apart by its number."""
    sha = f"{number:07x}{'0' * 33}"
    return CommitView(sha, subject, author, time.time() - ago, f"https://forge.example.com/acme/config/commit/{sha}")
