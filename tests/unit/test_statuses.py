"""Which commit is told what: of one host, in its history's outbox."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gitops_mvd.core.model import (
    Change,
    CommitStatus,
    Health,
    Operation,
    Outcome,
    Plan,
    Report,
    Resource,
    Revision,
    Sync,
)
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.waves import Held
from gitops_mvd.state.history import SqliteHistory, channel
from gitops_mvd.status.debounce import DEBOUNCE_SECONDS
from gitops_mvd.status.statuses import DEPLOYING_AFTER_SECONDS, CommitChange, Statuses, StatusOptions, is_green
from tests.fakes import FakeClock

HOST = "mvd/h1"
CHANGE = Plan((Change(None, Resource("unit", "mvd-web", "web")),))


class World:
    def __init__(self, path: Path, options: StatusOptions | None) -> None:
        self.history = SqliteHistory(path / "history.db")
        self.clock = FakeClock()
        self.statuses = Statuses("h1", self.history, options, self.clock.now)

    def waiting(self) -> dict[tuple[str, str], str]:
        """What is to be sent, and then is: by commit and context, the description."""
        entries = self.history.due(0)
        for entry in entries:
            self.history.mark_sent(entry)
        return {(entry.commit, channel(entry.status)): entry.status.description for entry in entries}

    def tell(self, *outcomes: Outcome, at: str = "a") -> dict[tuple[str, str], str]:
        self.statuses.report(Report("h1", commit(at), outcomes))
        return self.waiting()


@pytest.fixture
def options() -> StatusOptions | None:
    return StatusOptions(every_commit=True)


@pytest.fixture
def world(tmp_path: Path, options: StatusOptions | None) -> Iterator[World]:
    made = World(tmp_path, options)
    yield made
    made.history.close()


def commit(name: str) -> Revision:
    return Revision(name, "main")


def step(name: str, *apps: str) -> CommitChange:
    return CommitChange(commit(name), frozenset(apps))


def well(app: str, did: Plan | None = None, why: str = "") -> Outcome:
    return Outcome(app, Sync.SYNCED, Health.HEALTHY, Operation.SUCCEEDED, did or Plan(), why)


def sick(app: str, why: str = "exit 1") -> Outcome:
    return Outcome(app, Sync.SYNCED, Health.DEGRADED, Operation.SUCCEEDED, why=why)


def failed(app: str, why: str = "http 503") -> Outcome:
    return Outcome(app, Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.ROLLED_BACK, why=why)


# ---- a commit comes --------------------------------------------------------------------------------------------------


def test_the_first_commit_of_all_is_pending_and_then_at_its_end(world: World) -> None:
    world.statuses.add_commits([CommitChange(commit("a"), None)])
    assert world.waiting() == {("a", HOST): "deploying a"}
    assert world.tell(well("web")) == {("a", HOST): "1 app healthy"}
    assert world.tell(well("web")) == {}


def test_of_a_burst_the_last_is_pending_and_the_others_are_superseded(world: World) -> None:
    world.statuses.add_commits([step("a", "web"), step("b"), step("c", "api"), step("d", "web")])
    assert world.waiting() == {
        ("a", HOST): "superseded by d",
        ("c", HOST): "superseded by d",
        ("d", HOST): "deploying d",
    }


def test_a_burst_that_ends_with_what_changes_nothing_is_about_the_last_that_does(world: World) -> None:
    world.statuses.add_commits([step("a", "web"), step("b", "web"), step("c")])
    assert world.waiting() == {
        ("a", HOST): "superseded by b",
        ("b", HOST): "deploying b",
        ("c", HOST): "nothing to do here",
    }
    assert world.tell(well("web"), at="c") == {("b", HOST): "1 app healthy"}


def test_what_was_refused_stays_red_and_whoever_lets_it_through_answers_for_it(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(well("web"))
    world.statuses.refuse("b", "commit b is not signed")
    world.statuses.refuse("c", "commit c is not signed")
    assert world.waiting() == {("b", HOST): "commit b is not signed", ("c", HOST): "commit c is not signed"}
    world.statuses.add_commits([step("b", "web"), step("c"), step("d")])
    assert world.waiting() == {("d", HOST): "deploying d"}
    assert world.tell(well("web"), at="d") == {("d", HOST): "1 app healthy"}
    world.statuses.refuse("e", "commit e is not signed")
    world.waiting()
    world.statuses.add_commits([step("e"), step("f", "api"), step("g")])
    assert world.waiting() == {("f", HOST): "deploying f", ("g", HOST): "nothing to do here"}


@pytest.mark.parametrize("options", [StatusOptions()])
def test_a_commit_that_changes_nothing_has_no_status_unless_it_is_asked_for(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(failed("web"))
    world.statuses.add_commits([step("b"), step("c", "web"), step("d")])
    assert world.waiting() == {("c", HOST): "deploying c"}
    assert world.tell(well("web"), at="d") == {("c", HOST): "1 app healthy"}
    assert world.history.revisions()["attempted"] == commit("d")


# ---- a commit waits --------------------------------------------------------------------------------------------------


def test_a_commit_that_is_held_says_why_until_it_is_followed(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(well("web"))
    world.statuses.hold([Held(commit("b"), "wave 1 (canary) is not green yet", True)])
    assert world.waiting() == {("b", HOST): "waiting: wave 1 (canary) is not green yet"}
    world.statuses.hold([Held(commit("b"), "wave 1 (canary) is not green yet", True)])
    assert world.tell(well("web")) == {}, "what is said again is not sent again"
    world.statuses.hold([])
    world.statuses.add_commits([step("b", "web")])
    assert world.waiting() == {}, "it is pending already, and has a minute to end"
    [late] = world.history.due(time.time() + DEPLOYING_AFTER_SECONDS)
    assert late.status.description == "deploying b"
    assert world.tell(well("web"), at="b") == {("b", HOST): "1 app healthy"}


def test_a_newer_commit_that_is_held_is_not_closed_by_an_older_one(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(well("web"))
    world.statuses.hold([Held(commit(it), "wave 1 (canary) is not green yet", True) for it in ("c", "b")])
    world.waiting()
    world.statuses.hold([Held(commit("c"), "wave 1 (canary) is red: canary: no", True)])
    world.statuses.add_commits([step("b", "web")])
    assert world.waiting() == {("c", HOST): "waiting: wave 1 (canary) is red: canary: no"}
    world.statuses.hold([])
    world.statuses.add_commits([step("c", "web"), step("d", "web")])
    told = {("b", HOST): "superseded by d", ("c", HOST): "superseded by d", ("d", HOST): "deploying d"}
    assert world.waiting() == told


def test_a_held_commit_that_changes_nothing_here_has_no_status(world: World) -> None:
    world.statuses.hold([Held(commit("b"), "wave 1 (canary) is not green yet", False)])
    assert world.waiting() == {}


def test_a_commit_that_changes_nothing_does_not_overtake_a_deploy(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.waiting()
    world.statuses.add_commits([step("b")])
    assert world.waiting() == {("b", HOST): "nothing to do here"}
    assert world.tell(failed("web"), at="b") == {("a", HOST): "web: http 503; rolled back"}


def test_a_commit_that_changes_nothing_is_green_and_says_what_is_still_owed(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(failed("web"))
    world.statuses.add_commits([step("b")])
    assert world.waiting() == {("b", HOST): "nothing to do here; since a web: http 503; rolled back"}
    told = world.history.last_status("b", CommitStatus(HOST, Operation.RUNNING, Health.UNKNOWN, ""))
    assert told
    assert is_green(told)


def test_what_is_pending_when_a_newer_one_comes_is_superseded_by_it(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.waiting()
    interrupted = Outcome("web", Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.SUPERSEDED, why="superseded by b")
    assert world.tell(interrupted) == {}
    world.statuses.add_commits([step("b", "web")])
    assert world.waiting() == {("a", HOST): "superseded by b", ("b", HOST): "deploying b"}


def test_what_is_over_is_not_superseded(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(failed("web"))
    world.statuses.add_commits([step("b", "web")])
    assert world.waiting() == {("b", HOST): "deploying b"}


def test_what_does_not_answer_is_told_on_what_is_pending_alone(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.statuses.wait("Docker does not answer")
    assert world.waiting() == {("a", HOST): "waiting: Docker does not answer"}
    world.tell(well("web"))
    world.statuses.wait("Docker does not answer")
    assert world.waiting() == {}


def test_a_commit_that_is_not_followed_is_red_by_itself(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(well("web"))
    world.statuses.refuse("x", "commit x is not signed")
    assert world.waiting() == {("x", HOST): "commit x is not signed"}
    assert world.tell(well("web")) == {}


def test_what_is_pending_on_a_suspended_server_is_over_until_it_goes_on(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.statuses.suspend(Suspension(why="the disk is being changed"))
    world.statuses.suspend(Suspension(why="the disk is being changed"))
    assert world.waiting() == {("a", HOST): "h1 is suspended: the disk is being changed"}
    assert world.tell(well("web")) == {("a", HOST): "1 app healthy"}
    world.statuses.suspend(Suspension(why="again"))
    assert world.waiting() == {}


def suspended(app: str, sync: Sync = Sync.OUT_OF_SYNC) -> Outcome:
    by = Suspension("anna", "the disk")
    return Outcome(app, sync, Health.SUSPENDED, why=by.text, suspended=by)


def test_a_commit_to_a_suspended_app_is_over_until_that_goes_on(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "api")])
    assert world.tell(well("api"), suspended("web")) == {("a", HOST): "web: suspended by anna: the disk"}
    world.statuses.wait("Docker does not answer")
    assert world.tell(well("api"), suspended("web")) == {}
    assert world.tell(well("api"), well("web")) == {("a", HOST): "2 apps healthy"}


def test_what_was_deployed_before_an_app_is_suspended_keeps_its_status(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(well("web"))
    for _ in range(3):
        world.clock.time += DEBOUNCE_SECONDS
        assert world.tell(suspended("web")) == {}


def test_commits_to_other_apps_go_on_beside_a_suspended_one(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(suspended("web"))
    world.statuses.add_commits([step("b", "api")])
    world.waiting()
    told = "1 of 2 apps healthy; web: suspended by anna: the disk"
    assert world.tell(well("api"), suspended("web"), at="b") == {("b", HOST): told}


# ---- afterwards ------------------------------------------------------------------------------------------------------


def test_sickness_is_told_once_it_lasts_and_so_is_recovery(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(well("web", CHANGE))
    assert world.tell(sick("web")) == {}
    assert world.statuses.next_check_in() == DEBOUNCE_SECONDS
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(sick("web")) == {("a", HOST): "web: exit 1"}
    assert world.tell(well("web")) == {}
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(well("web")) == {("a", HOST): "1 app healthy"}
    assert world.statuses.next_check_in() is None


def test_what_we_have_mended_ourselves_is_green_at_once(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(failed("web"))
    assert world.tell(well("web", CHANGE)) == {("a", HOST): "1 app healthy"}


def test_what_starts_again_takes_nothing_back(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.tell(well("web"))
    starting = Outcome("web", Sync.SYNCED, Health.PROGRESSING, Operation.SUCCEEDED)
    for _ in range(10):
        world.clock.time += DEBOUNCE_SECONDS
        assert world.tell(starting) == {}


def test_a_first_end_waits_for_nothing(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.waiting()
    assert world.tell(sick("web")) == {("a", HOST): "web: exit 1"}


# ---- what a commit did not touch -------------------------------------------------------------------------------------


def test_an_app_that_a_commit_did_not_touch_makes_it_red_only_once_that_lasts(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "db")])
    world.tell(well("web"), well("db"))
    world.clock.time += DEBOUNCE_SECONDS
    world.statuses.add_commits([step("b", "web")])
    world.waiting()
    told = "web healthy; since a db: exit 1"
    assert world.tell(well("web", CHANGE), sick("db"), at="b") == {("b", HOST): f"waiting: {told}"}
    assert world.statuses.next_check_in() == DEBOUNCE_SECONDS
    assert world.tell(well("web"), sick("db"), at="b") == {}
    assert world.tell(well("web"), well("db"), at="b") == {("b", HOST): "2 apps healthy"}

    world.statuses.add_commits([step("c", "web")])
    world.waiting()
    world.tell(well("web", CHANGE), sick("db"), at="c")
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(well("web"), sick("db"), at="c") == {("c", HOST): told}
    world.tell(well("web"), well("db"), at="c")
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(well("web"), well("db"), at="c") == {("c", HOST): "2 apps healthy"}


def test_an_app_that_has_long_been_unhealthy_is_not_waited_for(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "db")])
    world.tell(well("web"), failed("db"))
    world.clock.time += DEBOUNCE_SECONDS
    world.tell(well("web"), failed("db"))
    world.statuses.add_commits([step("b", "web")])
    world.waiting()
    told = "web healthy; since a db: http 503; rolled back"
    assert world.tell(well("web", CHANGE), failed("db"), at="b") == {("b", HOST): told}


def test_a_commit_answers_for_what_the_pending_one_before_it_touched(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "db")])
    world.tell(well("web"), well("db"))
    world.statuses.add_commits([step("b", "db")])
    world.statuses.add_commits([step("c", "web")])
    world.waiting()
    assert world.tell(well("web"), failed("db"), at="c") == {("c", HOST): "db: http 503; rolled back"}


def test_after_a_restart_of_the_daemon_a_failure_is_told_once_it_lasts(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.waiting()
    world.statuses = Statuses("h1", world.history, StatusOptions(), world.clock.now)
    assert world.tell(failed("web")) == {("a", HOST): "waiting: web: http 503; rolled back"}
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(failed("web")) == {("a", HOST): "web: http 503; rolled back"}


# ---- how much is told ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [StatusOptions(apps=True)])
def test_every_app_may_have_a_status_at_the_last_commit_that_changed_it(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "api")])
    assert world.waiting().keys() == {("a", HOST), ("a", f"{HOST}/web"), ("a", f"{HOST}/api")}
    world.tell(well("web"), well("api"))
    world.statuses.add_commits([step("b", "web")])
    assert world.waiting().keys() == {("b", HOST), ("b", f"{HOST}/web")}
    assert world.tell(failed("web"), well("api"), at="b") == {
        ("b", HOST): "web: http 503; rolled back",
        ("b", f"{HOST}/web"): "http 503; rolled back",
    }
    world.clock.time += DEBOUNCE_SECONDS
    world.tell(failed("web"), sick("api"), at="b")
    world.clock.time += DEBOUNCE_SECONDS
    assert ("a", f"{HOST}/api") in world.tell(failed("web"), sick("api"), at="b")


@pytest.mark.parametrize("options", [StatusOptions(apps=True)])
def test_an_app_that_is_removed_is_told_so(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "api")])
    world.tell(well("web"), well("api"))
    world.statuses.add_commits([step("b", "api")])
    world.tell(well("web"), well("api", CHANGE), at="b")
    assert world.tell(well("web"), at="b") == {("b", f"{HOST}/api"): "removed"}
    assert world.tell(well("web"), at="b") == {}


@pytest.mark.parametrize("options", [StatusOptions(apps=True)])
def test_a_commit_that_removes_apps_counts_those_that_are_there(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "api", "db")])
    world.tell(well("web"), well("api"), well("db"))
    world.statuses.add_commits([step("b", "api", "db")])
    world.waiting()
    removed = [replace(well(app, CHANGE), removed=True) for app in ("api", "db")]
    assert world.tell(well("web"), *removed, at="b") == {
        ("b", HOST): "2 removed, 1 app healthy",
        ("b", f"{HOST}/api"): "removed",
        ("b", f"{HOST}/db"): "removed",
    }
    assert world.tell(well("web"), at="b") == {}
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(well("web"), at="b") == {}, "every pass says the same"
    world.statuses.add_commits([step("c", "web")])
    world.waiting()
    assert world.tell(well("web", CHANGE), at="c") == {("c", HOST): "1 app healthy", ("c", f"{HOST}/web"): "healthy"}


# ---- what a commit has changed ---------------------------------------------------------------------------------------


def deployed(app: str, changed: str) -> Outcome:
    return replace(well(app, CHANGE), changed=changed)


def test_what_a_commit_has_changed_is_told_by_every_pass_after_it(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "db")])
    world.tell(deployed("web", "web: service web added (nginx:1.28)"), well("db"))
    world.statuses.add_commits([step("b", "web")])
    world.waiting()
    told = {("b", HOST): "2 apps healthy; web: image nginx:1.28 → 1.29"}
    assert world.tell(deployed("web", "web: image nginx:1.28 → 1.29"), well("db"), at="b") == told
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(well("web"), well("db"), at="b") == {}
    world.statuses = Statuses("h1", world.history, StatusOptions(), world.clock.now)
    assert world.tell(well("web"), well("db"), at="b") == {}
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(well("web"), well("db"), at="b") == {}, "a restart forgets nothing of it"


def test_what_is_done_for_another_reason_than_a_commit_is_not_told_as_its_change(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    told = {("a", HOST): "2 apps healthy"}
    assert world.tell(well("web"), deployed("db", "db: secret key changed on this host")) == told


def test_what_became_healthy_only_later_is_told_with_what_had_changed(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.waiting()
    starting = replace(deployed("web", "web: env A changed"), health=Health.PROGRESSING)
    assert world.tell(starting) == {("a", HOST): "web: progressing"}
    assert world.tell(well("web")) == {("a", HOST): "1 app healthy; web: env A changed"}


def test_a_long_change_is_cut_behind_a_phrase(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    changed = "web: " + " · ".join(f"env VARIABLE_{number} changed" for number in range(20))
    [told] = world.tell(deployed("web", changed)).values()
    assert told == (
        "1 app healthy; web: env VARIABLE_0 changed · env VARIABLE_1 changed · env VARIABLE_2 changed"
        " · env VARIABLE_3 changed · 16 more"
    )


def test_an_app_that_comes_back_to_an_earlier_version_says_only_that(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    back = replace(deployed("web", "web: image nginx:1.29 → 1.28"), why="same version as in 9 (reverted)")
    assert world.tell(back) == {("a", HOST): "1 app healthy; web: same version as in 9 (reverted)"}


def test_the_app_that_a_commit_changes_comes_before_others_that_are_worse(world: World) -> None:
    world.statuses.add_commits([step("a", "db")])
    world.tell(failed("db"), well("web"))
    world.clock.time += DEBOUNCE_SECONDS
    world.statuses.add_commits([step("b", "web")])
    world.waiting()
    waits = Outcome("web", Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.RUNNING, why="the registry is busy")
    told = world.tell(failed("db"), waits, at="b")
    assert told == {("b", HOST): "web: waiting: the registry is busy; since a db"}


@pytest.mark.parametrize("options", [StatusOptions(apps=True)])
def test_the_status_of_an_app_says_what_its_own_commit_has_changed(world: World) -> None:
    world.statuses.add_commits([step("a", "web", "db")])
    told = world.tell(deployed("web", "web: env A changed"), deployed("db", "db/main: env B changed"))
    assert told[("a", f"{HOST}/web")] == "healthy; env A changed"
    assert told[("a", f"{HOST}/db")] == "healthy; db/main: env B changed"
    world.statuses.add_commits([step("b", "web")])
    world.waiting()
    assert world.tell(deployed("web", "web: env C changed"), well("db"), at="b") == {
        ("b", HOST): "2 apps healthy; web: env C changed",
        ("b", f"{HOST}/web"): "healthy; env C changed",
    }
    world.clock.time += DEBOUNCE_SECONDS
    assert world.tell(well("web"), well("db"), at="b") == {}, "nor is anything taken back of the commit before"


@pytest.mark.parametrize("options", [StatusOptions(apps=True)])
def test_an_app_called_plan_does_not_speak_for_the_plans_of_pull_requests(world: World) -> None:
    world.statuses.add_commits([step("a", "plan")])
    world.waiting()
    assert world.tell(well("plan")) == {("a", HOST): "1 app healthy"}


@pytest.mark.parametrize("options", [StatusOptions(environment="production {region}", every_commit=True)])
def test_a_deployment_is_told_once_its_environment_is_known(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    assert world.waiting().keys() == {("a", HOST)}
    world.statuses.labels = {"region": "uk"}
    deployment = f"{HOST} in production uk"
    assert world.tell(well("web")).keys() == {("a", HOST), ("a", deployment)}
    world.statuses.add_commits([step("b", "web"), step("c", "web"), step("d")])
    assert world.waiting().keys() == {("b", HOST), ("c", HOST), ("c", deployment), ("d", HOST)}


@pytest.mark.parametrize("options", [StatusOptions(apps=True, link="https://wiki/{host}/{app}?at={commit}")])
def test_a_link_leads_to_what_it_is_about(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    urls = {entry.status.context: entry.status.url for entry in world.history.due(0)}
    assert urls == {HOST: "https://wiki/h1/?at=a", f"{HOST}/web": "https://wiki/h1/web?at=a"}


@pytest.mark.parametrize("options", [None])
def test_without_a_forge_nothing_is_kept_for_one(world: World) -> None:
    world.statuses.add_commits([step("a", "web")])
    world.statuses.refuse("x", "no")
    assert world.tell(well("web")) == {}
    assert world.history.revisions()["attempted"] == commit("a")


def test_a_restart_goes_on_with_the_same_commit(world: World, tmp_path: Path) -> None:
    world.statuses.add_commits([step("a", "web"), step("b")])
    world.waiting()
    world.statuses = Statuses("h1", world.history, StatusOptions(), world.clock.now)
    assert world.tell(well("web"), at="b") == {("a", HOST): "1 app healthy"}
