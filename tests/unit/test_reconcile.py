"""What the heart promises, story by story."""

from __future__ import annotations

import dataclasses

import pytest

from gitops_mvd.core.errors import Interrupted, StepFailed, Unavailable
from gitops_mvd.core.model import (
    App,
    Change,
    Desired,
    Gate,
    Health,
    Operation,
    Outcome,
    Problem,
    Resource,
    Revision,
    Step,
    Sync,
    Update,
)
from gitops_mvd.core.reconcile import reconcile
from gitops_mvd.core.rollout import DRAINED
from tests.fakes import FakeHistory, FakeHost, Killed, job, service

REVISION = Revision("a" * 40, "main", "say hello")


class World:
    def __init__(self) -> None:
        self.history = FakeHistory()
        self.host = FakeHost(self.history)

    def deploy(
        self, *apps: App, broken: tuple[str, ...] = (), allow_empty: bool = False, at: str = REVISION.commit
    ) -> dict[str, Outcome]:
        problems = {name: (Problem(f"apps/{name}/compose.yaml", 3, "services", "is wrong"),) for name in broken}
        desired = Desired(Revision(at, REVISION.ref, REVISION.subject), apps, problems)
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
    told = [("gate" if isinstance(s, Gate) else s.verb, s.resource.kind) for s in world.host.log]
    assert told == [
        ("create", "image"),
        ("create", "unit"),
        ("gate", "unit"),
        ("update", "route"),
        ("gate", "route"),  # it leads to the new one, and no longer to the old
        ("gate", "route"),  # and so does every node of the gateway
        ("gate", "unit"),  # the old one is drained
        ("delete", "unit"),
        ("delete", "image"),
    ]


def test_what_was_changed_by_hand_is_told_and_left_alone_where_that_is_wanted_and_deploys_go_on(world: World) -> None:
    world.deploy(chat("v1"))
    ours = world.host.resources["route", "chat.web"]
    world.host.resources["route", "chat.web"] = theirs = ours.with_spec(entities="changed")
    world.host.leaves = {"route"}
    for _ in range(2):
        outcome = world.deploy(chat("v1"))["chat"]
        assert (outcome.sync, outcome.operation, outcome.why) == (
            Sync.OUT_OF_SYNC,
            Operation.FAILED,
            "changed by hand",
        )
        assert not outcome.did
        assert world.host.resources["route", "chat.web"] == theirs
    outcome = world.deploy(chat("v2"))["chat"]
    assert (outcome.sync, outcome.operation) == (Sync.SYNCED, Operation.SUCCEEDED)
    assert world.host.resources["route", "chat.web"].spec["entities"] == ours.spec["entities"]


def test_what_was_laid_over_an_app_is_told_for_as_long_as_it_is_there_and_deploys_go_on(world: World) -> None:
    world.deploy(chat())
    [unit] = [key for key in world.host.resources if key[0] == "unit"]
    world.host.overrides[unit] = "web: /etc/systemd/system/mvd-x.service.d/x.conf changes its unit"
    outcome = world.deploy(chat())["chat"]
    assert (outcome.sync, outcome.operation) == (Sync.OUT_OF_SYNC, Operation.FAILED)
    assert outcome.why == world.host.overrides[unit]
    assert not outcome.did
    outcome = world.deploy(chat("sick"))["chat"]
    assert outcome.operation is Operation.ROLLED_BACK
    assert outcome.why == f"web: http 503; {world.host.overrides[unit]}"
    assert world.deploy(chat("v2"))["chat"].is_green, "the new version has another unit"
    world.deploy(chat())
    world.host.overrides.clear()
    assert world.deploy(chat())["chat"].is_green


def test_what_was_changed_by_hand_is_put_back_on_the_way_back_from_a_bad_version(world: World) -> None:
    world.deploy(chat("v1"))
    ours = world.host.resources["route", "chat.web"]
    world.host.resources["route", "chat.web"] = ours.with_spec(entities="changed")
    world.host.leaves = {"route"}
    assert world.deploy(chat("sick"))["chat"].operation is Operation.ROLLED_BACK
    assert world.host.resources["route", "chat.web"] == ours


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


def did(world: World) -> list[tuple[str, str]]:
    steps = [("gate" if isinstance(s, Gate) else s.verb, s.resource) for s in world.host.log]
    return [(what, resource.kind) for what, resource in steps]


def nightly(image: str = "v1", schedule: str = "daily", **more: object) -> App:
    return App("chat", (service("nightly", image, route=False, schedule=schedule, **more),))


def test_nobody_waits_for_what_runs_on_a_schedule(world: World) -> None:
    assert world.deploy(nightly("sick"))["chat"].operation is Operation.SUCCEEDED
    assert did(world) == [("create", "image"), ("create", "unit"), ("create", "timer")]
    [timer] = (r for r in world.host.found("chat") if r.kind == "timer")
    world.host.log.clear()
    world.deploy(nightly("sick", "hourly"))
    assert did(world) == [("update", "timer")]
    assert timer.key in world.host.resources


def test_what_runs_on_a_schedule_takes_the_place_of_its_old_version_with_nothing_left_to_do(world: World) -> None:
    run = {"networks": {"inner": {}}}
    world.deploy(nightly("v1", run=run))
    world.host.log.clear()
    world.deploy(nightly("v2", run=run))
    made = [("create", "image"), ("create", "unit"), ("create", "timer")]
    assert did(world) == [*made, ("delete", "timer"), ("delete", "unit"), ("delete", "image")]
    assert tuple(world.deploy(nightly("v2", run=run))["chat"].did) == ()


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_no_timer_is_ever_without_its_unit(world: World, order: str) -> None:
    update = dataclasses.replace(chat().services[0].update, order=order)
    seen: list[tuple[set[str], set[str]]] = []

    def look(step: object) -> None:
        units, timers = ({r.name for r in world.host.found("chat") if r.kind == kind} for kind in ("unit", "timer"))
        seen.append((units, timers))

    world.host.fault = look
    for app in (nightly("v1", update=update), nightly("v2", update=update), App("chat")):
        world.deploy(app)
    assert all(timers <= units for units, timers in seen)
    assert max(len(units) for units, _ in seen) == (1 if order == "stop-first" else 2)
    assert world.host.found("chat") == ()


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
    outcomes = world.deploy(other)
    assert world.host.apps() == {"shop"}
    assert {app: outcome.removed for app, outcome in outcomes.items()} == {"chat": True, "shop": False}


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
            raise StepFailed("the unit cannot be removed")

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
    gateway = App("gateway", kong_entities={"consumers": [{"username": "bob"}]})
    problems: dict[str, tuple[Problem, ...]] = {}
    report = reconcile(Desired(REVISION, (chat(), gateway), problems), world.host, world.history)
    assert [outcome.app for outcome in report.outcomes] == ["gateway", "chat"]


def test_a_dependent_starts_only_after_the_gate_of_what_it_waits_for(world: World) -> None:
    app = App("chat", (service("api", depends_on={"db": "service_healthy"}), service("db", route=False)))
    world.deploy(app)
    told = [
        f"{'gate' if isinstance(s, Gate) else 'create'} {s.resource.service}"
        for s in world.host.log
        if s.resource.kind == "unit"
    ]
    assert told == ["create db", "gate db", "create api", "gate api"]


# ---- replicas --------------------------------------------------------------------------------------------------------


def told(world: World) -> list[str]:
    """The steps that were carried out, in short: `+` makes, `~` changes, `-` deletes, `?` waits."""
    signs = {"create": "+", "update": "~", "delete": "-"}
    names = {name: f"{one.image}.{number}" for one in VERSIONS for number, name in enumerate(one.instances("chat"), 1)}

    def short(resource: Resource) -> str:
        if resource.kind == "route":
            return " ".join(["route", *sorted(names[target["instance"]] for target in resource.spec["targets"])])
        return names.get(resource.name, resource.name)

    def line(step: Step) -> str:
        if isinstance(step, Change):
            return f"{signs[step.verb]} {short(step.resource)}"
        how = step.check.probe if step.check.probe == DRAINED else "".join(sorted(step.check.spec))
        return f"? {short(step.resource)} {how}".rstrip()

    return [line(step) for step in world.host.log if step.resource.kind != "image"]


VERSIONS = [service("web", image, replicas=4) for image in ("v1", "v2", "sick")]


def test_replicas_take_turns_and_the_old_ones_leave_when_the_new_ones_are_routed(world: World) -> None:
    world.deploy(chat("v1", replicas=2))
    world.host.log.clear()
    world.deploy(chat("v2", replicas=2))
    assert told(world) == [
        "+ v2.1",
        "? v2.1",
        "~ route v1.2 v2.1",
        "? route v1.2 v2.1 left",
        "? route v1.2 v2.1 everywhere",
        "? v1.1 drained",
        "- v1.1",
        "+ v2.2",
        "? v2.2",
        "~ route v2.1 v2.2",
        "? route v2.1 v2.2 left",
        "? route v2.1 v2.2 everywhere",
        "? v1.2 drained",
        "- v1.2",
    ]


def test_stop_first_replicas_leave_the_route_before_they_stop(world: World) -> None:
    stop_first = Update("stop-first")
    world.deploy(chat("v1", replicas=2, update=stop_first))
    world.host.log.clear()
    world.deploy(chat("v2", replicas=2, update=stop_first))
    assert told(world) == [
        "~ route v1.2",
        "? route v1.2 everywhere",
        "? v1.1 drained",
        "- v1.1",
        "+ v2.1",
        "? v2.1",
        "~ route v1.2 v2.1",
        "? route v1.2 v2.1",
        "~ route v2.1",
        "? route v2.1 left",
        "? route v2.1 everywhere",
        "? v1.2 drained",
        "- v1.2",
        "+ v2.2",
        "? v2.2",
        "~ route v2.1 v2.2",
        "? route v2.1 v2.2",
    ]


@pytest.mark.parametrize(("parallelism", "most"), [(1, 5), (2, 6), (0, 8)])
def test_no_more_than_so_many_new_ones_stand_beside_the_old_ones(world: World, parallelism: int, most: int) -> None:
    world.deploy(chat("v1", replicas=4))
    seen: list[int] = []
    world.host.fault = lambda step: seen.append(len(world.host.images("chat")))
    world.deploy(chat("v2", replicas=4, update=Update(parallelism=parallelism)))
    assert (min(seen), max(seen)) == (4, most)


def test_the_delay_is_waited_for_between_two_batches_with_an_eye_on_the_new_ones(world: World) -> None:
    world.deploy(chat("v1", replicas=3))
    world.deploy(chat("v2", replicas=3, update=Update(delay=30.0)))
    held = [step.check.hold for step in world.host.log if isinstance(step, Gate) and step.check.hold == 30.0]
    assert len(held) == 2


def test_where_one_of_the_replicas_fails_all_go_back_at_once_and_some_serve_all_the_time(world: World) -> None:
    world.deploy(chat("v1", replicas=3))
    falls_ill = 0

    def second_is_refused(step: Step) -> None:
        nonlocal falls_ill
        assert len(world.host.serving("chat", "web")) >= 3
        if isinstance(step, Change) and step.verb == "create" and step.resource.kind == "unit":
            falls_ill += 1
            if falls_ill == 2:
                raise StepFailed("the port is taken")

    world.host.fault = second_is_refused
    outcome = world.deploy(chat("v2", replicas=3))["chat"]
    assert outcome.operation is Operation.ROLLED_BACK
    assert world.host.images("chat") == ["v1"] * 3
    assert len(world.host.serving("chat", "web")) == 3


def test_scaling_up_and_down_touches_no_other_instance(world: World) -> None:
    world.deploy(chat("v1", replicas=2))
    world.host.log.clear()
    world.deploy(chat("v1", replicas=3))
    world.deploy(chat("v1", replicas=1))
    assert [line for line in told(world) if line[0] in "+-"] == ["+ v1.3", "- v1.3", "- v1.2"]


def test_no_route_ever_leads_to_what_has_made_room_for_its_successors(world: World) -> None:
    stop_first = Update("stop-first")
    world.deploy(chat("v1", update=stop_first))
    world.host.log.clear()
    world.deploy(chat("v2", replicas=2, update=stop_first))
    assert [line for line in told(world) if line.startswith("~ route")] == ["~ route v2.1", "~ route v2.1 v2.2"]


def test_a_rollback_brings_all_replicas_back_at_once(world: World) -> None:
    world.deploy(chat("v1", replicas=3))

    def refuse_the_third(step: Step) -> None:
        made = step.to if isinstance(step, Change) and not step.was else None
        if made and made.kind == "unit" and made.payload.image == "v2" and world.host.images("chat").count("v2") == 2:
            raise StepFailed("the port is taken")

    world.host.fault = refuse_the_third
    world.host.log.clear()
    assert world.deploy(chat("v2", replicas=3))["chat"].operation is Operation.ROLLED_BACK
    verbs = "".join(line[0] for line in told(world) if line[0] in "+-")
    assert verbs == "+-+-++--", "v2 by turns, and then v1 all at once"


# ---- names on the network --------------------------------------------------------------------------------------------

NETWORKS = {"networks": {"mvd-chat-default": {}}}


def test_a_new_version_gets_the_name_of_its_service_only_once_it_is_proven(world: World) -> None:
    world.deploy(chat("v1", run=NETWORKS))
    world.host.log.clear()
    outcome = world.deploy(chat("sick", run=NETWORKS))["chat"]
    assert outcome.operation is Operation.ROLLED_BACK
    assert made(world) == ["sick staged"]
    world.host.log.clear()
    world.deploy(chat("v2", run=NETWORKS))
    assert made(world) == ["v2 staged", "v2 running", "v1 staged"], "the old one loses it before it is drained"
    assert [s.check.probe if isinstance(s, Gate) else s.verb for s in world.host.log[-4:-1]] == [
        "update",
        DRAINED,
        "delete",
    ]


def test_a_crash_before_the_name_was_given_is_made_good_by_the_next_pass(world: World) -> None:
    world.deploy(chat("v1", run=NETWORKS))

    def die(step: Step) -> None:
        if isinstance(step, Gate):
            raise Killed

    world.host.fault = die
    with pytest.raises(Killed):
        world.deploy(chat("v2", run=NETWORKS))
    world.host.fault = lambda step: None
    world.host.log.clear()
    assert world.deploy(chat("v2", run=NETWORKS))["chat"].operation is Operation.SUCCEEDED
    assert isinstance(world.host.log[0], Gate), "it is proven before it gets the name"
    assert made(world) == ["v2 running", "v1 staged"]


def test_a_rollback_gives_the_old_ones_their_names_again(world: World) -> None:
    world.deploy(chat("v1", run=NETWORKS, replicas=2))

    def refuse_the_second(step: Step) -> None:
        if isinstance(step, Change) and step.verb == "delete":
            raise StepFailed("the engine does not let it go")

    world.host.fault = refuse_the_second
    assert world.deploy(chat("v2", run=NETWORKS, replicas=2))["chat"].operation is Operation.ROLLBACK_FAILED
    world.host.fault = lambda step: None
    assert world.deploy(chat("v2", run=NETWORKS, replicas=2))["chat"].operation is Operation.ROLLED_BACK
    units = [resource for resource in world.host.found("chat") if resource.kind == "unit"]
    assert [(world.host.image(unit), unit.spec["state"]) for unit in units] == [("v1", "running")] * 2


def made(world: World) -> list[str]:
    changes = (step for step in world.host.log if isinstance(step, Change))
    units = [change.to for change in changes if change.to and change.to.kind == "unit"]
    return [f"{world.host.image(unit)} {unit.spec['state']}" for unit in units]


# ---- what a failure leads to -----------------------------------------------------------------------------------------


def test_a_paused_update_stays_as_it_stands_until_something_changes(world: World) -> None:
    paused = Update(failure_action="pause")
    world.deploy(chat("v1", update=paused))
    outcome = world.deploy(chat("sick", update=paused))["chat"]
    assert (outcome.sync, outcome.operation) == (Sync.OUT_OF_SYNC, Operation.FAILED)
    assert outcome.why == "web: http 503; paused"
    assert world.host.images("chat") == ["sick", "v1"]
    assert world.host.serving("chat", "web") == chat("v1").services[0].instances("chat")
    world.host.log.clear()
    again = world.deploy(chat("sick", update=paused))["chat"]
    assert (again.why, world.host.log) == (outcome.why, [])
    assert world.deploy(chat("v2", update=paused))["chat"].operation is Operation.SUCCEEDED
    assert world.host.images("chat") == ["v2"]


def test_an_update_that_continues_gets_there_and_is_red(world: World) -> None:
    go_on = Update(failure_action="continue")
    world.deploy(chat("v1", update=go_on))
    outcome = world.deploy(chat("sick", update=go_on))["chat"]
    assert (outcome.sync, outcome.operation, outcome.health) == (Sync.SYNCED, Operation.FAILED, Health.DEGRADED)
    assert "web: http 503" in outcome.why
    assert world.host.images("chat") == ["sick"]
    world.host.log.clear()
    assert world.deploy(chat("sick", update=go_on))["chat"].why == outcome.why
    assert world.host.log == [], "it is not waited for at every look"
    world.host.resources.pop(("unit", chat("sick").services[0].instances("chat")[0]))
    world.deploy(chat("sick", update=go_on))
    assert world.host.images("chat") == ["sick"], "but healed"


def test_what_went_on_in_spite_of_a_failure_is_not_removed_for_a_broken_manifest(world: World) -> None:
    world.deploy(chat("sick", update=Update(failure_action="continue")))
    world.deploy(broken=("chat",))
    assert world.host.images("chat") == ["sick"]


def test_one_service_that_fails_takes_the_others_and_the_routes_back(world: World) -> None:
    def both(web: str, api: str) -> App:
        return App("chat", (service("web", web), service("api", api)))

    world.deploy(both("v1", "v1"))
    routes = [r for r in world.host.found("chat") if r.kind == "route"]
    assert world.deploy(both("v2", "sick"))["chat"].operation is Operation.ROLLED_BACK
    assert world.host.images("chat") == ["v1", "v1"]
    assert [r for r in world.host.found("chat") if r.kind == "route"] == routes


# ---- jobs ------------------------------------------------------------------------------------------------------------


def shop(migrate: str, web: str = "v1") -> App:
    needs = {"migrate": "service_completed_successfully"}
    return App("chat", (service("web", web, depends_on=needs), job("migrate", migrate)))


def test_a_job_is_done_before_what_waits_for_it_starts(world: World) -> None:
    world.deploy(shop("m1"))
    units = [step for step in world.host.log if step.resource.kind == "unit"]
    told = [f"{type(s).__name__} {s.resource.service}" for s in units]
    assert told == ["Change migrate", "Gate migrate", "Change web", "Gate web"]


def test_a_job_that_fails_leaves_the_old_version_serving_and_is_not_done_again(world: World) -> None:
    world.deploy(shop("m1"))
    outcome = world.deploy(shop("sick", "v2"))["chat"]
    assert (outcome.operation, outcome.why) == (Operation.ROLLED_BACK, "migrate: http 503")
    assert world.host.images("chat") == ["m1", "v1"]
    world.host.log.clear()
    world.deploy(shop("sick", "v2"))
    assert world.host.log == []


def test_a_job_is_never_done_again_neither_to_heal_nor_after_a_revert(world: World) -> None:
    world.deploy(shop("m1"))
    [first] = shop("m1").services[1].instances("chat")
    world.host.resources.pop(("unit", first))
    world.deploy(shop("m1"))
    world.deploy(shop("m2", "v2"))
    world.deploy(shop("m1"))
    assert world.host.starts[first] == 1
    assert world.host.images("chat") == ["v1"]


def test_what_ran_before_is_recognised_as_such(world: World) -> None:
    world.deploy(chat("v1"))
    world.deploy(chat("v2"), at="b" * 40)
    assert world.deploy(chat("v1"), at="c" * 40)["chat"].why == "same version as in aaaaaaa (reverted)"
    assert world.deploy(chat("v1"), at="c" * 40)["chat"].why == "same version as in aaaaaaa (reverted)"
    assert world.deploy(chat("v1"), at="d" * 40)["chat"].why == ""


def test_only_what_others_may_be_connected_to_is_drained(world: World) -> None:
    app = App("chat", (service("web"), service("worker", route=False), service("db", route=False, run=NETWORKS)))
    world.deploy(app)
    world.host.log.clear()
    world.deploy(App("shop", (service("web"),)))
    drained = [
        step.resource.service for step in world.host.log if isinstance(step, Gate) and step.check.probe == DRAINED
    ]
    assert drained == ["web"]


def test_who_was_never_routed_goes_at_once_where_nobody_is_connected(world: World) -> None:
    world.deploy(chat("v1"))
    world.deploy(chat("sick"))
    holds = [step.check.hold for step in world.host.log if isinstance(step, Gate) and step.check.probe == DRAINED]
    assert holds == [0.0]
    world.deploy(chat("v2"))
    assert [s.check.hold for s in world.host.log if isinstance(s, Gate) and s.check.probe == DRAINED][1:] == [1.0]


def with_secret(digest: str, image: str = "v1") -> App:
    return chat(image, secrets={"db": digest})


def test_a_changed_secret_is_deployed_by_itself_and_said_to_be_the_reason(world: World) -> None:
    assert world.deploy(with_secret("1"))["chat"].why == ""
    rotated = world.deploy(with_secret("2"))["chat"]
    assert rotated.did
    assert rotated.why == "secret db changed on this host"
    assert world.deploy(with_secret("2"))["chat"].why == rotated.why, "a pass without changes says the same"
    assert world.deploy(with_secret("2", "v2"), at="b" * 40)["chat"].why == ""


def test_a_changed_secret_with_which_a_service_fails_is_told_as_the_cause(world: World) -> None:
    world.deploy(with_secret("1"))
    refused = with_secret("2").services[0].digest

    def fault(step: Step) -> None:
        if isinstance(step, Change) and step.to and step.to.spec.get("digest") == refused:
            raise StepFailed("it refuses the password")

    world.host.fault = fault
    outcome = world.deploy(with_secret("2"))["chat"]
    assert outcome.operation is Operation.ROLLED_BACK
    assert outcome.why.startswith("secret db changed on this host: ")
