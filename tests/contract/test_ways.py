"""The ways to an instance, over real connections in this process: 127.0.0.2 is the container, the rest the host."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Check, Health, Instance, Published, Resource, Service
from gitops_mvd.host.ways import Ways
from gitops_mvd.probes import ProbeTools, discover

CONTAINER, LOOPBACK, OWN = "127.0.0.2", "127.0.0.1", "127.0.0.3"
TARGET, PORT = 20080, 18081  # in the container, and on the host
WELL = (Health.HEALTHY, "")
WAY = "the container is healthy, the way to it is not: "

Says = Callable[[socket.socket], None]


def hangs_up(line: socket.socket) -> None:
    """As docker-proxy with nothing behind it."""


def waits(line: socket.socket) -> None:
    """As a server of which the client has the first word."""
    with suppress(OSError):
        line.recv(1)


def http(status: int) -> Says:
    def answer(line: socket.socket) -> None:
        with suppress(OSError):
            line.recv(4096)
            line.sendall(f"HTTP/1.1 {status} -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    return answer


@contextmanager
def listening(address: str, port: int, says: Says) -> Iterator[None]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, port), family=family) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    line, _ = server.accept()
                    with line:
                        says(line)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)


class Surroundings:
    """What happens to Docker, and where a route leads."""

    def __init__(self) -> None:
        self.disruption = ""
        self.answer: tuple[Health, str, bool] | Exception = (Health.HEALTHY, "", True)
        self.asked: list[str] = []

    def since_pass(self, began: float) -> str:
        return self.disruption

    def wanted(self, app: App) -> Iterable[Resource]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return [Resource("route", f"{app.name}.{service.name}", app.name, service.name) for service in app.services]

    def answers(self, route: Resource) -> tuple[Health, str, bool]:
        assert not isinstance(self.answer, Exception)
        self.asked.append(route.name)
        return self.answer


@pytest.fixture
def around() -> Surroundings:
    return Surroundings()


@pytest.fixture
def ways(around: Surroundings) -> Ways:
    edge: Any = around
    tools: Any = ProbeTools(edge, edge)
    return Ways(discover(tools), edge, edge, edge, own_address=lambda: OWN)


def web(check: Check | None = None, address: str = "", **more: Any) -> Service:
    port = {"target": TARGET, "published": str(PORT), "host_ip": address, "protocol": "tcp"}
    return Service("web", "image", run={"ports": [port]}, check=check or Check("tcp", {"port": TARGET}), **more)  # type: ignore[typeddict-item]


def instance(*addresses: str, name: str = "") -> Instance:
    published = tuple(Published(TARGET, PORT, address, "tcp") for address in addresses)
    name = name or web().instances("shop")[0]
    return Instance(name, "shop", "web", CONTAINER, "running", published=published)


HTTP = Check("http", {"path": "/health", "port": TARGET, "status": [200], "body": "fine"})
EVERYWHERE = ((CONTAINER, TARGET), (LOOPBACK, PORT), (OWN, PORT))


@pytest.mark.parametrize("says", [waits, http(200)])
def test_a_port_that_answers_at_every_address_is_a_way(ways: Ways, says: Says) -> None:
    with ExitStack() as servers:
        for place in EVERYWHERE:
            servers.enter_context(listening(*place, says))
        assert ways.ask_ports(instance("0.0.0.0"), web()) == WELL


@pytest.mark.parametrize("check", [None, HTTP])
@pytest.mark.parametrize("missing", [LOOPBACK, OWN])
def test_a_port_that_is_closed_at_one_address_is_told_with_it(ways: Ways, check: Check | None, missing: str) -> None:
    with ExitStack() as servers:
        for address, port in EVERYWHERE:
            if address != missing:
                servers.enter_context(listening(address, port, http(200)))
        health, why = ways.ask_ports(instance("0.0.0.0"), web(check))
    assert health is Health.PROGRESSING
    assert why.startswith(f"{WAY}{missing}:{PORT} ")
    assert "refuses the connection" in why


@pytest.mark.parametrize("check", [None, HTTP])
def test_a_proxy_with_nothing_behind_it_is_no_way(ways: Ways, check: Check | None) -> None:
    with listening(CONTAINER, TARGET, http(200)), listening(LOOPBACK, PORT, hangs_up):
        health, why = ways.ask_ports(instance(LOOPBACK), web(check, LOOPBACK))
    assert health is Health.PROGRESSING
    assert why.startswith(f"{WAY}{LOOPBACK}:{PORT} ")
    assert "hangs up" in why


def test_any_answer_of_the_probe_proves_the_way_to_what_it_says_of_itself_elsewhere(ways: Ways) -> None:
    """An app may answer other hosts and other clients otherwise."""
    with listening(CONTAINER, TARGET, http(200)), listening(LOOPBACK, PORT, http(403)):
        assert ways.ask_ports(instance(LOOPBACK), web(HTTP, LOOPBACK)) == WELL


@pytest.mark.parametrize("check", [None, HTTP])
def test_a_port_on_which_nothing_listens_in_the_container_says_nothing_of_the_way(
    ways: Ways, check: Check | None
) -> None:
    with listening(LOOPBACK, PORT, hangs_up):
        assert ways.ask_ports(instance(LOOPBACK), web(check, LOOPBACK)) == WELL


def test_what_is_published_for_all_of_ipv6_counts_once_it_has_answered(ways: Ways) -> None:
    there = instance("::")
    with listening(CONTAINER, TARGET, waits):
        assert ways.ask_ports(there, web()) == WELL, "an engine without its proxy publishes nothing at ::1"
        with listening("::1", PORT, waits):
            assert ways.ask_ports(there, web()) == WELL
        assert ways.ask_ports(there, web()) == (Health.PROGRESSING, f"{WAY}[::1]:{PORT} refuses the connection")


def test_an_address_of_ipv6_that_is_named_counts_at_once(ways: Ways) -> None:
    with listening(CONTAINER, TARGET, waits):
        told = ways.ask_ports(instance("::1"), web(address="::1"))
    assert told == (Health.PROGRESSING, f"{WAY}[::1]:{PORT} refuses the connection")


def test_a_port_that_the_engine_has_left_out_is_told(ways: Ways) -> None:
    told = ways.ask_ports(instance(LOOPBACK), web(address="::1"))
    assert told == (Health.PROGRESSING, f"{WAY}the port [::1]:{PORT} is not published")


def test_an_address_that_cannot_be_asked_from_here_is_logged_once(ways: Ways, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        with caplog.at_level("INFO"):
            assert ways.ask_ports(instance("255.255.255.255"), web(address="255.255.255.255")) == WELL
    assert [record.getMessage() for record in caplog.records] == [
        f"published port not checked address=255.255.255.255:{PORT} reason=Network is unreachable"
    ]


def test_udp_is_not_asked(ways: Ways) -> None:
    there = Instance("web", "shop", "web", CONTAINER, "running", published=(Published(53, 53, "0.0.0.0", "udp"),))
    ports = [{"target": 53, "published": "53", "host_ip": "", "protocol": "udp"}]
    assert ways.ask_ports(there, Service("web", "image", run={"ports": ports})) == WELL  # type: ignore[typeddict-item]


def test_nothing_is_told_while_docker_is_disrupted(ways: Ways, around: Surroundings) -> None:
    around.disruption = "docker.service is activating"
    with listening(CONTAINER, TARGET, waits):
        assert ways.ask_ports(instance(LOOPBACK), web(address=LOOPBACK)) == (Health.UNKNOWN, around.disruption)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((Health.HEALTHY, "", True), WELL),
        (
            (Health.PROGRESSING, "Kong answers GET / with 502", False),
            (Health.PROGRESSING, f"{WAY}Kong answers GET / with 502"),
        ),
        ((Health.UNKNOWN, "Kong does not answer", False), WELL),
        (Unavailable("the secret tls is not here"), WELL),
    ],
)
def test_a_route_is_asked_through_kong(ways: Ways, around: Surroundings, answer: Any, told: Any) -> None:
    around.answer = answer
    routed = Service("web", "image", kong={"port": 80}, replicas=2)  # type: ignore[typeddict-item]
    first, second = routed.instances("shop")
    assert ways.ask_route(Instance(first, "shop", "web", CONTAINER, "running"), routed) == told
    assert ways.ask_route(Instance(second, "shop", "web", CONTAINER, "running"), routed) == WELL, (
        "one asks for all of them"
    )
    assert around.asked == (["shop.web"] if isinstance(answer, tuple) else [])


def test_a_job_has_no_ways(ways: Ways) -> None:
    nightly = web(schedule="daily")
    assert ways.ask_ports(instance(), nightly) == WELL
