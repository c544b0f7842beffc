"""A host that `fleet.yaml` drains: its routes keep their targets and give them no requests, whatever version runs."""

from __future__ import annotations

from typing import Any

import pytest

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import App, Change, Check, Gate, Goal, Health, Instance, Resource
from gitops_mvd.core.rollout import ROUTE_PROOF
from gitops_mvd.core.route import is_drained
from gitops_mvd.host.drain import Drain
from gitops_mvd.host.gates import Gates, Wait
from gitops_mvd.host.machine import Machine
from gitops_mvd.host.ways import Ways
from gitops_mvd.manifest import read_fleet
from tests.fakes import FakeClock, FakeHistory, service
from tests.unit.memory_tree import MemoryTree
from tests.unit.test_host import Engine, Kind

APP = App("shop", (service("web"),))


def machine(drain: Drain, *, leaves_routes: bool = False) -> Machine:
    engine: Any = Engine()
    kinds = {kind.name: kind for kind in (Kind("image"), Kind("unit", "image"), Kind("route", "unit"))}
    more: Any = {"history": FakeHistory(), "leaves_routes": leaves_routes, "drain": drain}
    nobody: Any = None
    host = Machine("h1", kinds, engine, nobody, nobody, FakeClock(), address="127.0.0.1", **more)  # type: ignore[arg-type]  # the kinds of a test
    host.refresh()
    for step in host.plan([Goal(APP)]).change:
        if isinstance(step, Change):
            kinds[step.resource.kind].apply([step])
    host.refresh()
    host.kinds = kinds  # type: ignore[attr-defined]  # for the test alone
    return host


def routes(host: Machine) -> list[Change]:
    """What a plan changes of routes; nothing else is changed."""
    changes = [step for step in host.plan([Goal(APP, proven=True)]).change if isinstance(step, Change)]
    assert {change.resource.kind for change in changes} <= {"route"}
    return changes


def test_a_drained_host_changes_the_weights_of_its_targets_once_and_nothing_else() -> None:
    drain = Drain()
    host = machine(drain)
    assert routes(host) == []
    drain.is_on = True
    [change] = routes(host)
    assert change.to
    assert is_drained(change.to)
    host.kinds["route"].apply([change])  # type: ignore[attr-defined]
    host.refresh()
    assert routes(host) == []
    drain.is_on = False
    [change] = routes(host)
    assert change.to
    assert not is_drained(change.to)


def test_a_drain_is_carried_out_where_changes_by_hand_are_left() -> None:
    drain = Drain()
    host = machine(drain, leaves_routes=True)
    drain.is_on = True
    assert host.unrepaired(host.plan([Goal(APP, proven=True)])) == ""


class Proof:
    """A Kong that answers no request, as none of its targets has a weight."""

    def answers(self, route: Resource) -> tuple[Health, str, bool]:
        return Health.PROGRESSING, "Kong answers GET /web with 503: failure to get a peer from the ring-balancer", False

    def everywhere(self, route: Resource) -> tuple[Health, str]:
        return Health.HEALTHY, ""

    def was_idle(self) -> bool:
        return False


@pytest.mark.parametrize(("weight", "health"), [(0, Health.HEALTHY), (100, Health.PROGRESSING)])
def test_no_gate_waits_for_requests_that_a_drained_host_does_not_get(weight: int, health: Health) -> None:
    nobody: Any = None
    gates = Gates({}, Engine(), nobody, nobody, FakeClock(), Proof(), FakeHistory())  # type: ignore[arg-type]
    target = {"instance": "mvd-shop-web-1", "address": "10.0.0.1:20000", "weight": weight}
    route = Resource("route", "shop.web", "shop", "web", {"entities": {}, "targets": [target]})
    assert gates._ask_route_proof(Wait(Gate(route, Check(ROUTE_PROOF)), 0.0))[0] is health


def test_the_way_to_a_drained_host_is_not_judged() -> None:
    class Routes:
        def wanted(self, app: App) -> list[Resource]:
            return [Resource("route", "shop.web", "shop", "web", {"entities": {}, "targets": []})]

    class Undisturbed:
        def since_pass(self, now: float) -> str:
            return ""

    drain = Drain()
    web = service("web")
    instance = Instance(name=web.instances("shop")[0], app="shop", service="web")  # type: ignore[call-arg]
    ways = Ways({}, Routes(), Proof(), Undisturbed(), drain=drain)  # type: ignore[arg-type]
    assert ways.ask_route(instance, web)[0] is Health.PROGRESSING
    drain.is_on = True
    assert ways.ask_route(instance, web)[0] is Health.HEALTHY


def test_the_fleet_file_says_which_hosts_are_drained() -> None:
    fleet = read_fleet(MemoryTree({"fleet.yaml": "hosts:\n  one: {drain: true}\n  two: {drain: false}\n  three:\n"}))
    assert {name: facts.drained for name, facts in fleet.hosts.items()} == {"one": True, "two": False, "three": False}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("defaults: {drain: true}\nhosts: {one: }\n", "fleet.yaml:1: defaults.drain: goes under a host in `hosts`"),
        ("hosts: {one: {drain: perhaps}}\n", "must be true or false, not 'perhaps'"),
    ],
)
def test_all_hosts_at_once_and_what_is_no_answer_are_refused(text: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        read_fleet(MemoryTree({"fleet.yaml": text}))
    assert says in str(caught.value)
