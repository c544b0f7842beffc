"""A server that behaves as none should, over TCP and over a Unix socket: what a client must get away from by itself."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

DRIP_SECONDS = 0.05  # between two bytes
PIECE = b"x" * (1 << 16)


@dataclass
class Talk:
    """One connection, whose request has come; `over` is set once the test has ended."""

    line: socket.socket
    request: bytes
    over: threading.Event

    def send(self, data: bytes) -> None:
        self.line.sendall(data)

    def answer(self, body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> None:
        """An answer after which the connection is closed."""
        size = len(body) if length is None else length
        kept = "Api-Version: 1.41", "Content-Type: application/json", f"Content-Length: {size}", "Connection: close"
        self.send("\r\n".join((f"HTTP/1.1 {status}", *kept, *headers, "", "")).encode() + body)

    def drip(self, data: bytes) -> None:
        for byte in data:
            self.send(bytes([byte]))
            if self.over.wait(DRIP_SECONDS):
                return

    def for_ever(self, piece: bytes) -> None:
        while not self.over.is_set():
            self.send(piece)

    @property
    def path(self) -> str:
        return self.request.split(b" ", 2)[1].decode() if self.request.count(b" ") > 1 else ""


Way = Callable[[Talk], object]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DEEP = b"[" * 100_000
HTML = b"<!DOCTYPE html><html><head><title>Welcome to nginx!</title></head><body>" + b"<p>Hello</p>" * 2000


def _reset(talk: Talk) -> None:
    """Hang up in the middle of an answer, by RST."""
    talk.send(HEAD + b'Content-Length: 1000\r\n\r\n{"half": ')
    talk.line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


WAYS: dict[str, Way] = {
    **{
        f"answers {code} with {what}": lambda talk, code=code, body=body: talk.answer(body, f"{code} Awkward")  # type: ignore[misc]
        for code in (400, 401, 403, 404, 409, 429, 500, 503)
        for what, body in (("HTML", HTML), ("JSON", b'{"message": "no, not now"}'))
    },
    "answers 418 with nothing": lambda talk: talk.answer(b"", "418 Awkward"),
    "answers 400 with a list": lambda talk: talk.answer(b"[1]", "400 Awkward"),
    "answers 502 with a list": lambda talk: talk.answer(b"[1]", "502 Awkward"),
    "hangs": lambda talk: talk.over.wait(30),
    "is not HTTP": lambda talk: talk.send(b"220 smtp.example ESMTP\r\n" + b"\0\xff" * 99),
    "is a picture": lambda talk: talk.send(bytes(range(256)) * 99),
    "answers HTML": lambda talk: talk.answer(HTML),
    "answers another JSON object": lambda talk: talk.answer(b'{"hello": ["world"], "data": 7, "values": {}}'),
    "answers a list of lists": lambda talk: talk.answer(b"[[1], [2]]"),
    "answers a list of objects": lambda talk: talk.answer(b'[{"id": {}, "Id": 7, "Names": 7}]'),
    "answers a number": lambda talk: talk.answer(b"7"),
    "answers null": lambda talk: talk.answer(b"null"),
    "answers nested too deep": lambda talk: talk.answer(DEEP),
    "answers a number too long": lambda talk: talk.answer(b"9" * 10_000),
    "answers no UTF-8": lambda talk: talk.answer(b'{"message": "\xff\xfe\xc3"}'),
    "answers nothing": lambda talk: talk.answer(b""),
    "answers with an error inside": lambda talk: talk.answer(b'{"error": "no", "message": "no, not now"}'),
    "promises more than it sends": lambda talk: talk.answer(b'{"data": []}', length=1000),
    "promises less than it sends": lambda talk: talk.answer(b'{"data": []}', length=3),
    "promises nonsense": lambda talk: talk.send(HEAD + b"Content-Length: -7\r\n\r\n{}"),
    "sends chunks of nonsense": lambda talk: talk.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n"),
    "sends packed nonsense": lambda talk: talk.answer(b"{}", "200 OK", "Content-Encoding: gzip"),
    "redirects in a circle": lambda talk: talk.answer(b"", "302 Found", f"Location: {talk.path}"),
    "redirects elsewhere": lambda talk: talk.answer(b"", "301 Moved", "Location: http://192.0.2.1/"),
    "says 100 for ever": lambda talk: talk.for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "has no end of one header": lambda talk: (talk.send(HEAD + b"X-Long: "), talk.for_ever(PIECE)),
    "has no end of headers": lambda talk: (talk.send(HEAD), talk.for_ever(b"X-Many: 1\r\n")),
    "has no end of content": lambda talk: (talk.send(HEAD + b"\r\n"), talk.for_ever(PIECE)),
    "has no end of chunks": lambda talk: (
        talk.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        talk.for_ever(b"10000\r\n" + PIECE + b"\r\n"),
    ),
    "has no end of a chunk's size": lambda talk: (
        talk.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        talk.for_ever(b"0" * 1000),
    ),
    "has no end of JSON": lambda talk: (talk.send(HEAD + b"\r\n["), talk.for_ever(b'{"a": 1},' * 1000)),
    "drips its first line": lambda talk: talk.drip(HEAD * 100),
    "drips its headers": lambda talk: (talk.send(HEAD), talk.drip(b"X-Slow: 1\r\n" * 1000)),
    "drips its content": lambda talk: (talk.send(HEAD + b"Content-Length: 100000\r\n\r\n"), talk.drip(b" " * 100_000)),
    "drips chunks": lambda talk: (
        talk.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n"),
        talk.drip(b"1\r\n \r\n" * 10_000),
    ),
    "hangs up at once": lambda talk: None,
    "hangs up in the headers": lambda talk: talk.send(HEAD),
    "resets in the content": _reset,
    "has no end of pages": lambda talk: _next_page(talk),
}


PAGES = itertools.count(1)


def _next_page(talk: Talk) -> None:
    """A page that is never the last, in the words of every API that has pages."""
    path, page = talk.path.partition("?")[0], next(PAGES)
    comment = f'{{"id": {page}, "body": "x", "system": false, "content": {{"raw": "x"}}, "action": "x"}}'
    if path.endswith(("/comments", "/notes")) and "bitbucket" not in path:
        return talk.answer(f"[{comment}]".encode())
    host = talk.request.partition(b"\r\nHost: ")[2].partition(b"\r\n")[0].decode("latin-1")
    following = f"http://{host}{path}?page={page}" if "bitbucket" in path else f"{path}?offset={page}"
    last = f'"next": "{following}", "isLastPage": false, "nextPageStart": {page}'
    talk.answer(f'{{"data": [], "values": [{comment}], {last}}}'.encode())


@dataclass
class Server:
    """Behaves in that way on every connection; `first` paths are answered as they should be."""

    way: Way
    first: dict[str, bytes]
    over: threading.Event

    def serve(self, listening: socket.socket) -> None:
        while True:
            try:
                line, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(line,), daemon=True).start()

    def _talk(self, line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            line.settimeout(10)
            talk = Talk(line, _request(line), self.over)
            if (known := self.first.get(talk.path.partition("?")[0])) is not None:
                talk.answer(known)
            else:
                self.way(talk)


def _request(line: socket.socket) -> bytes:
    """A whole request of HTTP, or whatever else is said first."""
    heard = b""
    while b"\r\n\r\n" not in heard:
        if not (more := line.recv(65536)):
            return heard
        heard += more
        if not heard[:1].isalpha():  # no HTTP
            return heard
    head, _, body = heard.partition(b"\r\n\r\n")
    lengths = [line[15:] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    wanted = int(lengths[0]) if lengths else 0
    while len(body) < wanted and (more := line.recv(65536)):
        body += more
    return heard


@contextlib.contextmanager
def awkward(way: Way, path: Path | None = None, **first: bytes) -> Iterator[str]:
    """Gives the URL; with a `path` that of a Unix socket there, else of TCP on loopback."""
    family = socket.AF_UNIX if path else socket.AF_INET
    with socket.socket(family) as listening:
        listening.bind(str(path) if path else ("127.0.0.1", 0))
        listening.listen(64)
        server = Server(way, {name: body for name, body in first.items()}, threading.Event())
        thread = threading.Thread(target=server.serve, args=(listening,))
        thread.start()
        try:
            yield f"unix://{path}" if path else f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.over.set()
            with contextlib.suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
