"""What is special about Azure DevOps; what it shares with all forges is in test_forges.py."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd import forges
from gitops_mvd.core import ports
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PullRequest
from gitops_mvd.forges.api import Account
from tests.contract.scripted import scripted
from tests.lab.forge import Forge, Repository

TOKEN = "t0ken-of-the-lab"
STATUS = CommitStatus("mvd/srv1", Operation.SUCCEEDED, Health.HEALTHY, "3 apps healthy")
PULL_REQUEST = PullRequest(7, "a" * 40, "")
PAGE = b"<!DOCTYPE html><html><title>Azure DevOps Services | Sign In</title></html>"


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with Forge(tmp_path / "forge", token=TOKEN) as forge:
        repository = forge.create("My Project/config repo")
        repository.commit({"fleet.yaml": "hosts: {}\n"}, "Begin")
        yield repository


def client(repository: Repository) -> ports.Forge:
    base = repository.clone_url.partition(f"/{repository.name}")[0]
    return at(base, f"an organization/{repository.name}")


def at(url: str, name: str = "org/project/config") -> ports.Forge:
    return forges.connect("azure-devops", Account(name, lambda: TOKEN, url))


# ---- statuses --------------------------------------------------------------------------------------------------------


def test_a_context_is_a_genre_and_a_name() -> None:
    with scripted(lambda method, path: (201, {}, {"id": 1})) as server:
        for context in ("mvd/srv1", "mvd/srv1/web", "plain"):
            at(server.url).publish("a" * 40, dataclasses.replace(STATUS, context=context))
        assert [body["context"] for _, _, _, body in server.asked] == [
            {"genre": "mvd", "name": "srv1"},
            {"genre": "mvd", "name": "srv1/web"},
            {"name": "plain"},
        ]


@pytest.mark.parametrize(
    ("code", "headers"),
    [(203, {}), (302, {"Location": "https://spsprodweu1.vssps.visualstudio.com/_signin"}), (401, {})],
)
def test_the_page_where_people_log_in_is_a_refused_token(code: int, headers: dict[str, str]) -> None:
    with scripted(lambda method, path: (code, headers, PAGE)) as server:
        for ask in (
            lambda: at(server.url).publish("a" * 40, STATUS),
            lambda: at(server.url).pull_requests("main"),
            lambda: at(server.url).comment(PULL_REQUEST, "text", "1/1"),
        ):
            with pytest.raises(Unavailable, match="refused the token") as raised:
                ask()
            assert TOKEN not in repr(raised.value)


def test_the_token_is_the_password_of_nobody_and_is_not_told_in_either_form() -> None:
    basic = base64.b64encode(f":{TOKEN}".encode()).decode()
    with scripted(lambda method, path: (400, {}, f"bad {basic} and {TOKEN}".encode())) as server:
        with pytest.raises(StepFailed, match=r"bad \*\*\* and \*\*\*"):
            at(server.url).publish("a" * 40, STATUS)
        assert server.asked[0][2]["authorization"] == f"Basic {basic}"


@pytest.mark.parametrize(
    ("base", "name", "path"),
    [
        ("", "org/project/config", "/org/project/_apis/git/repositories/config"),
        ("", "org/My Project/my config", "/org/My%20Project/_apis/git/repositories/my%20config"),
        ("", "org/config", "/org/config/_apis/git/repositories/config"),
        ("/tfs/", "DefaultCollection/Süd/config", "/tfs/DefaultCollection/S%C3%BCd/_apis/git/repositories/config"),
    ],
)
def test_a_repository_is_reached_by_all_of_its_names(base: str, name: str, path: str) -> None:
    with scripted(lambda method, path: (201, {}, {"id": 1})) as server:
        at(server.url + base, name).publish("a" * 40, STATUS)
        assert server.paths() == [f"POST {path}/commits/{'a' * 40}/statuses?api-version=6.0"]


def test_names_with_spaces_work_all_the_way(repository: Repository) -> None:
    pull_request = repository.propose({"a": "1"}, "One")
    azure = client(repository)
    azure.publish(pull_request.commit, STATUS)
    assert [status.context for status in repository.statuses(pull_request.commit)] == ["mvd/srv1"]
    [found] = azure.pull_requests("main")
    assert azure.comment(found, "text", "") == azure.comment(found, "text", "")


# ---- pull requests ---------------------------------------------------------------------------------------------------


def test_the_head_of_a_pull_request_is_the_branch_and_that_of_a_fork_is_out_of_reach(repository: Repository) -> None:
    ours = repository.propose({"a": "1"}, "Ours")
    theirs = repository.propose({"b": "1"}, "Theirs", is_fork=True)
    assert client(repository).pull_requests("main") == [
        PullRequest(theirs.number, theirs.commit, "", True),
        PullRequest(ours.number, ours.commit, "refs/heads/pull-request-1", False),
    ]


def test_a_pull_request_without_a_known_head_comes_later() -> None:
    known = {"pullRequestId": 1, "sourceRefName": "refs/heads/b", "lastMergeSourceCommit": {"commitId": "a" * 40}}
    pulls = {"value": [{"pullRequestId": 2, "sourceRefName": "refs/heads/c"}, known]}
    with scripted(lambda method, path: (200, {}, pulls)) as server:
        assert at(server.url).pull_requests("main") == [PullRequest(1, "a" * 40, "refs/heads/b")]


@pytest.mark.parametrize("answer", [None, [], "x", {"value": None}, {"value": [{"lastMergeSourceCommit": 1}]}, {}])
def test_an_answer_of_another_shape_says_nothing(answer: Any) -> None:
    with scripted(lambda method, path: (200, {}, answer)) as server:
        with pytest.raises(Unavailable, match="something unexpected"):
            at(server.url).pull_requests("main")
        with pytest.raises(Unavailable, match="something unexpected"):
            at(server.url).comment(PULL_REQUEST, "<!-- mvd/h1 -->\none", "")


# ---- comments --------------------------------------------------------------------------------------------------------


def test_a_comment_is_a_thread_that_holds_up_no_merge() -> None:
    def script(method: str, path: str) -> tuple[int, dict[str, str], Any]:
        return 200, {}, {"id": 5, "comments": [{"id": 1}], "value": []}

    with scripted(script) as server:
        assert at(server.url).comment(PULL_REQUEST, "text", "") == "5/1"
        assert server.asked[-1][3]["status"] == "closed"
        assert server.paths()[-1].startswith("POST /org/project/_apis/git/repositories/config/pullRequests/7/threads?")


def test_the_husk_of_a_deleted_comment_is_not_written_to(repository: Repository) -> None:
    pull_request = repository.propose({"a": "1"}, "One")
    azure = client(repository)
    [found] = azure.pull_requests("main")
    known = azure.comment(found, "<!-- mvd/h1 -->\none", "")
    pull_request.comments[0].is_deleted = True
    again = azure.comment(found, "<!-- mvd/h1 -->\ntwo", known)
    assert azure.comment(found, "<!-- mvd/h1 -->\nthree", "") == again != known
    assert [c.text for c in pull_request.comments if not c.is_deleted] == ["<!-- mvd/h1 -->\nthree"]


# ---- service hooks ---------------------------------------------------------------------------------------------------


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


def test_the_secret_is_the_password_of_whichever_user() -> None:
    authentic = forges.known()["azure-devops"].authentic
    for user in ("", "mvd", "ä"):
        assert authentic(basic(f"{user}:s3cr:et"), b"", "s3cr:et")
    assert authentic(basic("mvd:gehéim"), b"", "gehéim")
    for headers in (
        basic("s3cr:et"),
        basic("s3cr:et:"),
        basic("mvd:"),
        basic("mvd"),
        {"authorization": "Bearer s3cr:et"},
    ):
        assert not authentic(headers, b"", "s3cr:et")
    for headers in ({}, {"authorization": ""}, {"authorization": "Basic"}, {"authorization": "Basic ="}):
        assert not authentic(headers, b"", "")


def pushed(*names: Any) -> Event:
    resource = {"refUpdates": [{"name": name} for name in names]}
    return forges.known()["azure-devops"].event(
        {}, json.dumps({"eventType": "git.push", "resource": resource}).encode()
    )


def test_a_push_of_one_ref_names_it_and_one_of_several_may_be_of_any() -> None:
    assert pushed("refs/heads/main") == Event("push", "refs/heads/main")
    assert pushed("refs/heads/a", "refs/heads/main") == pushed() == pushed([]) == pushed(7) == Event("push")


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("git.pullrequest.merged", "pull_request"),
        ("ms.vss-code.git-pullrequest-comment-event", "other"),
        ("build.complete", "other"),
        ([], "other"),
    ],
)
def test_what_else_happens_is_told_apart(kind: Any, told: str) -> None:
    body = json.dumps({"eventType": kind, "resource": {}}).encode()
    assert forges.known()["azure-devops"].event({}, body) == Event(told)
