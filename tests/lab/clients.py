"""The clients of a load, in a process of their own: `tests.lab.load` starts it, asks it, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import os
import re
import socket
import sys
import time
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.lab.load import FRESH, KEPT, Period, Summary

PAUSE_SECONDS = 0.05  # after a failure, so that what refuses is not asked a thousand times a second
MOST_REASONS = 20
MOST_VERSIONS = 1000
AT_ONCE = 65536  # bytes


class Broken(Exception):
    """A request failed; the message says how."""


class Log:
    """Every request of one kind of client: when it began and ended, and the version that answered, in 18 bytes."""

    def __init__(self, clients: str) -> None:
        self.clients = clients
        self.began = array("d")
        self.ended = array("d")
        self.said = array("H")  # the place of the version in `versions`; 0 is a failure
        self.versions = {"": 0}
        self.why: Counter[str] = Counter()
        self.first: dict[str, float] = {}

    def answered(self, began: float, version: str) -> None:
        known = self.versions
        if version not in known and len(known) == MOST_VERSIONS:
            return self.failed(began, "yet another version")
        self._add(began, known.setdefault(version, len(known)))

    def failed(self, began: float, why: str) -> None:
        if why not in self.first and len(self.first) >= MOST_REASONS:
            why = "other reasons"
        self.why[why] += 1
        self.first.setdefault(why, began)
        self._add(began, 0)

    def _add(self, began: float, said: int) -> None:
        self.began.append(began)
        self.ended.append(time.monotonic())
        self.said.append(said)

    def summary(self, start: float) -> Summary:
        """Of at least one request; `start` is when the load began."""
        took = [end - begin for begin, end in zip(self.began, self.ended, strict=True)]
        slowest = max(took)
        slowest_at = self.began[took.index(slowest)]
        took.sort()
        by_version = Counter(self.said)
        return Summary(
            clients=self.clients,
            requests=len(took),
            failures=by_version.pop(0, 0),
            why=dict(self.why),
            first=self.first,
            versions={name: by_version[place] for name, place in self.versions.items() if place in by_version},
            slowest=slowest,
            slowest_at=slowest_at,
            p50=took[len(took) // 2],
            p99=took[len(took) * 99 // 100],
            rate=len(took) / (self.ended[-1] - start),
            until=self.ended[-1],
        )

    def wrong(self, right: Sequence[Period]) -> dict[str, int]:
        """A request takes its time: a version that was right at any moment of it is right."""
        since = [time for time, _ in right]
        names = list(self.versions)
        found: Counter[str] = Counter()
        for began, ended, said in zip(self.began, self.ended, self.said, strict=True):
            first, last = bisect_right(since, began) - 1, bisect_right(since, ended)
            if said and first >= 0 and not any(names[said] in versions for _, versions in right[first:last]):
                found[names[said]] += 1
        return dict(found)


class Clients:
    """All clients, in one event loop."""

    def __init__(self, url: str, name: str, most: int, within: float, patience: float) -> None:
        parts = urlsplit(url)
        self._address = _own(parts.hostname or ""), parts.port or 80
        self._body = re.compile(rb"%s (\S{1,64})\n" % re.escape(name.encode()))
        self._patience = patience
        request = f"GET {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        self._requests = {KEPT: f"{request}\r\n".encode(), FRESH: f"{request}Connection: close\r\n\r\n".encode()}
        self._begun = 0
        self._most = most
        self._start = time.monotonic()
        self._deadline = self._start + within
        self._logs = [Log(KEPT), Log(FRESH)]
        self._running: list[asyncio.Task[None]] = []

    def begin(self, kept: int, fresh: int) -> None:
        for log, count in zip(self._logs, (kept, fresh), strict=True):
            self._running += [asyncio.create_task(self._client(log)) for _ in range(count)]

    async def tell(self, command: str, argument: Any = None) -> Any:
        match command:
            case "so_far":
                return sum(len(log.began) for log in self._logs), sum(log.why.total() for log in self._logs)
            case "finish":
                self._most = min(self._most, argument)
                await asyncio.gather(*self._running)
                return [asdict(log.summary(self._start)) for log in self._logs if log.began]
            case "wrong":
                return {log.clients: wrong for log in self._logs if (wrong := log.wrong(argument))}
        raise ValueError(command)

    async def _client(self, log: Log) -> None:
        request, connection = self._requests[log.clients], None
        while self._begun < self._most and time.monotonic() < self._deadline:
            self._begun += 1
            if connection and not _is_open(connection):
                connection.close()
                connection = None
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._patience):
                    connection = connection or await self._connect()
                    answer = await _exchange(connection, request)
                log.answered(began, self._version(answer))
            except (Broken, TimeoutError) as error:
                log.failed(began, str(error) or f"no answer within {self._patience:g} s")
                if connection:
                    connection.close()
                    connection = None
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            if not answer.stays or log.clients == FRESH:
                await _hang_up(connection)
                connection = None
            # The others first; and whoever hangs up after an answer is heard before the next request goes out.
            await asyncio.sleep(0)
        if connection:
            connection.close()

    def _version(self, answer: Answer) -> str:
        """What an answer says.  Raises Broken, in words that are the same each time: Kong's have an id in them."""
        if answer.status == 200 and (found := self._body.fullmatch(answer.body)):
            return found[1].decode(errors="replace")
        message = re.search(rb'"message": *"([^"]*)"', answer.body)
        said = message[1] if message else answer.body[:60]
        raise Broken(f"status {answer.status}: {said.decode(errors='replace').strip()}")

    async def _connect(self) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, self._address)
        except OSError as error:
            connection.close()
            raise Broken(f"could not connect: {os.strerror(error.errno or 0)}") from error
        except asyncio.CancelledError:
            connection.close()
            raise
        return connection


class Answer(NamedTuple):
    """What came back; `stays` says that the connection may be asked again."""

    status: int
    body: bytes
    stays: bool


async def _exchange(connection: socket.socket, request: bytes) -> Answer:
    """Ask, and read the whole answer.  Raises Broken."""
    data, where = b"", "before an answer"

    async def more() -> bytes:
        nonlocal where
        try:
            part = await asyncio.get_running_loop().sock_recv(connection, AT_ONCE)
        except OSError as error:
            raise Broken(f"{error.strerror} {where}") from error
        if not part:
            raise Broken(f"closed {where}")
        where = "in the middle of an answer"
        return part

    try:
        await asyncio.get_running_loop().sock_sendall(connection, request)
    except OSError as error:
        raise Broken(f"{error.strerror} {where}") from error
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += await more()
    head, data = data[:end].lower(), data[end + 4 :]
    if not (status := re.match(rb"http/1\.[01] (\d{3})", head)):
        raise Broken("an answer that is not HTTP")
    if length := re.search(rb"\r\ncontent-length: *(\d+)", head):
        size = int(length[1])
        while len(data) < size:
            data += await more()
        body, rest = data[:size], data[size:]
    elif b"\r\ntransfer-encoding: chunked" in head:
        while (whole := _unchunked(data)) is None:
            data += await more()
        body, rest = whole
    else:
        raise Broken("an answer that does not say where it ends")
    if rest:
        raise Broken("more than an answer")
    stays = b"\r\nconnection: close" not in head and head.startswith(b"http/1.1")
    return Answer(int(status[1]), body, stays)


def _unchunked(data: bytes) -> tuple[bytes, bytes] | None:
    """The body of a chunked answer without trailers, and what follows it; None until all of it is there."""
    body = b""
    while b"\r\n" in data:
        size, _, data = data.partition(b"\r\n")
        try:
            length = int(size.partition(b";")[0], 16)
        except ValueError:
            raise Broken("an answer whose chunks are none") from None
        if len(data) < length + 2:
            return None
        body, data = body + data[:length], data[length + 2 :]
        if not length:
            return body, data
    return None


def _is_open(connection: socket.socket) -> bool:
    """Has the other side kept it?  That it closes a connection on which nothing is asked, is its right."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def _hang_up(connection: socket.socket) -> None:
    """Let the other side close first: it is the one that has to wait with the port, and we have not enough of them."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await asyncio.get_running_loop().sock_recv(connection, 1)
    connection.close()


def _own(host: str) -> str:
    """The address, if it is one that no traffic leaves the lab for.  Raises ValueError."""
    if not ipaddress.ip_address(host).is_private:
        raise ValueError(f"{host} is not an address of the lab")
    return host


async def _lines() -> asyncio.StreamReader:
    """What is written to us."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main(url: str, name: str, options: str) -> None:
    """Be the clients, answering each line with one, until the other side hangs up."""
    chosen = json.loads(options)
    kept, fresh = chosen.pop("kept"), chosen.pop("fresh")
    clients = Clients(url, name, **chosen)
    clients.begin(kept, fresh)
    async for line in await _lines():
        print(json.dumps(await clients.tell(*json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
