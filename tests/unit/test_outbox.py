"""What the outbox says of statuses that do not go out, and what it does with the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mvd.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.history import SqliteHistory
from gitops_mvd.model import CommitStatus, Health, Operation
from gitops_mvd.outbox import Outbox


class Forge:
    """Takes statuses, or raises what there is for a commit or for all."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.errors: dict[str, MvdError] = {}

    def publish(self, commit: str, status: CommitStatus) -> None:
        if error := self.errors.get(commit) or self.errors.get("all"):
            raise error
        self.taken.append(commit)


@pytest.fixture
def history(tmp_path: Path) -> SqliteHistory:
    return SqliteHistory(tmp_path / "history.db")


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
    assert history.waiting() == 2


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
    assert history.waiting() == 0
    assert "no more than 1000 statuses" in caplog.text


def test_it_can_be_opened_again_after_it_was_closed(history: SqliteHistory) -> None:
    forge = Forge()
    outbox = Outbox(history, forge)
    for commit in ("a" * 40, "b" * 40):
        post(history, commit)
        with outbox:
            outbox.wake()
        outbox.deliver()
    assert forge.taken == ["a" * 40, "b" * 40]
