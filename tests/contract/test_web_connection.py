"""A connection to the page that owes something for long is cut off: over real sockets, with short limits."""

from __future__ import annotations

import asyncio
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn

from gitops_mvd.web.connection import Connection, Limits

LIMITS = Limits(connections=8, request_seconds=0.6, unread_seconds=0.6, look_seconds=0.1)
LARGE = 32 << 20  # bytes: more than the kernel keeps for somebody who does not read
ANSWER = b"HTTP/1.1 200"


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers at once, with as much as the path says, after as many seconds as the query says."""
    await asyncio.sleep(float(scope["query_string"] or b"0"))
    size = int(scope["path"].strip("/") or "2")
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % size)]})
    await send({"type": "http.response.body", "body": b"x" * size})


@contextmanager
def listening(limits: Limits = LIMITS) -> Iterator[int]:
    """Inside, a server answers at that port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            application,
            http=partial(Connection, limits=limits),  # type: ignore[arg-type]
            lifespan="off",
            log_config=None,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def connected(port: int, said: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(said)
        yield client


def rest_of(client: socket.socket) -> bytes:
    """All that comes until the connection ends, however it does."""
    got = b""
    try:
        while part := client.recv(1 << 20):
            got += part
    except ConnectionResetError:
        pass
    return got


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        (b"", 0),
        (b"GET / HT", 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ", 0),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf", 1),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", 1),
        (GET, 1),
        (GET + b"GET / HT", 1),
    ],
)
def test_whoever_sends_no_or_half_a_request_is_cut_off(said: bytes, answers: int) -> None:
    with listening() as port, connected(port, said) as client:
        assert rest_of(client).count(ANSWER) == answers


def test_a_byte_now_and_then_is_no_request() -> None:
    with listening() as port, connected(port, b"GET / HTTP/1.1\r\n") as client:
        client.settimeout(0.1)
        for _ in range(200):
            try:
                client.sendall(b"X-Slow: 1\r\n")
                if not client.recv(1):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("it may go on for ever")


def test_whoever_reads_nothing_is_cut_off_in_the_middle() -> None:
    with listening() as port, connected(port, b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % LARGE) as client:
        assert hung_up(client)
        assert len(rest_of(client)) < LARGE


def hung_up(client: socket.socket) -> bool:
    """Has the other side reset the connection, though nothing of what it sent was read?"""
    poll = select.poll()
    poll.register(client, select.POLLERR | select.POLLHUP)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(20_000))


def test_whoever_reads_slowly_has_all_of_it() -> None:
    with listening() as port, connected(port, b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % LARGE) as client:
        pause = threading.Event()
        got = 0
        while got < LARGE:
            part = client.recv(1 << 20)
            assert part, f"it was cut off after {got} bytes"
            got += len(part)
            pause.wait(0.03)


def test_an_answer_may_take_longer_than_a_request() -> None:
    with listening() as port, connected(port, b"GET /?1.5 HTTP/1.1\r\nHost: a\r\n\r\n") as client:
        assert rest_of(client).count(ANSWER) == 1


def test_a_connection_is_used_again_and_again() -> None:
    with listening() as port, connected(port) as client:
        for _ in range(30):
            client.sendall(GET)
            answer = b""
            while not answer.endswith(b"xx"):
                part = client.recv(1000)
                assert part, "it was cut off"
                answer += part
            assert answer.count(ANSWER) == 1
            threading.Event().wait(0.05)


def test_silent_connections_leave_room_for_others() -> None:
    limits = Limits(connections=8, request_seconds=60, unread_seconds=60)
    with listening(limits) as port:
        silent = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(40)]
        try:
            with connected(port, GET) as client:
                assert client.recv(1000).startswith(ANSWER)
            assert rest_of(silent[0]) == b"", "the one that has waited longest has gone"
        finally:
            for client in silent:
                client.close()
