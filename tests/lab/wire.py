"""A wire between a server of the lab and what it asks over HTTP: it passes all on, until it is told to misbehave.

with Wire(lab.address, lambda: lab.forge.url) as wire:
    wire.mood = "drip"
"""

from __future__ import annotations

import http.client
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

SECONDS = 60.0
SLOW_SECONDS = 4.0
DRIP_SECONDS = 0.5  # between two bytes
MOST_ENDLESS = 64 << 20  # bytes
MOODS = {
    "dead": "closes every connection",
    "silent": "does not answer",
    "slow": f"answers after {SLOW_SECONDS:g} s",
    "500": "answers 500",
    "401": "refuses every login",
    "html": "shows a page for people",
    "drip": "sends an answer byte by byte",
    "endless": "sends an answer without an end",
}
PAGE = b"<html><head><title>Please log in</title></head></html>"
OF_THE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length", "host"}


class Wire:
    """Listens at `url` and passes on to `upstream()`, in this process.  `mood` is "" or one of MOODS."""

    def __init__(self, host: str, upstream: Callable[[], str]) -> None:
        self.mood = ""
        self.upstream = upstream
        self._server = _Server((host, 0), self)
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.mood = "dead"
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], wire: Wire) -> None:
        super().__init__(address, _Request)
        self.wire = wire

    def handle_error(self, request: object, client_address: object) -> None:
        log.debug("Connection of a wire ended", exc_info=True)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = SECONDS

    def do_GET(self) -> None:
        wire = self.server.wire
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        mood = wire.mood
        if mood == "endless" and self.command == "GET" and self.path.endswith("git-upload-pack"):
            mood = ""  # Git lists its refs at the next request only
        if mood in ("", "slow"):
            time.sleep(SLOW_SECONDS if mood else 0)
            self._pass_on(wire.upstream(), body)
        elif mood in ("500", "401"):
            self._send(int(mood), [("WWW-Authenticate", "Basic")] if mood == "401" else [], b'{"message": "no"}')
        elif mood == "html":
            self._send(200, [("Content-Type", "text/html")], PAGE)
        elif mood in ("drip", "endless"):
            self._send_on(mood, b"ls-refs" in body)
        else:
            while mood == "silent" and wire.mood == mood:
                time.sleep(0.1)
            self.close_connection = True

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _pass_on(self, upstream: str, body: bytes) -> None:
        parts = urlsplit(upstream)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SECONDS)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in OF_THE_CONNECTION}
            connection.request(self.command, self.path, body or None, headers)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):  # as if there were no wire
            self.close_connection = True
            return
        finally:
            connection.close()
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in OF_THE_CONNECTION]
        self._send(answer.status, kept, content)

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send_on(self, mood: str, is_refs: bool) -> None:
        """An answer that does not end, as long as the mood lasts and somebody listens."""
        self.send_response(200)
        kind = "application/x-git-upload-pack-result" if is_refs else "application/json"
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        sent = 0
        for piece in _refs() if is_refs else itertools.repeat(b" " * (1 if mood == "drip" else 4096)):
            piece = piece[:1] if mood == "drip" else piece
            self.wfile.write(piece)
            self.wfile.flush()
            sent += len(piece)
            if mood != self.server.wire.mood or sent > MOST_ENDLESS:
                return
            time.sleep(DRIP_SECONDS if mood == "drip" else 0)

    def log_message(self, format: str, *args: object) -> None:
        log.debug("Request on a wire: " + format, *args)


def _refs() -> Iterator[bytes]:
    """Refs without an end, as protocol version 2 lists them."""
    for number in itertools.count():
        lines = (f"{number * 100 + each:040x} refs/heads/{number * 100 + each:08d}\n" for each in range(100))
        yield b"".join(f"{len(line) + 4:04x}{line}".encode() for line in lines)
