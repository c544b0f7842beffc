"""Suspensions: how they are written and read, and what is done about an app meanwhile."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.errors import MvdError, NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import (
    App,
    Change,
    Desired,
    Failure,
    Health,
    HostFacts,
    Operation,
    Outcome,
    Problem,
    Report,
    Revision,
    Step,
    Sync,
)
from gitops_mvd.core.reconcile import reconcile
from gitops_mvd.core.suspension import IN_GIT, Suspension, Suspensions, stricter
from gitops_mvd.manifest import load
from gitops_mvd.state import suspension
from gitops_mvd.state.history import CommitWork, SqliteHistory
from gitops_mvd.state.reports import from_json, to_json
from gitops_mvd.status import status_text
from gitops_mvd.status.changes import contents
from tests.fakes import FakeHistory, FakeHost, service
from tests.unit.memory_tree import MemoryTree

NOON = datetime.fromisoformat("2026-11-30T12:00:00+01:00")
ANNA = Suspension("anna", "the disk is changed")
STOP = replace(ANNA, stop=True)

# ---- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (Suspension(), "suspended"),
        (ANNA, "suspended by anna: the disk is changed"),
        (STOP, "stopped by anna: the disk is changed"),
        (Suspension(IN_GIT, "it is sold out"), "suspended in Git: it is sold out"),
        (Suspension(IN_GIT, stop=True), "stopped in Git"),
        (Suspension("anna", since=NOON, until=NOON + timedelta(hours=2)), "suspended by anna until 14:00"),
        (Suspension("anna", since=NOON, until=NOON + timedelta(days=1)), "suspended by anna until 2026-12-01 12:00"),
        (Suspension("an\nna\x1b[2J", "one\nline"), "suspended by an na\\x1b[2J: one line"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_a_suspension_is_told_in_one_line(one: Suspension, text: str) -> None:
    assert one.text == text
    assert Suspension.from_json(json.loads(json.dumps(one.as_json()))) == one


def test_of_two_suspensions_the_stricter_one_counts() -> None:
    in_git, in_git_stops = Suspension(IN_GIT), Suspension(IN_GIT, stop=True)
    assert stricter(None, None) is None
    assert stricter(ANNA, None) == stricter(ANNA, in_git) == ANNA
    assert stricter(None, in_git) == in_git
    assert stricter(ANNA, in_git_stops) == in_git_stops
    assert stricter(STOP, in_git) == stricter(STOP, in_git_stops) == STOP


# ---- the files -------------------------------------------------------------------------------------------------------


def test_what_is_suspended_is_a_file_beside_the_settings(tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    assert suspension.suspended(settings) == Suspensions()
    now = suspension.now()
    host, shop = Suspension("anna", "moving", now), Suspension("bob", "büro\nzu", now, now + timedelta(hours=1), True)
    suspension.suspend(settings, host)
    suspension.suspend(settings, shop, "shop")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["suspended", "suspended.shop"]
    assert json.loads((tmp_path / "suspended.shop").read_text())["by"] == "bob"
    assert suspension.suspended(settings) == Suspensions(host, {"shop": shop})
    assert suspension.suspended(settings).next_end == shop.until
    assert suspension.resume(settings, "shop")
    assert not suspension.resume(settings, "shop")
    assert suspension.suspended(settings) == Suspensions(host)
    assert suspension.resume(settings)
    assert list(tmp_path.iterdir()) == []


def test_a_suspension_that_is_over_is_none_and_its_file_goes(tmp_path: Path) -> None:
    settings, now = tmp_path / "config.yaml", suspension.now()
    suspension.suspend(settings, Suspension("anna", until=now - timedelta(seconds=1)))
    suspension.suspend(settings, Suspension("anna", until=now - timedelta(seconds=1)), "shop")
    suspension.suspend(settings, Suspension("anna", until=now + timedelta(hours=1)), "web")
    assert suspension.suspended(settings).host is None
    assert suspension.suspended(settings).apps.keys() == {"web"}
    suspension.without_ended(settings)
    assert [path.name for path in tmp_path.iterdir()] == ["suspended.web"]


def test_a_file_that_is_named_like_no_app_holds_up_nothing(tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    (tmp_path / "suspended..shop").write_text("left by an editor")
    suspension.suspend(settings, ANNA, "shop")
    assert suspension.without_ended(settings).apps["shop"] == ANNA


def test_to_resume_what_has_ended_by_itself_is_told_as_not_suspended(tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    suspension.suspend(settings, Suspension("anna", until=suspension.now() - timedelta(seconds=1)), "shop")
    assert not suspension.resume(settings, "shop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("for the weekend\n", Suspension(why="for the weekend")),
        ("", Suspension()),
        ("[1]", Suspension(why="[1]")),
        ('{"why": "half', Suspension(why='{"why": "half')),
        ('{"why": 7, "until": "soon", "stop": "yes", "more": 1}', Suspension(why="7")),
    ],
)
def test_whatever_a_file_says_it_suspends(text: str, found: Suspension, tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    suspension.path(settings).write_text(text)
    suspension.path(settings, "shop").write_text(text)
    assert suspension.suspended(settings) == Suspensions(found, {"shop": found})


def test_a_time_without_a_zone_in_a_file_is_that_of_the_server(tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    suspension.path(settings).write_text('{"until": "2999-01-01T00:00"}')
    host = suspension.suspended(settings).host
    assert host is not None
    assert host.until == datetime.fromisoformat("2999-01-01T00:00").astimezone()


def test_a_file_that_cannot_be_read_is_no_leave_to_change_anything(tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    suspension.path(settings, "shop").mkdir()
    with pytest.raises(Unavailable, match=r"cannot read .*suspended\.shop"):
        suspension.suspended(settings)


@pytest.mark.parametrize("name", ["../shop", "a/b", ".shop", "sh\0p"])
def test_what_is_no_name_of_an_app_can_neither_be_suspended_nor_resumed(name: str, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="not the name of an app"):
        suspension.suspend(tmp_path / "config.yaml", ANNA, name)
    with pytest.raises(StepFailed, match="not the name of an app"):
        suspension.resume(tmp_path / "config.yaml", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("written", "end"),
    [
        ("2h", "2026-11-30T14:00:00+01:00"),
        ("1h30m", "2026-11-30T13:30:00+01:00"),
        ("1d", "2026-12-01T12:00:00+01:00"),
        ("2026-12-24T18:00+00:00", "2026-12-24T18:00:00+00:00"),
        ("2026-12-24", None),
    ],
)
def test_an_end_is_a_duration_or_a_time(written: str, end: str | None) -> None:
    local = datetime.fromisoformat(written).astimezone() if end is None else datetime.fromisoformat(end)
    assert suspension.until(written, NOON) == local


@pytest.mark.parametrize("written", ["", "tomorrow", "0s", "-2h", "2020-01-01", "99999999w", "2h30"])
def test_what_is_no_time_to_come_is_no_end(written: str) -> None:
    with pytest.raises(MvdError):
        suspension.until(written, NOON)


# ---- what is done ----------------------------------------------------------------------------------------------------


class World:
    """A host, and who has suspended which of its apps."""

    def __init__(self) -> None:
        self.history = FakeHistory()
        self.host = FakeHost(self.history)
        self.suspended: dict[str, Suspension] = {}

    def deploy(self, *apps: App, broken: tuple[str, ...] = ()) -> dict[str, Outcome]:
        self.host.log.clear()
        problems = {name: (Problem(f"apps/{name}/compose.yaml", 3, "services", "is wrong"),) for name in broken}
        desired = Desired(Revision("a" * 40, "main"), apps, problems)
        report = reconcile(desired, self.host, self.history, allow_empty=True, suspended=self.suspended)
        return {outcome.app: outcome for outcome in report.outcomes}

    def changed(self) -> list[str]:
        """What was changed by the last pass."""
        return [
            f"{it.verb} {it.resource.kind} {it.resource.app}.{it.resource.service}"
            for it in self.host.log
            if isinstance(it, Change)
        ]


@pytest.fixture
def world() -> World:
    return World()


def shop(image: str = "v1", **more: Any) -> App:
    return App("shop", (service("web", image, **more),))


def port(number: str) -> Mapping[str, Any]:
    return {"ports": [{"target": 80, "published": number, "host_ip": "", "protocol": "tcp"}]}


def words(outcome: Outcome) -> tuple[str, ...]:
    return outcome.sync, outcome.health, outcome.operation, outcome.why


def test_a_suspended_app_is_not_deployed_and_others_are(world: World) -> None:
    web = App("web", (service("web"),))
    world.deploy(shop())
    world.suspended["shop"] = ANNA
    outcomes = world.deploy(shop("v2"), web)
    assert words(outcomes["shop"]) == ("OutOfSync", "Suspended", "Succeeded", ANNA.text)
    assert outcomes["shop"].suspended == ANNA
    assert words(outcomes["web"]) == ("Synced", "Healthy", "Succeeded", "")
    assert world.host.images("shop") == ["v1"]
    world.suspended.clear()
    assert world.deploy(shop("v2"), web)["shop"].is_green
    assert world.host.images("shop") == ["v2"]


def test_a_suspended_app_that_is_as_its_commit_wants_is_synced(world: World) -> None:
    world.deploy(shop())
    world.suspended["shop"] = ANNA
    assert words(world.deploy(shop())["shop"]) == ("Synced", "Suspended", "Succeeded", ANNA.text)
    assert world.history.good["shop"] == [App("shop"), shop()]


def test_a_suspended_app_is_neither_repaired_nor_removed(world: World) -> None:
    world.deploy(shop())
    world.suspended["shop"] = ANNA
    del world.host.resources[("unit", shop().services[0].instances("shop")[0])]
    assert words(world.deploy(shop())["shop"])[:2] == ("OutOfSync", "Suspended")
    assert words(world.deploy()["shop"])[:2] == ("OutOfSync", "Suspended")
    assert world.changed() == []
    world.suspended.clear()
    assert world.deploy()["shop"].removed
    assert world.host.apps() == set()


def test_a_new_app_that_is_suspended_is_not_made(world: World) -> None:
    world.suspended["shop"] = ANNA
    assert words(world.deploy(shop())["shop"])[:2] == ("OutOfSync", "Suspended")
    assert world.host.resources == {}


def test_a_suspended_app_with_a_broken_manifest_is_red_for_that(world: World) -> None:
    world.deploy(shop())
    world.suspended["shop"] = ANNA
    outcome = world.deploy(broken=("shop",))["shop"]
    told = f"apps/shop/compose.yaml:3: services: is wrong; {ANNA.text}"
    assert words(outcome) == ("OutOfSync", "Suspended", "RolledBack", told)
    assert world.changed() == []


def test_what_failed_before_it_was_suspended_is_still_told(world: World) -> None:
    world.deploy(shop())
    assert world.deploy(shop("sick"))["shop"].operation is Operation.ROLLED_BACK
    world.suspended["shop"] = ANNA
    outcome = world.deploy(shop("sick"))["shop"]
    assert (outcome.health, outcome.operation) == (Health.SUSPENDED, Operation.ROLLED_BACK)
    assert outcome.why == f"web: http 503; {ANNA.text}"


def test_what_waited_before_it_was_suspended_waits_for_nothing_now(world: World) -> None:
    world.deploy(shop())
    world.history.mark_failed(shop("v2"), Failure("the disk is full", "wait"))
    world.suspended["shop"] = ANNA
    assert words(world.deploy(shop("v2"))["shop"]) == ("OutOfSync", "Suspended", "Succeeded", ANNA.text)


def test_an_app_is_stopped_without_its_route_first_and_started_again(world: World) -> None:
    world.deploy(shop())
    before = dict(world.host.resources)
    world.suspended["shop"] = STOP
    outcome = world.deploy(shop())["shop"]
    assert words(outcome) == ("OutOfSync", "Suspended", "Succeeded", STOP.text)
    assert world.changed() == ["delete route shop.web", "delete unit shop.web"]
    assert [key for key in before if key in world.host.resources] == [("image", "v1")]
    world.deploy(shop())
    assert world.changed() == [], "a second pass changes nothing"
    world.suspended.clear()
    assert world.deploy(shop())["shop"].is_green
    assert world.host.resources.keys() == before.keys()


def test_a_stop_ends_the_timer_of_a_schedule(world: World) -> None:
    nightly = shop(route=False, schedule="daily")
    world.deploy(nightly)
    world.suspended["shop"] = STOP
    world.deploy(nightly)
    assert world.changed() == ["delete timer shop.web", "delete unit shop.web"]


def test_a_stopped_app_that_a_commit_changes_is_started_at_that(world: World) -> None:
    world.deploy(shop())
    world.suspended["shop"] = STOP
    world.deploy(shop("v2"))
    assert world.host.images("shop") == []
    world.suspended.clear()
    world.deploy(shop("v2"))
    assert world.host.images("shop") == ["v2"]


@pytest.mark.parametrize(
    ("error", "operation"),
    [(StepFailed("no"), "Failed"), (NotNow("no"), "Running"), (Unavailable("no"), "Running")],
    ids=["refused", "not now", "unavailable"],
)
def test_a_stop_that_fails_is_tried_again_and_held_against_no_version(
    error: MvdError, operation: str, world: World
) -> None:
    world.deploy(shop())

    def refuse(step: Step) -> None:
        raise error

    world.host.fault = refuse
    world.suspended["shop"] = STOP
    outcome = world.deploy(shop())["shop"]
    assert (outcome.operation, outcome.suspended) == (operation, None)
    assert not world.history.bad
    world.host.fault = lambda step: None
    assert world.deploy(shop())["shop"].suspended == STOP
    assert world.host.images("shop") == []


def test_a_commit_suspends_an_app_and_stops_it(world: World) -> None:
    world.deploy(shop())
    in_git = Suspension(IN_GIT, "sold out")
    left = world.deploy(replace(shop("v2"), suspend=in_git))["shop"]
    assert words(left) == ("OutOfSync", "Suspended", "Succeeded", "suspended in Git: sold out")
    assert world.host.images("shop") == ["v1"]
    stopped = world.deploy(replace(shop(), suspend=replace(in_git, stop=True)))["shop"]
    assert words(stopped) == ("Synced", "Suspended", "Succeeded", "stopped in Git: sold out")
    assert world.host.images("shop") == []
    assert world.deploy(shop())["shop"].is_green


def test_who_takes_what_a_suspended_app_has_waits_for_it(world: World) -> None:
    world.deploy(shop(run=port("8080")))
    world.suspended["shop"] = ANNA
    taker = App("web", (service("page", run=port("8080")),))
    outcomes = world.deploy(shop(), taker)
    assert words(outcomes["web"])[2:] == ("Running", "shop is suspended and keeps port 8080")
    assert outcomes["shop"].suspended == ANNA
    assert world.changed() == []
    world.suspended.clear()
    outcomes = world.deploy(shop(), taker)
    assert outcomes["shop"].is_green
    assert outcomes["web"].is_green


def test_who_waits_for_a_suspended_app_is_healed_at_its_last_good_version(world: World) -> None:
    web = App("web", (service("web"),))
    world.deploy(shop(run=port("8080")), web)
    world.suspended["shop"] = ANNA
    taker = App("web", (service("web", "v2", run=port("8080")),))
    del world.host.resources[("unit", web.services[0].instances("web")[0])]
    outcomes = world.deploy(shop(), taker)
    assert outcomes["web"].operation is Operation.RUNNING
    assert world.host.images("web") == ["v1"]


def test_an_app_of_another_name_waits_for_the_suspended_one_whose_place_it_takes(world: World) -> None:
    world.deploy(shop())
    world.suspended["shop"] = ANNA
    store = App("store", shop().services)
    outcomes = world.deploy(store)
    assert outcomes["store"].operation is Operation.RUNNING
    assert outcomes["store"].why.startswith("shop is suspended and keeps ")
    assert world.host.apps() == {"shop"}


# ---- what is told ----------------------------------------------------------------------------------------------------


def report(*outcomes: Outcome) -> Report:
    return Report("h1", Revision("a" * 40, "main"), outcomes)


def left(sync: Sync = Sync.OUT_OF_SYNC, by: Suspension = ANNA) -> Outcome:
    return Outcome("shop", sync, Health.SUSPENDED, why=by.text, suspended=by)


WEB = Outcome("web", Sync.SYNCED, Health.HEALTHY)


def test_a_commit_that_changes_a_suspended_app_ends_as_suspended() -> None:
    status = status_text.status(report(left(), WEB), CommitWork(frozenset({"shop", "web"})))
    assert (status.operation, status.health) == (Operation.SUPERSEDED, Health.SUSPENDED)
    assert status.description == "shop: suspended by anna: the disk is changed"
    assert status_text.app_status("h1", left()).operation is Operation.SUPERSEDED


@pytest.mark.parametrize(
    "outcome",
    [left(Sync.SYNCED), left(by=Suspension(IN_GIT, "sold out")), left(Sync.UNKNOWN)],
    ids=["as it wants", "by itself", "unknown"],
)
def test_a_commit_that_a_suspension_does_not_hold_up_is_green_and_tells_of_it(outcome: Outcome) -> None:
    status = status_text.status(report(outcome, WEB), CommitWork(frozenset({"shop"})))
    assert (status.operation, status.health) == (Operation.SUCCEEDED, Health.HEALTHY)
    assert status.description == f"1 of 2 apps healthy; shop: {outcome.why}"


def test_a_commit_is_green_beside_a_suspended_app_that_it_does_not_change() -> None:
    status = status_text.status(report(left(), WEB), CommitWork(frozenset({"web"})))
    assert (status.operation, status.health) == (Operation.SUCCEEDED, Health.HEALTHY)
    assert status.description == "1 of 2 apps healthy; shop: suspended by anna: the disk is changed"


def test_a_failure_is_told_before_a_suspension() -> None:
    sick = Outcome("web", Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.ROLLED_BACK, why="http 503")
    status = status_text.status(report(left(), sick), CommitWork(frozenset({"shop", "web"})))
    assert (status.operation, status.description) == (Operation.ROLLED_BACK, "web: http 503; rolled back; also shop")
    assert status_text.failing(report(left(), sick)) == {"web"}


def test_a_commit_stays_pending_while_another_app_of_it_is_not_at_its_end() -> None:
    slow = Outcome("web", Sync.SYNCED, Health.PROGRESSING)
    status = status_text.status(report(left(), slow), CommitWork(frozenset({"shop", "web"})))
    assert status.operation is Operation.RUNNING


def test_a_summary_counts_no_suspended_app_as_healthy() -> None:
    assert status_text.summary(report(left(), WEB)) == (
        "h1 at aaaaaaa: 1 of 2 apps healthy; shop: suspended by anna: the disk is changed"
    )


def test_the_history_tells_when_a_suspension_begins_and_ends(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.db")
    well = Outcome("shop", Sync.SYNCED, Health.HEALTHY)
    for outcome in (well, left(Sync.SYNCED), left(Sync.SYNCED), well, well):
        history.record_report(report(outcome))
    told = [(event.health, event.why, event.changed) for event in reversed(history.events(10))]
    assert told == [
        ("Healthy", "", ""),
        ("Suspended", "suspended by anna: the disk is changed", ""),
        ("Healthy", "", "no longer suspended by anna: the disk is changed"),
    ]
    history.close()


def test_a_report_keeps_who_has_suspended_an_app() -> None:
    one = report(left(by=replace(STOP, since=NOON, until=NOON + timedelta(hours=1))), WEB)
    assert from_json(json.loads(json.dumps(to_json(one)))) == one


# ---- in Git ----------------------------------------------------------------------------------------------------------

MANIFEST = "services: {web: {image: nginx}}\n"


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("x-mvd: {suspend: true}", Suspension(IN_GIT)),
        ("x-mvd: {suspend: false}", None),
        ("x-mvd: {suspend: {why: sold out}}", Suspension(IN_GIT, "sold out")),
        ("x-mvd: {suspend: {stop: true}}", Suspension(IN_GIT, stop=True)),
        ("x-mvd: {}", None),
    ],
)
def test_x_mvd_beside_the_services_suspends_the_app(key: str, found: Suspension | None) -> None:
    plain, _ = load(MemoryTree({"apps/shop/compose.yaml": MANIFEST}), HostFacts("h1"))
    [app], broken = load(MemoryTree({"apps/shop/compose.yaml": f"{key}\n{MANIFEST}"}), HostFacts("h1"))
    assert not broken
    assert app.suspend == found
    assert app == plain[0], "to suspend an app makes no other version of it"


def test_a_commit_that_only_suspends_an_app_changes_it() -> None:
    before = contents(MemoryTree({"apps/shop/compose.yaml": MANIFEST}), "h1")
    after = contents(MemoryTree({"apps/shop/compose.yaml": f"x-mvd: {{suspend: true}}\n{MANIFEST}"}), "h1")
    assert before["shop"] != after["shop"]


def test_an_override_suspends_an_app_on_some_hosts() -> None:
    files = {"apps/shop/compose.yaml": MANIFEST, "apps/shop/compose.region-uk.yaml": "x-mvd: {suspend: true}\n"}
    [here], _ = load(MemoryTree(files), HostFacts("h1", {"region": "uk"}))
    [there], _ = load(MemoryTree(files), HostFacts("h2", {"region": "eu"}))
    assert (here.suspend, there.suspend) == (Suspension(IN_GIT), None)
