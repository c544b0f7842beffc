"""How a container gets and loses the names by which others find it, by an engine that only notes what it is asked."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.docker.aliases import Aliases
from gitops_mvd.docker.types import ListedContainer


class Engine:
    """Has one container, which is found by these names on each network; counts how often it is asked.

    `done` is what it was asked to change.  One that is `plain` lets no container choose its address.
    """

    def __init__(self, *, plain: bool = False, **names: list[str]) -> None:
        self.names = names
        self.plain = plain
        self.asked = 0
        self.done: list[object] = []

    def aliases(self, container: str) -> dict[str, list[str]]:
        self.asked += 1
        return self.names

    def disconnect(self, container: str, network: str) -> None:
        self.done.append(("leave", container, network))

    def connect(self, container: str, network: str, endpoint: dict[str, Any]) -> None:
        if self.plain and endpoint["IPAMConfig"]:
            raise StepFailed("user specified IP address is supported only when connecting to networks with a subnet")
        self.done.append(("join", network, endpoint))


def container(*networks: str, staged: str = "", address: str = "10.0.0.9", asked: bool = False) -> ListedContainer:
    labels = {"io.gitops-mvd.service": "web", **({"io.gitops-mvd.staged": staged} if staged else {})}
    given: dict[str, object] | None = {"IPv4Address": address} if asked else None
    return {
        "Id": "c1",
        "Names": ["/mvd-shop-web-1"],
        "Labels": labels,
        "State": "running",
        "Status": "Up 3 seconds",
        "Created": 7,
        "HostConfig": {"NetworkMode": networks[0]},
        "NetworkSettings": {
            "Networks": {
                name: {"IPAMConfig": given, "EndpointID": f"e-{name}", "IPAddress": address}
                for name in networks
                if name not in {"none", "host"}
            }
        },
    }


def of(engine: Engine) -> Aliases:
    edge: Any = engine
    return Aliases(edge)


@pytest.mark.parametrize(
    ("there", "staged"),
    [
        (container("front"), False),
        (container("front", staged="front"), True),
        (container("none"), False),
        (container("host"), False),
        (container("container:abc"), False),
    ],
)
def test_a_container_as_it_was_made_says_by_a_label_whether_it_is_staged(there: ListedContainer, staged: bool) -> None:
    engine = Engine()
    assert of(engine).is_staged(there) is staged
    assert engine.asked == 0


def test_a_container_that_joined_anew_is_inspected_once() -> None:
    engine = Engine(front=["web"])
    aliases = of(engine)
    there = container("front", staged="front", asked=True)
    assert [aliases.is_staged(there), aliases.is_staged(there), engine.asked] == [False, False, 1]
    assert of(Engine(front=[])).is_staged(there)


KEPT = {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}


def test_aliases_are_taken_first_where_they_are_looked_for() -> None:
    engine = Engine()
    of(engine).take(container("front", "back"))
    assert engine.done == [
        ("leave", "mvd-shop-web-1", "front"),
        ("join", "front", KEPT),
        ("leave", "mvd-shop-web-1", "back"),
        ("join", "back", KEPT),
    ]


def test_aliases_are_given_last_where_they_are_looked_for() -> None:
    engine = Engine()
    of(engine).give(container("front", "back"), {"front": {"aliases": ["web"]}, "back": {}})
    assert engine.done[1::2] == [("join", "back", KEPT), ("join", "front", {"Aliases": ["web"], **KEPT})]


def test_a_network_whose_subnet_was_not_given_is_joined_without_an_address() -> None:
    engine = Engine(plain=True)
    of(engine).give(container("front"), {"front": {"aliases": ["web"]}})
    assert engine.done[-1] == ("join", "front", {"Aliases": ["web"], "IPAMConfig": {}})
