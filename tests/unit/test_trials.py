"""A canary on this machine: how long it is waited for, what ends it, and what goes on from one pass to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest

from gitops_mvd.core.canary import PROBE, Numbers, latency_key
from gitops_mvd.core.errors import Interrupted, OnItsWay, Unavailable, Unhealthy
from gitops_mvd.core.model import Check, Gate, Health, Instance, Resource, Service
from gitops_mvd.core.rollout import TURN
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.trials import PASS_SECONDS
from tests.fakes import FakeClock, FakeHistory

NEW, OLD = "127.0.0.1:20001", "127.0.0.1:20000"
Requests = Callable[[float], Mapping[str, tuple[int, int, float]]]  # each second: requests, errors, milliseconds


class Gateway:
    """Tells each second of as many requests as `each` says for that second; `is_heard` says whether it does at all."""

    def __init__(self, clock: FakeClock, each: Requests) -> None:
        self.clock, self.each = clock, each
        self.is_heard, self.reached, self.counts = True, True, True
        self.turn = ""
        self.health = Health.HEALTHY
        self.watches = 0

    def answers(self, route: Resource) -> tuple[Health, str, bool]:
        return self.health, "" if self.health is Health.HEALTHY else "Kong has no route", self.reached

    def is_counted(self, route: Resource) -> bool:
        return self.counts

    def judged_elsewhere(self, route: Resource) -> str:
        return self.turn

    def watch(self, route: Resource, addresses: Iterable[str]) -> Watching:
        self.watches += 1
        return Watching(self, self.clock.now())


class Watching:
    def __init__(self, gateway: Gateway, since: float) -> None:
        self.gateway, self.since = gateway, since

    def is_heard(self) -> bool:
        return self.gateway.is_heard

    def numbers(self) -> Mapping[str, Numbers]:
        found = {NEW: Numbers(), OLD: Numbers()}
        for second in range(int(self.since), int(self.gateway.clock.now())):
            for address, (requests, errors, milliseconds) in self.gateway.each(second - 1000).items():
                found[address] += Numbers(requests, errors, {latency_key(milliseconds): requests})
        return found


class Running:
    """An engine, and systemd, of an instance that runs."""

    def instance(self, name: str) -> Instance:
        return Instance(name, state="running", started="2026-01-01T10:00:00Z")

    def journal(self, unit: str, lines: int) -> list[str]:
        return []


STEADY: Requests = lambda at: {NEW: (1, 0, 10), OLD: (19, 0, 10)}  # noqa: E731


def share(percent: int = 5, lasts: float = 10, **judge: Any) -> Gate:
    rules = {"min_requests": 5, "errors": 0.02, "latency": 1.5, **judge}
    spec = {"share": percent, "new": [NEW], "old": [OLD], "judge": rules}
    route = Resource("route", "shop.web", "shop", "web", {"targets": []})
    return Gate(route, Check(PROBE, spec, within=30, hold=lasts))


def at_a_gate(each: Requests = STEADY, clock: FakeClock | None = None) -> tuple[Gates, Gateway, FakeClock]:
    clock = clock or FakeClock()
    gateway, edge = Gateway(clock, each), Running()
    made: Any = (edge, edge, edge, clock, gateway, FakeHistory())
    return Gates({"http": lambda instance, spec: (Health.HEALTHY, "")}, *made), gateway, clock


def test_a_share_lasts_as_long_as_it_is_to_and_is_passed_where_nothing_is_against_it() -> None:
    gates, _, clock = at_a_gate()
    assert gates.wait([share(lasts=10)]) == []
    assert 10 <= clock.now() - 1000 < 12


def test_errors_end_it_at_once_with_the_numbers() -> None:
    gates, _, clock = at_a_gate(lambda at: {NEW: (1, int(at >= 3), 10), OLD: (19, 0, 10)})
    with pytest.raises(Unhealthy, match=r"^web: canary at 5 %: 1 of 4 failed; of the old version's, 0 of 76$"):
        gates.wait([share()])
    assert clock.now() - 1000 < 7


def test_a_slow_version_is_found_out_at_the_end() -> None:
    gates, _, clock = at_a_gate(lambda at: {NEW: (1, 0, 400), OLD: (19, 0, 100)})
    with pytest.raises(Unhealthy, match=r"90 % of 1\d requests took up to 404 ms; of the old version's, 98 ms"):
        gates.wait([share()])
    assert clock.now() - 1000 >= 10


def test_where_nobody_asks_for_anything_it_is_passed_and_the_log_says_on_how_little(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    gates, _, _ = at_a_gate(lambda at: {})
    assert gates.wait([share()]) == []
    assert "share=5%: judged on 0 requests beside 0, which are few: 0 of 0 failed" in caplog.text


def test_it_does_not_begin_before_kong_uses_the_shares_and_tells_of_its_requests() -> None:
    gates, gateway, clock = at_a_gate()
    gateway.is_heard = False
    with pytest.raises(Unavailable, match=r"Kong does not tell of its requests by the plugin udp-log"):
        gates.wait([share()])
    assert clock.now() - 1000 > 30
    gateway.reached = False  # no request can be made that shows it, as where there is only gRPC
    assert gates.wait([share()]) == []
    gateway.health = Health.PROGRESSING
    with pytest.raises(Unhealthy, match="Kong has no route for 30 s"):
        gates.wait([share(25)])


def test_one_that_lasts_longer_lets_others_have_their_turn_and_goes_on_where_it_was() -> None:
    gates, _, clock = at_a_gate()
    said, lasted = [], []
    while clock.now() < 2000:
        began = clock.now()
        try:
            gates.wait([share(lasts=90)])
            break
        except OnItsWay as error:
            said.append(str(error))
            lasted.append(clock.now() - began)
    assert said == ["canary: the new web gets 5 % of the requests, for 90 s"] * 4
    assert all(PASS_SECONDS < it < PASS_SECONDS + 2 for it in lasted)
    assert 90 <= clock.now() - 1000 < 93


class Cut(FakeClock):
    """A clock that something newer interrupts, once."""

    def __init__(self, at: float) -> None:
        super().__init__()
        self.at = at

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        if self.now() - 1000 > self.at:
            self.at = 1e9
            raise Interrupted("superseded by 1a2b3c4")


def test_a_commit_for_another_app_does_not_begin_it_anew_and_another_share_does() -> None:
    clock = Cut(6)
    gates, _, _ = at_a_gate(clock=clock)
    with pytest.raises(Interrupted):
        gates.wait([share(lasts=10)])
    assert gates.wait([share(lasts=10)]) == []
    assert 10 <= clock.now() - 1000 < 12
    began = clock.now()
    assert gates.wait([share(25, lasts=10)]) == []
    assert 10 <= clock.now() - began < 12


def test_it_begins_anew_if_the_route_was_changed_meanwhile_as_by_a_revert() -> None:
    clock = Cut(6)
    gates, _, _ = at_a_gate(clock=clock)
    with pytest.raises(Interrupted):
        gates.wait([share(lasts=10)])
    clock.wait(3600)  # it was reverted, and comes back after an hour
    gates.trials.forget("shop.web")
    began = clock.now()
    assert gates.wait([share(lasts=10)]) == []
    assert 10 <= clock.now() - began < 12


def test_what_was_judged_bad_is_judged_anew_if_it_is_tried_again() -> None:
    gates, gateway, _ = at_a_gate(lambda at: {NEW: (1, 1, 10), OLD: (19, 0, 10)})
    for _ in range(2):
        with pytest.raises(Unhealthy):
            gates.wait([share()])
    gateway.each = STEADY
    gates.wait([share()])


def test_the_new_instances_are_asked_for_their_health_once_more_when_the_share_is_over() -> None:
    clock = FakeClock()
    asked: list[float] = []

    def http(instance: Instance, spec: Any) -> tuple[Health, str]:
        asked.append(clock.now() - 1000)
        return Health.HEALTHY, ""

    made: Any = (Running(), Running(), Running(), clock, Gateway(clock, STEADY), FakeHistory())
    unit = Gate(Resource("unit", "mvd-shop-web-1", "shop", "web", payload=Service("web", "a")), Check("http"))
    Gates({"http": http}, *made).wait([share(), unit])
    assert asked
    assert min(asked) >= 10


# ---- hosts that share one Kong ---------------------------------------------------------------------------------------

ELSEWHERE = "the canary of web is being judged on web-1 at 5 %, until about 14:35 UTC"


def turn() -> Gate:
    return Gate(Resource("route", "shop.web", "shop", "web", {"targets": []}), TURN)


def test_while_another_host_judges_nothing_begins_and_others_have_their_turn() -> None:
    gates, gateway, clock = at_a_gate()
    gateway.turn = ELSEWHERE
    with pytest.raises(OnItsWay, match=f"^{ELSEWHERE}$"):
        gates.wait([turn()])
    assert PASS_SECONDS < clock.now() - 1000 < PASS_SECONDS + 4
    gateway.turn = ""
    began = clock.now()
    assert gates.wait([turn()]) == []
    assert clock.now() - began < 1


def test_a_version_that_never_gets_healthy_is_found_out_before_its_host_has_a_turn() -> None:
    clock = FakeClock()
    gateway = Gateway(clock, STEADY)
    gateway.turn = ELSEWHERE
    made: Any = (Running(), Running(), Running(), clock, gateway, FakeHistory())
    unit = Gate(
        Resource("unit", "mvd-shop-web-1", "shop", "web", payload=Service("web", "a")), Check("http", within=60)
    )
    with pytest.raises(Unhealthy, match="http 503"):
        Gates({"http": lambda instance, spec: (Health.PROGRESSING, "http 503")}, *made).wait([turn(), unit])


def test_a_share_counts_only_if_kong_has_told_of_its_requests_to_the_end() -> None:
    gates, gateway, clock = at_a_gate()
    gateway.counts = False  # another host has taken its turn, or somebody has removed the plugin
    with pytest.raises(Unavailable, match=r"^Kong no longer tells of the requests of web, which is judged anew$"):
        gates.wait([share(lasts=10)])
    gateway.counts = True
    began = clock.now()
    assert gates.wait([share(lasts=10)]) == []
    assert 10 <= clock.now() - began < 12, "it begins from the start"
