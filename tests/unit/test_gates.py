"""What a gate lets through, what it gives time, and what it refuses at once."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar

import pytest

from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable, Unhealthy
from gitops_mvd.core.model import Check, Gate, Health, Instance, Resource, Service
from gitops_mvd.core.rollout import DRAINED
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.turns import Turns
from gitops_mvd.probes import ProbeTools, discover
from gitops_mvd.systemd.client import Phase, Unit
from tests.fakes import FakeClock, FakeHistory

At = Callable[[float], Instance | None]


class Engine:
    """Shows one instance as it is after so many seconds."""

    def __init__(self, clock: FakeClock, at: At) -> None:
        self.clock, self.at = clock, at

    def instance(self, name: str) -> Instance | None:
        return self.at(self.clock.now() - 1000)

    def exit_code(self, container: str, ago: float) -> int | None:
        return 42

    def ping(self) -> None:
        pass


class Systemd:
    """The unit of the instance is in the state `sub`; it was `stopped` if the server goes down."""

    def __init__(self, sub: str = "start") -> None:
        self.sub = sub

    def units(self, pattern: str) -> dict[str, Unit]:
        return {pattern: Unit("loaded", "failed" if self.sub == "failed" else "activating", self.sub)}

    def is_going_down(self) -> bool:
        return False

    def phase(self, name: str) -> Phase | None:
        return None

    def journal(self, unit: str, lines: int) -> list[str]:
        return [f"{unit} says that the password is hunter2-long"]


def at_a_gate(
    at: At,
    check: Check,
    answer: Callable[[float], tuple[Health, str]] | None = None,
    history: FakeHistory | None = None,
    sub: str = "start",
) -> tuple[Gates, Gate, FakeClock]:
    """A gate of an instance that develops like `at`, with a password in its environment."""
    clock = FakeClock()
    asked = {check.probe: lambda instance, spec: answer(clock.now() - 1000)} if answer else {}
    engine: Any = Engine(clock, at)
    systemd: Any = Systemd(sub)
    probes = {**discover(ProbeTools(engine, systemd)), **asked}
    disruptions = Disruptions(engine, systemd, clock.now)
    gates = Gates(probes, engine, systemd, disruptions, clock, None, history or FakeHistory())
    service = Service("web", "image", environment={"DB_PASSWORD": "hunter2-long"})
    return gates, Gate(Resource("unit", "mvd-chat-web-1", "chat", "web", payload=service), check), clock


def wait(at: At, check: Check, answer: Callable[[float], tuple[Health, str]] | None = None) -> float:
    """The seconds that it took to pass a gate of an instance that develops like `at`."""
    gates, gate, clock = at_a_gate(at, check, answer)
    gates.wait([gate])
    return clock.now() - 1000


def up(name: str = "mvd-chat-web-1", **more: object) -> Instance:
    return Instance(name, state="running", started="2026-01-01T10:00:00Z", **more)  # type: ignore[arg-type]


def test_what_runs_passes_once_it_has_held() -> None:
    assert 5 <= wait(lambda at: up(), Check("running", hold=5)) < 7


def test_a_container_that_is_not_there_yet_is_given_time() -> None:
    assert 3 <= wait(lambda at: up() if at > 3 else None, Check("running")) < 4.5


def test_a_container_that_exits_fails_at_once_with_its_code_and_last_words() -> None:
    with pytest.raises(Unhealthy) as caught:
        wait(
            lambda at: Instance("x", state="exited", exit_code=137, started="2026-01-01T10:00:00Z"),
            Check("running", within=60),
        )
    assert "web: exited with code 137; it last said: mvd-chat-web-1.service says" in str(caught.value)


def test_no_secret_is_in_the_last_words() -> None:
    with pytest.raises(Unhealthy) as caught:
        wait(lambda at: Instance("x", state="exited", exit_code=1, started="2026-01-01T10:00:00Z"), Check("running"))
    assert "hunter2" not in str(caught.value)


def test_no_secret_is_in_what_a_single_try_says() -> None:
    said = Health.PROGRESSING, "exec ends with code 1: hunter2-long is wrong"
    gates, gate, _ = at_a_gate(lambda at: up(), Check("exec"), lambda at: said)
    asked = dataclasses.replace(gate.resource.payload, check=gate.check)
    assert gates.ask_once(up(), asked) == (Health.PROGRESSING, "exec ends with code 1: *** is wrong")


def test_a_restart_on_the_way_fails_at_once() -> None:
    def develops(at: float) -> Instance:
        return Instance("x", state="running", started="2026-01-01T10:00:00Z" if at < 2 else "2026-01-01T10:01:00Z")

    with pytest.raises(Unhealthy, match="exited with code 42, and was started again"):
        wait(develops, Check("running", hold=60))


def test_a_container_that_ended_and_is_gone_fails_at_once_with_its_code() -> None:
    with pytest.raises(Unhealthy, match="exited with code 42; it last said"):
        wait(lambda at: up() if at < 2 else None, Check("running", hold=60))


NOPE = 'OCI runtime create failed: runc create failed: exec: "/nope": stat /nope: no such file or directory: unknown'
TAKEN = f"driver failed programming external connectivity on endpoint x ({'a' * 64}): Bind for 0.0.0.0:80 failed: "


RAN_BEFORE = Instance(
    "x", state="exited", exit_code=128, started="2026-01-01T10:00:00Z", finished="2026-01-01T11:00:00Z"
)


@pytest.mark.parametrize(
    ("refused", "error", "told"),
    [
        (NOPE, StepFailed, 'web: did not start: exec: "/nope": stat /nope: no such file or directory'),
        (
            f"{TAKEN}port is already allocated",
            NotNow,
            "web: did not start: Bind for 0.0.0.0:80 failed: port is already allocated",
        ),
    ],
)
@pytest.mark.parametrize("sub", ["auto-restart", "failed"])
@pytest.mark.parametrize("before", [Instance("x", state="created"), RAN_BEFORE], ids=["new", "again"])
def test_what_the_engine_refuses_to_start_is_not_waited_for(
    before: Instance, sub: str, refused: str, error: type[StepFailed], told: str
) -> None:
    there = dataclasses.replace(before, refused=refused)
    gates, gate, clock = at_a_gate(lambda at: there, Check("http", within=60), sub=sub)
    with pytest.raises(StepFailed) as caught:
        gates.wait([gate])
    assert (type(caught.value), caught.value.message, caught.value.service) == (error, told, "web")
    assert clock.now() - 1000 < 2


def test_what_an_earlier_start_was_refused_for_is_not_held_against_one_that_goes_on() -> None:
    def develops(at: float) -> Instance:
        return Instance("x", state="created", refused=NOPE) if at < 3 else up()

    assert 3 <= wait(develops, Check("running")) < 4.5


@pytest.mark.parametrize("there", [None, Instance("x", state="created")])
def test_a_unit_that_has_given_up_is_not_waited_for(there: Instance | None) -> None:
    gates, gate, clock = at_a_gate(lambda at: there, Check("http", within=60), sub="failed")
    with pytest.raises(Unhealthy, match="web: its unit gave up; it last said: mvd-chat-web-1"):
        gates.wait([gate])
    assert clock.now() - 1000 < 3


@pytest.mark.parametrize("state", ["removing", "dead"])
def test_a_container_that_was_never_started_is_given_time_while_it_is_removed(state: str) -> None:
    assert 3 <= wait(lambda at: up() if at > 3 else Instance("x", state=state), Check("running")) < 4.5


def test_a_probe_that_never_passes_fails_in_its_time() -> None:
    with pytest.raises(Unhealthy, match="http 503 for 30 s"):
        wait(lambda at: up(), Check("http", within=30), lambda at: (Health.PROGRESSING, "http 503"))


def test_a_gate_that_ends_on_could_not_ask_is_no_verdict() -> None:
    with pytest.raises(Unavailable, match="no route to host"):
        wait(lambda at: up(), Check("http", within=30), lambda at: (Health.UNKNOWN, "no route to host"))


def test_a_probe_that_flaps_has_to_hold_anew() -> None:
    def flaps(at: float) -> tuple[Health, str]:
        return (Health.PROGRESSING, "http 503") if 3 < at < 6 else (Health.HEALTHY, "")

    assert wait(lambda at: up(), Check("http", hold=5), flaps) >= 11


def test_a_job_passes_once_it_has_ended_well() -> None:
    def develops(at: float) -> Instance:
        return up() if at < 4 else Instance("x", state="exited", exit_code=0, started="2026-01-01T10:00:00Z")

    assert 4 <= wait(develops, Check("completed", within=60)) < 6


@pytest.mark.parametrize("ends_at", [1, 60])
def test_what_may_end_passes_as_it_runs_and_after_it_has_ended_well(ends_at: float) -> None:
    def develops(at: float) -> Instance:
        return up() if at < ends_at else Instance("x", state="exited", exit_code=0, started="2026-01-01T10:00:00Z")

    assert 5 <= wait(develops, Check("not_failed", hold=5)) < 7


# ---- how often, and how often in a row -------------------------------------------------------------------------------


def test_failures_do_not_count_in_the_start_period() -> None:
    def sick_at_first(at: float) -> tuple[Health, str]:
        return (Health.DEGRADED, "its healthcheck says unhealthy") if at < 20 else (Health.HEALTHY, "")

    assert 20 <= wait(lambda at: up(), Check("http", within=5, start_period=30), sick_at_first) < 22
    with pytest.raises(Unhealthy, match="says unhealthy"):
        wait(lambda at: up(), Check("http", within=60), sick_at_first)


def test_a_container_that_exits_fails_in_the_start_period_too() -> None:
    with pytest.raises(Unhealthy, match="exited with code 1"):
        wait(
            lambda at: Instance("x", state="exited", exit_code=1, started="2026-01-01T10:00:00Z"),
            Check("http", start_period=60),
        )


def test_the_deadline_comes_after_the_start_period() -> None:
    with pytest.raises(Unhealthy, match="http 503 for 25 s"):
        wait(lambda at: up(), Check("http", within=5, start_period=20), lambda at: (Health.PROGRESSING, "http 503"))


def test_so_many_successes_in_a_row_are_needed_and_tried_in_that_interval() -> None:
    tries: list[float] = []

    def second_fails(at: float) -> tuple[Health, str]:
        tries.append(at)
        return (Health.PROGRESSING, "http 503") if len(tries) == 2 else (Health.HEALTHY, "")

    assert wait(lambda at: up(), Check("http", interval=10, successes=3, within=100), second_fails) >= 40
    assert len(tries) == 5
    assert all(later - earlier >= 10 for earlier, later in itertools.pairwise(tries))


def test_what_is_never_well_often_enough_fails_in_its_time() -> None:
    def flaps(at: float) -> tuple[Health, str]:
        return (Health.HEALTHY, "") if int(at) % 3 else (Health.PROGRESSING, "http 503")

    with pytest.raises(Unhealthy):
        wait(lambda at: up(), Check("http", interval=1, successes=5, within=30), flaps)


# ---- what need not be passed -----------------------------------------------------------------------------------------


def test_an_old_instance_that_is_not_drained_is_let_go_when_its_grace_is_over() -> None:
    busy = (Health.PROGRESSING, "3 connections are open")
    assert 10 <= wait(lambda at: up(), Check(DRAINED, within=10, hold=1), lambda at: busy) < 12


@pytest.mark.parametrize("gone", [None, Instance("x", state="exited", exit_code=137, started="2026-01-01T10:00:00Z")])
def test_an_old_instance_that_is_gone_is_drained(gone: Instance | None) -> None:
    assert wait(lambda at: gone, Check(DRAINED, within=10, hold=1)) < 3


def test_a_gate_that_is_not_required_is_told_and_gone_on_from() -> None:
    gates, gate, _ = at_a_gate(
        lambda at: Instance("x", state="exited", exit_code=3, started="2026-01-01T10:00:00Z"), Check("running")
    )
    [complaint] = gates.wait([dataclasses.replace(gate, required=False)])
    assert complaint.startswith("web: exited with code 3")


def test_a_job_that_was_seen_to_end_well_is_finished() -> None:
    history = FakeHistory()
    for code, finished in ((1, set()), (0, {"mvd-chat-web-1"})):
        gates, gate, _ = at_a_gate(
            lambda at, code=code: Instance("x", state="exited", exit_code=code, started="2026-01-01T10:00:00Z"),
            Check("completed"),
            history=history,
        )
        with nullcontext() if code == 0 else pytest.raises(Unhealthy):
            gates.wait([gate])
        assert history.jobs == finished


# ---- the gateway -----------------------------------------------------------------------------------------------------


class TwoInstances:
    """An engine with an old one and a new one, by the names of which their processes are known."""

    pids: ClassVar[dict[str, int]] = {"old": 1, "new": 2}

    def instance(self, name: str) -> Instance:
        return Instance(name, state="running", pid=self.pids[name])


class Gateway:
    """Leads to us; `reached` says whether by asking an instance, and `idle` whether no request is open by then."""

    def __init__(
        self,
        clock: FakeClock,
        asked: Callable[[], None] = lambda: None,
        reached: bool = True,
        idle: Callable[[float], bool] = lambda at: False,
    ) -> None:
        self.clock, self.asked, self.reached, self.idle = clock, asked, reached, idle

    def answers(self, route: Resource) -> tuple[Health, str, bool]:
        self.asked()
        return Health.HEALTHY, "", self.reached

    def everywhere(self, route: Resource) -> tuple[Health, str]:
        return (Health.HEALTHY, "") if self.clock.now() > 1005 else (Health.PROGRESSING, "other nodes")

    def was_idle(self) -> bool:
        return self.idle(self.clock.now() - 1000)


def switch(uses: Callable[[float], set[str]], reached: bool = True, **spec: object) -> float:
    """The seconds until a switch from `old` to `new` counts, where the gateway uses these, or another host."""
    clock, received = FakeClock(), {1: 0, 2: 0}

    def asked() -> None:
        for name in uses(clock.now() - 1000):
            received[TwoInstances.pids[name]] += 100

    edge: Any = TwoInstances()
    gates = Gates({}, edge, edge, edge, clock, Gateway(clock, asked, reached), FakeHistory(), received.get)
    route = Resource("route", "chat.web", "chat", "web", {"targets": [{"instance": "new"}]})
    check = Check("route", spec) if spec else Check("route", {"left": ["old"]}, within=30, successes=3)
    gates.wait([Gate(route, check)])
    return clock.now() - 1000


def test_a_switch_counts_once_the_new_instances_are_used_and_the_old_ones_no_more() -> None:
    assert switch(lambda at: {"new"}) < 0.5
    assert 1 <= switch(lambda at: {"old"} if at < 1 else {"new"}) < 1.7
    assert 1 <= switch(lambda at: {"old", "new"} if at < 1 else {"new"}) < 1.7


def test_a_switch_does_not_count_where_the_new_instances_are_not_seen_to_be_used() -> None:
    assert 1 <= switch(lambda at: set() if at < 1 else {"new"}) < 1.7


def test_of_several_hosts_by_turns_one_answer_of_ours_is_enough() -> None:
    by_turns = itertools.cycle([set[str](), {"new"}])
    assert switch(lambda at: next(by_turns)) < 0.5
    seldom = itertools.cycle([*[set[str]()] * 9, {"new"}])
    assert switch(lambda at: next(seldom)) < 2.5
    assert 2 <= switch(lambda at: set()) < 4, "believed"
    still = itertools.cycle([set[str](), {"new"}, {"old"}])
    assert switch(lambda at: next(still) if at < 1 else {"new"}) >= 1


def test_what_the_old_ones_still_end_holds_a_switch_up_for_two_seconds_only() -> None:
    assert 2 <= switch(lambda at: {"old", "new"}) < 4


def test_where_the_gateway_answers_by_itself_there_is_nothing_to_be_seen() -> None:
    assert switch(lambda at: set(), reached=False) < 0.5


def test_all_nodes_are_given_the_time_to_take_it_up() -> None:
    assert 5 <= switch(lambda at: {"old"}, everywhere=True) < 7


# ---- an old instance behind the gateway ------------------------------------------------------------------------------


def drained_after(
    idle: Callable[[float], bool],
    open_for: float = 0.0,
    kept: bool = True,
    *,
    grace: float = 60,
    port: int = 20001,
    also: Sequence[Gate] = (),
    **spec: object,
) -> float:
    """The seconds after which an old instance counts as drained.

    Somebody else holds a connection for so long, and the gateway `kept` some through its port.
    """
    clock = FakeClock()

    def drained(instance: Instance, spec: Mapping[str, object]) -> tuple[Health, str]:
        others = clock.now() - 1000 < open_for
        count = others + (kept and spec.get("idle_port") != port)
        return (Health.PROGRESSING, f"{count} connections are open") if count else (Health.HEALTHY, "")

    edge: Any = TwoInstances()
    gates = Gates({DRAINED: drained}, edge, edge, edge, clock, Gateway(clock, idle=idle), FakeHistory(), {}.get)
    old = Resource("unit", "old", "chat", "web", {"port": port})
    gates.wait([Gate(old, Check(DRAINED, spec, within=grace, hold=1)), *also])
    return clock.now() - 1000


def test_what_kong_keeps_does_not_hold_up_an_old_instance_once_kong_had_no_open_request() -> None:
    assert drained_after(lambda at: True) < 0.1
    assert 3 <= drained_after(lambda at: 3 <= at < 4.5) < 5, "one such moment is enough"
    assert 3 <= drained_after(lambda at: at < 1, open_for=3) < 5, "somebody else still waits"


def test_while_kong_may_wait_for_an_answer_its_connections_are_waited_for() -> None:
    assert 60 <= drained_after(lambda at: False) < 62
    assert 1 <= drained_after(lambda at: False, kept=False) < 2.5, "nobody is connected for a while"
    assert 60 <= drained_after(lambda at: True, port=0) < 62, "it is not behind Kong"


def test_who_may_still_come_by_the_name_is_waited_for_a_moment() -> None:
    assert 1 <= drained_after(lambda at: True, by_name=True) < 2.5


def test_old_instances_are_drained_once_no_node_of_kong_uses_them() -> None:
    route = Resource("route", "chat.web", "chat", "web", {"targets": []})
    everywhere = Gate(route, Check("route", {"everywhere": True}, within=30))
    assert 8 <= drained_after(lambda at: 8 <= at < 9.5 or at < 5, also=[everywhere]) < 10


# ---- side by side ----------------------------------------------------------------------------------------------------


def test_gates_are_tried_side_by_side_and_judged_in_their_order() -> None:
    together = threading.Barrier(8, timeout=10)  # each try waits until all eight are being made

    def hangs(at: float) -> tuple[Health, str]:
        together.wait()
        return Health.DEGRADED, "http hangs"

    gates, gate, _ = at_a_gate(lambda at: up(), Check("http"), hangs)
    many = [
        dataclasses.replace(gate, resource=dataclasses.replace(gate.resource, service=f"web-{n}")) for n in range(8)
    ]
    with pytest.raises(Unhealthy, match="web-0: http hangs"):
        gates.wait(many)


def named(name: str) -> Gate:
    """A gate of a service of that name, whose probe is asked about it."""
    return Gate(Resource("unit", f"mvd-chat-{name}-1", "chat", name), Check("http", {"is": name}))


def test_a_gate_is_over_when_it_is_passed_and_not_when_the_slowest_beside_it_has_answered() -> None:
    one_is_over, order = threading.Event(), []

    def answer(instance: Instance, spec: Mapping[str, Any]) -> tuple[Health, str]:
        assert spec["is"] == "quick" or one_is_over.wait(10)
        return Health.HEALTHY, ""

    def over(gate: Gate) -> None:
        order.append(gate.resource.service)
        one_is_over.set()

    gates, _, _ = at_a_gate(lambda at: up(), Check("running"))
    gates._probes = {"http": answer}
    gates.wait([named("slow"), named("quick")], over)
    assert order == ["quick", "slow"]


def test_what_is_passed_beside_a_gate_that_fails_is_over() -> None:
    answers = {"well": (Health.HEALTHY, ""), "sick": (Health.DEGRADED, "http 500")}
    order: list[str] = []
    gates, _, _ = at_a_gate(lambda at: up(), Check("running"))
    gates._probes = {"http": lambda instance, spec: answers[spec["is"]]}
    with pytest.raises(Unhealthy, match="sick: http 500"):
        gates.wait([named("sick"), named("well")], lambda gate: order.append(gate.resource.service))
    assert order == ["well"]


def test_one_that_waits_at_its_gates_lets_another_one_have_its_turn() -> None:
    turns, at_gate, passed = Turns(1), threading.Event(), threading.Event()

    def waits() -> None:
        with turns.taken(), turns.lent():
            at_gate.set()
            assert passed.wait(10)

    thread = threading.Thread(target=waits)
    thread.start()
    assert at_gate.wait(10)
    assert turns.any_free()
    with turns.taken():
        assert not turns.any_free()
        passed.set()
        thread.join(0.1)
        assert thread.is_alive()  # it goes on once it has a turn again
    thread.join(10)
    assert not thread.is_alive()
    assert turns.any_free()


def test_who_has_no_turn_has_none_to_lend() -> None:
    turns = Turns(1)
    with turns.lent(), turns.taken():
        assert not turns.any_free()
