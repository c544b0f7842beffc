"""What is special about the two kinds of Bitbucket; what they share with all forges is in test_forges.py."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd import forges
from gitops_mvd.core import ports
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PullRequest
from gitops_mvd.forges import bitbucket_cloud
from gitops_mvd.forges.api import Account
from tests.contract.scripted import Answer, Script, scripted
from tests.lab.forge import Forge, Repository
from tests.lab.repository import PullRequest as Opened

TOKEN = "t0ken-of-the-lab"
KINDS = ["bitbucket-cloud", "bitbucket-dc"]
STATUS = CommitStatus("mvd/srv1", Operation.SUCCEEDED, Health.HEALTHY, "3 apps healthy")
PULL_REQUEST = PullRequest(7, "a" * 40, "")


@pytest.fixture
def forge(tmp_path: Path) -> Iterator[Forge]:
    with Forge(tmp_path / "forge", token=TOKEN) as forge:
        yield forge


@pytest.fixture
def repository(forge: Forge) -> Repository:
    repository = forge.create("acme/config")
    repository.commit({"fleet.yaml": "hosts: {}\n"}, "Begin")
    return repository


def client(kind: str, forge: Forge, name: str = "acme/config") -> ports.Forge:
    return forges.connect(kind, Account(name, lambda: TOKEN, forge.url + forge.dialects[kind].BASE))


def at(kind: str, url: str, name: str = "acme/config", username: str = "") -> ports.Forge:
    return forges.connect(kind, Account(name, lambda: TOKEN, url, username))


def sent(forge: Forge) -> list[dict[str, Any]]:
    return [json.loads(asked.body) for asked in forge.asked if asked.body]


# ---- statuses --------------------------------------------------------------------------------------------------------


def test_a_short_context_is_the_key_itself(forge: Forge, repository: Repository) -> None:
    for kind in KINDS:
        client(kind, forge).publish(repository.resolve("main"), STATUS)
    assert [(body["key"], body["name"]) for body in sent(forge)] == [("mvd/srv1", "mvd/srv1")] * 2


@pytest.mark.parametrize(("kind", "longest"), [("bitbucket-cloud", 40), ("bitbucket-dc", 255)])
def test_two_long_contexts_that_end_differently_have_two_keys(
    forge: Forge, repository: Repository, kind: str, longest: int
) -> None:
    contexts = [f"mvd/{'x' * longest}-{n}" for n in (1, 2)]
    for context in contexts:
        client(kind, forge).publish(repository.resolve("main"), dataclasses.replace(STATUS, context=context))
    keys = [body["key"] for body in sent(forge)]
    assert len(set(keys)) == 2
    assert all(len(key) <= longest for key in keys)


@given(st.lists(st.text(min_size=1, max_size=80), min_size=2, max_size=2, unique=True))
def test_no_two_contexts_have_one_key(contexts: list[str]) -> None:
    contexts = [context.encode(errors="replace").decode() for context in contexts]
    keys = {bitbucket_cloud._key(context) for context in contexts}
    assert len(keys) == len(set(contexts))
    assert all(0 < len(key) <= 40 for key in keys)


@pytest.mark.parametrize("url", ["", "ftp://example.invalid/", "https://example.invalid/" + "x" * 500])
def test_a_status_without_a_link_that_will_do_leads_to_its_commit(
    forge: Forge, repository: Repository, url: str
) -> None:
    sha = repository.resolve("main")
    for kind in KINDS:
        client(kind, forge).publish(sha, dataclasses.replace(STATUS, url=url))
    cloud, dc = repository.statuses(sha)
    assert cloud.target_url == f"https://bitbucket.org/acme/config/commits/{sha}"
    assert dc.target_url == f"{forge.url}/projects/acme/repos/config/commits/{sha}"


def test_a_repository_of_a_user_is_reached_with_its_tilde() -> None:
    with scripted(lambda method, path: (204, {}, b"")) as server:
        at("bitbucket-dc", server.url + "/git/", "~ada/my config").publish("a" * 40, STATUS)
        assert server.paths() == [
            f"POST /git/rest/api/latest/projects/~ada/repos/my%20config/commits/{'a' * 40}/builds"
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_username_the_token_is_its_password_and_is_not_told_either(kind: str) -> None:
    basic = base64.b64encode(f"ada@example.com:{TOKEN}".encode()).decode()
    with scripted(lambda method, path: (400, {}, f"bad {basic} and {TOKEN}".encode())) as server:
        with pytest.raises(StepFailed, match=r"bad \*\*\* and \*\*\*"):
            at(kind, server.url, username="ada@example.com").publish("a" * 40, STATUS)
        assert server.asked[0][2]["authorization"] == f"Basic {basic}"


# ---- pull requests ---------------------------------------------------------------------------------------------------


def test_an_abbreviated_commit_is_looked_up_once(forge: Forge, repository: Repository) -> None:
    pull_request = repository.propose({"a": "1"}, "One")
    cloud = client("bitbucket-cloud", forge)
    assert [found.commit for found in cloud.pull_requests("main")] == [pull_request.commit]
    assert [found.commit for found in cloud.pull_requests("main")] == [pull_request.commit]
    assert len([asked for asked in forge.asked if asked.path.partition("?")[0].endswith("/commits")]) == 1
    repository.amend(pull_request, {"a": "2"})
    assert [found.commit for found in cloud.pull_requests("main")] == [pull_request.commit]


def pull(number: int, **source: Any) -> dict[str, Any]:
    ours = {"full_name": "acme/config"}
    of = {"branch": {"name": f"b{number}"}, "commit": {"hash": f"{number:012x}"}, "repository": ours}
    return {"id": number, "source": {**of, **source}, "destination": {"repository": ours}}


def test_what_can_not_be_looked_up_does_not_hide_the_others() -> None:
    pulls = [pull(4), pull(3, commit=None), pull(2, repository=None), pull(1)]

    def script(method: str, path: str) -> Answer:
        if "/pullrequests?" in path:
            return 200, {}, {"values": pulls}
        if "/pullrequests/4/" in path:
            return 404, {}, {"type": "error", "error": {"message": "Resource not found"}}
        number = int(path.split("/pullrequests/")[1].partition("/")[0])
        return 200, {}, {"values": [{"hash": "f" * 40}, {"hash": f"{number:012x}{'0' * 28}"}]}

    with scripted(script) as server:
        found = at("bitbucket-cloud", server.url).pull_requests("main")
    assert found == [
        PullRequest(2, f"{2:012x}{'0' * 28}", "", True),
        PullRequest(1, f"{1:012x}{'0' * 28}", "refs/heads/b1", False),
    ]


def test_the_head_of_a_fork_is_fetched_from_data_center_and_not_from_cloud(
    forge: Forge, repository: Repository
) -> None:
    pull_request = repository.propose({"a": "1"}, "Mine", is_fork=True)
    [cloud] = client("bitbucket-cloud", forge).pull_requests("main")
    [dc] = client("bitbucket-dc", forge).pull_requests("main")
    assert (cloud.commit, cloud.ref) == (pull_request.commit, "")
    assert repository.resolve(dc.ref) == dc.commit == pull_request.commit


@pytest.mark.parametrize("kind", KINDS)
def test_no_more_than_the_last_hundred_are_listed(forge: Forge, repository: Repository, kind: str) -> None:
    sha = repository.resolve("main")
    repository.pull_requests.extend(Opened(number, "Many", "main", "main", sha) for number in range(1, 131))
    assert [found.number for found in client(kind, forge).pull_requests("main")] == list(range(130, 30, -1))


def test_a_next_page_on_another_host_is_not_asked_for() -> None:
    with scripted(lambda method, path: (200, {}, {"values": []})) as other:
        for link in (f"{other.url}/2.0/x", "http://127.0.0.1:1/2.0/x", "//x/2.0/y", "/2.0/x"):
            page = {"values": [], "next": link}
            with scripted(lambda method, path, page=page: (200, {}, page)) as server:
                with pytest.raises(Unavailable, match="elsewhere"):
                    at("bitbucket-cloud", server.url).pull_requests("main")
                assert len(server.asked) == 1
        assert other.asked == []


def test_a_branch_is_quoted_in_the_query() -> None:
    with scripted(lambda method, path: (200, {}, {"values": []})) as server:
        at("bitbucket-cloud", server.url).pull_requests('a" OR state="MERGED')
        assert "q=destination.branch.name+%3D+%22a%5C%22+OR+state%3D%5C%22MERGED%22" in server.asked[0][1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("answer", [None, [], "x", {"values": None}, {"values": [{}], "isLastPage": True}, {"a": 1}])
def test_an_answer_of_another_shape_says_nothing(kind: str, answer: Any) -> None:
    with scripted(lambda method, path: (200, {}, answer)) as server:
        with pytest.raises(Unavailable, match="something unexpected"):
            at(kind, server.url).pull_requests("main")
        with pytest.raises(Unavailable, match="something unexpected"):
            at(kind, server.url).comment(PULL_REQUEST, "<!-- mvd/h1 -->\none", "")


# ---- comments --------------------------------------------------------------------------------------------------------


def test_a_deleted_comment_that_cloud_goes_on_to_list_is_not_taken_for_ours(
    forge: Forge, repository: Repository
) -> None:
    pull_request = repository.propose({"a": "1"}, "One")
    cloud = client("bitbucket-cloud", forge)
    [found] = cloud.pull_requests("main")
    known = cloud.comment(found, "<!-- mvd/h1 -->\none", "")
    pull_request.comments[0].is_deleted = True
    again = cloud.comment(found, "<!-- mvd/h1 -->\ntwo", known)
    assert cloud.comment(found, "<!-- mvd/h1 -->\nthree", "") == again != known
    assert [c.text for c in pull_request.comments if not c.is_deleted] == ["<!-- mvd/h1 -->\nthree"]


def conflicting(times: int) -> Script:
    """A comment that somebody else changes so many times, each time just before we do."""
    version = [3]

    def script(method: str, path: str) -> Answer:
        if method == "GET":
            return 200, {}, {"id": 5, "version": version[0]}
        if version[0] < 3 + times:
            version[0] += 1
            return 409, {}, {"errors": [{"message": "out of date"}]}
        return 200, {}, {"id": 5, "version": version[0] + 1}

    return script


def test_a_comment_that_somebody_else_changed_meanwhile_is_changed_after_that() -> None:
    with scripted(conflicting(1)) as server:
        assert at("bitbucket-dc", server.url).comment(PULL_REQUEST, "text", "5") == "5"
        put = [body for method, _, _, body in server.asked if method == "PUT"]
    assert put == [{"text": "text", "version": 3}, {"text": "text", "version": 4}]


def test_a_comment_that_is_changed_all_the_time_waits() -> None:
    with scripted(conflicting(100)) as server, pytest.raises(Unavailable, match="same comment"):
        at("bitbucket-dc", server.url).comment(PULL_REQUEST, "text", "5")


# ---- webhooks --------------------------------------------------------------------------------------------------------


def cloud_push(*changes: Any) -> Event:
    body = json.dumps({"push": {"changes": changes}}).encode()
    return forges.known()["bitbucket-cloud"].event({"x-event-key": "repo:push"}, body)


def dc_push(*refs: Any) -> Event:
    body = json.dumps({"changes": [{"refId": ref} for ref in refs]}).encode()
    return forges.known()["bitbucket-dc"].event({"x-event-key": "repo:refs_changed"}, body)


def test_a_push_of_one_ref_names_it_and_one_of_several_may_be_of_any() -> None:
    main, other = ({"new": {"type": "branch", "name": name}, "old": None} for name in ("main", "a/b"))
    tag = {"new": None, "old": {"type": "tag", "name": "v1"}}
    assert cloud_push(main).ref == "refs/heads/main"
    assert cloud_push(other).ref == "refs/heads/a/b"
    assert cloud_push(tag).ref == "refs/tags/v1"
    assert cloud_push(main, other).ref == cloud_push(other, tag).ref == cloud_push().ref == ""
    assert dc_push("refs/heads/main").ref == "refs/heads/main"
    assert dc_push("refs/heads/x", "refs/heads/main").ref == dc_push().ref == dc_push(7).ref == ""


@pytest.mark.parametrize(
    ("kind", "key", "told"),
    [
        ("bitbucket-cloud", "diagnostics:ping", "ping"),
        ("bitbucket-cloud", "pullrequest:fulfilled", "pull_request"),
        ("bitbucket-cloud", "pullrequest:comment_created", "other"),
        ("bitbucket-dc", "diagnostics:ping", "ping"),
        ("bitbucket-dc", "pr:merged", "pull_request"),
        ("bitbucket-dc", "pr:comment:added", "other"),
    ],
)
def test_what_is_written_about_a_pull_request_is_not_about_the_pull_request(kind: str, key: str, told: str) -> None:
    assert forges.known()[kind].event({"x-event-key": key}, b'{"test": true}') == Event(told)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_signed_is_not_authentic(kind: str) -> None:
    receiver = forges.known()[kind]
    assert not receiver.authentic({"x-event-key": "diagnostics:ping"}, b"{}", "secret")
    assert not receiver.authentic({"x-hub-signature": "sha1=abc"}, b"{}", "secret")


@given(
    st.binary(max_size=100) | st.sampled_from([b'{"push": {"changes": [{"new": 1}]}}', b'{"changes": [{"refId": []}]}'])
)
def test_whatever_is_pushed_is_a_push(body: bytes) -> None:
    assert forges.known()["bitbucket-cloud"].event({"x-event-key": "repo:push"}, body).kind == "push"
    assert forges.known()["bitbucket-dc"].event({"x-event-key": "repo:refs_changed"}, body).kind == "push"
