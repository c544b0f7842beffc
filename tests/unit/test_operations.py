"""What those who look on see of a pass, while it lasts and afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gitops_mvd.api.views import DONE, FAILED, RUNNING, STOPPED, CommitView, OperationView
from gitops_mvd.core.errors import Interrupted, OnItsWay, StepFailed
from gitops_mvd.core.model import Change, Check, Gate, Health, Operation, Outcome, Report, Resource, Revision, Sync
from gitops_mvd.core.redact import learn
from gitops_mvd.daemon import operations as module
from gitops_mvd.daemon.changes import Changes
from gitops_mvd.daemon.operations import Operations
from gitops_mvd.state import operations as file_module
from gitops_mvd.state.operations import OperationsFile

TIP = Revision("1" * 40, "main", "Deploy shop", "Anna", 1000.0)


def unit(service: str) -> Resource:
    return Resource("unit", f"mvd-shop-{service}-1", "shop", service)


def made(service: str) -> Change:
    return Change(None, unit(service))


def gate(service: str) -> Gate:
    return Gate(unit(service), Check("http", {"path": "/"}))


def report(health: Health = Health.HEALTHY) -> Report:
    outcome = Outcome("shop", Sync.SYNCED, health, Operation.SUCCEEDED, changed="shop/web: image 1 → 2")
    return Report("h1", TIP, (outcome,))


@dataclass
class World:
    path: Path
    now: float = 5000.0
    changes: Changes = field(default_factory=Changes)

    def __post_init__(self) -> None:
        self.file = OperationsFile(self.path)
        self.operations = Operations(self.file, self.changes, lambda check: "/", now=lambda: self.now)

    def begin(self) -> None:
        self.operations.begin(["push"])
        self.operations.about(TIP)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "operations.db")


def running(world: World) -> OperationView:
    found = world.operations.running()
    assert found
    return found


def test_a_pass_that_takes_no_step_is_no_operation(world: World) -> None:
    ended: list[OperationView] = []
    world.operations.told.append(ended.append)
    world.begin()
    assert world.operations.running() is None
    world.operations.end(report())
    assert world.operations.newest(10) == []
    assert [it.causes for it in ended] == [("push",)], "whoever counts passes hears of it all the same"


def test_steps_are_seen_as_they_begin_and_end_and_a_gate_by_itself(world: World) -> None:
    world.begin()
    with world.operations.watch([made("web")]):
        [step] = running(world).steps
        assert (step.verb, step.kind, step.state) == ("create", "unit", RUNNING)
        world.now += 2
    web, worker = gate("web"), gate("worker")
    with world.operations.watch([web, worker]) as ended:
        world.now += 1
        ended(web)
        world.now += 4
    world.operations.end(report())
    [whole] = [world.operations.one(it.id) for it in world.operations.newest(10)]
    assert whole
    assert [(it.verb, it.service, it.seconds, it.state) for it in whole.steps] == [
        ("create", "web", 2.0, DONE),
        ("wait", "web", 1.0, DONE),
        ("wait", "worker", 5.0, DONE),
    ]
    assert whole.steps[1].what == "until http / succeeds (at most 60 s)"
    assert (whole.commit.subject, whole.commit.author, whole.began, whole.ended) == (
        "Deploy shop",
        "Anna",
        5000.0,
        5007.0,
    )


def test_the_step_to_blame_has_failed_and_those_beside_it_were_stopped(world: World) -> None:
    world.begin()
    web, worker = gate("web"), gate("worker")
    error = StepFailed("worker: exited with code 1")
    error.service = "worker"
    with pytest.raises(StepFailed), world.operations.watch([web, worker]):
        raise error
    assert [(it.service, it.state, it.why) for it in running(world).steps] == [
        ("web", STOPPED, ""),
        ("worker", FAILED, "worker: exited with code 1"),
    ]


def test_what_is_interrupted_was_stopped_with_the_reason(world: World) -> None:
    world.begin()
    with pytest.raises(Interrupted), world.operations.watch([gate("web")]):
        raise Interrupted("superseded by 2222222")
    assert [(it.state, it.why) for it in running(world).steps] == [(STOPPED, "superseded by 2222222")]


def test_of_many_passes_that_wait_at_a_canary_none_is_kept_but_those_that_did_more(world: World) -> None:
    on_its_way = "canary: the new web gets 5 % of the requests, for 300 s"
    outcome = Outcome("shop", Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.RUNNING, why=on_its_way)
    for steps in ([gate("web")], [made("web")], [gate("web")]):
        world.begin()
        with pytest.raises(OnItsWay), world.operations.watch(steps):
            raise OnItsWay(on_its_way)
        [step] = running(world).steps
        assert (step.state, step.why) == (STOPPED, on_its_way)
        world.operations.end(Report("h1", TIP, (outcome,)))
    [kept] = world.operations.newest(10)
    assert [step.verb for step in (world.operations.one(kept.id) or kept).steps] == ["create"]


def test_no_secret_is_in_the_reason_of_a_step(world: World) -> None:
    learn("a test of operations", "hunter2-hunter2-operations")
    world.begin()
    with pytest.raises(StepFailed), world.operations.watch([gate("web")]):
        raise StepFailed("refused: hunter2-hunter2-operations\nsecond line")
    assert running(world).steps[0].why == "refused: *** second line"


def test_each_beginning_and_end_of_a_step_is_a_change(world: World) -> None:
    world.begin()
    before = world.changes.number
    with world.operations.watch([made("web")]):
        assert world.changes.number > before
        middle = world.changes.number
    assert world.changes.number > middle


def test_more_steps_than_are_kept_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STEPS", 3)
    world.begin()
    with world.operations.watch([made(f"web{n}") for n in range(5)]):
        pass
    assert (len(running(world).steps), running(world).more_steps) == (3, 2)


def test_each_phase_of_a_pass_is_kept_with_its_time(world: World) -> None:
    world.begin()
    for seconds in (1, 2):
        with world.operations.phase("fetch"):
            world.now += seconds
    with world.operations.watch([made("web")]):
        pass
    assert [(it.name, it.seconds) for it in running(world).phases] == [("fetch", 1.0), ("fetch", 2.0)]


def deployed(world: World, number: int = 1) -> None:
    for _ in range(number):
        world.begin()
        with world.operations.watch([made("web")]):
            pass
        world.operations.end(report())


def test_operations_are_found_by_the_beginning_of_their_commit_and_by_app(world: World) -> None:
    deployed(world, 2)
    assert [it.id for it in world.operations.newest(10, commit="111")] == [2, 1]
    assert world.operations.newest(10, commit="2") == []
    assert world.operations.newest(10, app="shop")
    assert world.operations.newest(10, app="sho") == []
    assert world.operations.newest(1)[0].id == 2


def test_ids_go_on_after_a_restart_and_the_oldest_operations_go(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "MOST_OPERATIONS", 3)
    deployed(world, 3)
    again = World(tmp_path / "operations.db")
    deployed(again)
    assert [it.id for it in again.operations.newest(10)] == [4, 3, 2]


def test_an_id_far_above_the_others_costs_no_operation_but_the_oldest(world: World) -> None:
    deployed(world, 2)
    world.file.save(OperationView(1_764_000_000, CommitView(TIP.commit), (), 0.0))
    deployed(world)
    assert [it.id for it in world.operations.newest(10)] == [1_764_000_001, 1_764_000_000, 2, 1]


def test_no_id_comes_twice_whoever_removes_the_file_or_writes_to_it(world: World, tmp_path: Path) -> None:
    deployed(world, 2)
    deployed(World(tmp_path / "operations.db"))
    deployed(world)
    assert [it.id for it in world.operations.newest(10)] == [4, 3, 2, 1]
    for file in tmp_path.iterdir():
        file.unlink()
    deployed(world)
    assert [it.id for it in world.operations.newest(10)] == [5]


def test_an_id_is_given_without_the_file_too(world: World, tmp_path: Path) -> None:
    deployed(world)
    world.file.close()
    (tmp_path / "operations.db").rename(tmp_path / "kept.db")
    (tmp_path / "operations.db").mkdir()
    deployed(world)
    (tmp_path / "operations.db").rmdir()
    (tmp_path / "kept.db").rename(tmp_path / "operations.db")
    deployed(world)
    assert [it.id for it in world.operations.newest(10)] == [3, 1]


def test_a_row_that_somebody_has_changed_by_hand_is_passed_over(world: World, tmp_path: Path) -> None:
    deployed(world, 2)
    with closing(sqlite3.connect(tmp_path / "operations.db")) as file, file:
        file.execute("UPDATE operation SET head = 'garbage' WHERE id = 1")
    assert [it.id for it in world.operations.newest(10)] == [2]
    assert world.operations.one(1) is None


def test_a_commit_is_known_with_its_author_and_one_that_is_not_by_its_id_alone(world: World) -> None:
    world.operations.save_revision(TIP)
    found = world.file.revision(TIP.commit)
    assert (found.subject, found.author, found.at) == ("Deploy shop", "Anna", 1000.0)
    assert world.file.revision("2" * 40) == Revision("2" * 40, "")


def test_a_commit_is_written_only_if_it_is_not_kept_as_it_is(world: World, tmp_path: Path) -> None:
    def rows() -> list[tuple[str, float]]:
        with closing(sqlite3.connect(tmp_path / "operations.db")) as file:
            return file.execute("SELECT json, at FROM revision").fetchall()

    world.operations.save_revision(TIP)
    kept = rows()
    world.operations.save_revision(TIP)
    assert rows() == kept
    with closing(sqlite3.connect(tmp_path / "operations.db")) as file, file:
        file.execute("UPDATE revision SET json = 'garbage'")
    world.operations.save_revision(TIP)
    assert [text for text, _ in rows()] == [text for text, _ in kept]
