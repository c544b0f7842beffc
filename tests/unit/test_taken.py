"""A port of the host that somebody else uses is told with its user, before anything stops for it."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mvd.core.errors import NotNow
from gitops_mvd.core.model import Check, Service
from gitops_mvd.docker.taken import Taken, ports_of
from gitops_mvd.net.listeners import Listener

OURS = {"io.gitops-mvd.app": "shop"}
WEB = Service("web", "image", {"ports": [{"target": 80, "published": "8080", "host_ip": "", "protocol": "tcp"}]})


def running(name: str, *ports: dict[str, Any], mode: str = "bridge", **labels: str) -> dict[str, Any]:
    return {"Id": name, "Names": [f"/{name}"], "Labels": labels, "HostConfig": {"NetworkMode": mode}, "Ports": ports}


def port(number: int = 8080, address: str = "0.0.0.0", type: str = "tcp") -> dict[str, Any]:
    return {"PublicPort": number, "PrivatePort": 80, "IP": address, "Type": type}


class Server:
    """Its engine with the containers that run, and what listens on its ports."""

    def __init__(self, *there: dict[str, Any], sockets: tuple[Listener, ...] = (), shown: str = "") -> None:
        self.there, self.sockets, self.shown = there, sockets, shown

    def running(self) -> Any:
        return self.there

    def refuse(self, service: Service = WEB) -> None:
        edge: Any = self
        Taken(edge, lambda *words: self.shown, lambda port, protocol: self.sockets).refuse(ports_of(service))


def ss(address: str, user: str = "") -> str:
    return f"LISTEN 0 5 {address}:8080 0.0.0.0:* {user}\n"


ANY = (Listener("0.0.0.0"),)
NGINX = 'users:(("nginx",pid=999999999,fd=6))'


@pytest.mark.parametrize(
    ("server", "told"),
    [
        (Server(running("theirs", port())), "by the container theirs"),
        (Server(running("theirs", port(address="127.0.0.1"))), "by the container theirs"),
        (Server(sockets=ANY, shown=ss("0.0.0.0", NGINX)), r"by nginx \(pid 999999999\)"),
        (Server(sockets=(Listener("::"),), shown=ss("*", NGINX)), r"by nginx \(pid 999999999\)"),
        (Server(sockets=ANY), r"by another process \(see: ss -lnp 'sport = :8080'\)"),
        (Server(running("a", mode="host"), sockets=ANY), "by another process"),
    ],
)
def test_a_port_of_somebody_else_is_told_with_its_user(server: Server, told: str) -> None:
    with pytest.raises(NotNow, match=f"web: the port 8080 of this host is used {told}") as caught:
        server.refuse()
    assert caught.value.service == "web"


@pytest.mark.parametrize(
    "server",
    [
        Server(),
        Server(running("theirs", port(8081), port(type="udp"), port(address="::"))),
        Server(running("mvd-shop-web-1", port(), **OURS), sockets=ANY, shown=ss("0.0.0.0", NGINX)),
        Server(sockets=(Listener("::"),), shown=ss("[::]", NGINX)),  # for IPv6 alone
        Server(sockets=(Listener("::"),)),
        Server(running("mvd-shop-web-1", mode="host", **OURS), sockets=ANY),  # it may be that one
    ],
)
def test_a_port_that_is_free_or_of_our_own_or_may_be_so_is_let_through(server: Server) -> None:
    server.refuse()


def test_a_port_of_the_network_of_the_host_is_refused_only_if_its_user_is_known() -> None:
    check = Check("http", {"path": "/", "port": 8080})
    agent = Service("agent", "image", {"network_mode": "host"}, check=check)
    assert [it.number for it in ports_of(agent)] == [8080]
    Server(sockets=ANY).refuse(agent)
    with pytest.raises(NotNow, match=r"agent: the port 8080 of this host is used by nginx"):
        Server(sockets=ANY, shown=ss("0.0.0.0", NGINX)).refuse(agent)


def test_an_address_that_the_host_does_not_have_is_waited_for() -> None:
    port: Any = {"target": 80, "published": "8080", "host_ip": "192.0.2.1", "protocol": "tcp"}
    with pytest.raises(NotNow, match=r"web: this host does not have the address 192.0.2.1 of the port 8080"):
        Server().refuse(Service("web", "image", {"ports": [port]}))


def test_ports_that_the_engine_chooses_are_not_looked_at() -> None:
    chosen: Any = [{"target": 80, "published": it, "host_ip": "", "protocol": "tcp"} for it in ("", "0", "8000-8010")]
    assert not list(ports_of(Service("web", "image", {"ports": chosen})))
