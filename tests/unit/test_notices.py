"""What is told to people of a host, once each; and what is remembered of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.model import Change, Health, Operation, Outcome, Plan, Report, Resource, Revision, Sync
from gitops_mvd.core.notice import Notice, What
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.status.debounce import DEBOUNCE_SECONDS
from gitops_mvd.status.notices import LONG_SECONDS, SERVER, News, Seen
from gitops_mvd.status.statuses import CommitChange

CHANGE = Plan((Change(None, Resource("unit", "mvd-web", "web")),))


class World:
    """A host whose memory goes through JSON between two passes, as at a restart of the daemon."""

    def __init__(self) -> None:
        self.news = News()
        self.now = 1_000_000.0
        self.tip = Revision("a", "main", "Begin")

    def merge(self, commit: str, *apps: str) -> None:
        self.tip = Revision(commit, "main", f"Change {', '.join(apps)}")
        self.news.add_commits([CommitChange(self.tip, frozenset(apps))])

    def pass_(self, *outcomes: Outcome, after: float = 60.0) -> list[tuple[str, str, str]]:
        """The notices of a pass, so many seconds after the last one: app, what, and the commit."""
        self.now += after
        self.news = News.from_json(json.loads(json.dumps(self.news.to_json())))
        found = self.news.report(Report("h1", self.tip, outcomes), {}, self.now)
        return [(it.app, it.what, it.revision.commit if it.revision else "") for it in found]


@pytest.fixture
def world() -> World:
    made = World()
    assert made.pass_(healthy("web"), healthy("db")) == []
    return made


def healthy(app: str, did: Plan | None = None, why: str = "") -> Outcome:
    return Outcome(app, Sync.SYNCED, Health.HEALTHY, Operation.SUCCEEDED, did or Plan(), why)


def rolled_back(app: str, health: Health = Health.HEALTHY) -> Outcome:
    return Outcome(app, Sync.OUT_OF_SYNC, health, Operation.ROLLED_BACK, why="http 503")


def sick(app: str, health: Health = Health.DEGRADED) -> Outcome:
    return Outcome(app, Sync.SYNCED, health, Operation.SUCCEEDED, why="exit 1")


def waiting(app: str) -> Outcome:
    return Outcome(app, Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.RUNNING, why="the disk is full", fault="not_now")


def starting(app: str) -> Outcome:
    return Outcome(app, Sync.SYNCED, Health.PROGRESSING, Operation.SUCCEEDED)


# ---- deploys ---------------------------------------------------------------------------------------------------------


def test_a_failed_deploy_is_told_once_and_the_revert_recovers_it_once(world: World) -> None:
    world.merge("b", "web")
    assert world.pass_(rolled_back("web"), healthy("db"), after=0) == [("web", "failed", "b")]
    for _ in range(5):
        assert world.pass_(rolled_back("web"), healthy("db")) == []
    world.merge("c", "db")
    assert world.pass_(rolled_back("web"), healthy("db", CHANGE)) == [("db", "deployed", "c")]
    world.merge("d", "web")
    assert world.pass_(healthy("web", CHANGE), healthy("db"), after=0) == [
        ("web", "recovered", "d"),
        ("web", "deployed", "d"),
    ]
    assert world.pass_(healthy("web"), healthy("db")) == []


def test_a_second_bad_commit_is_told_too(world: World) -> None:
    world.merge("b", "web")
    assert world.pass_(rolled_back("web")) == [("web", "failed", "b")]
    world.merge("c", "web")
    assert world.pass_(rolled_back("web")) == [("web", "failed", "c")]


def test_a_way_back_that_fails_is_told_after_the_rollback(world: World) -> None:
    world.merge("b", "web")
    world.pass_(rolled_back("web"))
    stuck = Outcome(
        "web", Sync.UNKNOWN, Health.DEGRADED, Operation.ROLLBACK_FAILED, why="the way back failed: no image"
    )
    assert world.pass_(stuck) == [("web", "failed", "b")]
    assert world.pass_(stuck) == []


def test_what_fails_without_a_commit_is_told_once_it_lasts(world: World) -> None:
    by_hand = Outcome("web", Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.FAILED, why="a drop-in changes its unit")
    assert world.pass_(by_hand) == []
    assert world.pass_(healthy("web"), after=5) == []
    assert world.pass_(healthy("web"), after=DEBOUNCE_SECONDS) == []
    assert world.pass_(by_hand) == []
    assert world.pass_(by_hand, after=DEBOUNCE_SECONDS) == [("web", "failed", "a")]
    assert world.pass_(healthy("web"), after=1) == []
    assert world.pass_(healthy("web"), after=DEBOUNCE_SECONDS) == [("web", "recovered", "a")]


def test_a_deploy_is_told_when_it_is_healthy_and_a_repair_is_none(world: World) -> None:
    assert world.pass_(healthy("web", CHANGE)) == []
    world.merge("b", "web")
    assert world.pass_(starting("web")) == []
    assert world.pass_(healthy("web")) == [("web", "deployed", "b")]


def test_an_interrupted_deploy_says_nothing(world: World) -> None:
    world.merge("b", "web")
    superseded = Outcome("web", Sync.OUT_OF_SYNC, Health.DEGRADED, Operation.SUPERSEDED, why="superseded by c")
    assert world.pass_(superseded, after=1000) == []


def test_a_failed_first_deploy_is_one_trouble_and_not_two(world: World) -> None:
    world.merge("b", "new")
    failed = Outcome("new", Sync.OUT_OF_SYNC, Health.MISSING, Operation.FAILED, why="no such image")
    assert world.pass_(failed) == [("new", "failed", "b")]
    assert world.pass_(failed, after=1000) == []


def test_an_app_that_a_commit_takes_away_is_over(world: World) -> None:
    world.merge("b", "web")
    world.pass_(rolled_back("web"))
    world.merge("c", "web")
    gone = replace(healthy("web", CHANGE), removed=True)
    assert world.pass_(gone) == [("web", "deployed", "c"), ("web", "recovered", "c")]
    assert world.pass_() == []
    assert (world.news.matters, world.news.by) == ({}, {})


def test_commits_that_nobody_could_read_are_no_deploys(world: World) -> None:
    world.tip = Revision("z", "main")
    world.news.add_commits([CommitChange(world.tip, None)])
    assert world.pass_(healthy("web"), healthy("db", CHANGE)) == [("db", "deployed", "z")]


# ---- health ----------------------------------------------------------------------------------------------------------


def test_sickness_is_told_once_it_lasts_and_so_is_its_end(world: World) -> None:
    assert world.pass_(sick("web")) == []
    assert world.news.next_check_in(world.now) == DEBOUNCE_SECONDS
    assert world.pass_(sick("web"), after=DEBOUNCE_SECONDS) == [("web", "degraded", "a")]
    assert world.news.next_check_in(world.now) is None
    assert world.pass_(sick("web")) == []
    assert world.pass_(healthy("web"), after=1) == []
    assert world.pass_(healthy("web"), after=DEBOUNCE_SECONDS) == [("web", "recovered", "a")]


def test_a_moment_of_sickness_is_not_told(world: World) -> None:
    for _ in range(10):
        assert world.pass_(sick("web"), after=1) == []
        assert world.pass_(healthy("web"), after=1) == []
        assert world.pass_(healthy("web"), after=DEBOUNCE_SECONDS) == []


def test_what_flaps_is_told_once_and_recovers_once(world: World) -> None:
    told = []
    for _ in range(20):
        told += world.pass_(sick("web"), after=5)
        told += world.pass_(healthy("web"), after=5)
    assert told == [("web", "degraded", "a")]
    assert world.pass_(healthy("web"), after=DEBOUNCE_SECONDS) == [("web", "recovered", "a")]


def test_what_cannot_be_seen_changes_nothing(world: World) -> None:
    world.pass_(sick("web"))
    world.pass_(sick("web"))
    unknown = Outcome(
        "web", Sync.UNKNOWN, Health.UNKNOWN, Operation.RUNNING, why="Docker does not answer", fault="unanswered"
    )
    assert world.pass_(unknown) == []
    assert world.pass_(sick("web")) == []


def test_a_rolled_back_app_whose_old_version_is_sick_is_told_of_as_down(world: World) -> None:
    world.merge("b", "web")
    world.pass_(rolled_back("web"))
    assert world.pass_(rolled_back("web", Health.DEGRADED)) == []
    assert world.pass_(rolled_back("web", Health.DEGRADED)) == [("web", "degraded", "b")]
    assert world.pass_(rolled_back("web")) == []
    assert world.pass_(rolled_back("web")) == [("web", "recovered", "b")]


# ---- waiting, and the server -----------------------------------------------------------------------------------------


def test_a_canary_that_takes_its_time_wakes_nobody(world: World) -> None:
    on_its_way = Outcome("web", Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.RUNNING, why="canary: the new web gets 5 %")
    for _ in range(100):
        assert world.pass_(on_its_way) == []


def test_waiting_is_told_once_it_is_long(world: World) -> None:
    assert world.pass_(waiting("web")) == []
    assert world.pass_(waiting("web"), after=LONG_SECONDS - 1) == []
    assert world.pass_(waiting("web"), after=1) == [("web", "waiting", "a")]
    assert world.pass_(healthy("web", CHANGE)) == [("web", "recovered", "a")]


def test_that_an_app_is_suspended_is_told_once_and_so_is_its_end(world: World) -> None:
    by = Suspension("anna", "the disk", stop=True)
    left = Outcome("web", Sync.OUT_OF_SYNC, Health.SUSPENDED, why=by.text, suspended=by)
    assert world.pass_(left, healthy("db"), after=0) == [("web", "suspended", "a")]
    for _ in range(5):
        assert world.pass_(left, healthy("db")) == [], "that it is stopped is no sickness"
    assert world.pass_(healthy("web"), healthy("db"), after=0) == [("web", "suspended", "a")]
    assert world.pass_(healthy("web"), healthy("db")) == []


def test_a_suspension_and_its_end_are_both_suspended() -> None:
    news = News()
    begun = news.see(SERVER, "suspended", Seen(True, "disk change", patience=0), 1.0, what=What.SUSPENDED)
    again = news.see(SERVER, "suspended", Seen(True, "disk change", patience=0), 2.0, what=What.SUSPENDED)
    over = news.see(SERVER, "suspended", Seen(False, patience=0), 3.0)
    assert [(it.what, it.over) for it in begun + again + over] == [
        (What.SUSPENDED, None),
        (What.SUSPENDED, What.SUSPENDED),
    ]


KINDS: list[Callable[[str], Outcome]] = [healthy, rolled_back, sick, waiting, starting]


@given(st.lists(st.tuples(st.sampled_from(KINDS), st.floats(0.1, 200), st.booleans()), max_size=60))
def test_troubles_and_recoveries_alternate_whatever_happens(
    story: list[tuple[Callable[[str], Outcome], float, bool]],
) -> None:
    """Per kind of trouble: never a recovery without its trouble, and never the same trouble of one commit twice."""
    world = World()
    open_: dict[What, str] = {}
    for number, (kind, pause, is_merged) in enumerate(story):
        if is_merged:
            world.merge(f"c{number}", "web")
        world.now += pause
        for notice in world.news.report(Report("h1", world.tip, (kind("web"),)), {}, world.now):
            _alternates(open_, notice)
        assert (world.news.next_check_in(world.now) or 0.0) >= 0.0
    assert len(world.news.matters) <= 3


def _alternates(open_: dict[What, str], notice: Notice) -> None:
    commit = notice.revision.commit if notice.revision else ""
    if notice.over:
        assert notice.over in open_
        del open_[notice.over]
    elif notice.what is not What.DEPLOYED:
        assert open_.get(notice.what) != commit or (notice.what is What.FAILED and not commit)
        open_[notice.what] = commit
