"""Webhooks over real sockets: who is let in, what wakes the loop, and what bad ones cannot do."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gitops_mvd import forges
from gitops_mvd.config.settings import read
from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import Event, Goal, Plan
from gitops_mvd.core.ports import Receiver
from gitops_mvd.daemon.awaited import Awaited
from gitops_mvd.daemon.connections import Hooks
from gitops_mvd.daemon.loop import FETCH_REASONS, Daemon
from gitops_mvd.daemon.mailbox import Mailbox
from gitops_mvd.daemon.small_server import (
    LARGEST_BODY,
    LARGEST_HEADERS,
    MOST_CONNECTIONS,
    LogThrottle,
    Server,
    ServerThread,
    listen,
)
from gitops_mvd.daemon.triggers import PULL_REQUEST, PUSH, STATUS
from gitops_mvd.daemon.webhook import WAKING_EVENTS, Webhooks, listens, webhook_thread
from gitops_mvd.daemon.wiring import wire
from tests.lab.bench.world import recorded
from tests.lab.repository import Repository
from tests.threads import kept, serving

SECRET = "of-sixteen-or-more"
PUSHED = {"ref": "refs/heads/main", "after": "1" * 40}
HUNDRED_MB = 100 * 1000 * 1000


@dataclass(frozen=True)
class Door:
    """A running listener, and the mailbox behind it."""

    port: int
    mailbox: Mailbox = field(default_factory=Mailbox)
    awaited: Awaited = field(default_factory=Awaited)
    host: str = "127.0.0.1"

    def post(self, body: bytes, headers: Mapping[str, str] | None = None, path: str = "/webhook") -> tuple[int, str]:
        """The answer to one request."""
        connection = HTTPConnection(self.host, self.port, timeout=60)
        connection.request("POST", path, body, dict(headers or {}))
        answer = connection.getresponse()
        said = answer.status, answer.read().decode().strip()
        connection.close()
        return said

    def push(self, **more: Any) -> int:
        """The answer to a push, signed as it should be; its body is another one each time."""
        body = json.dumps({**PUSHED, "at": time.monotonic_ns(), **more}).encode()
        return self.post(body, signed(body))[0]

    def status(self, commit: str, context: str, state: str, secret: str = SECRET) -> tuple[int, str]:
        """The answer to a status that was posted; its body is another one each time."""
        body = json.dumps({"id": time.monotonic_ns(), "sha": commit, "context": context, "state": state}).encode()
        return self.post(body, signed(body, "status", secret))

    def raw(self, content: bytes) -> bytes:
        """All that is answered to what is not quite HTTP, until the connection is closed."""
        with socket.create_connection((self.host, self.port), timeout=60) as connection:
            connection.sendall(content)
            return drained(connection)

    def posted(self) -> frozenset[str]:
        return self.mailbox.take(0)


def signed(body: bytes, event: str = "push", secret: str = SECRET) -> dict[str, str]:
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={digest}", "Content-Type": "application/json"}


def drained(connection: socket.socket) -> bytes:
    said = b""
    try:
        while more := connection.recv(65536):
            said += more
    except ConnectionError:  # closed while we were still sending
        pass
    return said


@contextmanager
def opened(receiver: Receiver | None = None, host: str = "127.0.0.1", **more: float) -> Iterator[Door]:
    throttle, listener = LogThrottle(), listen(host, 0)
    door = Door(listener.getsockname()[1], host=host)
    receiver = receiver or forges.known()["github"]
    application = Webhooks(receiver, SECRET, "main", door.awaited, door.mailbox.post, throttle)
    with serving(Server(listener, application, throttle, "webhook refused", **more)):
        yield door


@pytest.fixture
def door(caplog: pytest.LogCaptureFixture) -> Iterator[Door]:
    caplog.set_level(logging.INFO)
    with opened() as door:
        yield door


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


# ---- what wakes the loop ---------------------------------------------------------------------------------------------


def test_the_loop_knows_the_events_that_are_posted_by_the_same_words() -> None:
    assert {PUSH, PULL_REQUEST, STATUS} == WAKING_EVENTS
    assert WAKING_EVENTS <= FETCH_REASONS


def test_a_push_to_our_branch_wakes_the_loop(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    assert door.push() == 202
    assert door.posted() == {PUSH}
    assert lines(caplog) == ["webhook push from=127.0.0.1"]


@pytest.mark.parametrize("ref", ["refs/heads/other", "refs/tags/main", "main", "refs/heads/main2", "refs/heads/Main"])
def test_a_push_to_something_else_wakes_nobody(door: Door, ref: str) -> None:
    assert door.push(ref=ref) == 202
    assert not door.posted()


def test_a_pull_request_wakes_the_loop(door: Door) -> None:
    assert door.post(b"{}", signed(b"{}", "pull_request"))[0] == 202
    assert door.posted() == {PULL_REQUEST}


def test_only_the_last_green_status_of_those_that_are_awaited_together_wakes_the_loop(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    door.awaited.expect([frozenset({("c1", "mvd/uk-1"), ("c1", "mvd/uk-2")}), frozenset({("c2", "mvd/uk-1")})])
    for commit, context, state in (
        *(("c1", "mvd/uk-1", state) for state in ("pending", "failure", "error", "success", "success")),
        *(("c1", context, "success") for context in ("mvd/uk-3", "mvd/uk-2/web", "ci/build")),
        ("c3", "mvd/uk-2", "success"),
    ):
        assert door.status(commit, context, state) == (202, "nothing to do")
    assert not door.posted()
    assert not lines(caplog), "200 hosts post a status to each commit"
    assert door.status("c1", "mvd/uk-2", "success") == (202, "reconciling")
    assert door.posted() == {STATUS}
    assert lines(caplog) == ["webhook status from=127.0.0.1"]
    assert door.status("c1", "mvd/uk-2", "success") == (202, "nothing to do"), "it was woken for that"
    assert not door.posted()


def test_a_forged_status_wakes_nobody_and_is_not_taken_for_one(door: Door) -> None:
    door.awaited.expect([frozenset({("c1", "mvd/uk-1")})])
    assert door.status("c1", "mvd/uk-1", "success", secret="another-secret-of-theirs")[0] == 401
    assert not door.posted()
    assert door.status("c1", "mvd/uk-1", "success") == (202, "reconciling")


def test_a_status_that_comes_while_the_forge_is_asked_is_not_lost(door: Door) -> None:
    door.awaited.listen()
    assert door.status("c1", "mvd/uk-1", "success") == (202, "nothing to do")
    assert door.awaited.expect([frozenset({("c1", "mvd/uk-1"), ("c1", "mvd/uk-2")})]) is False, "one is left"
    assert door.status("c1", "mvd/uk-2", "success") == (202, "reconciling")
    door.awaited.listen()
    assert door.status("c1", "mvd/uk-1", "success") == (202, "nothing to do")
    assert door.awaited.expect([frozenset({("c1", "mvd/uk-1")})]) is True, "so it is asked once more, at once"
    door.awaited.listen()
    assert door.awaited.expect([frozenset({("c1", "mvd/uk-1")}), frozenset()]) is False


def test_a_ping_is_answered_and_wakes_nobody(door: Door) -> None:
    assert door.post(b"{}", signed(b"{}", "ping")) == (200, "pong")
    assert not door.posted()


def test_what_we_do_not_know_wakes_nobody(door: Door) -> None:
    assert door.post(b"{}", signed(b"{}", "star")) == (202, "nothing to do")
    assert not door.posted()


def test_a_push_that_does_not_say_where_to_wakes_the_loop() -> None:
    with opened(Says(Event("push"))) as door:
        assert door.post(b"anything")[0] == 202
        assert door.posted() == {PUSH}


def test_a_push_may_come_as_a_form(door: Door) -> None:
    body = b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D"
    assert door.post(body, {**signed(body), "Content-Type": "application/x-www-form-urlencoded"})[0] == 202
    assert door.posted() == {PUSH}


def test_it_is_heard_on_ipv6_too() -> None:
    with opened(host="::1") as door:
        assert door.push() == 202
        assert listens("::1", door.port)


@dataclass
class Says(Receiver):
    """A receiver that lets everybody in, and says this or raises it."""

    said: Event | BaseException

    def authentic(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
        return True

    def event(self, headers: Mapping[str, str], body: bytes) -> Event:
        if isinstance(self.said, BaseException):
            raise self.said
        return self.said


# sdnotify never closes its socket
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_comes_in_the_middle_of_a_pass_is_not_lost(tmp_path: Path) -> None:
    """Apps are being looked at when a newer commit is merged, and the pass after that one brings it."""
    first = threading.Lock()
    with recorded(tmp_path, 7, "off") as world, opened() as door:
        repository = Repository("acme/config", tmp_path / "config.git", (tmp_path / "config.git").as_uri())
        merged: list[str] = []

        class Slow:
            """The host, on which something is merged while it works out a plan."""

            def __getattr__(self, name: str) -> Any:
                return getattr(world.wired.host, name)

            def plan(self, goals: Sequence[Goal]) -> Plan:
                if first.acquire(blocking=False):
                    merged.append(repository.commit({"README.md": "Newer\n"}, "Newer"))
                    assert door.push() == 202
                return world.wired.host.plan(goals)

        wired = replace(world.wired, host=cast(Any, Slow()), mailbox=door.mailbox)
        report = Daemon(wired).once()
    assert report
    assert [report.revision.commit] == merged


def test_any_number_that_come_in_the_middle_of_a_pass_make_one_more(door: Door) -> None:
    door.mailbox.post("start")
    assert door.mailbox.take(0) == {"start"}  # and so a pass begins
    assert {door.push() for _ in range(5)} == {202}
    assert door.mailbox.take(0) == {PUSH}
    assert not door.mailbox.take(0)


# ---- who is not let in -----------------------------------------------------------------------------------------------

BODY = json.dumps(PUSHED).encode()
GOOD = signed(BODY)["X-Hub-Signature-256"]
FORGED = {
    "wrong": signed(BODY, secret="another-secret-of-theirs")["X-Hub-Signature-256"],
    "of another body": signed(b"{}")["X-Hub-Signature-256"],
    "empty": "",
    "without its name": GOOD.removeprefix("sha256="),
    "of another hash": GOOD.replace("sha256", "sha1"),
    "cut off": GOOD[:-1],
    "longer": f"{GOOD}0",
    "twice": f"{GOOD}, {GOOD}",
    "not ASCII": "sha256=\xfc\xff",
    "the secret itself": SECRET,
}


@pytest.mark.parametrize("signature", FORGED.values(), ids=FORGED)
def test_a_forged_one_is_one_line_and_wakes_nobody(
    door: Door, caplog: pytest.LogCaptureFixture, signature: str
) -> None:
    headers = {**signed(BODY), "X-Hub-Signature-256": signature}
    assert door.post(BODY, headers) == (401, "unauthorized")
    assert not door.posted()
    assert lines(caplog) == ["webhook refused from=127.0.0.1: wrong signature or secret"]


def test_an_unsigned_one_is_refused(door: Door) -> None:
    assert door.post(BODY, {"X-GitHub-Event": "push"})[0] == 401
    assert door.post(BODY, {"X-GitHub-Event": "push", "X-Hub-Signature": GOOD})[0] == 401
    assert not door.posted()


def test_a_flood_of_forged_ones_does_not_flood_the_log(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(200):
        assert door.post(b"%d" % number, {"X-Hub-Signature-256": GOOD})[0] == 401
    assert len(lines(caplog)) == 1


def test_who_sent_it_is_whom_we_are_connected_to(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    door.post(BODY, {"X-Forwarded-For": "192.0.2.9", "Forwarded": "for=192.0.2.9", "X-Real-IP": "192.0.2.9"})
    assert "from=127.0.0.1:" in caplog.text
    assert "192.0.2.9" not in caplog.text


# ---- what was heard before -------------------------------------------------------------------------------------------


def test_a_replayed_one_is_one_line_and_wakes_nobody(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    assert door.post(BODY, signed(BODY))[0] == 202
    assert door.posted() == {PUSH}
    for event in ("push", "pull_request", "ping", "push"):  # which is a header, and so not signed
        answer = door.post(BODY, {**signed(BODY, event), "X-GitHub-Delivery": event})
        assert answer == (202, "nothing to do")
    assert not door.posted()
    assert lines(caplog) == ["webhook push from=127.0.0.1", "webhook repeated from=127.0.0.1"]


def test_one_that_was_refused_was_not_heard(door: Door) -> None:
    assert door.post(BODY, signed(BODY, secret="not-the-one-of-ours"))[0] == 401
    assert door.post(BODY, signed(BODY))[0] == 202
    assert door.posted() == {PUSH}


# ---- what is too large -----------------------------------------------------------------------------------------------


def grown(do: Callable[[], object]) -> float:
    """By how many bytes the most that this process ever took was raised."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    do()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024.0


def answer_to_large(door: Door, headers: bytes, chunk: bytes) -> bytes:
    """Send until it is answered or refused; the answer."""
    with socket.create_connection((door.host, door.port), timeout=60) as connection:
        connection.sendall(b"POST /webhook HTTP/1.1\r\nHost: here\r\n" + headers + b"\r\n\r\n")
        sent = 0
        try:
            while sent < HUNDRED_MB:
                connection.sendall(chunk)
                sent += len(chunk)
        except ConnectionError:
            pass
        assert sent < HUNDRED_MB / 4  # which the kernel took, for us to read
        return drained(connection)


MEGABYTE = b"x" * 1000 * 1000
LARGE = {
    "by its own words": (b"Content-Length: %d" % HUNDRED_MB, MEGABYTE),
    "that waits to be asked": (b"Content-Length: %d\r\nExpect: 100-continue" % HUNDRED_MB, MEGABYTE),
    "in chunks": (b"Transfer-Encoding: chunked", b"%x\r\n%s\r\n" % (len(MEGABYTE), MEGABYTE)),
    "in one chunk": (b"Transfer-Encoding: chunked\r\n\r\nFFFFFFF", MEGABYTE),
    "in a line of its own": (b"Transfer-Encoding: chunked", b"0" * 65536),
}


@pytest.mark.parametrize(("headers", "chunk"), LARGE.values(), ids=LARGE)
def test_one_of_100_mb_is_one_line_and_is_not_kept(
    door: Door, caplog: pytest.LogCaptureFixture, headers: bytes, chunk: bytes
) -> None:
    assert grown(lambda: answer_to_large(door, headers, chunk)) < 32e6
    assert lines(caplog) == ["webhook refused from=127.0.0.1: 413 Request Entity Too Large"]
    assert door.push() == 202


def test_one_that_says_how_large_it_is_is_refused_before_any_of_it_was_sent(door: Door) -> None:
    said = door.raw(b"POST /webhook HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % HUNDRED_MB)
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in said


@pytest.mark.parametrize(("more", "status"), [(0, 202), (1, 413)])
def test_the_largest_that_is_taken(door: Door, more: int, status: int) -> None:
    body = BODY + b" " * (LARGEST_BODY - len(BODY) + more)
    connection = HTTPConnection(door.host, door.port, timeout=60)
    connection.putrequest("POST", "/webhook")
    for name, value in {**signed(body), "Content-Length": str(len(body))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    if status == 202:
        connection.send(body)
    assert connection.getresponse().status == status
    connection.close()


def test_large_headers_are_refused(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    said = door.raw(b"POST /webhook HTTP/1.1\r\nX: " + b"x" * LARGEST_HEADERS)
    assert said.startswith(b"HTTP/1.0 431 ")
    assert lines(caplog) == ["webhook refused from=127.0.0.1: 431 Request Header Fields Too Large"]


def test_chunks_of_one_byte_cost_little_and_delay_no_other_webhook(door: Door) -> None:
    with ThreadPoolExecutor() as pool:
        began = time.process_time()
        large = pool.submit(answer_to_large, door, b"Transfer-Encoding: chunked", b"1\r\nx\r\n" * 10000)
        assert door.push() == 202
        large.result()
    assert time.process_time() - began < 10  # each is not appended to a copy of all before it


# ---- what is slow ----------------------------------------------------------------------------------------------------


def test_a_slow_sender_delays_nobody_and_is_closed(caplog: pytest.LogCaptureFixture) -> None:
    with opened(within=1.5) as door, socket.create_connection((door.host, door.port), timeout=60) as slow:
        slow.sendall(b"POST /webhook HTTP/1.1\r\n")
        assert door.push() == 202
        assert drained(slow) == b""  # closed, as the rest never comes
        assert door.push() == 202
    assert "webhook refused from=127.0.0.1: its connection was too slow" in lines(caplog)


def test_however_many_are_slow_the_next_one_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    with opened() as door:
        slow = [socket.create_connection((door.host, door.port), timeout=60) for _ in range(MOST_CONNECTIONS + 40)]
        for connection in slow:
            connection.sendall(b"POST /webhook HTTP/1.1\r\n")
        assert door.push() == 202  # long before any of them is too slow
        for connection in slow:
            connection.close()
    assert lines(caplog)[0] == "webhook refused from=127.0.0.1: its connection was too slow"
    assert len(lines(caplog)) == 2  # and how many more there were


def test_one_who_does_not_take_the_answer_has_to_go() -> None:
    with opened(within=0.5) as door:
        with socket.create_connection((door.host, door.port), timeout=60) as connection:
            connection.sendall(b"POST /webhook HTTP/1.1\r\nContent-Length: 10\r\n\r\n")
            assert drained(connection) == b""
        assert door.push() == 202


def test_fifty_at_once_are_all_heard(door: Door) -> None:
    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(lambda _: door.push(), range(50))) == [202] * 50
    assert door.posted() == {PUSH}


# ---- what is no webhook ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/webhook/", "/webhook/x", "/a/../webhook", "/../webhook", "/Webhook", "*"])
def test_there_is_nothing_at_another_path(door: Door, path: str) -> None:
    assert door.post(BODY, signed(BODY), path)[0] == 404
    assert not door.posted()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_nothing_but_post_is_taken(door: Door, method: str) -> None:
    said = door.raw(f"{method} /webhook HTTP/1.1\r\nHost: here\r\n\r\n".encode())
    assert said.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: POST\r\n" in said


NO_HTTP = [
    b"\r\n\r\nnonsense\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    b"POST /webhook HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /webhook HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"POST /webhook HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /webhook HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n",
    b"POST /webhook HTTP/1.1\r\nX\x00: 1\r\n\r\n",
    b"POST http://[::1/webhook HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("content", NO_HTTP)
def test_what_is_not_http_ends_its_own_connection_only(
    door: Door, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    said = door.raw(content)
    assert said[9:12] in (b"400", b"501", b""), said
    assert len(lines(caplog)) == 1
    assert lines(caplog)[0].startswith("webhook refused from=127.0.0.1: ")
    assert door.push() == 202


def test_it_does_not_tell_what_it_is(door: Door) -> None:
    assert b"waitress" not in door.raw(b"GET / HTTP/1.1\r\n\r\n").lower()
    assert b"waitress" not in door.raw(b"nonsense\r\n\r\n").lower()


def test_what_is_pipelined_behind_one_is_not_looked_at(door: Door) -> None:
    body = json.dumps(PUSHED).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
    good = f"POST /webhook HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    said = door.raw(b"POST /webhook HTTP/1.1\r\nHost: here\r\nContent-Length: 2\r\n\r\n{}" + good)
    assert said.startswith(b"HTTP/1.1 401 ")
    assert said.count(b"HTTP/1.1 ") == 1
    assert not door.posted()


UNREADABLE = {
    "not JSON": b"\x00\xff not JSON",
    "empty": b"",
    "a list": b"[]",
    "without a ref": b"{}",
    "with a number for a ref": b'{"ref": 1}',
    "with a list for a ref": b'{"ref": ["refs/heads/main"]}',
    "with a number of 100,000 digits": b'{"ref": ' + b"1" * 100000 + b"}",
    "deep": b"[" * 1_000_000,
    "deep objects": b'{"ref":' * 400_000,
}


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_signed_but_can_not_be_read_harms_nobody(door: Door, body: bytes, kind: str) -> None:
    content = b"payload=" + body if "form" in kind else body
    assert door.post(content, {**signed(content), "Content-Type": kind})[0] == 202
    assert door.push() == 202


@pytest.mark.parametrize("error", [ValueError("s3cret"), RecursionError("s3cret"), KeyError("s3cret")])
def test_a_mistake_of_ours_in_reading_one_ends_no_thread(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    receiver = Says(error)
    with opened(receiver) as door:
        for number in range(5):
            assert door.post(b"%d" % number) == (400, "cannot be read")
        receiver.said = Event("push")
        assert door.push() == 202
    assert lines(caplog)[0] == f"webhook refused from=127.0.0.1: its content cannot be read ({type(error).__name__})"
    assert "s3cret" not in caplog.text


# ---- where it listens ------------------------------------------------------------------------------------------------


def test_when_it_ends_no_thread_is_left_and_the_port_is_free() -> None:
    before = set(threading.enumerate())
    with opened() as door:
        idle = socket.create_connection((door.host, door.port), timeout=60)
        assert door.push() == 202
    for thread in set(threading.enumerate()) - before:
        thread.join(60)
    assert set(threading.enumerate()) <= before
    assert idle.recv(1) == b""  # its connection is closed by us, and the port can be had all the same
    listen(door.host, door.port).close()
    idle.close()


def test_it_may_end_as_soon_as_it_has_begun() -> None:
    for number in range(60):
        with opened() as door:
            if number % 3:
                assert door.push() == 202


def test_ending_closes_every_connection() -> None:
    with opened() as door:
        connected = [socket.create_connection((door.host, door.port), timeout=60) for _ in range(20)]
        assert door.push() == 202
    assert [drained(connection) for connection in connected] == [b""] * 20  # closed before any is too slow
    for connection in connected:
        connection.close()


SETTINGS = """
repository: https://github.com/acme/config
state: {folder}/state
forge: {{kind: github}}
webhook: {{secret_file: {folder}/secret, listen: "{listen}"}}
"""


def wired_with(folder: Path, secret: str, listen: str = "127.0.0.1:9180") -> Any:
    (folder / "secret").write_text(secret)
    text = SETTINGS.format(folder=folder, listen=listen)
    return wire(read("config.yaml", text.encode()), folder / "config.yaml")


@pytest.mark.parametrize("listen_at", ["127.0.0.1:{taken}", "192.0.2.1:9180"], ids=["taken", "not ours"])
def test_a_port_that_can_not_be_had_is_told_with_what_to_do(tmp_path: Path, listen_at: str) -> None:
    with listen("127.0.0.1", 0) as taken:
        where = listen_at.format(taken=taken.getsockname()[1])
        thread = webhooks(wired_with(tmp_path, SECRET, where), Mailbox())
        with pytest.raises(Unavailable, match=f"cannot listen for webhooks at {where}: .*Change `webhook.listen`"):
            thread.run(threading.Event(), lambda: None)


def test_a_port_that_was_taken_is_opened_once_it_is_free(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitops_mvd.daemon.supervisor.BACKOFF", Backoff(0.01, 0.02))
    with listen(HOST, 0) as taken:
        port = taken.getsockname()[1]
        thread = webhooks(wired_with(tmp_path, SECRET, f"{HOST}:{port}"), Mailbox())
        with kept(thread.run, thread.wake) as is_open:
            assert not is_open.wait(0.3)
            taken.close()
            assert is_open.wait(10)
            assert listens(HOST, port)
    assert len([line for line in lines(caplog) if "cannot listen" in line]) == 1


def webhooks(wired: Any, mailbox: Mailbox) -> ServerThread:
    return webhook_thread(wired.webhook, "main", Awaited(), mailbox.post)


HOST = "127.83.7.1"  # where nobody but this test takes the port in between


def test_it_opens_again_where_it_was_closed(tmp_path: Path) -> None:
    with listen(HOST, 0) as free:
        port = free.getsockname()[1]
    wired = wired_with(tmp_path, SECRET, f"{HOST}:{port}")
    for _ in range(3):
        mailbox = Mailbox()
        thread = webhooks(wired, mailbox)
        with kept(thread.run, thread.wake) as is_open:
            assert is_open.wait(10)
            door = Door(port, mailbox, host=HOST)
            assert listens(door.host, door.port)
            assert door.push() == 202
        assert door.posted() == {PUSH}
    with pytest.raises(ConnectionRefusedError):
        listens(HOST, port)


def test_somebody_else_who_listens_there_is_not_taken_for_us() -> None:
    with listen("127.0.0.1", 0) as other:

        def answer() -> None:
            connection, _ = other.accept()
            connection.recv(1024)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        thread = threading.Thread(target=answer)
        thread.start()
        assert not listens("127.0.0.1", other.getsockname()[1])
        thread.join()


def test_without_webhooks_in_the_settings_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdnotify.SystemdNotifier", lambda: SimpleNamespace(notify=None))
    wired = wired_with(tmp_path, SECRET)
    assert "webhooks" in [name for name, _, _ in Daemon(wired).threads()]
    assert "webhooks" not in [name for name, _, _ in Daemon(replace(wired, webhook=None)).threads()]


@pytest.mark.parametrize(("secret", "why"), [("", "is empty"), (" \n", "is empty"), ("x" * 15, "needs 16")])
def test_a_secret_that_can_be_guessed_is_refused(tmp_path: Path, secret: str, why: str) -> None:
    with pytest.raises(Unavailable, match=why) as caught:
        wired_with(tmp_path, secret)
    assert str(tmp_path / "secret") in str(caught.value)


def test_the_secret_is_not_shown(tmp_path: Path) -> None:
    hooks = wired_with(tmp_path, SECRET).webhook
    assert isinstance(hooks, Hooks)
    assert hooks.secret == SECRET
    assert SECRET not in repr(hooks)
