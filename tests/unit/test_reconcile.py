"""What the heart promises, story by story."""

from __future__ import annotations

import dataclasses

import pytest

from gitops_mvd.errors import Interrupted, StepFailed, Unavailable
from gitops_mvd.model import App, Change, Desired, Gate, Health, Operation, Outcome, Problem, Revision, Sync
from gitops_mvd.reconcile import reconcile
from tests.fakes import FakeHistory, FakeHost, Killed, service

REVISION = Revision("a" * 40, "main", "say hello")


class World:
    def __init__(self) -> None:
        self.host, self.history = FakeHost(), FakeHistory()

    def deploy(self, *apps: App, broken: tuple[str, ...] = (), allow_empty: bool = False) -> dict[str, Outcome]:
        problems = {name: (Problem(f"apps/{name}/compose.yaml", 3, "services", "is wrong"),) for name in broken}
        desired = Desired(REVISION, apps, problems)
        report = reconcile(desired, self.host, self.history, allow_empty=allow_empty)
        return {outcome.app: outcome for outcome in report.outcomes}


@pytest.fixture
def world() -> World:
    return World()


def chat(image: str = "v1", **more: object) -> App:
    return App("chat", (service("web", image, **more),))


def test_a_first_deploy_is_synced_and_healthy(world: World) -> None:
    outcome = world.deploy(chat())["chat"]
    assert (outcome.sync, outcome.health, outcome.operation) == (Sync.SYNCED, Health.HEALTHY, Operation.SUCCEEDED)


def test_a_second_pass_is_a_no_op(world: World) -> None:
    world.deploy(chat())
    outcome = world.deploy(chat())["chat"]
    assert not outcome.did
    assert tuple(outcome.did) == ()


def test_the_old_version_goes_only_after_the_new_one_is_proven_and_routed(world: World) -> None:
    world.deploy(chat("v1"))
    world.host.log.clear()
    world.deploy(chat("v2"))
    told = [
        ("gate" if isinstance(s, Gate) else s.verb, (s.on if isinstance(s, Gate) else s.resource).kind)
        for s in world.host.log
    ]
    assert told == [
        ("create", "image"),
        ("create", "unit"),
        ("gate", "unit"),
        ("update", "route"),
        ("gate", "route"),
        ("gate", "route"),
        ("delete", "unit"),
        ("delete", "image"),
    ]


def test_a_stop_first_service_never_runs_twice(world: World) -> None:
    stop_first = dataclasses.replace(chat().services[0].update, order="stop-first")
    world.deploy(chat("v1", update=stop_first))
    most = 0

    def look(step: object) -> None:
        nonlocal most
        most = max(most, len(world.host.images("chat")))

    world.host.fault = look
    world.deploy(chat("v2", update=stop_first))
    assert most == 1
    assert world.host.images("chat") == ["v2"]


def test_a_sick_version_is_rolled_back_reported_and_not_tried_again(world: World) -> None:
    world.deploy(chat("v1"))
    outcome = world.deploy(chat("sick"))["chat"]
    assert (outcome.operation, outcome.sync, outcome.health) == (
        Operation.ROLLED_BACK,
        Sync.OUT_OF_SYNC,
        Health.HEALTHY,
    )
    assert "http 503" in outcome.why
    assert world.host.images("chat") == ["v1"]
    world.host.log.clear()
    again = world.deploy(chat("sick"))["chat"]
    assert world.host.log == []
    assert (again.operation, again.why) == (outcome.operation, outcome.why)


def test_a_first_version_that_fails_leaves_nothing_behind(world: World) -> None:
    outcome = world.deploy(chat("sick"))["chat"]
    assert (outcome.operation, outcome.health) == (Operation.FAILED, Health.MISSING)
    assert world.host.resources == {}


def test_a_first_version_that_fails_after_a_crash_leaves_nothing_behind(world: World) -> None:
    def die(step: object) -> None:
        if isinstance(step, Gate):
            raise Killed

    world.host.fault = die
    with pytest.raises(Killed):
        world.deploy(chat("sick"))
    world.host.fault = lambda step: None
    assert world.deploy(chat("sick"))["chat"].operation is Operation.FAILED
    assert world.host.resources == {}


def test_a_removed_app_is_removed_and_the_others_stay(world: World) -> None:
    other = App("shop", (service("web"),))
    world.deploy(chat(), other)
    world.deploy(other)
    assert world.host.apps() == {"shop"}


def test_a_commit_with_nothing_for_this_host_removes_nothing(world: World) -> None:
    world.deploy(chat())
    outcome = world.deploy()["chat"]
    assert (outcome.operation, outcome.sync) == (Operation.FAILED, Sync.OUT_OF_SYNC)
    assert "allow_empty" in outcome.why
    assert world.host.images("chat") == ["v1"]


def test_a_host_is_emptied_where_that_is_allowed(world: World) -> None:
    world.deploy(chat())
    world.deploy(allow_empty=True)
    assert world.host.resources == {}


def test_a_broken_manifest_is_not_a_removed_one(world: World) -> None:
    world.deploy(chat())
    outcome = world.deploy(broken=("chat",))["chat"]
    assert world.host.images("chat") == ["v1"]
    assert "apps/chat/compose.yaml:3" in outcome.why
    assert outcome.sync is Sync.OUT_OF_SYNC


def test_a_broken_manifest_is_healed_at_its_last_good_version(world: World) -> None:
    world.deploy(chat())
    world.host.resources.clear()
    world.deploy(broken=("chat",))
    assert world.host.images("chat") == ["v1"]


def test_one_bad_app_never_holds_up_another(world: World) -> None:
    outcomes = world.deploy(App("bad", (service("web", "gone"),)), chat())
    assert outcomes["bad"].operation is Operation.FAILED
    assert outcomes["chat"].operation is Operation.SUCCEEDED


def test_could_not_ask_is_not_unhealthy(world: World) -> None:
    world.deploy(chat("v1"))

    def docker_is_restarting(step: object) -> None:
        if isinstance(step, Gate):
            raise Unavailable("Docker does not answer")

    world.host.fault = docker_is_restarting
    outcome = world.deploy(chat("v2"))["chat"]
    assert (outcome.operation, outcome.sync) == (Operation.RUNNING, Sync.OUT_OF_SYNC)
    world.host.fault = lambda step: None
    assert world.deploy(chat("v2"))["chat"].operation is Operation.SUCCEEDED
    assert world.host.images("chat") == ["v2"]


def test_something_newer_interrupts_and_condemns_nothing(world: World) -> None:
    world.deploy(chat("v1"))

    def newer(step: object) -> None:
        if isinstance(step, Gate):
            raise Interrupted("a newer revision came up")

    world.host.fault = newer
    assert world.deploy(chat("v2"))["chat"].operation is Operation.SUPERSEDED
    world.host.fault = lambda step: None
    assert world.deploy(chat("v2"))["chat"].operation is Operation.SUCCEEDED


def test_a_refused_clean_up_never_condemns_a_healthy_version(world: World) -> None:
    world.deploy(chat("v1"))

    def refuse_deletes(step: object) -> None:
        if isinstance(step, Change) and step.verb == "delete":
            raise StepFailed("the unit can not be removed")

    world.host.fault = refuse_deletes
    outcome = world.deploy(chat("v2"))["chat"]
    assert outcome.operation is Operation.FAILED
    assert "v2" in world.host.images("chat")
    world.host.fault = lambda step: None
    assert world.deploy(chat("v2"))["chat"].operation is Operation.SUCCEEDED
    assert world.host.images("chat") == ["v2"]


def test_a_crash_between_the_switch_and_its_gate_does_not_skip_the_gate(world: World) -> None:
    world.deploy(chat("v1"))

    def die_at_the_gate(step: object) -> None:
        if isinstance(step, Gate):
            raise Killed

    world.host.fault = die_at_the_gate
    with pytest.raises(Killed):
        world.deploy(chat("sick"))
    world.host.fault = lambda step: None
    assert world.deploy(chat("sick"))["chat"].operation is Operation.ROLLED_BACK
    assert world.host.images("chat") == ["v1"]


def test_where_history_was_lost_a_bad_version_leaves_what_ran_before(world: World) -> None:
    world.deploy(chat("v1"))
    world.history.lose()
    outcome = world.deploy(chat("sick"))["chat"]
    assert outcome.operation is Operation.FAILED
    assert world.host.images("chat") == ["v1"]
    routes = [r for r in world.host.found("chat") if r.kind == "route"]
    assert [t["instance"] for r in routes for t in r.spec["targets"]] == chat("v1").services[0].instances("chat")


def test_where_history_was_lost_a_broken_app_is_left_alone(world: World) -> None:
    world.deploy(chat("v1"))
    world.history.lose()
    world.host.log.clear()
    world.deploy(broken=("chat",))
    assert world.host.log == []
    assert world.host.images("chat") == ["v1"]


def test_a_failed_way_back_says_so(world: World) -> None:
    world.deploy(chat("v1"))
    world.host.resources.clear()

    def refuse(step: object) -> None:
        raise StepFailed("the disk is read-only")

    world.host.fault = refuse
    outcome = world.deploy(broken=("chat",))["chat"]
    assert outcome.operation is Operation.ROLLBACK_FAILED
    assert "is wrong" in outcome.why
    assert "the disk is read-only" in outcome.why


def test_a_revert_to_the_last_good_content_is_simply_synced(world: World) -> None:
    world.deploy(chat("v1"))
    world.deploy(chat("sick"))
    outcome = world.deploy(chat("v1"))["chat"]
    assert (outcome.sync, outcome.operation, bool(outcome.did)) == (Sync.SYNCED, Operation.SUCCEEDED, False)


def test_what_is_the_gateways_own_is_settled_before_the_apps_that_may_name_it(world: World) -> None:
    gateway = App("gateway", gateway={"consumers": [{"username": "bob"}]})
    problems: dict[str, tuple[Problem, ...]] = {}
    report = reconcile(Desired(REVISION, (chat(), gateway), problems), world.host, world.history)
    assert [outcome.app for outcome in report.outcomes] == ["gateway", "chat"]


def test_a_dependent_starts_only_after_the_gate_of_what_it_waits_for(world: World) -> None:
    app = App("chat", (service("api", depends_on={"db": "service_healthy"}), service("db", route=False)))
    world.deploy(app)
    told = [
        f"{'gate' if isinstance(s, Gate) else 'create'} {(s.on if isinstance(s, Gate) else s.resource).service}"
        for s in world.host.log
        if (s.on if isinstance(s, Gate) else s.resource).kind == "unit"
    ]
    assert told == ["create db", "gate db", "create api", "gate api"]
