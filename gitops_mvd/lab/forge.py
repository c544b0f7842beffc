"""A small forge for the lab: Git over HTTP, GitHub's commit status API, and push webhooks.

It answers as GitHub Enterprise does: `/OWNER/NAME.git` for Git, `/api/v3` for REST. Git itself is `git http-backend`,
the server that Git ships.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import hmac
import json
import logging
import re
import socket
import subprocess
import threading
import urllib.parse
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

from gitops_mvd.lab.repository import ENVIRONMENT, GIT_SECONDS, Delivery, Hook, Refused, Repository, Status, git

__all__ = ["Delivery", "Forge", "Hook", "Repository", "Status"]

log = logging.getLogger(__name__)

LARGEST_BODY = 256 * 1024 * 1024
IDLE_SECONDS = 60.0


class Forge:
    """A running forge. `down = True` closes every connection unanswered, until it is False again; `api_down = True`
    answers all but Git with 503.

    `token` guards everything, as `x-access-token:TOKEN` for Git and as a bearer token for the API; None lets all in.
    """

    def __init__(self, root: Path, host: str = "127.0.0.1", port: int = 0, token: str | None = "lab-token") -> None:
        self.root = root
        self.token = token
        self.down = self.api_down = False
        self.repositories: dict[str, Repository] = {}
        self._failures: list[int] = []
        self._server = _Server((host, port), self)
        self.url = f"http://{host}:{self._server.server_port}"
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

    def fail_next(self, n: int, status: int = 502) -> None:
        """Answer the next `n` requests, of any kind, with an error."""
        self._failures.extend([status] * n)

    def next_failure(self) -> int | None:
        try:
            return self._failures.pop(0)
        except IndexError:
            return None

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header carries the token, in any of the ways that GitHub takes it."""
        if self.token is None:
            return True
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given).decode().partition(":")[2]
            except ValueError:
                return False
        return hmac.compare_digest(given.encode(), self.token.encode())


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

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        forge = self.server.forge
        if forge.down:
            self.close_connection = True
            return
        body = self._body()
        path, _, query = self.path.partition("?")
        try:
            if failure := forge.next_failure():
                raise Refused(failure, "Server Error")
            if not forge.admits(self.headers.get("Authorization", "")):
                raise Refused(401, "Bad credentials")
            if path.startswith("/api/v3/"):
                if forge.api_down:
                    raise Refused(503, "Service Unavailable")
                self._send_json(*self._api(path.removeprefix("/api/v3"), query, body))
            else:
                self._git(path, query, body)
        except Refused as error:
            self._send_json(error.status, error.body)

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

    def _repository(self, name: str) -> Repository:
        try:
            return self.server.forge.repositories[urllib.parse.unquote(name)]
        except KeyError:
            raise Refused(404, "Not Found") from None

    def _api(self, path: str, query: str, body: bytes) -> tuple[int, Any]:
        if self.command == "POST" and (match := re.fullmatch(r"/repos/([^/]+/[^/]+)/statuses/([^/]+)", path)):
            return 201, self._post_status(self._repository(match[1]), match[2], body)
        if self.command == "GET" and (match := re.fullmatch(r"/repos/([^/]+/[^/]+)/commits/(.+)/status(es)?", path)):
            repository = self._repository(match[1])
            sha = repository.resolve(urllib.parse.unquote(match[2]))
            if match[3]:
                return 200, self._page(repository, sha, query)
            return 200, self._combined(repository, sha)
        raise Refused(404, "Not Found")

    def _post_status(self, repository: Repository, sha: str, body: bytes) -> dict[str, Any]:
        try:
            given = json.loads(body)
        except ValueError:
            raise Refused(400, "Problems parsing JSON") from None
        if not isinstance(given, dict):
            raise Refused(400, "Body should be a JSON object")
        status = Status(
            context=given.get("context") or "default",
            state=given.get("state") or "",
            description=given.get("description") or "",
            target_url=given.get("target_url") or "",
            at=datetime.now(UTC),
        )
        if not re.fullmatch("[0-9a-f]{40}", sha):  # GitHub takes no branch and no short id here
            raise Refused(422, f"No commit found for SHA: {sha}")
        repository.resolve(sha)
        repository.post(sha, status)
        return self._shown(repository, sha, status)

    def _shown(self, repository: Repository, sha: str, status: Status) -> dict[str, Any]:
        at = status.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "url": f"{self.server.forge.url}/api/v3/repos/{repository.name}/statuses/{sha}",
            "id": int.from_bytes(hashlib.sha256(repr((sha, status)).encode()).digest()[:6], "big"),
            "state": status.state,
            "context": status.context,
            "description": status.description or None,
            "target_url": status.target_url or None,
            "created_at": at,
            "updated_at": at,
            "creator": {"login": "lab", "type": "Bot"},
        }

    def _page(self, repository: Repository, sha: str, query: str) -> list[dict[str, Any]]:
        asked = dict(urllib.parse.parse_qsl(query))
        size, page = min(int(asked.get("per_page", 30)), 100), int(asked.get("page", 1))
        newest_first = repository.statuses(sha)[::-1]
        return [self._shown(repository, sha, s) for s in newest_first[(page - 1) * size : page * size]]

    def _combined(self, repository: Repository, sha: str) -> dict[str, Any]:
        latest = repository.latest(sha)
        states = {status.state for status in latest}
        worst = "failure" if states & {"error", "failure"} else "success" if states == {"success"} else "pending"
        return {
            "state": worst,
            "sha": sha,
            "total_count": len(latest),
            "statuses": [self._shown(repository, sha, status) for status in latest],
        }

    def _git(self, path: str, query: str, body: bytes) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+?)(?:\.git)?(/(?:info/refs|HEAD|git-(?:upload|receive)-pack))", path)
        if not match:
            raise Refused(404, "Not Found")
        repository = self._repository(match[1])
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

    def _send_json(self, status: int, body: Any) -> None:
        headers = [("Content-Type", "application/json; charset=utf-8")]
        if status == 401:
            headers.append(("WWW-Authenticate", 'Basic realm="lab forge"'))
        self._send(status, headers, json.dumps(body).encode())

    def _send(self, status: int, headers: list[Any], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("Request to the lab's forge: " + format, *args)
