"""A small forge for the lab: Git over HTTP, and beside it the APIs of many a forge at once, each in its own dialect.

`/OWNER/NAME.git` is Git, by `git http-backend`, the server that Git ships; everything else belongs to a dialect, or is
not there.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import logging
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from tests.lab import dialects
from tests.lab.app import App
from tests.lab.dialects import Ask
from tests.lab.repository import ENVIRONMENT, GIT_SECONDS, Delivery, Hook, Refused, Repository, Status, git

__all__ = ["Delivery", "Forge", "Hook", "Repository", "Status"]

log = logging.getLogger(__name__)

LARGEST_BODY = 256 * 1024 * 1024
IDLE_SECONDS = 60.0


@dataclass
class Asked:
    """One request to an API, as it came in, and the `status` that it was answered with."""

    dialect: str
    method: str
    path: str
    body: bytes
    status: int = 0


class Forge:
    """A running forge.  It can be made to have a bad day:

    down      closes every connection unanswered
    api_down  answers all but Git with 503
    slow      seconds before an API answers
    html      answers of the APIs are a page for people, with 200
    allow()   so many more requests to an API, and then none until some seconds have passed

    `token` guards everything, as `x-access-token:TOKEN` for Git and for an API as that one has it; None lets all in.
    With `tls`, the files of a certificate and its key, it speaks https.
    `app` is a GitHub App, whose tokens are as good.  `asked` has every request to an API that was let in, and
    `turned_away` counts those that came in spite of a limit.
    """

    def __init__(
        self,
        root: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        token: str | None = "lab-token",
        tls: tuple[str, str] | None = None,
    ) -> None:
        self.root = root
        self.token = token
        self.down = self.api_down = self.html = False
        self.slow = 0.0
        self.app: App | None = None
        self.asked: deque[Asked] = deque(maxlen=10_000)
        self.turned_away = 0
        self.repositories: dict[str, Repository] = {}
        self.moved: dict[str, str] = {}  # the old name of a repository -> its new one
        self.dialects = dialects.discover()
        self._failures: list[tuple[int, bool]] = []
        self._left, self._until = 0, 0.0
        self._server = _Server((host, port), self)
        if tls:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(*tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Forge:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def create(self, name: str) -> Repository:
        """A repository `OWNER/NAME`; what already lies on disk under that name is kept."""
        path = self.root / f"{name}.git"
        if not path.exists():
            path.mkdir(parents=True)
            git("init", "--quiet", "--bare", "--initial-branch=main", at=path)
            for key in ("http.receivepack", "uploadpack.allowAnySHA1InWant", "uploadpack.allowFilter"):
                git("config", key, "true", at=path)
        repository = Repository(name, path, f"{self.url}/{name}.git")
        self.repositories[name] = repository
        return repository

    def rename(self, name: str, to: str) -> None:
        """Give a repository another name, as its owner would; Git goes on to find it under the old one."""
        self.moved[name] = to
        repository = self.repositories[name]
        self.repositories[to] = repository
        repository.name = to

    def rename_back(self, name: str) -> None:
        """Undo that: the repository has its old `name` again, and no other."""
        repository = self.repositories.pop(self.moved.pop(name))
        repository.name = name

    def fail_next(self, n: int, status: int = 502, *, after: int = 0, late: bool = False) -> None:
        """Answer `n` requests of any kind with an error, `after` so many are answered well.

        A `late` failure of an API is one of the answer alone: what was asked for has been done.
        """
        self._failures.extend([(0, False)] * after + [(status, late)] * n)

    def next_failure(self) -> tuple[int, bool] | None:
        """The status, 0 for none, and whether that comes late; None where nothing more was ordered."""
        try:
            return self._failures.pop(0)
        except IndexError:
            return None

    def allow(self, requests: int, seconds: float) -> None:
        """Take so many requests to an API, and then none until so many seconds have passed."""
        self._left, self._until = requests, time.time() + seconds

    def next_limit(self) -> float | None:
        """Count one request; until when (seconds since 1970) there must be no more, None where it is allowed."""
        if time.time() >= self._until:
            return None
        self._left -= 1
        return self._until if self._left < 0 else None

    def admits(self, authorization: str, path: str) -> bool:
        """Whether the Authorization header of a Git client carries a token."""
        if self.token is None or dialects.is_token(dialects.basic(authorization)[1], self.token):
            return True
        return self.app is not None and self.app.admits(authorization, path)


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that closing ends them and no thread stays behind."""

    daemon_threads = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], forge: Forge) -> None:
        super().__init__(address, _Request)
        self.forge = forge
        self._open: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # the client may have closed it first
                connection.shutdown(socket.SHUT_RD)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("Connection of the lab's forge ended", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    server_version = "gitops-mvd-lab-forge"
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _answer(self) -> None:
        forge = self.server.forge
        if forge.down:
            self.close_connection = True
            return
        body = self._body()
        path, _, query = self.path.partition("?")
        for name, dialect in forge.dialects.items():
            if dialect.PATH.fullmatch(path):
                return self._ask_api(name, dialect, path, query, body)
        try:
            failure, _ = forge.next_failure() or (0, False)
            if failure:
                raise Refused(failure, "Server Error")
            if not forge.admits(self.headers.get("Authorization", ""), path):
                raise Refused(401, "Bad credentials")
            self._git(path, query, body)
        except Refused as error:
            self._send_json(error.status, {"message": str(error)})

    def _ask_api(self, name: str, dialect: ModuleType, path: str, query: str, body: bytes) -> None:
        forge = self.server.forge
        time.sleep(forge.slow)
        headers = {key.lower(): value for key, value in self.headers.items()}
        asked = Asked(name, self.command, self.path, body)
        try:
            if forge.api_down:
                raise Refused(503, "Service Unavailable")
            failure, is_late = forge.next_failure() or (0, False)
            if failure and not is_late:
                raise Refused(failure, "Server Error")
            if forge.html:
                return self._send(200, [("Content-Type", "text/html")], b"<html><h1>Please log in</h1></html>")
            is_guest = forge.app is not None and forge.app.admits(headers.get("authorization", ""), path)
            if forge.token is not None and not is_guest and not dialect.admits(headers, forge.token):
                raise Refused(401, "Bad credentials")
            if (until := forge.next_limit()) is not None:
                forge.turned_away += 1
                status, more, said = dialect.limited(until)
                return self._send_json(status, said, more)
            forge.asked.append(asked)
            ask = Ask(self.command, path, dict(urllib.parse.parse_qsl(query)), headers, body, forge)
            asked.status, said, more = 200, None, {}
            if old := next((old for old in forge.moved if hasattr(dialect, "moved") and f"/{old}/" in f"{path}/"), ""):
                asked.status, more, said = dialect.moved(ask, forge.moved[old])
            else:
                asked.status, said = dialect.answer(ask)
            if failure:
                raise Refused(failure, "Server Error")
            if self.command == "GET" and asked.status == 200 and getattr(dialect, "ETAGS", False):
                more = {"ETag": f'W/"{hashlib.sha256(json.dumps(said).encode()).hexdigest()}"'}
                if headers.get("if-none-match") == more["ETag"]:
                    asked.status = 304
            self._send_json(asked.status, said, more)
        except Refused as error:
            asked.status = error.status
            self._send_json(error.status, dialect.refused(error))

    def _body(self) -> bytes:
        """The whole request body; git sends large pushes chunked, which http.server leaves to us."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(min(int(self.headers.get("Content-Length") or 0), LARGEST_BODY))
        parts = []
        while size := int(self.rfile.readline(64).split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline(8)
        self.rfile.readline(8)
        return b"".join(parts)

    def _git(self, path: str, query: str, body: bytes) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+?)(?:\.git)?(/(?:info/refs|HEAD|git-(?:upload|receive)-pack))", path)
        if not match:
            raise Refused(404, "Not Found")
        repository = self.server.forge.repositories.get(urllib.parse.unquote(match[1]))
        if not repository:
            raise Refused(404, "Not Found")
        if match[2] == "/info/refs":
            repository.asked.append(time.monotonic())
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        writes = self.command == "POST" and match[2] == "/git-receive-pack"
        with repository.pushing() if writes else contextlib.nullcontext():
            answer = self._http_backend(repository, match[2], query, body)
        head, _, content = answer.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        self._send(status, [(name, value) for name, value in headers if name != "Status"], content)

    def _http_backend(self, repository: Repository, path: str, query: str, body: bytes) -> bytes:
        """One CGI request (RFC 3875) to the server that Git ships."""
        environment = {
            **ENVIRONMENT,
            "GIT_PROJECT_ROOT": str(repository.path),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "REMOTE_USER": "lab",
            "REMOTE_ADDR": str(self.client_address[0]),
        }
        command = ["git", "http-backend"]
        try:
            done = subprocess.run(
                command, input=body, env=environment, capture_output=True, timeout=GIT_SECONDS, check=True
            )
        except subprocess.SubprocessError as error:
            raise Refused(500, "git http-backend failed") from error
        return done.stdout

    def _send_json(self, status: int, body: Any, more: Mapping[str, str] | None = None) -> None:
        headers = [("Content-Type", "application/json; charset=utf-8"), *(more or {}).items()]
        if status == 401:
            headers.append(("WWW-Authenticate", 'Basic realm="lab forge"'))
        self._send(status, headers, b"" if status == 204 else json.dumps(body).encode())

    def _send(self, status: int, headers: list[Any], content: bytes) -> None:
        content = b"" if status == 304 else content
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("Request to the lab's forge: " + format, *args)
