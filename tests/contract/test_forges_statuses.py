"""What every forge must say of the statuses of a commit, by discovery over `forges/`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import pytest

from gitops_mvd import forges
from gitops_mvd.core import ports
from gitops_mvd.core.errors import RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import Health, Operation, PostedStatus
from gitops_mvd.forges.api import Account, UnknownCommit
from tests.contract.scripted import Answer, Server, scripted
from tests.contract.test_forges import GREEN, NAMES, TOKEN, World, absent, status
from tests.contract.test_forges import world as world

LINK = "https://mvd.example.invalid/1"
RED = {Operation.FAILED, Operation.ROLLED_BACK, Operation.ROLLBACK_FAILED}
SICK = {Health.DEGRADED, Health.MISSING}


def post(world: World, context: str, operation: Operation = Operation.SUCCEEDED, description: str = "well") -> None:
    posted = dataclasses.replace(status(operation, description=description), context=context, url=LINK)
    world.client().publish(world.commit, posted)


def shown(statuses: Sequence[PostedStatus]) -> dict[str, tuple[str, str]]:
    return {status.context: (status.state, status.description) for status in statuses}


def test_what_was_posted_comes_back_with_its_context_cause_link_and_time(world: World) -> None:
    before = time.time()
    post(world, "mvd/srv1", Operation.FAILED, "web: exited with 1")
    [read] = world.client().statuses(world.commit)
    assert (read.context, read.state, read.description) == ("mvd/srv1", "red", "web: exited with 1")
    assert read.url == LINK
    assert before - 1 <= read.at <= time.time()


def test_a_commit_without_statuses_has_none(world: World) -> None:
    assert list(world.client().statuses(world.commit)) == []


def test_of_each_context_the_newest_counts_sorted_by_context(world: World) -> None:
    post(world, "mvd/srv2", Operation.RUNNING, "deploying")
    for operation in (Operation.RUNNING, Operation.FAILED, Operation.SUCCEEDED):
        post(world, "mvd/srv1", operation, f"it is {operation}")
    found = world.client().statuses(world.commit)
    assert [read.context for read in found] == ["mvd/srv1", "mvd/srv2"]
    assert shown(found) == {"mvd/srv1": ("green", "it is Succeeded"), "mvd/srv2": ("pending", "deploying")}


def test_green_comes_back_for_what_succeeded_and_is_healthy_alone_and_red_for_each_failure(world: World) -> None:
    client = world.client()
    for operation, health in itertools.product(Operation, Health):
        posted = dataclasses.replace(status(operation, health), context=f"mvd/{operation}-{health}")
        client.publish(world.commit, posted)
    read = {each.context: each.state for each in client.statuses(world.commit)}
    for operation, health in itertools.product(Operation, Health):
        state = read[f"mvd/{operation}-{health}"]
        assert (state == "green") == ((operation, health) == (Operation.SUCCEEDED, Health.HEALTHY))
        if operation in RED or (operation is Operation.SUCCEEDED and health in SICK):
            assert state == "red"
        if operation is Operation.RUNNING or (operation is Operation.SUCCEEDED and health is Health.PROGRESSING):
            assert state == "pending"


OTHERS = {
    "azure-devops": ["notSet", "partiallySucceeded", "notApplicable"],
    "bitbucket-cloud": ["STOPPED", "INPROGRESS", "NEW"],
    "bitbucket-dc": ["CANCELLED", "INPROGRESS", "NEW"],
    "gitea": ["skipped", "warning", "pending"],
    "github": ["pending", "expected"],
    "gitlab": ["created", "skipped", "manual", "canceling", "waiting_for_resource"],
}


def test_a_state_of_somebody_else_or_of_a_later_version_lets_nothing_pass(world: World) -> None:
    read = forges.known()[world.kind].states.read
    assert {word: read(word) for word in OTHERS[world.kind]} == dict.fromkeys(OTHERS[world.kind], "pending")
    assert read(GREEN[world.kind]) == "green"


def test_all_pages_are_read_and_no_list_is_half_a_one(world: World) -> None:
    client, read = world.client(), []
    for hosts in (100, 130):
        for host in range(len(read), hosts):
            client.publish(world.commit, dataclasses.replace(status(), context=f"mvd/host-{host:03}", url=LINK))
        read = [each.context for each in client.statuses(world.commit)]
        assert read == [f"mvd/host-{host:03}" for host in range(hosts)]
    if world.kind != "azure-devops":  # which has a thousand on a page
        world.forge.fail_next(1, 502, after=1)
        with pytest.raises(Unavailable):
            client.statuses(world.commit)


def test_a_context_that_is_longer_than_a_key_of_the_forge_comes_back_whole(world: World) -> None:
    contexts = [f"mvd/a-host-with-a-rather-long-name-in-datacenter-{n}/and-an-app" for n in (1, 2)]
    for context in contexts:
        post(world, context)
    assert [read.context for read in world.client().statuses(world.commit)] == contexts


def test_what_has_not_changed_is_not_sent_again_and_what_has_is(world: World) -> None:
    for host in range(3):
        post(world, f"mvd/srv{host}")
    client = world.client()
    first = client.statuses(world.commit)
    world.forge.asked.clear()
    assert client.statuses(world.commit) == first
    if getattr(world.forge.dialects[world.kind], "ETAGS", False):
        assert {asked.status for asked in world.forge.asked} == {304}
    post(world, "mvd/srv1", Operation.FAILED, "web: exited with 1")
    assert shown(client.statuses(world.commit))["mvd/srv1"] == ("red", "web: exited with 1")


def test_a_commit_that_the_forge_does_not_know_and_a_repository_that_it_does_not_show_are_told_apart(
    world: World,
) -> None:
    with pytest.raises(UnknownCommit, match="does not know the commit"):
        world.client().statuses("f" * 40)
    with pytest.raises(StepFailed, match="does not let this token read statuses of") as refused:
        world.client(name=absent(world)).statuses("f" * 40)
    assert not isinstance(refused.value, UnknownCommit)


def test_a_forge_that_cannot_be_asked_gives_no_list_but_a_sentence(world: World) -> None:
    post(world, "mvd/srv1")
    client = world.client()
    client.statuses(world.commit)
    for code in (500, 502, 503, 429):
        world.forge.fail_next(1, code)
        with pytest.raises(Unavailable):
            client.statuses(world.commit)
    with pytest.raises(Unavailable, match="refused the token"):
        world.client("wr0ng-token").statuses(world.commit)
    world.forge.down = True
    with pytest.raises(Unavailable, match="does not answer"):
        client.statuses(world.commit)
    world.forge.down = False
    assert len(client.statuses(world.commit)) == 1


def test_a_limit_of_requests_says_when_to_come_again(world: World) -> None:
    client = world.client()
    world.forge.allow(0, 300)
    with pytest.raises(RateLimited):
        client.statuses(world.commit)


def test_a_page_for_people_and_an_answer_of_another_shape_are_no_list(world: World) -> None:
    world.forge.html = True
    with pytest.raises(Unavailable, match="Please log in"):
        world.client().statuses(world.commit)
    for body in ([{"state": "success"}], {"value": [{}], "values": [{}], "statuses": [{}]}, 7):
        with scripted(lambda method, path, body=body: (200, {}, body)) as server, pytest.raises(Unavailable):
            reader(world.kind, server).statuses("a" * 40)


def test_what_a_status_says_is_one_plain_line() -> None:
    read = PostedStatus("mvd/srv1\n", "green", "\x1b[31mall\nwell\x00", "https://x.example/\x1b", AT)
    assert all(text.isprintable() for text in (read.context, read.description, read.url))


# ---- as the forges answer, field by field ----------------------------------------------------------------------------


def reader(kind: str, server: Server) -> ports.Forge:
    return forges.connect(kind, Account(NAMES.get(kind, "acme/config"), lambda: TOKEN, server.url))


AT = datetime(2026, 11, 30, 20, 46, 17, tzinfo=UTC).timestamp()
NOBODY = {"login": "somebody", "id": 1}
ANSWERS: Mapping[str, object] = {
    "github": {
        "state": "failure",
        "sha": "a" * 40,
        "total_count": 2,
        "statuses": [
            {
                "url": "https://api.github.com/repos/acme/config/statuses/aaa",
                "avatar_url": "https://github.com/images/1.gif",
                "id": 1,
                "node_id": "MDY6U3RhdHVzMQ==",
                "state": "success",
                "description": None,
                "target_url": None,
                "context": "mvd/one",
                "created_at": "2026-11-30T20:46:00Z",
                "updated_at": "2026-11-30T20:46:17Z",
                "required": None,
            },
            {
                "id": 2,
                "state": "error",
                "description": "superseded",
                "target_url": LINK,
                "context": "mvd/two",
                "created_at": "2026-11-30T20:46:17Z",
                "updated_at": "2026-11-30T20:46:17Z",
            },
        ],
    },
    "gitlab": [
        {
            "id": 93,
            "sha": "a" * 40,
            "ref": "main",
            "status": "success",
            "name": "mvd/one",
            "target_url": None,
            "description": None,
            "created_at": "2026-11-30T20:40:00.000Z",
            "started_at": "2026-11-30T20:41:00.000Z",
            "finished_at": "2026-11-30T22:46:17.000+02:00",
            "allow_failure": False,
            "coverage": None,
            "pipeline_id": 7,
            "author": NOBODY,
        },
        {
            "id": 91,
            "status": "failed",
            "name": "mvd/one",
            "target_url": None,
            "description": "in an older pipeline",
            "created_at": "2026-11-30T20:30:00.000Z",
            "started_at": None,
            "finished_at": "2026-11-30T20:31:00.000Z",
        },
        {
            "id": 94,
            "status": "failed",
            "name": "mvd/two",
            "target_url": LINK,
            "description": "superseded",
            "created_at": "2026-11-30T20:46:17.000Z",
            "started_at": None,
            "finished_at": None,
        },
    ],
    "gitea": {
        "state": "failure",
        "sha": "a" * 40,
        "total_count": 2,
        "statuses": [
            {
                "id": 12,
                "status": "success",
                "target_url": "",
                "description": "",
                "url": "https://git.example/api/v1/repos/acme/config/statuses/aaa",
                "context": "mvd/one",
                "creator": NOBODY,
                "created_at": "2026-11-30T21:46:17+01:00",
                "updated_at": "2026-11-30T21:46:17+01:00",
            },
            {
                "id": 13,
                "status": "failure",
                "target_url": LINK,
                "description": "superseded",
                "context": "mvd/two",
                "creator": None,
                "created_at": "2026-11-30T20:46:17Z",
                "updated_at": "2026-11-30T20:46:17Z",
            },
        ],
        "repository": {"full_name": "acme/config"},
    },
    "bitbucket-cloud": {
        "pagelen": 100,
        "page": 1,
        "size": 2,
        "values": [
            {
                "type": "build",
                "key": "mvd/one",
                "name": None,
                "refname": None,
                "state": "SUCCESSFUL",
                "description": None,
                "url": "https://bitbucket.org/acme/config/commits/aaa",
                "created_on": "2026-11-30T20:40:00.000000+00:00",
                "updated_on": "2026-11-30T20:46:17.000000+00:00",
            },
            {
                "type": "build",
                "key": "0f" * 20,
                "name": "mvd/two",
                "state": "FAILED",
                "description": "superseded",
                "url": LINK,
                "created_on": "2026-11-30T20:46:17+00:00",
                "updated_on": "2026-11-30T20:46:17+00:00",
            },
        ],
    },
    "bitbucket-dc": {
        "size": 2,
        "limit": 100,
        "isLastPage": True,
        "start": 0,
        "values": [
            {
                "state": "SUCCESSFUL",
                "key": "mvd/one",
                "url": "https://git.example/projects/ACME/repos/config/commits/aaa",
                "dateAdded": int(AT * 1000),
            },
            {
                "state": "FAILED",
                "key": "0f" * 32,
                "name": "mvd/two",
                "url": LINK,
                "description": "superseded",
                "dateAdded": int(AT * 1000),
            },
        ],
    },
    "azure-devops": {
        "count": 2,
        "value": [
            {
                "_links": {},
                "id": 1,
                "state": "succeeded",
                "context": {"name": "one", "genre": "mvd"},
                "creationDate": "2026-11-30T20:46:17.0000000Z",
                "createdBy": NOBODY,
            },
            {
                "id": 2,
                "state": "error",
                "description": "superseded",
                "context": {"name": "two", "genre": "mvd"},
                "creationDate": "2026-11-30T20:46:17Z",
                "targetUrl": LINK,
            },
        ],
    },
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_an_answer_is_read_as_the_forge_documents_it(kind: str) -> None:
    def answer(method: str, path: str) -> Answer:
        if kind == "gitea" and "page=1" not in path:
            return 200, {}, {"state": "", "statuses": None}
        return 200, {}, ANSWERS[kind]

    with scripted(answer) as server:
        one, two = reader(kind, server).statuses("a" * 40)
    assert (one.context, one.state, one.description, one.at) == ("mvd/one", "green", "", AT)
    assert (two.context, two.state, two.description, two.url) == ("mvd/two", "red", "superseded", LINK)


def test_an_etag_of_any_forge_is_sent_back_and_304_is_the_answer_of_before() -> None:
    for kind, body in ANSWERS.items():
        seen: set[str] = set()

        def answer(method: str, path: str, body: object = body, seen: set[str] = seen) -> Answer:
            is_known = path in seen
            seen.add(path)
            page = {"state": "", "statuses": None} if "page=2" in path else body
            return (304, {}, b"") if is_known else (200, {"ETag": f'"{len(json.dumps(page))}"'}, page)

        with scripted(answer) as server:
            client = reader(kind, server)
            assert client.statuses("a" * 40) == client.statuses("a" * 40)
            again = server.asked[len(server.asked) // 2 :]
        assert all("if-none-match" in headers for _, _, headers, _ in again)


@pytest.mark.parametrize("world", ["gitea"], indirect=True)
def test_a_gitea_that_says_nothing_of_a_commit_is_asked_if_it_is_there(world: World) -> None:
    world.repository.kept["ignored"] = ["empty"]
    assert list(world.client().statuses(world.commit)) == []
    with pytest.raises(UnknownCommit):
        world.client().statuses("f" * 40)
