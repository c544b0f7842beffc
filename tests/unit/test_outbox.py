"""What the outbox says of statuses that do not go out, and what it does with the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from gitops_mvd.core.errors import MvdError, RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import CommitStatus, Health, Operation, PostedState, PostedStatus
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.status.outbox import LONGEST_PAUSE_SECONDS, Outbox
from tests.threads import kept


class Forge:
    """Takes statuses, or raises what there is for a commit or for all."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.asked = 0
        self.errors: dict[str, MvdError] = {}

    def publish(self, commit: str, status: CommitStatus) -> None:
        self.asked += 1
        if error := self.errors.get(commit) or self.errors.get("all"):
            raise error
        self.taken.append(commit)


@pytest.fixture
def history(tmp_path: Path) -> Iterator[SqliteHistory]:
    kept = SqliteHistory(tmp_path / "history.db")
    yield kept
    kept.close()


def post(history: SqliteHistory, *commits: str) -> None:
    for commit in commits:
        history.post(commit, CommitStatus("mvd/h1", Operation.SUCCEEDED, Health.HEALTHY, "2 apps healthy"))


def test_an_outage_is_told_once_however_many_statuses_wait(
    history: SqliteHistory, caplog: pytest.LogCaptureFixture
) -> None:
    forge = Forge()
    forge.errors["all"] = Unavailable("GitHub does not answer")
    post(history, "a" * 40, "b" * 40)
    Outbox(history, forge).deliver()
    assert [record.getMessage() for record in caplog.records] == ["statuses wait: GitHub does not answer"]
    assert history.count_waiting() == 2


def test_the_next_outage_is_told_again(history: SqliteHistory, caplog: pytest.LogCaptureFixture) -> None:
    forge, outage = Forge(), Unavailable("GitHub does not answer")
    outbox = Outbox(history, forge)
    forge.errors = {"a" * 40: outage, "c" * 40: outage}
    post(history, "a" * 40, "b" * 40, "c" * 40)
    outbox.deliver()
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 2


def test_what_is_refused_is_dropped_and_holds_up_no_other(
    history: SqliteHistory, caplog: pytest.LogCaptureFixture
) -> None:
    forge = Forge()
    forge.errors["a" * 40] = StepFailed("no more than 1000 statuses")
    post(history, "a" * 40, "b" * 40)
    Outbox(history, forge).deliver()
    assert forge.taken == ["b" * 40]
    assert history.count_waiting() == 0
    assert "no more than 1000 statuses" in caplog.text


def test_it_can_be_opened_again_after_it_was_closed(history: SqliteHistory) -> None:
    forge = Forge()
    outbox = Outbox(history, forge)
    for commit in ("a" * 40, "b" * 40):
        post(history, commit)
        with kept(outbox.run, outbox.wake):
            outbox.wake()
        outbox.deliver()
    assert forge.taken == ["a" * 40, "b" * 40]


class Clock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time


def ids(count: int) -> list[str]:
    return [f"{n:040x}" for n in range(count)]


def test_where_the_forge_is_down_it_is_not_asked_for_each_of_them(history: SqliteHistory) -> None:
    forge, clock = Forge(), Clock()
    forge.errors["all"] = Unavailable("GitHub does not answer")
    post(history, *ids(20))
    outbox = Outbox(history, forge, now=clock.now)
    outbox.deliver()
    outbox.deliver()
    assert forge.asked == 2


def test_what_waited_for_hours_goes_out_as_soon_as_the_forge_answers(history: SqliteHistory) -> None:
    forge, clock = Forge(), Clock()
    forge.errors["all"] = Unavailable("GitHub does not answer")
    outbox = Outbox(history, forge, now=clock.now)
    post(history, *ids(20))
    for _ in range(60):
        clock.time += 330
        outbox.deliver()
    assert forge.asked <= 2 * 60
    forge.errors.clear()
    clock.time += 360
    outbox.deliver()
    outbox.deliver()
    assert sorted(forge.taken) == ids(20)


def test_one_that_the_forge_chokes_on_holds_up_no_other(history: SqliteHistory) -> None:
    forge, clock = Forge(), Clock()
    for bad in ids(3)[:2]:
        forge.errors[bad] = Unavailable("GitHub answered 502")
    outbox = Outbox(history, forge, now=clock.now)
    post(history, *ids(20))
    for _ in range(3):
        outbox.deliver()
        clock.time += 400
    assert sorted(forge.taken) == ids(20)[2:]
    assert history.count_waiting() == 2


def test_a_forge_that_wants_to_be_left_alone_is(history: SqliteHistory) -> None:
    forge, clock = Forge(), Clock()
    forge.errors["all"] = RateLimited("slowly", 100)
    outbox = Outbox(history, forge, now=clock.now)
    post(history, *ids(5))
    outbox.deliver()
    forge.errors.clear()
    clock.time += 99
    outbox.deliver()
    assert forge.asked == 1
    clock.time += 2
    outbox.deliver()
    assert len(forge.taken) == 5


def test_no_forge_is_left_alone_for_ever(history: SqliteHistory) -> None:
    forge, clock = Forge(), Clock()
    forge.errors["all"] = RateLimited("slowly", 1e9)
    outbox = Outbox(history, forge, now=clock.now)
    post(history, *ids(1))
    outbox.deliver()
    forge.errors.clear()
    clock.time += LONGEST_PAUSE_SECONDS + 1
    outbox.deliver()
    assert forge.taken == ids(1)


def test_what_was_refused_is_tried_again_after_a_start(history: SqliteHistory) -> None:
    forge = Forge()
    forge.errors["all"] = StepFailed("lets nobody post statuses")
    post(history, *ids(2))
    Outbox(history, forge).deliver()
    forge.errors.clear()
    outbox = Outbox(history, forge)
    with kept(outbox.run, outbox.wake):
        outbox.wake()
    outbox.deliver()
    assert sorted(forge.taken) == ids(2)


def test_deliveries_are_counted_by_forge_and_outcome(history: SqliteHistory) -> None:
    forge, clock = Forge(), Clock()
    outbox = Outbox(history, forge, "gitea", now=clock.now)
    for error in (Unavailable("502"), RateLimited("slowly", 1), StepFailed("no"), None):
        forge.errors = {"all": error} if error else {}
        clock.time += 400
        post(history, f"{error}")
        outbox.deliver()
    assert history.deliveries() == {
        ("gitea", "failed"): 1,
        ("gitea", "limited"): 1,
        ("gitea", "posted"): 1,
        ("gitea", "refused"): 3,
    }


# ---- the status of a wave --------------------------------------------------------------------------------------------


class WithWaves(Forge):
    """Also tells what it has, unless it is `mute`."""

    def __init__(self) -> None:
        super().__init__()
        self.posted: list[tuple[str, str]] = []
        self.mute: MvdError | None = None

    def publish(self, commit: str, status: CommitStatus) -> None:
        super().publish(commit, status)
        green = (status.operation, status.health) == (Operation.SUCCEEDED, Health.HEALTHY)
        running = status.operation is Operation.RUNNING
        self.posted.append((status.context, "pending" if running else "green" if green else "red"))

    def statuses(self, commit: str) -> list[PostedStatus]:
        if self.mute:
            raise self.mute
        latest = dict(self.posted)
        return [PostedStatus(context, cast(PostedState, state), "", "", 0.0) for context, state in latest.items()]


def end(operation: Operation) -> CommitStatus:
    health = Health.HEALTHY if operation is Operation.SUCCEEDED else Health.DEGRADED
    if operation is Operation.RUNNING:
        return CommitStatus("mvd/h1", operation, health, "deploying")
    return CommitStatus("mvd/h1", operation, health, "web", wave="mvd/waves/1", peers=("mvd/h1",))


def test_an_end_whose_wave_could_not_be_told_is_not_posted_twice(history: SqliteHistory) -> None:
    forge, now = WithWaves(), [1_000.0]
    outbox = Outbox(history, forge, now=lambda: now[0])
    forge.mute = Unavailable("GitHub does not answer")
    history.post("a" * 40, end(Operation.SUCCEEDED))
    outbox.deliver()
    assert (forge.posted, history.count_waiting()) == ([("mvd/h1", "green")], 1)
    forge.mute, now[0] = None, 10_000.0
    outbox.deliver()
    assert (forge.posted, history.count_waiting()) == ([("mvd/h1", "green"), ("mvd/waves/1", "green")], 0)


def test_an_end_that_something_else_has_replaced_meanwhile_is_posted_again(history: SqliteHistory) -> None:
    forge, now = WithWaves(), [1_000.0]
    outbox = Outbox(history, forge, now=lambda: now[0])
    forge.mute = Unavailable("GitHub does not answer")
    for operation in (Operation.SUCCEEDED, Operation.RUNNING, Operation.SUCCEEDED):
        history.post("a" * 40, end(operation))
        now[0] += 10_000.0
        outbox.deliver()
    assert [state for _, state in forge.posted] == ["green", "pending", "green"]


def test_a_token_that_may_not_read_statuses_costs_the_status_of_the_wave_alone(
    history: SqliteHistory, caplog: pytest.LogCaptureFixture
) -> None:
    forge = WithWaves()
    forge.mute = StepFailed("GitHub does not let this token read statuses")
    history.post("a" * 40, end(Operation.FAILED))
    Outbox(history, forge).deliver()
    assert (forge.posted, history.count_waiting()) == ([("mvd/h1", "red")], 0)
    assert "status of a wave rejected commit=aaaaaaa mvd/waves/1: GitHub does not let this token" in caplog.text


def test_what_waits_to_be_posted_survives_a_restart_with_its_wave(tmp_path: Path) -> None:
    for posts in (True, False):
        history = SqliteHistory(tmp_path / "history.db")
        if posts:
            history.post("a" * 40, end(Operation.SUCCEEDED))
        assert [entry.status for entry in history.due(1e12)] == [end(Operation.SUCCEEDED)]
        history.close()
