"""Pull requests made to hurt, out of real Git objects, each read by a process of its own: the branch never waits."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from gitops_mvd.core.errors import Interrupted
from gitops_mvd.core.model import Operation, PullRequest, Revision
from gitops_mvd.daemon.planning import InChild
from gitops_mvd.git.branch import Source
from gitops_mvd.git.child import Limits
from gitops_mvd.git.tree import GitTree
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.status.pull_requests import IsAwaited, Planned, PullRequests
from gitops_mvd.status.statuses import Statuses, StatusOptions
from gitops_mvd.status.verdict import Verdict
from tests.contract.test_hostile_repositories import (
    FOLDER,
    MIB,
    Objects,
    many_files_at_its_top,
    one_blob_as_many_secrets,
    one_blob_mounted_often,
    one_folder_of_empty_files_mounted_often,
    wide_and_deep,
)
from tests.threads import kept

WITHIN_SECONDS = 30.0


def many_aliases(objects: Objects) -> str:
    names = [f"a{i}" for i in range(9)]
    levels = "".join(f"x-{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise(names))
    return objects.app(f"x-a0: &a0 [1, 2]\n{levels}services: {{web: {{image: n}}}}\n".encode())


HOSTILE = {
    wide_and_deep: "the app reads more than 10,000 names of the repository",
    one_blob_mounted_often: "is more than 1 MiB",
    one_blob_as_many_secrets: "the app reads more than 8 MiB of the repository",
    one_folder_of_empty_files_mounted_often: "the app reads more than 100,000 times in the repository",
    many_files_at_its_top: "the app reads more than 10,000 names of the repository",
    many_aliases: "the file has more than 100000 values, its aliases written out",
}


class World:
    """A branch with one good app, and pull requests to it; nothing here is a server."""

    def __init__(self, path: Path) -> None:
        self.objects = Objects(path / "config.git")
        self.base = self.objects.commit()
        self.source = Source(str(self.objects.place), "main", path / "state" / "mirror")
        self.settings = path / "config.yaml"
        self.settings.write_text(
            f"host: h\nrepository: {self.objects.place}\nstate: {path}/state\nfiles: {path}/files\n"
        )
        self.history = SqliteHistory(path / "state" / "history.db")
        self.found: list[PullRequest] = []

    def propose(self, number: int, app: str) -> None:
        ref = f"refs/pull/{number}/head"
        commit = self.objects.commit((FOLDER, b"bomb", app), parent=self.base, ref=ref)
        self.found.append(PullRequest(number, commit, ref))

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        """What a forge would list."""
        return self.found

    def looking(self, planned: Planned) -> PullRequests:
        statuses = Statuses("h", self.history, StatusOptions(every_commit=True), lambda: 0.0)
        forge = cast(Any, self)
        return PullRequests(forge, self.source, "h", self.history, statuses, planned, comments=False, forks=False)

    def told(self) -> list[tuple[Operation, str]]:
        return [(entry.status.operation, entry.status.description) for entry in self.history.due(0)]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.history.close()


@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda it: it.__name__)
def test_a_hostile_pull_request_is_told_in_one_sentence(hostile: Callable[[Objects], str], world: World) -> None:
    world.propose(1, hostile(world.objects))
    tip = world.source.fetch()
    tracemalloc.start()
    try:
        world.looking(InChild(world.settings)).look(tip, lambda: False)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    [(operation, told)] = world.told()
    assert operation is Operation.FAILED
    assert HOSTILE[hostile] in told
    assert most < 4 * MIB, "whatever it is, another process reads it"


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(0.05), "cannot be planned: reading it did not complete in 0.05 s"),
        (Limits(60, output=0), "cannot be planned: reading it printed more than 0 MiB"),
        (Limits(60, memory=40 * MIB), "cannot be planned: reading it "),
    ],
    ids=["time", "output", "memory"],
)
def test_one_that_takes_too_much_is_told_and_the_others_are_planned(limits: Limits, said: str, world: World) -> None:
    for number in (1, 2):
        world.propose(number, world.objects.app(b"services: {web: {image: n%d, nonsense: 1}}\n" % number))
    children = iter([InChild(world.settings, limits), InChild(world.settings)])

    def planned(tree: GitTree, tip: Revision, is_awaited: IsAwaited) -> Verdict:
        return next(children)(tree, tip, is_awaited)

    world.looking(planned).look(world.source.fetch(), lambda: False)
    [(_, one), (_, two)] = world.told()
    assert one.startswith(said)
    assert "services.web.nonsense" in two


def test_one_whose_reader_ends_without_an_answer_is_told(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(0)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    world.propose(1, world.objects.app())
    world.looking(InChild(world.settings)).look(world.source.fetch(), lambda: False)
    assert world.told() == [(Operation.FAILED, "cannot be planned: reading it ended without an answer")]


def test_the_branch_is_followed_while_a_pull_request_is_read(world: World) -> None:
    world.propose(1, world.objects.app())
    reads, ends, given_up = threading.Event(), threading.Event(), threading.Event()

    def planned(tree: GitTree, tip: Revision, is_awaited: IsAwaited) -> Verdict:
        reads.set()
        assert ends.wait(WITHIN_SECONDS)
        if is_awaited():
            given_up.set()
            raise Interrupted("there is other work")
        return Verdict()

    pull_requests = world.looking(planned)
    with kept(pull_requests.run, pull_requests.wake):
        pull_requests.ask(world.source.fetch())
        assert reads.wait(WITHIN_SECONDS)
        made = world.objects.commit((FOLDER, b"new", world.objects.app()), parent=world.base)
        tip = world.source.fetch()
        assert tip.commit == made, "while the pull request is still being read"
        pull_requests.ask(tip)
        ends.set()
        assert given_up.wait(WITHIN_SECONDS)
        waited = threading.Event()
        while not world.told() and not waited.wait(0.05):
            pass
    assert world.told() == [(Operation.SUCCEEDED, "nothing to do here")]
    assert world.history.pull_request_plan(1).at == f"{world.found[0].commit} onto {made}"


def test_a_look_that_breaks_is_told_and_is_not_the_last(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.propose(1, world.objects.app())
    looks: list[Revision] = []
    again = threading.Event()

    def planned(tree: GitTree, tip: Revision, is_awaited: IsAwaited) -> Verdict:
        looks.append(tip)
        if len(looks) == 2:
            again.set()
        raise KeyError("head")

    pull_requests, tip = world.looking(planned), world.source.fetch()
    with kept(pull_requests.run, pull_requests.wake):
        while not again.wait(0.05):
            pull_requests.ask(tip)
    assert caplog.text.count("waiting for=pull_requests reason=internal error") == 1
