"""What is told on open pull requests, by a host, a repository and a forge in memory."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from gitops_mvd.core.decide import EMPTIED
from gitops_mvd.core.errors import MvdError, RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import App, Failure, Goal, Operation, PullRequest, Revision
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.status.pull_requests import PullRequests
from gitops_mvd.status.statuses import Statuses, StatusOptions
from gitops_mvd.status.verdict import Judge, Verdict
from tests.fakes import FakeClock, FakeHost
from tests.unit.memory_tree import MemoryTree

TIP = Revision("t" * 40, "main")
Files = Mapping[str, str]


def app(name: str, **services: str) -> dict[str, str]:
    """The files of an app: its services with their images."""
    listed = "".join(f"  {service}: {{image: {image}}}\n" for service, image in services.items())
    return {f"apps/{name}/compose.yaml": f"services:\n{listed}"}


class Repository:
    """What each pull request would lead to, or why nobody can tell."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.proposed: dict[int, Files | MvdError] = {}
        self.kept: Collection[int] = ()

    def tree(self, revision: Revision) -> MemoryTree:
        return MemoryTree(self.files)

    def merged(self, pull_request: PullRequest, onto: Revision) -> MemoryTree:
        files = self.proposed[pull_request.number]
        if isinstance(files, MvdError):
            raise files
        return MemoryTree(files)

    def keep_pull_requests(self, numbers: Collection[int]) -> None:
        self.kept = numbers

    def pack_pull_requests(self, is_awaited: object) -> None:
        pass


class Forge:
    def __init__(self) -> None:
        self.open: list[PullRequest] = []
        self.comments: dict[str, str] = {}
        self.error: MvdError | None = None
        self.written = self.asked = 0

    def pull_requests(self, branch: str) -> Sequence[PullRequest]:
        self.asked += 1
        return list(self.open)

    def comment(self, pull_request: PullRequest, text: str, known: str) -> str:
        self.asked += 1
        if self.error:
            raise self.error
        self.written += 1
        self.comments[known or f"c{pull_request.number}"] = text
        return known or f"c{pull_request.number}"


def sent(verdict: Verdict) -> Verdict:
    """As it comes from the process that reads pull requests."""
    return Verdict.from_json(json.loads(json.dumps(verdict.as_json())))


class World:
    def __init__(self, path: Path) -> None:
        self.options = StatusOptions()
        self.history = SqliteHistory(path / "history.db")
        self.forge, self.clock = Forge(), FakeClock()
        self.host = FakeHost(cast(Any, self.history))
        self.repository = Repository({**app("web", front="v1", back="v1"), **app("api", main="v1")})
        self.comments, self.forks = True, False
        self.suspended: dict[str, Suspension] = {}
        for name, services in (("web", ("front", "back")), ("api", ("main",))):
            self.deploy(name, *services)

    def deploy(self, name: str, *services: str) -> None:
        """Have the host run what is on the branch."""
        wanted = self.loaded(name)
        self.host.carry_out(self.host.plan([Goal(wanted, proven=True)]))
        self.history.approve(wanted, TIP.commit)
        assert [service.name for service in wanted.services] == sorted(services, key=services.index)

    def loaded(self, name: str, files: Files | None = None) -> App:
        from gitops_mvd.manifest import load, read_fleet

        tree = MemoryTree(files or self.repository.files)
        apps, _ = load(tree, read_fleet(tree).host("h1"))
        return next(one for one in apps if one.name == name)

    def propose(self, number: int, files: Files | MvdError, *, commit: str = "", is_fork: bool = False) -> None:
        self.repository.proposed[number] = files if isinstance(files, MvdError) else {**self.repository.files, **files}
        self.forge.open = [one for one in self.forge.open if one.number != number]
        self.forge.open.append(PullRequest(number, commit or f"{number}" * 40, f"refs/pull/{number}/head", is_fork))

    def pull_requests(self) -> PullRequests:
        host = cast(Any, self.host)
        judge = Judge(host, self.history, self.repository.tree, allow_empty=False, suspended=self.suspended)
        return PullRequests(
            cast(Any, self.forge),
            cast(Any, self.repository),
            "h1",
            self.history,
            Statuses("h1", self.history, self.options, self.clock.now),
            lambda tree, tip, is_awaited: sent(judge(tree, tip)),
            comments=self.comments,
            forks=self.forks,
            now=self.clock.now,
        )

    def look(self, is_awaited: bool = False, tip: Revision = TIP) -> dict[str, tuple[Operation, str]]:
        """What is told then: by commit, the first digit of which is the pull request's number."""
        self.pull_requests().look(tip, lambda: is_awaited)
        entries = self.history.due(0)
        for entry in entries:
            assert entry.status.context == "mvd/h1/plan"
            self.history.mark_sent(entry)
        return {entry.commit[0]: (entry.status.operation, entry.status.description) for entry in entries}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.history.close()


def green(told: str) -> tuple[Operation, str]:
    return Operation.SUCCEEDED, told


def red(told: str) -> tuple[Operation, str]:
    return Operation.FAILED, told


DOWN = "up to 15 s down (front: no route)"


def test_a_pull_request_is_told_what_it_would_change_and_what_that_costs(world: World) -> None:
    world.propose(1, app("web", front="v2", back="v1"))
    world.propose(2, {**app("web", front="v2", side="v1"), **app("new", main="v1")})
    services = "new: service main added (v1); web/front: image v1 → v2; web: service side added (v1) · 2 more"
    assert world.look() == {
        "1": green(f"{DOWN}; web/front: image v1 → v2"),
        "2": green(f"web {DOWN}; {services}"),
    }


def test_a_pull_request_for_a_suspended_app_is_told_that_it_waits(world: World) -> None:
    world.suspended["web"] = Suspension("anna", "the disk")
    world.propose(1, app("web", front="v2", back="v1"))
    world.propose(2, {"apps/api/compose.yaml": "x-mvd: {suspend: true}\nservices: {main: {image: v1}}\n"})
    assert world.look() == {
        "1": green("web/front: image v1 → v2; web: suspended by anna: the disk"),
        "2": green("api: suspended in Git"),
    }
    assert "! suspended by anna: the disk" in world.forge.comments["c1"].splitlines()


def test_all_that_changes_is_in_the_140_characters_of_a_status_or_counted(world: World) -> None:
    environment = ", ".join(f"VARIABLE_{number}: x" for number in range(50))
    text = f"services: {{front: {{image: v1, environment: {{{environment}}}}}, back: {{image: v1}}}}\n"
    world.propose(1, {"apps/web/compose.yaml": text})
    [(_, told)] = world.look().values()
    assert len(told) <= 140
    assert told.endswith(" · env VARIABLE_2 added · 47 more")
    assert sum(line.startswith("+ front: env ") for line in world.forge.comments["c1"].splitlines()) == 50


def test_what_alone_is_changed_by_a_person_is_a_diff_in_green_and_red(world: World) -> None:
    text = "services: {front: {image: v2, environment: {A: x}}}\n"
    world.propose(1, {"apps/web/compose.yaml": text})
    world.look()
    lines = world.forge.comments["c1"].splitlines()
    at = lines.index("```diff")
    assert lines[at - 1] == "web: up to 15 s down (no route)"
    assert lines[at + 1 :][:6] == [
        "- front: image v1",
        "+ front: image v2",
        "! front: network default for itself now",
        "+ front: env A added",
        "- service back removed",
        "```",
    ]


def test_a_pull_request_that_cannot_be_deployed_is_asked_about_again_when_the_cause_may_be_gone(world: World) -> None:
    bad = app("web", front="v3", back="v1")
    version = world.loaded("web", bad)
    world.history.mark_failed(version, Failure("front: http 503"))
    world.propose(1, bad)
    pull_requests = world.pull_requests()

    def look() -> list[tuple[Operation, str]]:
        pull_requests.look(TIP, lambda: False)
        entries = world.history.due(0)
        for entry in entries:
            world.history.mark_sent(entry)
        return [(entry.status.operation, entry.status.description) for entry in entries]

    assert look() == [red("web: this very version was tried here and failed: front: http 503")]
    world.history.clear_failure("web")
    assert look() == [], "not yet"
    world.clock.time += 100
    assert look() == [green(f"{DOWN}; web/front: image v1 → v3")]
    world.history.mark_failed(version, Failure("front: http 503"))
    world.clock.time += 10_000
    assert look() == [], "what can be deployed is not asked about again"


def test_mistakes_in_the_files_are_not_looked_at_again(world: World) -> None:
    world.propose(1, {"apps/web/compose.yaml": "services:\n  front: {image: v1, prt: 80}\n"})
    assert [operation for operation, _ in world.look().values()] == [Operation.FAILED]
    assert world.history.pull_request_plan(1).at == f"{'1' * 40} onto {TIP.commit}"


def test_what_changes_nothing_here_has_no_comment_and_a_status_if_every_commit_has_one(world: World) -> None:
    world.propose(1, {"README.md": "Hello"})
    assert world.look() == {}
    world.options = StatusOptions(every_commit=True)
    world.propose(2, {"README.md": "Hello"})
    assert world.look() == {"2": green("nothing to do here")}
    assert not world.forge.comments


def test_what_the_host_is_behind_with_is_not_the_pull_requests_doing(world: World) -> None:
    world.repository.files = {**world.repository.files, **app("api", main="v9")}  # merged, and not yet deployed
    world.propose(1, app("web", front="v2", back="v1"))
    assert world.look() == {"1": green(f"{DOWN}; web/front: image v1 → v2")}


def test_nothing_is_done_to_the_host(world: World) -> None:
    before = dict(world.host.resources)
    world.propose(1, app("web", front="v2"))
    world.look()
    assert world.host.resources == before


def test_a_broken_manifest_is_red_with_its_file_and_line(world: World) -> None:
    world.propose(1, {"apps/web/compose.yaml": "services:\n  front: {image: v1, prt: 80}\n"})
    [(operation, told)] = world.look().values()
    assert operation is Operation.FAILED
    assert told.startswith("apps/web/compose.yaml:2: services.front.prt: ")
    assert "apps/web/compose.yaml:2" in world.forge.comments["c1"]


def test_a_fleet_that_can_not_be_read_is_red(world: World) -> None:
    world.propose(1, {"fleet.yaml": "hosts: ["})
    [(operation, told)] = world.look().values()
    assert operation is Operation.FAILED
    assert "fleet.yaml" in told


def test_what_was_broken_before_is_not_the_pull_requests_fault(world: World) -> None:
    world.repository.files = {**world.repository.files, "apps/bad/compose.yaml": "services: 1\n"}
    world.propose(1, app("web", front="v2", back="v1"))
    assert world.look() == {"1": green(f"{DOWN}; web/front: image v1 → v2")}


def test_a_conflict_an_empty_host_and_a_version_that_failed_before_are_red(world: World) -> None:
    world.propose(1, StepFailed("conflicts with main in apps/web/compose.yaml"))
    world.repository.proposed[2] = {"README.md": "Nothing left"}
    world.forge.open.append(PullRequest(2, "2" * 40, "refs/pull/2/head"))
    bad = app("web", front="v3", back="v1")
    world.history.mark_failed(world.loaded("web", bad), Failure("front: http 503"))
    world.propose(3, bad)
    assert world.look() == {
        "1": red("conflicts with main in apps/web/compose.yaml"),
        "2": red(EMPTIED),
        "3": red("web: this very version was tried here and failed: front: http 503"),
    }


def test_what_can_not_be_asked_now_is_told_later_and_holds_up_no_other(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.propose(1, Unavailable("the registry does not answer"))
    world.propose(2, app("web", front="v2", back="v1"))
    assert world.look().keys() == {"2"}
    assert "pull request 1 waits: the registry does not answer" in caplog.text
    world.propose(1, app("api", main="v2"))
    assert world.look() == {"1": green("up to 15 s down (no route); api/main: image v1 → v2")}


def test_a_pull_request_is_looked_at_anew_when_it_or_the_branch_has_moved(world: World) -> None:
    world.propose(1, app("web", front="v2", back="v1"))
    world.look()
    assert world.look() == {}
    world.propose(1, app("web", front="v2"), commit="1f" * 20)
    told = "web/front: image v1 → v2 · network default for itself now; web: service back removed"
    assert world.look() == {"1": green(f"up to 15 s down (no route); {told}")}
    world.repository.proposed[1] = {**world.repository.files, "README.md": ""}
    assert world.look(tip=Revision("u" * 40, "main")) == {"1": green("nothing to do here")}


def test_forks_are_left_alone_unless_they_are_wanted(world: World) -> None:
    world.propose(1, app("web", front="v2"), is_fork=True)
    assert world.look() == {}
    world.forks = True
    assert world.look().keys() == {"1"}


def test_whoever_awaits_the_daemon_does_not_wait_for_pull_requests(world: World) -> None:
    world.propose(1, app("web", front="v2"))
    assert world.look(is_awaited=True) == {}
    assert world.look().keys() == {"1"}


# ---- the comment -----------------------------------------------------------------------------------------------------


def test_the_whole_plan_is_one_comment_that_is_kept_up_to_date(world: World) -> None:
    world.propose(1, app("web", front="v2", back="v1"))
    world.look()
    first = world.forge.comments["c1"]
    assert first.splitlines()[:3] == [
        "[//]: # (mvd/h1)",
        "",
        f"**h1**: {DOWN}; web/front: image v1 → v2",
    ]
    assert "+ front: image v2" in first.splitlines()
    assert first.endswith("Planned for 1111111 merged into main; nothing was done.")
    world.propose(1, {"README.md": "Never mind"}, commit="1f" * 20)
    world.look()
    assert list(world.forge.comments) == ["c1"]
    assert "nothing to do here" in world.forge.comments["c1"]


def test_a_comment_that_says_the_same_is_not_written_again(world: World) -> None:
    world.propose(1, app("web", front="v2", back="v1"))
    world.look()
    world.look()
    assert world.forge.written == 1


def test_without_leave_to_comment_the_status_is_told_all_the_same(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.forge.error = StepFailed("nobody may comment")
    world.propose(1, app("web", front="v2", back="v1"))
    assert world.look().keys() == {"1"}
    assert "pull request 1 has no comment: nobody may comment" in caplog.text
    assert world.look() == {}


def test_a_forge_that_wants_no_more_requests_is_left_alone_for_as_long(world: World) -> None:
    world.propose(1, app("web", front="v2", back="v1"))
    world.propose(2, app("web", front="v3", back="v1"))
    pull_requests = world.pull_requests()
    world.forge.error = RateLimited("slowly", 100)
    for _ in range(3):
        with pytest.raises(RateLimited, match="slowly"):
            pull_requests.look(TIP, lambda: False)
        world.clock.time += 30
    assert world.forge.asked == 2, "for the pull requests, and for a comment on the first"
    world.forge.error = None
    world.clock.time += 11
    pull_requests.look(TIP, lambda: False)
    assert len(world.forge.comments) == 2


def test_where_no_comments_are_wanted_there_are_none(world: World) -> None:
    world.comments = False
    world.propose(1, app("web", front="v2"))
    world.look()
    assert not world.forge.comments


def test_no_secret_of_the_environment_is_in_a_plan(world: World) -> None:
    text = "services: {front: {image: v2, environment: {PASSWORD: hunter2hunter2}}}\n"
    world.propose(1, {"apps/web/compose.yaml": text})
    told = str(world.look()) + world.forge.comments["c1"]
    assert "web/front" in told
    assert "hunter2" not in told


def test_what_is_done_otherwise_than_written_is_told_once_for_an_app(world: World) -> None:
    text = "services: {front: {image: v2, container_name: web, volumes: ['./`@all`:/data']}, back: {image: v1}}\n"
    world.propose(1, {"apps/web/compose.yaml": text})
    world.look()
    notes = [line for line in world.forge.comments["c1"].splitlines() if line.startswith("- note: ")]
    assert len(notes) == 2
    assert "services.front.container_name: web is a name on its networks" in notes[0]
    assert "./'@all' is not in the repository: it is /srv/mvd/web/" in notes[1]
    assert all(note.count("`") == 2 for note in notes)


def test_what_a_pull_request_says_is_only_text_in_the_comment(world: World) -> None:
    text = """services: {front: {image: v2, "`@all\\n```\\n![](http://evil)": 1}, back: {image: v1}}\n"""
    world.propose(1, {"apps/web/compose.yaml": text})
    world.look()
    told = [line for line in world.forge.comments["c1"].splitlines() if "@all" in line]
    assert told
    assert all(line.startswith("- `") and line.endswith("`") and line.count("`") == 2 for line in told)


def test_what_is_closed_is_forgotten(world: World) -> None:
    world.propose(1, app("web", front="v2", back="v1"))
    world.look()
    world.forge.open.clear()
    world.look()
    assert not world.repository.kept
    world.propose(1, app("web", front="v2", back="v1"))
    world.look()
    assert world.forge.written == 2
