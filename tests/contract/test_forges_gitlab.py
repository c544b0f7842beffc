"""What is GitLab's own: a status is a job with a life, of a pipeline, and a comment's line may be an order."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from gitops_mvd import forges
from gitops_mvd.core import ports
from gitops_mvd.core.errors import RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import Event, Health, Operation, PullRequest
from gitops_mvd.forges.api import Account
from tests.contract.scripted import Answer, scripted
from tests.contract.test_forges import TOKEN, status
from tests.lab.dialects import gitlab as dialect
from tests.lab.forge import Forge, Repository
from tests.lab.repository import Happened

SHA = "a" * 40
SIGNING = "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge", token=TOKEN) as running:
        yield running


@pytest.fixture
def config(forge: Forge) -> Repository:
    repository = forge.create("acme/config")
    repository.commit({"fleet.yaml": "hosts: {}\n"}, "Begin")
    return repository


def client(url: str, name: str = "acme/config", branch: str = "main") -> ports.Forge:
    return forges.connect("gitlab", Account(name, lambda: TOKEN, url, branch=branch))


def jobs(repository: Repository) -> list[list[tuple[str, str]]]:
    """Of each pipeline of main's commit, every job with its name and state."""
    found = dialect.pipelines(repository, repository.resolve("main"))
    return [[(job.name, job.state) for job in pipeline.jobs] for pipeline in found]


# ---- the life of a status --------------------------------------------------------------------------------------------


def test_what_runs_ends_as_the_same_job_and_what_ended_begins_as_another(forge: Forge, config: Repository) -> None:
    for operation in (Operation.RUNNING, Operation.FAILED, Operation.RUNNING, Operation.SUCCEEDED):
        client(forge.url).publish(config.resolve("main"), status(operation))
    assert jobs(config) == [[("mvd/srv1", "failed"), ("mvd/srv1", "success")]]


def test_what_was_superseded_can_still_become_green(forge: Forge, config: Repository) -> None:
    for operation in (Operation.RUNNING, Operation.SUPERSEDED, Operation.SUCCEEDED, Operation.SUPERSEDED):
        client(forge.url).publish(config.resolve("main"), status(operation))
    assert [state for _, state in jobs(config)[0]] == ["canceled", "success", "canceled"]


def test_what_runs_keeps_its_words_until_it_ends(forge: Forge, config: Repository) -> None:
    told = client(forge.url)
    for description in ("pulling", "starting"):
        told.publish(config.resolve("main"), status(Operation.RUNNING, description=description))
    told.publish(config.resolve("main"), status(health=Health.PROGRESSING, description="2 of 3"))
    assert [known.description for known in config.statuses(config.resolve("main"))] == ["pulling"]


def test_a_link_that_is_too_long_is_left_out(forge: Forge, config: Repository) -> None:
    for length in (255, 256):
        url = "https://mvd.example.invalid/".ljust(length, "x")
        client(forge.url).publish(config.resolve("main"), dataclasses.replace(status(), url=url))
        assert config.statuses(config.resolve("main"))[-1].target_url == (url if length <= 255 else "")


def test_a_status_is_shown_on_the_branch_that_is_followed(forge: Forge, config: Repository) -> None:
    config.commit({"b": "1"}, "Work", branch="a-feature")
    commit = config.resolve("main")
    client(forge.url).publish(commit, status())
    assert [pipeline.ref for pipeline in dialect.pipelines(config, commit)] == ["main"]


def test_without_a_branch_it_is_the_first_that_has_the_commit(forge: Forge, config: Repository) -> None:
    config.commit({"b": "1"}, "Work", branch="a-feature")
    commit = config.resolve("main")
    client(forge.url, branch="").publish(commit, status())
    assert [pipeline.ref for pipeline in dialect.pipelines(config, commit)] == ["a-feature"]


def test_nothing_runs_for_ever_where_the_project_began_another_pipeline(forge: Forge, config: Repository) -> None:
    commit, told = config.resolve("main"), client(forge.url)
    told.publish(commit, status(Operation.RUNNING))
    dialect.begin_pipeline(config, commit, "main")
    told.publish(commit, status(Operation.RUNNING))
    forge.fail_next(1)
    with pytest.raises(Unavailable):
        told.publish(commit, status())
    told.publish(commit, status())
    told.publish(commit, status(Operation.FAILED))
    assert jobs(config) == [[("mvd/srv1", "success")], [("mvd/srv1", "failed")]]


def test_the_end_of_a_status_whose_pipeline_is_gone_goes_to_the_newest_one(forge: Forge, config: Repository) -> None:
    commit, told = config.resolve("main"), client(forge.url)
    told.publish(commit, status(Operation.RUNNING))
    config.kept["pipelines"].clear()
    told.publish(commit, status())
    assert jobs(config) == [[("mvd/srv1", "success")]]


def test_a_pipeline_that_is_full_is_followed_by_another_one(forge: Forge, config: Repository) -> None:
    config.kept["jobs"] = 2
    for _ in range(5):
        client(forge.url).publish(config.resolve("main"), status())
    assert [len(pipeline) for pipeline in jobs(config)] == [2, 2, 1]


def test_a_status_that_somebody_else_is_writing_is_told_again_later(forge: Forge, config: Repository) -> None:
    config.kept["busy"] = 1
    with pytest.raises(Unavailable, match="busy"):
        client(forge.url).publish(config.resolve("main"), status())
    client(forge.url).publish(config.resolve("main"), status())


def test_the_lab_refuses_what_gitlab_refuses(forge: Forge, config: Repository) -> None:
    def said(**body: Any) -> tuple[int, Any]:
        url = f"{forge.url}/api/v4/projects/acme%2Fconfig/statuses/{config.resolve('main')}"
        answer = requests.post(url, json=body, headers={"PRIVATE-TOKEN": TOKEN}, timeout=10)
        return answer.status_code, answer.json().get("message") or answer.json().get("error")

    assert said(state="green") == (400, "state does not have a valid value")
    assert said() == (400, "state is missing")
    too_long = ["is too long (maximum is 255 characters)"]
    assert said(state="running", description="x" * 256) == (400, {"description": too_long})
    assert said(state="running", target_url="https://x/".ljust(256, "x")) == (400, {"target_url": too_long})
    assert said(state="running")[0] == 201
    again = 'Cannot transition status via :run from :running (Reason(s): Status cannot transition via "run")'
    assert said(state="running", description="y") == (400, again)
    assert said(state="pending")[1].startswith("Cannot transition status via :enqueue from :running")
    assert said(state="success", pipeline_id=1) == (404, "404 Pipeline for pipeline_id, sha and ref Not Found")
    assert jobs(config) == [[("default", "running")]]


# ---- projects, tokens and refusals -----------------------------------------------------------------------------------


def test_a_project_in_a_subgroup_is_one_segment_of_the_path(forge: Forge) -> None:
    repository = forge.create("acme/infra/config")
    commit = repository.commit({"a": "1"}, "Begin")
    repository.propose({"b": "1"}, "One")
    told = client(forge.url, "acme/infra/config")
    told.publish(commit, status())
    assert len(told.pull_requests("main")) == len(repository.statuses(commit)) == 1


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [
        (400, {"message": {"name": ["has already been taken"]}}, "has a job of that name"),
        (400, {"message": "Cannot transition status via :run from :success"}, "answered 400"),
        (403, {"message": "403 Forbidden"}, "Developer"),
        (403, {"error": "insufficient_scope", "error_description": "needs more"}, "scope api"),
        (404, {"message": "404 Project Not Found"}, "does not let this token post statuses to acme/config"),
        (404, {"message": "404 Commit Not Found"}, "does not know the commit"),
        (404, {"message": "404 References for commit Not Found"}, "on no branch"),
        (405, {"message": "405 Non GET methods are not allowed for moved projects"}, "has moved"),
        (422, {"message": "The number of jobs has exceeded the limit"}, "no more jobs"),
    ],
)
def test_a_refusal_says_what_to_do(code: int, said: Any, expected: str) -> None:
    with scripted(lambda method, path: (code, {}, said)) as server, pytest.raises(StepFailed) as raised:
        client(server.url).publish(SHA, status(Operation.RUNNING))
    assert expected in str(raised.value)


def test_a_message_of_before_there_were_reasons_is_understood() -> None:
    said = {"message": "Cannot transition status via :run from :running"}
    with scripted(lambda method, path: (400, {}, said)) as server:
        client(server.url).publish(SHA, status(Operation.RUNNING))


def test_every_kind_of_access_token_is_a_bearer_and_a_deploy_token_is_hinted_at() -> None:
    with scripted(lambda method, path: (401, {}, {"message": "401 Unauthorized"})) as server:
        with pytest.raises(Unavailable, match="deploy token"):
            client(server.url).publish(SHA, status())
        [(_, path, headers, body)] = server.asked
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert path == f"/api/v4/projects/acme%2Fconfig/statuses/{SHA}"
    assert body == {"state": "success", "name": "mvd/srv1", "description": "3 apps healthy", "ref": "main"}


def test_gitlabs_own_headers_say_when_to_come_again() -> None:
    headers = {"RateLimit-Remaining": "0", "RateLimit-Reset": str(int(time.time()) + 600)}
    with (
        scripted(lambda method, path: (429, headers, b"Retry later\n")) as server,
        pytest.raises(RateLimited) as raised,
    ):
        client(server.url).publish(SHA, status())
    assert 590 <= raised.value.retry_after <= 601


# ---- merge requests --------------------------------------------------------------------------------------------------


def test_forks_that_are_there_and_forks_that_are_gone_are_forks(forge: Forge) -> None:
    def request(iid: int, source: int | None, sha: str | None = SHA) -> dict[str, Any]:
        return {"iid": iid, "sha": sha, "source_project_id": source, "target_project_id": 7}

    listed = [request(4, 8), request(3, None), request(2, 7), request(1, 7, None)]
    with scripted(lambda method, path: (200, {}, listed)) as server:
        found = client(server.url).pull_requests("main")
    assert [(pull_request.number, pull_request.is_fork) for pull_request in found] == [(4, True), (3, True), (2, False)]
    assert {pull_request.commit for pull_request in found} == {SHA}


@pytest.mark.parametrize("answer", [None, {}, [None], [{}], [{"iid": "x", "sha": SHA}], "x", 7, [[]]], ids=str)
def test_an_answer_of_another_shape_says_nothing(answer: Any) -> None:
    def script(method: str, path: str) -> Answer:
        return 200, {}, answer if "page=" not in path or "page=1" in path else []

    pull_request = PullRequest(1, SHA, "refs/merge-requests/1/head")
    for known in ("", "5"):
        with scripted(script) as server, pytest.raises(Unavailable, match="something unexpected"):
            client(server.url).comment(pull_request, "<!-- mvd/h1 -->\none", known)
    if answer:
        with scripted(script) as server, pytest.raises(Unavailable, match="something unexpected"):
            client(server.url).pull_requests("main")


def test_what_gitlab_itself_notes_is_no_comment_of_ours(forge: Forge, config: Repository) -> None:
    merge_request = config.propose({"a": "1"}, "One")
    told = client(forge.url)
    [found] = told.pull_requests("main")
    for text in ("one", "two"):
        told.comment(found, f"{dialect.SYSTEM_NOTE['body']}\n{text}", "")
    assert [comment.text.splitlines()[1] for comment in merge_request.comments] == ["two"]


def test_a_comment_gives_no_orders(forge: Forge, config: Repository) -> None:
    merge_request = config.propose({"a": "1"}, "One")
    told = client(forge.url)
    [found] = told.pull_requests("main")
    known = told.comment(found, "<!-- mvd/h1 -->\n/close\n/etc/web.conf", "")
    told.comment(found, "<!-- mvd/h1 -->\n/merge", known)
    assert merge_request.is_open
    assert merge_request.comments[0].text == "<!-- mvd/h1 -->\n /merge"


@pytest.mark.parametrize("code", [403, 404])
def test_a_comment_that_is_not_ours_to_change_is_made_anew(code: int) -> None:
    def script(method: str, path: str) -> Answer:
        if method == "PUT":
            return code, {}, {"message": "no"}
        return 201, {}, {"id": 9}

    with scripted(script) as server:
        known = client(server.url).comment(PullRequest(3, SHA, ""), "<!-- mvd/h1 -->\none", "5")
        assert server.paths() == [
            "PUT /api/v4/projects/acme%2Fconfig/merge_requests/3/notes/5",
            "POST /api/v4/projects/acme%2Fconfig/merge_requests/3/notes",
        ]
    assert known == "9"


# ---- webhooks --------------------------------------------------------------------------------------------------------


def test_a_signing_token_is_understood(config: Repository) -> None:
    happened = Happened("refs/tags/v1", "0" * 40, config.resolve("main"), "Begin", "2026-01-01T00:00:00+00:00")
    headers, body = dialect.delivery(config, happened, SIGNING)
    lower = {name.lower(): value for name, value in headers.items()}
    receiver = forges.known()["gitlab"]
    assert receiver.authentic(lower, body, SIGNING)
    assert receiver.event(lower, body) == Event("push", "refs/tags/v1")
    rotated = {**lower, "webhook-signature": f"v1,AAAA {lower['webhook-signature']}"}
    assert receiver.authentic(rotated, body, SIGNING)
    assert not receiver.authentic(lower, body + b" ", SIGNING)
    assert not receiver.authentic(lower, body, "whsec_" + base64.b64encode(b"x" * 32).decode())
    assert not receiver.authentic(lower, body, "whsec_%%%")
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert not receiver.authentic({**lower, name: "x\xe4"}, body, SIGNING)
        assert not receiver.authentic({key: value for key, value in lower.items() if key != name}, body, SIGNING)


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of https://github.com/standard-webhooks/standard-webhooks."""
    body = b'{"test": 2432232314}'
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    assert forges.known()["gitlab"].authentic(headers, body, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


def test_no_secret_is_known_to_nobody() -> None:
    empty = hmac.new(b"", b"{}", hashlib.sha256).hexdigest()
    for headers in ({}, {"x-gitlab-token": ""}, {"webhook-signature": empty}):
        assert not forges.known()["gitlab"].authentic(headers, b"{}", "")


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"object_kind": "push", "ref": "refs/heads/main"}, Event("push", "refs/heads/main")),
        ({"event_name": "tag_push", "ref": "refs/tags/v1"}, Event("push", "refs/tags/v1")),
        ({"event_name": "repository_update", "refs": ["refs/heads/main"]}, Event("push")),
        ({"object_kind": "merge_request"}, Event("pull_request")),
        ({"event_name": "user_create"}, Event("other")),
        ({"object_kind": ["push"]}, Event("other")),
        ([], Event("other")),
    ],
    ids=str,
)
def test_a_hook_of_the_whole_server_is_understood_by_what_it_says(told: Any, expected: Event) -> None:
    headers = {"x-gitlab-event": "System Hook"}
    assert forges.known()["gitlab"].event(headers, json.dumps(told).encode()) == expected
