"""The probes, against real servers in this process, and against all that can go wrong with one.

What a container, an engine and a systemd of their own are needed for is in tests/contract/test_probes.py.
"""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

from gitops_mvd import probes
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.docker.container import Ran
from gitops_mvd.probes import ProbeTools
from gitops_mvd.systemd.client import Unit
from tests.contract.kafka_standin import GROUP, Partition, broker
from tests.contract.pems import CERTIFICATE, HOST, KEY

UP = Instance("mvd-shop-web-1", "shop", "web", "127.0.0.1", "running", "healthy", "2026-11-22T10:00:00.123456789Z")
SHORT, DEADLINE = 0.3, 2.0  # seconds that probes are given, and that they take for themselves if they are given none
FRUITLESS, ENOUGH = 5.0, 30.0  # seconds for a program to start and ask: in vain, which takes them all; or not

Says = Callable[[socket.socket], None]


@dataclass
class Engine:
    """Says what happened in a container."""

    ran: Ran | Exception = field(default_factory=lambda: Ran(0))
    file: float | Exception | None = None
    known: Mapping[str, str] = field(default_factory=lambda: {"localhost": "127.0.0.1"})
    variables: Mapping[str, str] = field(default_factory=dict)

    def addresses(self, container: str, within: float) -> Mapping[str, str]:
        if isinstance(self.ran, Exception):
            raise self.ran
        return self.known

    def environment(self, container: str, within: float) -> Mapping[str, str]:
        return self.variables

    def execute(self, container: str, command: list[str], within: float) -> Ran:
        if isinstance(self.ran, Exception):
            raise self.ran
        return self.ran

    def modified(self, container: str, path: str, within: float) -> float | None:
        if isinstance(self.file, Exception):
            raise self.file
        return self.file


@dataclass
class Systemd:
    """Says how a unit is, and when its log had the line that is asked for."""

    unit: Unit | Exception | None = None
    line: float | Exception = 0.0

    def units(self, pattern: str, within: float = 0) -> dict[str, Unit]:
        if isinstance(self.unit, Exception):
            raise self.unit
        return {pattern: self.unit} if self.unit else {}

    def grep(self, unit: str, pattern: str, since: float, within: float) -> bool:
        if isinstance(self.line, Exception):
            raise self.line
        return self.line >= since


def ask(name: str, spec: Json, at: Instance = UP, *, engine: Any = None, systemd: Any = None) -> tuple[Health, str]:
    tools = ProbeTools(engine or Engine(), systemd or Systemd())
    return probes.discover(tools)[name](at, spec)


@contextmanager
def listening(says: Says) -> Iterator[int]:
    """A port of this machine; `says` is called with each connection."""
    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor() as pool:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    try:
                        pool.submit(answer, connection)
                    except RuntimeError:  # it is closing
                        connection.close()

        def answer(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                says(connection)

        pool.submit(serve)
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)


@contextmanager
def answering(head: str, body: bytes = b"") -> Iterator[int]:
    """A port that gives that HTTP answer."""

    def says(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)

    with listening(says) as port:
        yield port


@contextmanager
def silent() -> Iterator[int]:
    """A port that accepts connections, and then says nothing."""
    over = threading.Event()
    with listening(lambda connection: over.wait(10) and None) as port:
        try:
            yield port
        finally:
            over.set()


@contextmanager
def dripping(head: bytes, drop: bytes) -> Iterator[int]:
    """A port that never ends, one drop at a time, each well within any time for a single one."""
    over = threading.Event()

    def says(connection: socket.socket) -> None:
        connection.sendall(head)
        while not over.wait(0.02):
            connection.sendall(drop)

    with listening(says) as port:
        try:
            yield port
        finally:
            over.set()


@contextmanager
def nobody() -> Iterator[int]:
    """A port that refuses connections: it is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@contextmanager
def grpc_server(statuses: Mapping[str, Any] | None = None) -> Iterator[int]:
    """A real gRPC server; without `statuses` it has no health service."""
    server = grpc.server(ThreadPoolExecutor(2))
    if statuses is not None:
        servicer = HealthServicer()
        for service, status in statuses.items():
            servicer.set(service, status)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


# ---- the laws, for every probe there is ------------------------------------------------------------------------------

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
ENDED = replace(UP, state="exited", health="", exit_code=0)


@contextmanager
def well(name: str) -> Iterator[tuple[Health, str]]:
    """A try of that probe where all is as it should be."""
    now = time.time()
    match name:
        case "http":
            with answering("HTTP/1.1 200 OK") as port:
                yield ask(name, {"path": "/", "port": port})
        case "tcp":
            with silent() as port:
                yield ask(name, {"port": port})
        case "grpc":
            with grpc_server({"": SERVING}) as port:
                yield ask(name, {"port": port, "service": ""})
        case "exec":
            yield ask(name, {"command": ["true"]}, engine=Engine(Ran(0)))
        case "kafka":
            with broker({"orders": [Partition(end=10, committed=8), Partition()]}) as port:
                yield ask(name, consuming(port, lag=2))
        case "heartbeat":
            yield ask(name, {"path": "/alive", "every": 30.0}, engine=Engine(file=now - 5))
        case "log":
            yield ask(name, {"pattern": "ready"}, systemd=Systemd(line=now))
        case "systemd":
            yield ask(name, {}, systemd=Systemd(Unit("loaded", "active", "running")))
        case "docker" | "running" | "not_failed" | "scheduled":
            yield ask(name, {})
        case "completed" | "drained":
            yield ask(name, {}, ENDED)
        case _:
            pytest.fail(f"the probe {name} has no story here: say where it is healthy, and how it fails below")


NAMES = sorted(probes.discover(ProbeTools(Engine(), Systemd())))  # type: ignore[arg-type]
SPEC: Json = {"path": "/a?token=hunter2", "service": "", "command": ["a"], "pattern": "hunter2", "every": 1.0}
DOWN = Unavailable("it does not answer", "is it up?")


@pytest.mark.parametrize("name", NAMES)
def test_a_probe_that_is_passed_says_no_more(name: str) -> None:
    with well(name) as said:
        assert said == (Health.HEALTHY, "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("at", [replace(UP, ip=""), UP, Instance("x")], ids=["no address", "running", "unborn"])
@pytest.mark.parametrize(("world", "error"), [(nobody, StepFailed("no such thing")), (silent, DOWN)])
def test_a_probe_never_raises_waits_or_rambles(name: str, at: Instance, world: Any, error: Exception) -> None:
    at = replace(at, health="", state="exited", exit_code=1)
    began = time.monotonic()
    with world() as port:
        spec = {**SPEC, **consuming(port), "port": port, "timeout": SHORT}
        health, why = ask(name, spec, at, engine=Engine(error, error), systemd=Systemd(error, error))
    assert time.monotonic() - began < DEADLINE, "it heeds the timeout that it is given"
    healthy = {"drained"} | ({"tcp"} if world is silent and at.ip else set())  # nobody is connected to what has ended
    assert (health is Health.HEALTHY) == (why == "") == (name in healthy)
    assert len(why) < 100
    assert why.isprintable()
    assert "hunter2" not in why


@pytest.mark.parametrize("name", ["http", "tcp", "grpc"])
def test_a_container_without_an_address_is_not_taken_for_this_host(name: str) -> None:
    with silent() as port:
        health, why = ask(name, {**SPEC, "port": port}, replace(UP, ip=""))
    assert health is Health.UNKNOWN
    assert why.endswith("the container has no address of its own")


@pytest.mark.parametrize("library", ["h2", "kafka"])
def test_nothing_that_only_one_probe_needs_is_loaded_without_it(library: str) -> None:
    program = (
        f"import sys, gitops_mvd.daemon.wiring as w; w.probes.discover(None); sys.exit({library!r} in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


# ---- http ------------------------------------------------------------------------------------------------------------


def http(port: int, **spec: Any) -> tuple[Health, str]:
    return ask("http", {"path": "/health", "port": port, **spec})


@pytest.mark.parametrize(
    ("code", "status", "health"),
    [
        (200, None, Health.HEALTHY),
        (302, None, Health.HEALTHY),
        (404, None, Health.PROGRESSING),
        (503, None, Health.PROGRESSING),
        (404, [404], Health.HEALTHY),
        (200, [204, 404], Health.PROGRESSING),
    ],
)
def test_http_judges_by_the_status(code: int, status: list[int] | None, health: Health) -> None:
    with answering(f"HTTP/1.1 {code} Whatever\nLocation: http://127.0.0.1:1/") as port:
        said = http(port, **({"status": status} if status else {}))
    assert said == (health, "" if health is Health.HEALTHY else f"http {code} from /health")


@pytest.mark.parametrize("length", ["Content-Length: 19", "Connection: close", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize(
    ("pattern", "found"), [('"status": ?"(green|yellow)"', True), ("red", False), ("^green", False)]
)
def test_http_judges_by_the_body(length: str, pattern: str, found: bool) -> None:
    body = b'{"status": "green"}'
    body = b"9\r\n%b\r\na\r\n%b\r\n0\r\n\r\n" % (body[:9], body[9:]) if "chunked" in length else body
    with answering(f"HTTP/1.1 200 OK\n{length}", body) as port:
        said = http(port, body=pattern)
    assert said == (
        (Health.HEALTHY, "") if found else (Health.PROGRESSING, "http /health is answered with another body")
    )


def test_http_looks_at_the_first_64_kib_of_the_body() -> None:
    for before, health in ((1 << 16, Health.PROGRESSING), ((1 << 16) - 2, Health.HEALTHY)):
        with answering("HTTP/1.1 200 OK", b"-" * before + b"ok") as port:
            assert http(port, body="ok")[0] is health


def test_http_finds_a_body_in_a_stream_that_never_ends() -> None:
    with dripping(b"HTTP/1.1 200 OK\r\n\r\nevent: ready\n\n", b": ping\n") as port:
        assert http(port, body="event: ready", timeout=SHORT) == (Health.HEALTHY, "")
        assert http(port, body="event: over", timeout=SHORT)[0] is Health.PROGRESSING


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"x-ready": "^yes$", "X-State": "warm"}, ""),
        ({"X-Ready": "no"}, "http /health is answered with another header X-Ready"),
        ({"X-Ready": "yes", "X-Leader": ".*"}, "http /health is answered without a header X-Leader"),
    ],
)
def test_http_judges_by_the_headers(header: dict[str, str], why: str) -> None:
    with answering("HTTP/1.1 200 OK\nX-Ready: yes\nX-State: cold\nX-State: warm") as port:
        assert http(port, header=header) == (Health.PROGRESSING if why else Health.HEALTHY, why)


def test_a_pattern_that_takes_for_ever_stops_nobody() -> None:
    ticks: list[float] = []
    over = threading.Event()
    ticking = threading.Thread(
        target=lambda: [ticks.append(time.monotonic()) for _ in iter(lambda: over.wait(0.01), True)]
    )
    ticking.start()
    with answering("HTTP/1.1 200 OK", b"a" * 60 + b"b") as port:
        health, why = http(port, body="^(a+)+$")
    over.set()
    ticking.join()
    assert (health, why) == (Health.PROGRESSING, "http /health: to search for its patterns takes more than 1 s")
    assert len(ticks) > 10, "other threads went on"


def test_http_asks_for_the_path_as_it_is_written() -> None:
    asked: list[bytes] = []

    def says(connection: socket.socket) -> None:
        asked.append(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with listening(says) as port:
        assert ask("http", {"path": "/gesund/größe?a=b%20c&d", "port": port}) == (Health.HEALTHY, "")
    assert asked[0].startswith(b"GET /gesund/gr%C3%B6%C3%9Fe?a=b%20c&d HTTP/1.1\r\n")
    assert b"Host: 127.0.0.1:%d\r\n" % port in asked[0]


def test_http_goes_past_the_proxy_that_the_daemon_has(monkeypatch: pytest.MonkeyPatch) -> None:
    with nobody() as proxy, answering("HTTP/1.1 200 OK") as port:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy}")
        assert http(port) == (Health.HEALTHY, "")


def test_http_says_who_does_not_answer_and_how() -> None:
    def resets(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with nobody() as port:
        assert http(port) == (Health.PROGRESSING, f"http /health refuses the connection on port {port}")
    with silent() as port:
        assert http(port, timeout=SHORT) == (Health.PROGRESSING, "http /health does not answer within 0.3 s")
    with dripping(b"HTTP/1.1 200 OK\r\nX-Long: ", b"x") as port:
        assert http(port, timeout=SHORT) == (Health.PROGRESSING, "http /health does not answer within 0.3 s")
    for hangs_up in (resets, lambda connection: None):
        with listening(hangs_up) as port:
            assert http(port) == (Health.PROGRESSING, f"http /health hangs up on port {port} without an answer")
    with listening(lambda connection: connection.sendall(b"220 mail.example.org ESMTP\r\n")) as port:
        assert http(port) == (Health.PROGRESSING, f"http /health gets an answer on port {port} that is not HTTP")


# ---- tcp -------------------------------------------------------------------------------------------------------------


def test_tcp_says_what_is_the_matter_with_a_port() -> None:
    with nobody() as port:
        assert ask("tcp", {"port": port}) == (Health.PROGRESSING, f"nothing listens on port {port}")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        said = ask("tcp", {"port": port, "timeout": SHORT})
        for one in waiting:
            one.close()
    assert said == (Health.PROGRESSING, f"port {port} does not answer within 0.3 s")
    health, why = ask("tcp", {"port": 1}, replace(UP, ip="255.255.255.255"))
    assert health is Health.UNKNOWN
    assert why.startswith("port 1 cannot be asked: ")


# ---- grpc ------------------------------------------------------------------------------------------------------------


def call(port: int, service: str = "", **spec: Any) -> tuple[Health, str]:
    return ask("grpc", {"port": port, "service": service, **spec})


def test_grpc_judges_by_what_the_health_service_says() -> None:
    long = "x" * 300
    with grpc_server({"": SERVING, "chat": NOT_SERVING, "später": SERVING, long: SERVING}) as port:
        for service in ("", "später", long):
            assert call(port, service) == (Health.HEALTHY, "")
        assert call(port, "chat") == (Health.PROGRESSING, "grpc NOT_SERVING")
        assert call(port, "other") == (Health.PROGRESSING, "grpc NOT_FOUND: it knows no such service")


@pytest.mark.parametrize("status", [0, 3])
def test_a_status_that_is_not_serving_is_not_yet(status: int) -> None:
    with grpc_server({"": status}) as port:
        health, why = call(port)
    assert (health, why) == (Health.PROGRESSING, f"grpc {health_pb2.HealthCheckResponse.ServingStatus.Name(status)}")


def test_a_grpc_server_without_a_health_service_is_named() -> None:
    with grpc_server() as port:
        assert call(port) == (Health.PROGRESSING, "grpc UNIMPLEMENTED: it has no health service")


def test_grpc_says_who_does_not_answer_and_how() -> None:
    with nobody() as port:
        assert call(port) == (Health.PROGRESSING, f"grpc refuses the connection on port {port}")
    with silent() as port:
        assert call(port, timeout=SHORT) == (Health.PROGRESSING, f"grpc does not answer on port {port} within 0.3 s")
    settings = bytes.fromhex("000000040000000000")
    ping = bytes.fromhex("000008060000000000") + b"12345678"
    with dripping(settings, ping) as port:
        assert call(port, timeout=SHORT) == (Health.PROGRESSING, f"grpc does not answer on port {port} within 0.3 s")
    goaway = bytes.fromhex("000008070000000000000000000000000b")
    for hangs_up in (b"", settings, settings + goaway):
        with listening(lambda connection, said=hangs_up: connection.recv(1 << 16) and connection.sendall(said)) as port:
            assert call(port) == (Health.PROGRESSING, f"grpc hangs up on port {port} without an answer")
    with answering("HTTP/1.1 400 Bad Request") as port:
        assert call(port) == (Health.PROGRESSING, f"grpc gets an answer on port {port} that is not HTTP/2")


def test_a_web_server_that_speaks_http_2_but_no_grpc_is_told_from_one_that_does() -> None:
    settings = bytes.fromhex("000000040000000000")
    not_found = bytes.fromhex("0000010105000000018d")  # HEADERS of stream 1, the last: `:status: 404`

    def says(connection: socket.socket) -> None:
        connection.recv(1 << 16)
        connection.sendall(settings + not_found)

    with listening(says) as port:
        assert call(port) == (Health.PROGRESSING, "grpc gets http 404, and no answer of gRPC")


# ---- kafka -----------------------------------------------------------------------------------------------------------


def consuming(port: int, at: str = "127.0.0.1", **consumer: Any) -> dict[str, Any]:
    of: dict[str, Any] = {"topic": "orders", "group": GROUP, "lag": 100, "bootstrap_servers": [f"{at}:{port}"]}
    return {"consumer": {**of, **consumer}, "timeout": ENOUGH}


@pytest.mark.parametrize(
    ("partitions", "why"),
    [
        ([Partition()], ""),
        ([Partition(end=1204, committed=1104)], ""),
        ([Partition(end=1204, committed=1204), Partition(end=50, committed=0), Partition(end=50)], ""),
        ([Partition(end=1304, committed=100)], "group workers is 1,204 behind on topic orders (at most 100)"),
        ([Partition(end=51, committed=0)] * 2, "group workers is 102 behind on topic orders (at most 100)"),
        (
            [Partition(end=1, committed=1), Partition(end=101)],
            "group workers is 101 behind on topic orders (at most 100)",
        ),
        ([Partition(end=1)], "group workers has committed nothing on topic orders, which has 1 message"),
        ([Partition(end=1204)], "group workers has committed nothing on topic orders, which has 1,204 messages"),
        ([], "topic orders does not exist"),
    ],
)
def test_kafka_judges_by_how_far_the_group_is_behind(partitions: list[Partition], why: str) -> None:
    with broker({"orders": partitions}) as port:
        assert ask("kafka", consuming(port)) == (Health.PROGRESSING if why else Health.HEALTHY, why)


def test_kafka_counts_no_message_that_was_deleted_unread_or_of_an_older_topic() -> None:
    deleted, all_deleted, made_anew = Partition(1000, 1010, 20), Partition(1000, 1000), Partition(0, 5, 900)
    with broker({"orders": [deleted, all_deleted, made_anew]}) as port:
        assert ask("kafka", consuming(port, lag=10)) == (Health.HEALTHY, "")
        assert ask("kafka", consuming(port, lag=9))[1] == "group workers is 10 behind on topic orders (at most 9)"


def test_kafka_asks_brokers_by_the_names_that_the_container_knows() -> None:
    with broker({"orders": [Partition()]}, advertised="kafka") as port:
        known = Engine(known={"localhost": "127.0.0.1", "kafka": "127.0.0.1"})
        for name in ("kafka", "KAFKA", "localhost", "127.0.0.1"):
            assert ask("kafka", consuming(port, name), engine=known) == (Health.HEALTHY, "")
        said = ask("kafka", consuming(port, "localhost"))
    assert said == (Health.UNKNOWN, "kafka: the broker kafka has no address here")


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.0.0.2", "0.0.0.0"])
def test_kafka_does_not_ask_the_host_itself_for_a_container_with_a_network_of_its_own(name: str) -> None:
    with broker({"orders": [Partition()]}) as port:
        said = ask("kafka", consuming(port, name), engine=Engine(known={}))
    assert said == (Health.UNKNOWN, f"kafka: the broker {name} has no address here")


def test_kafka_names_a_broker_without_a_port_that_has_no_address() -> None:
    brokers = ["kafka-1.invalid", "[::1]", "kafka-2.invalid:9093"]
    said = ask("kafka", consuming(0, bootstrap_servers=brokers), engine=Engine(known={}))
    assert said == (Health.UNKNOWN, "kafka: the broker ::1 has no address here")


def test_kafka_says_of_brokers_that_cannot_be_asked_why() -> None:
    with broker({"orders": None}) as port:
        said = ask("kafka", consuming(port))
        assert said == (Health.UNKNOWN, "kafka: topic orders cannot be looked at: topic authorization failed")
    with silent() as port:
        why = f"kafka: 127.0.0.1:{port} accepts the connection and answers nothing: are `tls` and `sasl` right?"
        assert ask("kafka", {**consuming(port), "timeout": FRUITLESS}) == (Health.UNKNOWN, why)
    with nobody() as port:
        said = ask("kafka", {**consuming(port), "timeout": FRUITLESS})
        assert said == (Health.UNKNOWN, f"kafka: no broker answers at 127.0.0.1:{port}")
    said = ask("kafka", {**consuming(port), "timeout": 0.01})  # in which no program starts
    assert said == (Health.UNKNOWN, f"kafka: 127.0.0.1:{port} does not answer within 0.01 s")


def test_kafka_takes_a_login_from_the_environment_of_the_container_and_tells_none() -> None:
    login = {"mechanism": "PLAIN", "username": "KAFKA_USER", "password": "KAFKA_PASSWORD"}
    with broker({"orders": [Partition()]}) as port:
        with_login = consuming(port, sasl=login)
        said = ask("kafka", with_login, engine=Engine(variables={"KAFKA_USER": "joe"}))
        assert said == (Health.PROGRESSING, "kafka: the container has no variable KAFKA_PASSWORD for the login")
        variables = {"KAFKA_USER": "joe", "KAFKA_PASSWORD": "hunter2"}
        health, why = ask("kafka", {**with_login, "timeout": FRUITLESS}, engine=Engine(variables=variables))
    assert health is Health.UNKNOWN, "this broker takes no login"
    assert "hunter2" not in why


def test_kafka_asks_over_tls_who_has_a_certificate_that_the_host_trusts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "certificate.pem"
    certificate.write_text(f"{CERTIFICATE}\n{KEY}\n")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    known = Engine(known={"localhost": "127.0.0.1", HOST: "127.0.0.1", "other": "127.0.0.1"})
    with broker({"orders": [Partition()]}, HOST, context) as port:
        spec = {**consuming(port, HOST, tls=True), "timeout": FRUITLESS}
        assert ask("kafka", spec, engine=known)[0] is Health.UNKNOWN
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert ask("kafka", spec, engine=known) == (Health.HEALTHY, "")
        health, why = ask("kafka", {**consuming(port, "other", tls=True), "timeout": FRUITLESS}, engine=known)
    assert (health, why.partition(" accepts")[0]) == (Health.UNKNOWN, f"kafka: other:{port}")


def test_a_reason_of_kafka_fits_into_a_commit_status() -> None:
    long = "x" * 249
    with broker({long: [Partition(end=1)]}) as port:
        health, why = ask("kafka", consuming(port, topic=long, lag=0))
    assert health is Health.PROGRESSING
    assert len(why) == 140


# ---- what the engine and systemd are asked ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ran", "why"),
    [
        (Ran(1), "exec ends with code 1"),
        (Ran(2, "one\nno connection\x1b[0m\n\n"), r"exec ends with code 2: no connection\x1b[0m"),
        (Ran(None, killed=True), "exec does not end within 5 s, and was killed"),
        (Ran(None), "exec does not end within 5 s, and goes on, for it cannot be killed"),
    ],
)
def test_exec_says_how_a_command_went(ran: Ran, why: str) -> None:
    assert ask("exec", {"command": ["a"], "timeout": 5.0}, engine=Engine(ran)) == (Health.PROGRESSING, why)


def test_a_command_that_docker_refuses_to_run_may_be_run_later() -> None:
    said = ask("exec", {"command": ["a"]}, engine=Engine(StepFailed("container x is paused")))
    assert said == (Health.PROGRESSING, "container x is paused")


@pytest.mark.parametrize(
    ("unit", "health", "why"),
    [
        (None, Health.PROGRESSING, "its unit is inactive (dead)"),
        (Unit("loaded", "activating", "auto-restart"), Health.PROGRESSING, "its unit is activating (auto-restart)"),
        (Unit("loaded", "inactive", "dead"), Health.PROGRESSING, "its unit is inactive (dead)"),
        (Unit("loaded", "failed", "failed"), Health.DEGRADED, "its unit has failed"),
    ],
)
def test_systemd_is_taken_at_its_word(unit: Unit | None, health: Health, why: str) -> None:
    assert ask("systemd", {}, systemd=Systemd(unit)) == (health, why)


def started(ago: float) -> Instance:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() - ago))
    return replace(UP, started=f"{moment}.123456789Z")


@pytest.mark.parametrize(
    ("up_for", "beat", "well"),
    [
        (100, 10, True),
        (100, 40, False),  # longer ago than `every`
        (10, 20, False),  # before it started: what an older one left on a volume
        (10, 10.5, True),  # Docker notes the start a moment after the process began
    ],
)
def test_a_sign_of_life_counts_if_it_is_young_and_the_instances_own(up_for: float, beat: float, well: bool) -> None:
    at, when = started(up_for), time.time() - beat
    file = ask("heartbeat", {"path": "/alive", "every": 30.0}, at, engine=Engine(file=when))
    line = ask("log", {"pattern": "polled", "every": 30.0}, at, systemd=Systemd(line=when))
    assert file == (
        (Health.HEALTHY, "") if well else (Health.PROGRESSING, f"/alive was last modified {beat:.0f} s ago")
    )
    assert line == (
        (Health.HEALTHY, "") if well else (Health.PROGRESSING, "no line of its log matches in the last 30 s")
    )


def test_without_every_a_line_counts_from_the_start_on() -> None:
    systemd = Systemd(line=time.time() - 4000)
    assert ask("log", {"pattern": "ready"}, started(5000), systemd=systemd) == (Health.HEALTHY, "")
    said = ask("log", {"pattern": "ready"}, started(3000), systemd=systemd)
    assert said == (Health.PROGRESSING, "no line of its log matches since its start")


def test_a_heartbeat_that_never_was_is_told() -> None:
    said = ask("heartbeat", {"path": "/run/alive", "every": 30.0}, engine=Engine(file=None))
    assert said == (Health.PROGRESSING, "there is no /run/alive yet")


# ---- scheduled -------------------------------------------------------------------------------------------------------


def scheduled(state: str, exit_code: int = 0, unit: Unit | Exception | None = None) -> tuple[Health, str]:
    return ask("scheduled", {}, replace(UP, state=state, health="", exit_code=exit_code), systemd=Systemd(unit))


@pytest.mark.parametrize("state", ["", "created", "running", "exited"])
def test_what_never_ran_or_runs_or_ended_well_is_healthy(state: str) -> None:
    assert scheduled(state) == (Health.HEALTHY, "")


def test_a_run_that_ended_badly_is_told_with_its_code() -> None:
    assert scheduled("exited", 3) == (Health.DEGRADED, "its last run ended with exit code 3")


@pytest.mark.parametrize("state", ["", "created"])
def test_a_run_that_came_to_no_container_is_told_by_its_unit(state: str) -> None:
    failed, starting = Unit("loaded", "failed", "failed"), Unit("loaded", "activating", "start-pre")
    assert scheduled(state, unit=failed) == (Health.DEGRADED, "its last run could not be started")
    assert scheduled(state, unit=starting) == (Health.HEALTHY, "")
    assert scheduled(state, unit=DOWN) == (Health.UNKNOWN, "it does not answer")
