"""A load counts what fails as a failure and what is well as well, against a server that misbehaves on purpose."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.lab.clients import Clients, Log
from tests.lab.load import FRESH, KEPT, Load, Summary

# What a server does with one request on a connection; it says whether it listens for another one.
Behaviour = Callable[[socket.socket], bool]


def well(connection: socket.socket, version: str = "1", more: str = "") -> bool:
    connection.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n{more}\r\nweb {version}\n".encode())
    return not more


@contextmanager
def serving(*behaviours: Behaviour) -> Iterator[str]:
    """A server that takes the behaviours in turn, a request each, over all connections.  Gives its URL."""
    turn = iter(range(10**9))
    listening = socket.create_server(("127.0.0.1", 0), backlog=100)

    def serve(connection: socket.socket) -> None:
        with connection, suppress(ConnectionError):
            asked = b""
            while True:
                while b"\r\n\r\n" not in asked:
                    if not (part := connection.recv(1000)):
                        return
                    asked += part
                close = b"Connection: close" in asked
                asked = b""
                if not behaviours[next(turn) % len(behaviours)](connection) or close:
                    return

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield "http://127.0.0.1:{1}/".format(*listening.getsockname())
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()


def asked(url: str, requests: int = 20, *, kept: int = 1, fresh: int = 0, patience: float = 10) -> list[Summary]:
    """What a load tells of so many requests."""
    with Load(url, "web", kept=kept, fresh=fresh, most=requests, within=20, patience=patience) as load:
        return load.finish(at_least=requests)


@pytest.mark.parametrize("clients", [KEPT, FRESH])
def test_what_is_well_is_counted_as_well(clients: str) -> None:
    with serving(well) as url:
        [told] = asked(url, 50, kept=3 * (clients == KEPT), fresh=3 * (clients == FRESH))
    assert (told.clients, told.requests, told.failures, told.why) == (clients, 50, 0, {})
    assert told.versions == {"1": 50}
    assert 0 < told.p50 <= told.p99 <= told.slowest < 10
    assert told.rate > 0


def test_both_kinds_of_clients_are_told_apart() -> None:
    with serving(well) as url:
        told = asked(url, 100, kept=2, fresh=2)
    assert [each.clients for each in told] == [KEPT, FRESH]
    assert sum(each.requests for each in told) == 100
    assert all(each.requests for each in told)


# ---- what is no failure ----------------------------------------------------------------------------------------------


def closes_after(connection: socket.socket) -> bool:
    """Answers, and closes without having said so; the end is in the same packet as the answer."""
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nweb 1\n", socket.MSG_MORE)
    return False


def resets_after(connection: socket.socket) -> bool:
    well(connection)
    time.sleep(0.05)  # or the answer would be lost with it
    return reset(connection)


def in_pieces(connection: socket.socket) -> bool:
    for byte in b"HTTP/1.1 200 OK\r\ncontent-length:6\r\n\r\nweb 1\n":
        connection.sendall(bytes([byte]))
        time.sleep(0.001)
    return True


def chunked(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nweb\r\n")
    time.sleep(0.01)
    connection.sendall(b"3;extension\r\n 1\n\r\n0\r\n")
    time.sleep(0.01)
    connection.sendall(b"\r\n")
    return True


def says_close(connection: socket.socket) -> bool:
    return well(connection, more="Connection: close\r\n")


def slow(connection: socket.socket) -> bool:
    time.sleep(0.1)
    return well(connection)


@pytest.mark.parametrize("behaviour", [closes_after, in_pieces, chunked, says_close, slow])
@pytest.mark.parametrize("clients", [KEPT, FRESH])
def test_what_a_server_may_do_is_no_failure(behaviour: Behaviour, clients: str) -> None:
    with serving(behaviour) as url:
        [told] = asked(url, 10, kept=clients == KEPT, fresh=clients == FRESH)
    assert (told.requests, told.failures, told.why, told.versions) == (10, 0, {}, {"1": 10})


def test_a_connection_reset_after_its_answer_was_read_is_no_failure_of_a_client_that_hangs_up() -> None:
    with serving(resets_after) as url:
        [told] = asked(url, 3, kept=0, fresh=1)
    assert (told.failures, told.versions) == (0, {"1": 3})


# ---- what is one -----------------------------------------------------------------------------------------------------


def reset(connection: socket.socket) -> bool:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


def sick(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 4\r\n\r\nsick")
    return True


def refuses(connection: socket.socket) -> bool:
    body = b'{"message":"no peer","request_id":"%d"}' % time.monotonic_ns()
    connection.sendall(b"HTTP/1.1 503 Oh\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    return True


def stranger(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nwww 1\n")
    return True


def half_and_closed(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nweb")
    return False


def head_and_closed(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
    return False


def half_and_reset(connection: socket.socket) -> bool:
    half_and_closed(connection)
    time.sleep(0.02)
    return reset(connection)


def no_last_chunk(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nweb 1\n\r\n")
    return False


def bad_chunk(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nsix\r\nweb 1\n\r\n0\r\n\r\n")
    return True


def too_much(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nweb 1\nand more")
    return True


def endless(connection: socket.socket) -> bool:
    connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nweb 1\n")
    return False


def nonsense(connection: socket.socket) -> bool:
    connection.sendall(b"SSH-2.0\r\n\r\n")
    return True


def silent(connection: socket.socket) -> bool:
    time.sleep(1)
    return False


def hangs_up(connection: socket.socket) -> bool:
    return False


FAILURES: dict[Behaviour, str] = {
    sick: "status 500: sick",
    refuses: "status 503: no peer",
    stranger: "status 200: www 1",
    hangs_up: "closed before an answer",
    reset: "Connection reset by peer before an answer",
    head_and_closed: "closed in the middle of an answer",
    half_and_closed: "closed in the middle of an answer",
    half_and_reset: "Connection reset by peer in the middle of an answer",
    no_last_chunk: "closed in the middle of an answer",
    bad_chunk: "an answer whose chunks are none",
    too_much: "more than an answer",
    endless: "an answer that does not say where it ends",
    nonsense: "an answer that is not HTTP",
    silent: "no answer within 0.3 s",
}


@pytest.mark.parametrize("behaviour", FAILURES)
@pytest.mark.parametrize("clients", [KEPT, FRESH])
def test_a_failure_is_counted_with_its_reason(behaviour: Behaviour, clients: str) -> None:
    """One in three requests fails, and only that one."""
    before = time.monotonic()
    with serving(well, behaviour, well) as url:
        [told] = asked(url, 9, kept=clients == KEPT, fresh=clients == FRESH, patience=0.3)
    assert (told.requests, told.failures, told.why) == (9, 3, {FAILURES[behaviour]: 3})
    assert told.versions == {"1": 6}
    assert before < told.first[FAILURES[behaviour]] < told.until


def test_where_nobody_listens_every_request_fails_and_not_thousands_of_times_a_second() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Load(f"http://127.0.0.1:{port}/", "web", kept=1, fresh=0, within=0.5) as load:
        [told] = load.finish(at_least=1000)
    assert 1 < told.requests == told.failures < 20
    assert told.why == {"could not connect: Connection refused": told.failures}


def test_only_the_first_reasons_are_told_and_all_failures_counted() -> None:
    log = Log(KEPT)
    for number in range(1000):
        log.failed(0.0, f"reason {number}")
    told = log.summary(0.0)
    assert (told.failures, len(told.why), told.why["other reasons"]) == (1000, 21, 980)


# ---- versions --------------------------------------------------------------------------------------------------------


def test_answers_of_another_version_to_requests_that_began_later_are_wrong() -> None:
    version = "1"
    with (
        serving(lambda connection: well(connection, version)) as url,
        Load(url, "web", kept=1, fresh=1, within=20) as load,
    ):
        time.sleep(0.3)
        version = "2"
        time.sleep(0.1)
        switched = time.monotonic()
        time.sleep(0.2)
        assert load.wrong([(switched, {"2"})]) == {}
        assert load.so_far()[1] == 0
        version = "3"
        time.sleep(0.2)
        told = load.finish()
        wrong = load.wrong([(switched, {"2"})])
        assert load.wrong([(switched, {"2", "3"})]) == {}
    assert sum(each.failures for each in told) == 0
    assert wrong == {each.clients: {"3": each.versions["3"]} for each in told}


def log_of(*answers: tuple[float, float, str]) -> Log:
    log = Log(KEPT)
    for began, ended, version in answers:
        log.answered(began, version)
        log.ended[-1] = ended
    return log


RIGHT = [(10.0, ["1"]), (20.0, ["1", "2"]), (30.0, ["2"])]


@pytest.mark.parametrize(
    ("began", "ended", "version", "right"),
    [
        (5, 6, "0", True),  # nothing was said of that time
        (5, 40, "0", True),
        (11, 12, "0", False),
        (11, 12, "1", True),
        (11, 12, "2", False),
        (11, 21, "2", True),  # on its way when the next one came
        (21, 22, "1", True),
        (29, 31, "1", True),
        (30, 31, "1", False),
        (31, 32, "2", True),
        (31, 32, "3", False),
    ],
)
def test_a_version_is_right_if_it_was_at_any_moment_of_the_request(
    began: float, ended: float, version: str, right: bool
) -> None:
    assert log_of((began, ended, version)).wrong(RIGHT) == ({} if right else {version: 1})


def test_it_tells_when_the_slowest_request_began() -> None:
    told = log_of((1, 2, "1"), (3, 6, "1"), (5, 7, "1")).summary(0.0)
    assert (told.slowest, told.slowest_at, told.until) == (3, 3, 7)
    assert (told.p50, told.rate) == (2, 3 / 7)


def test_a_failure_is_not_a_wrong_version() -> None:
    log = Log(KEPT)
    log.failed(11, "status 500")
    assert log.wrong(RIGHT) == {}


# ---- bounds ----------------------------------------------------------------------------------------------------------


def test_it_ends_after_its_most_requests_whatever_is_asked_of_it() -> None:
    with serving(well) as url, Load(url, "web", kept=2, fresh=2, most=100, within=20) as load:
        assert sum(told.requests for told in load.finish(at_least=10_000)) == 100


def test_it_ends_after_its_time_whatever_is_asked_of_it() -> None:
    began = time.monotonic()
    with serving(slow) as url, Load(url, "web", kept=1, fresh=0, within=0.5) as load:
        load.finish(at_least=10_000)
    assert time.monotonic() - began < 5


def test_it_ends_with_whoever_started_it() -> None:
    with serving(well) as url:
        with Load(url, "web", kept=1, fresh=0) as load:
            process = load._process
        assert process.poll() == 0


@pytest.mark.parametrize("host", ["93.184.216.34", "example.org"])
def test_it_asks_nobody_outside(host: str) -> None:
    with pytest.raises(ValueError, match=host):
        Clients(f"http://{host}/", "web", 1, 1, 1)
