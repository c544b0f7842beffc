"""What is Gitea's and Forgejo's own: errors that say nothing, lists that come whole, and filters that are not known."""

from __future__ import annotations

import json
import urllib.parse
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
from tests.lab.dialects import gitea as dialect
from tests.lab.forge import Forge, Repository
from tests.lab.repository import Happened

SHA = "a" * 40
SECRET = "a-secret-of-the-hook"


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge", token=TOKEN) as running:
        yield running


@pytest.fixture
def config(forge: Forge) -> Repository:
    repository = forge.create("acme/config")
    repository.commit({"fleet.yaml": "hosts: {}\n"}, "Begin")
    return repository


def client(url: str, kind: str = "gitea") -> ports.Forge:
    return forges.connect(kind, Account("acme/config", lambda: TOKEN, url))


# ---- statuses --------------------------------------------------------------------------------------------------------


def test_forgejo_is_another_name_of_it(forge: Forge, config: Repository) -> None:
    client(forge.url, "forgejo").publish(config.resolve("main"), status())
    assert [known.state for known in config.statuses(config.resolve("main"))] == ["success"]


@pytest.mark.parametrize(
    ("operation", "health", "state"),
    [
        (Operation.SUPERSEDED, Health.HEALTHY, "warning"),
        (Operation.SUCCEEDED, Health.SUSPENDED, "warning"),
        (Operation.SUCCEEDED, Health.UNKNOWN, "error"),
        (Operation.SUCCEEDED, Health.PROGRESSING, "pending"),
    ],
)
def test_the_states_are_those_that_every_version_knows(
    forge: Forge, config: Repository, operation: Operation, health: Health, state: str
) -> None:
    commit = config.resolve("main")
    client(forge.url).publish(commit, status(operation, health))
    assert [known.state for known in config.statuses(commit)] == [state]
    url = f"{forge.url}/api/v1/repos/acme/config/commits/{commit}/status"
    combined = requests.get(url, headers={"Authorization": f"token {TOKEN}"}, timeout=10).json()["state"]
    assert combined == ("pending" if state == "pending" else "failure")


def test_an_error_without_a_word_is_asked_about_before_the_commit_is_called_unknown() -> None:
    known = {"git": 200, "statuses": 500}

    def script(method: str, path: str) -> Answer:
        return known[path.split("/")[6]], {}, {"message": ""}

    with scripted(script) as server, pytest.raises(Unavailable, match="answered 500"):
        client(server.url).publish(SHA, status())
    known["git"] = 404
    with scripted(script) as server, pytest.raises(StepFailed, match="does not know the commit"):
        client(server.url).publish(SHA, status())
    known["git"] = 502
    with scripted(script) as server, pytest.raises(Unavailable, match="answered 500"):
        client(server.url).publish(SHA, status())
    known["statuses"] = 502
    with scripted(script) as server, pytest.raises(Unavailable, match="answered 502"):
        client(server.url).publish(SHA, status())
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("user", "kind", "expected"),
    [
        (200, StepFailed, "does not let this token"),
        (403, StepFailed, "does not let this token"),
        (401, Unavailable, "refused the token"),
        (502, Unavailable, "answered 502"),
    ],
)
def test_an_old_server_that_takes_a_revoked_token_for_none_is_asked_about_it(
    user: int, kind: type[Exception], expected: str
) -> None:
    def script(method: str, path: str) -> Answer:
        return (user if path == "/api/v1/user" else 404), {}, {"message": "The target couldn't be found."}

    with scripted(script) as server:
        with pytest.raises(kind, match=expected):
            client(server.url).publish(SHA, status())
        with pytest.raises(kind, match=expected):
            client(server.url).pull_requests("main")


@pytest.mark.parametrize(
    ("code", "said", "kind", "expected"),
    [
        (404, "user does not exist [uid: 0, name: ]", Unavailable, "does not find the user"),
        (401, "user does not exist [uid: 0, name: ]", Unavailable, "refused the token"),
        (403, "token does not have at least one of required scope(s)", StepFailed, "write:repository"),
        (403, "user should have a permission to write to a repo", StepFailed, "does not let this token"),
        (422, "[]: json: cannot unmarshal", StepFailed, "answered 422"),
    ],
)
def test_a_refusal_says_what_to_do(code: int, said: str, kind: type[Exception], expected: str) -> None:
    with scripted(lambda method, path: (code, {}, {"message": said})) as server, pytest.raises(kind) as raised:
        client(server.url).publish(SHA, status())
    assert expected in str(raised.value)


def test_a_proxy_in_front_of_it_may_limit_requests() -> None:
    with scripted(lambda method, path: (429, {"Retry-After": "30"}, b"")) as server:
        with pytest.raises(RateLimited) as raised:
            client(server.url).publish(SHA, status())
        [(_, path, headers, body)] = server.asked
    assert raised.value.retry_after == 30
    assert headers["authorization"] == f"token {TOKEN}"
    assert path == f"/api/v1/repos/acme/config/statuses/{SHA}"
    assert body == {"state": "success", "context": "mvd/srv1", "description": "3 apps healthy", "target_url": ""}


# ---- pull requests ---------------------------------------------------------------------------------------------------


def test_a_server_that_knows_no_filter_is_filtered_here(forge: Forge, config: Repository) -> None:
    config.kept["ignored"] = {"base_branch"}
    config.propose({"a": "1"}, "Into another branch").target = "other"
    config.propose({"b": "1"}, "One")
    assert [found.number for found in client(forge.url).pull_requests("main")] == [2]


def test_of_very_many_pull_requests_the_newest_hundred_are_listed(forge: Forge, config: Repository) -> None:
    commit = config.resolve("main")
    for number in range(130):
        config.pull_requests.append(dialect.PullRequest(number + 1, "Many", "main", "main", commit))
    assert [found.number for found in client(forge.url).pull_requests("main")] == list(range(130, 30, -1))


def pull(number: int, repo: int) -> dict[str, Any]:
    return {
        "id": number,
        "number": number,
        "head": {"sha": SHA, "ref": "x", "repo_id": repo, "repo": None},
        "base": {"ref": "main", "repo_id": 7},
    }


def test_a_server_without_pages_is_asked_no_more_than_twice() -> None:
    with scripted(lambda method, path: (200, {}, [pull(2, -1), pull(1, 7)])) as server:
        found = client(server.url).pull_requests("main")
        assert len(server.asked) == 2
    assert [(pull_request.number, pull_request.is_fork) for pull_request in found] == [(2, True), (1, False)]
    assert [pull_request.ref for pull_request in found] == ["refs/pull/2/head", "refs/pull/1/head"]


@pytest.mark.parametrize("answer", [None, [None], [{}], [{"id": 1}], "x", 7, [[]], {"message": "x"}], ids=str)
def test_an_answer_of_another_shape_says_nothing(answer: Any) -> None:
    with scripted(lambda method, path: (200, {}, answer)) as server:
        with pytest.raises(Unavailable, match="something unexpected"):
            client(server.url).pull_requests("main")
        with pytest.raises(Unavailable, match="something unexpected"):
            client(server.url).comment(PullRequest(1, SHA, ""), "<!-- mvd/h1 -->\none", "")


def test_a_comment_without_a_word_is_read_like_any_other() -> None:
    def script(method: str, path: str) -> Answer:
        return (200, {}, [{"id": 4, "body": ""}]) if method == "GET" else (201, {}, {"id": 9})

    with scripted(script) as server:
        assert client(server.url).comment(PullRequest(1, SHA, ""), "<!-- mvd/h1 -->\none", "") == "9"


@pytest.mark.parametrize("code", [403, 404])
def test_a_comment_that_is_not_ours_to_change_is_made_anew(code: int) -> None:
    def script(method: str, path: str) -> Answer:
        return (code, {}, b"") if method == "PATCH" else (201, {}, {"id": 9})

    with scripted(script) as server:
        assert client(server.url).comment(PullRequest(3, SHA, ""), "<!-- mvd/h1 -->\none", "5") == "9"
        assert server.paths() == [
            "PATCH /api/v1/repos/acme/config/issues/comments/5",
            "POST /api/v1/repos/acme/config/issues/3/comments",
        ]


# ---- webhooks --------------------------------------------------------------------------------------------------------


def delivered(config: Repository, secret: str = SECRET) -> tuple[dict[str, str], bytes]:
    happened = Happened("refs/heads/main", "0" * 40, config.resolve("main"), "Begin", "2026-01-01T00:00:00+00:00")
    headers, body = dialect.delivery(config, happened, secret)
    return {name.lower(): value for name, value in headers.items()}, body


def test_a_form_carries_what_was_signed(config: Repository) -> None:
    headers, body = delivered(config)
    headers["content-type"] = "application/x-www-form-urlencoded"
    form = urllib.parse.urlencode({"payload": body.decode()}).encode()
    receiver = forges.known()["gitea"]
    assert receiver.authentic(headers, form, SECRET)
    assert receiver.event(headers, form) == Event("push", "refs/heads/main")
    assert not receiver.authentic(headers, body, SECRET)
    assert not receiver.authentic(headers, form.replace(b"main", b"next"), SECRET)


def test_forgejos_own_headers_are_enough(config: Repository) -> None:
    headers, body = delivered(config)
    own = {"x-forgejo-signature": headers["x-gitea-signature"], "x-forgejo-event": "push"}
    receiver = forges.known()["forgejo"]
    assert receiver.authentic(own, body, SECRET)
    assert receiver.event(own, body) == Event("push", "refs/heads/main")
    assert not receiver.authentic({**headers, "x-forgejo-signature": "0" * 64}, body, SECRET)


def test_a_hook_without_a_secret_is_not_authentic(config: Repository) -> None:
    headers, body = delivered(config, secret="")
    for secret in ("", SECRET):
        assert not forges.known()["gitea"].authentic(headers, body, secret)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pull_request", Event("pull_request")),
        ("pull_request_sync", Event("pull_request")),
        ("pull_request_comment", Event("other")),
        ("create", Event("other")),
        ("", Event("other")),
    ],
)
def test_what_a_hook_is_about_is_in_its_header(name: str, expected: Event) -> None:
    body = json.dumps({"ref": "refs/heads/main"}).encode()
    assert forges.known()["gitea"].event({"x-gitea-event": name}, body) == expected
