"""What every forge must do with a commit status, by discovery over `forges/`, and what is GitHub's own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd import forges
from gitops_mvd.core import ports
from gitops_mvd.core.errors import MvdError, RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import CommitStatus, Event, Health, Operation, PostedState
from gitops_mvd.forges.api import Account, UnknownCommit, cut
from tests.contract.github_description import complaints
from tests.lab.forge import Forge, Repository
from tests.lab.repository import Happened, PullRequest, Status

TOKEN = "t0ken-of-the-lab"
NAMES: Mapping[str, str] = {
    "azure-devops": "lab/acme/config"
}  # how a forge names the lab's repository acme/config, where that is not just so
GREEN = {
    "azure-devops": "succeeded",
    "bitbucket-cloud": "SUCCESSFUL",
    "bitbucket-dc": "SUCCESSFUL",
    "gitea": "success",
    "github": "success",
    "gitlab": "success",
}
ENDS = {
    "azure-devops": {"succeeded", "failed", "error", "notApplicable"},
    "bitbucket-cloud": {"SUCCESSFUL", "FAILED", "STOPPED"},
    "bitbucket-dc": {"SUCCESSFUL", "FAILED", "CANCELLED", "UNKNOWN"},
    "gitea": {"success", "failure", "error", "warning"},
    "github": {"success", "failure", "error"},
    "gitlab": {"success", "failed", "canceled"},
}
LONGEST = {  # characters of a description
    "azure-devops": 255,
    "bitbucket-cloud": 255,
    "bitbucket-dc": 255,
    "gitea": 255,
    "github": 140,
    "gitlab": 255,
}
PAUSES = {"bitbucket-cloud": 60}  # seconds, where a forge does not say for how long it wants no more requests


@dataclasses.dataclass
class World:
    """A forge of that kind, and a commit there."""

    kind: str
    forge: Forge
    repository: Repository
    commit: str

    def client(self, token: str = TOKEN, name: str = "") -> ports.Forge:
        base = self.forge.url + self.forge.dialects[self.kind].BASE
        return forges.connect(self.kind, Account(name or NAMES.get(self.kind, "acme/config"), lambda: token, base))

    def said(self) -> list[tuple[str, str]]:
        return [(status.state, status.description) for status in self.repository.statuses(self.commit)]


@pytest.fixture(params=sorted({next(iter(forge.names)) for forge in forges.known().values()}))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with Forge(tmp_path / "forge", token=TOKEN) as forge:
        repository = forge.create("acme/config")
        commit = repository.commit({"fleet.yaml": "hosts: {}\n"}, "Begin")
        yield World(request.param, forge, repository, commit)
        if request.param == "github":
            assert complaints(forge.asked, "api.github.com") == []


def status(
    operation: Operation = Operation.SUCCEEDED, health: Health = Health.HEALTHY, description: str = "3 apps healthy"
) -> CommitStatus:
    return CommitStatus("mvd/srv1", operation, health, description)


# ---- every forge -----------------------------------------------------------------------------------------------------


def test_a_status_arrives_with_its_context_its_cause_and_its_link(world: World) -> None:
    world.client().publish(world.commit, dataclasses.replace(status(), url="https://mvd.example.invalid/1"))
    [arrived] = world.repository.statuses(world.commit)
    assert (arrived.context, arrived.description) == ("mvd/srv1", "3 apps healthy")
    assert arrived.target_url == "https://mvd.example.invalid/1"


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize("health", Health)
def test_green_is_only_what_succeeded_and_is_healthy(world: World, operation: Operation, health: Health) -> None:
    world.client().publish(world.commit, status(operation, health))
    [arrived] = world.repository.statuses(world.commit)
    green = (operation, health) == (Operation.SUCCEEDED, Health.HEALTHY)
    assert (arrived.state == GREEN[world.kind]) == green


@pytest.mark.parametrize("letter", ["x", "ä", "語", "e\u0301", "👩\u200d🔬", "\ud83d", "\n"], ids=ascii)
def test_a_long_description_is_cut_between_characters(world: World, letter: str) -> None:
    world.client().publish(world.commit, status(description="web: " + letter * 300))
    [arrived] = world.repository.statuses(world.commit)
    assert arrived.description.startswith("web:")
    assert arrived.description.endswith("…")
    assert len(arrived.description) <= LONGEST[world.kind]
    if letter.isprintable() or "\u200d" in letter:
        assert set(arrived.description.removeprefix("web: ").removesuffix("…").split(letter)) == {""}


def test_a_forge_that_is_down_is_asked_again_later(world: World) -> None:
    client = world.client()
    for code in (500, 502, 503, 429):
        world.forge.fail_next(1, code)
        with pytest.raises(Unavailable):
            client.publish(world.commit, status())
    world.forge.down = True
    with pytest.raises(Unavailable, match="does not answer"):
        client.publish(world.commit, status())
    world.forge.down = False
    client.publish(world.commit, status())
    assert len(world.said()) == 1


def test_what_will_never_be_taken_is_told_in_one_clear_line(world: World) -> None:
    refusals: Mapping[str, Callable[[], None]] = {
        "does not let this token": lambda: world.client(name=absent(world)).publish(world.commit, status()),
        "does not know the commit": lambda: world.client().publish("f" * 40, status()),
    }
    for sentence, publish in refusals.items():
        with pytest.raises(StepFailed, match=sentence) as raised:
            publish()
        assert "\n" not in str(raised.value)
    world.forge.fail_next(1, 418)
    with pytest.raises(StepFailed, match="418"):
        world.client().publish(world.commit, status())


def test_a_post_to_a_commit_that_does_not_exist_tells_what_the_token_may_do_and_leaves_nothing(world: World) -> None:
    with pytest.raises(UnknownCommit, match="does not know the commit"):
        world.client().publish("0" * 40, status())
    with pytest.raises(StepFailed) as refused:
        world.client(name=absent(world)).publish("0" * 40, status())
    assert not isinstance(refused.value, UnknownCommit)
    assert world.said() == []
    assert world.repository.statuses("0" * 40) == []


def absent(world: World) -> str:
    """A repository that is not there, in that forge's words."""
    return NAMES.get(world.kind, "acme/config").replace("config", "absent")


def test_a_token_that_was_revoked_is_told_and_what_waits_for_a_new_one_is_not_lost(world: World) -> None:
    with pytest.raises(Unavailable, match="refused the token"):
        world.client("wr0ng-token").publish(world.commit, status())


def test_a_limit_of_requests_says_when_to_come_again(world: World) -> None:
    client = world.client()
    world.forge.allow(0, 300)
    with pytest.raises(RateLimited) as raised:
        client.publish(world.commit, status())
    wanted = PAUSES.get(world.kind, 300)
    assert wanted - 50 <= raised.value.retry_after <= wanted + 1


def test_a_page_for_people_in_place_of_an_answer_is_no_success(world: World) -> None:
    world.forge.html = True
    with pytest.raises(Unavailable, match="Please log in"):
        world.client().publish(world.commit, status())


def test_what_is_told_twice_is_there_once_or_twice_and_never_refused(world: World) -> None:
    client = world.client()
    for operation in (Operation.RUNNING, Operation.RUNNING, Operation.SUCCEEDED, Operation.SUCCEEDED):
        client.publish(world.commit, status(operation))
    assert world.said()[-1][0] == GREEN[world.kind]


def test_green_follows_red_and_red_follows_green(world: World) -> None:
    client = world.client()
    for operation in (Operation.RUNNING, Operation.FAILED, Operation.SUCCEEDED, Operation.FAILED, Operation.SUCCEEDED):
        client.publish(world.commit, status(operation, description=f"it is {operation}"))
        assert world.repository.latest(world.commit)[0].description == f"it is {operation}"
    assert world.repository.latest(world.commit)[0].state == GREEN[world.kind]


@pytest.mark.parametrize("operation", [o for o in Operation if o is not Operation.RUNNING])
def test_every_end_is_an_end(world: World, operation: Operation) -> None:
    world.client().publish(world.commit, status(Operation.RUNNING))
    assert world.repository.latest(world.commit)[0].state not in ENDS[world.kind]
    world.client().publish(world.commit, status(operation))
    assert world.repository.latest(world.commit)[0].state in ENDS[world.kind]


def test_each_context_is_its_own_however_long(world: World) -> None:
    client = world.client()
    contexts = [f"mvd/a-host-with-a-rather-long-name-in-datacenter-{n}/and-an-app" for n in (1, 2)]
    for context, operation in zip(contexts, (Operation.FAILED, Operation.SUCCEEDED), strict=True):
        client.publish(world.commit, dataclasses.replace(status(operation), context=context))
    green = [latest.state == GREEN[world.kind] for latest in world.repository.latest(world.commit)]
    assert sorted(green) == [False, True]


# ---- pull requests ---------------------------------------------------------------------------------------------------


def test_open_pull_requests_to_the_branch_are_listed_with_what_git_fetches_them_by(world: World) -> None:
    one = world.repository.propose({"a": "1"}, "One")
    two = world.repository.propose({"b": "1"}, "Two")
    world.repository.propose({"c": "1"}, "Into another branch").target = "other"
    world.repository.close(two)
    [found] = world.client().pull_requests("main")
    assert (found.number, found.commit, found.is_fork) == (one.number, one.commit, False)
    assert world.repository.resolve(found.ref) == one.commit


def test_what_comes_from_a_fork_is_told(world: World) -> None:
    world.repository.propose({"a": "1"}, "Mine", is_fork=True)
    [found] = world.client().pull_requests("main")
    assert found.is_fork


def test_many_pull_requests_are_all_listed_the_newest_first(world: World) -> None:
    for number in range(60):
        world.repository.pull_requests.append(PullRequest(number + 1, "Many", "main", "main", world.commit))
    assert [found.number for found in world.client().pull_requests("main")] == list(range(60, 0, -1))


def test_what_has_not_changed_is_not_sent_again_where_the_forge_can_tell(world: World) -> None:
    world.repository.propose({"a": "1"}, "One")
    client = world.client()
    listed = [client.pull_requests("main") for _ in range(3)]
    assert listed[0] == listed[1] == listed[2]
    statuses = [asked.status for asked in world.forge.asked if asked.method == "GET"]
    if getattr(world.forge.dialects[world.kind], "ETAGS", False):
        assert statuses.count(304) == 2 * len(statuses) / 3
    world.repository.propose({"b": "1"}, "Two")
    assert len(client.pull_requests("main")) == 2


def test_a_comment_is_written_once_and_then_anew(world: World) -> None:
    pull_request = world.repository.propose({"a": "1"}, "One")
    pull_request.comment("What a nice change\n\nIndeed.")
    client = world.client()
    [found] = client.pull_requests("main")
    known = client.comment(found, "<!-- mvd/h1 -->\none", "")
    again = client.comment(found, "<!-- mvd/h1 -->\ntwo", known)
    forgotten = client.comment(found, "<!-- mvd/h1 -->\nthree", "")
    client.comment(found, "<!-- mvd/h2 -->\nother", "")
    assert again == forgotten == known
    assert [c.text for c in pull_request.comments[1:]] == ["<!-- mvd/h1 -->\nthree", "<!-- mvd/h2 -->\nother"]


def test_a_comment_that_was_deleted_is_made_anew(world: World) -> None:
    pull_request = world.repository.propose({"a": "1"}, "One")
    client = world.client()
    [found] = client.pull_requests("main")
    known = client.comment(found, "<!-- mvd/h1 -->\none", "")
    pull_request.comments.clear()
    assert client.comment(found, "<!-- mvd/h1 -->\ntwo", known) != known
    assert [c.text for c in pull_request.comments] == ["<!-- mvd/h1 -->\ntwo"]


def test_a_comment_of_ours_is_found_behind_many_others(world: World) -> None:
    pull_request = world.repository.propose({"a": "1"}, "One")
    for n in range(230):
        pull_request.comment(f"Chatter {n}")
    client = world.client()
    [found] = client.pull_requests("main")
    known = client.comment(found, "<!-- mvd/h1 -->\none", "")
    assert client.comment(found, "<!-- mvd/h1 -->\ntwo", "") == known
    assert len(pull_request.comments) == 231


def test_a_comment_that_is_too_long_is_cut_at_a_line(world: World) -> None:
    pull_request = world.repository.propose({"a": "1"}, "One")
    client = world.client()
    [found] = client.pull_requests("main")
    client.comment(found, "<!-- mvd/h1 -->\n" + "+ create unit mvd-web-1\n" * 100_000, "")
    assert pull_request.comments[0].text.endswith("mvd-web-1\n…")


# ---- webhooks --------------------------------------------------------------------------------------------------------


SECRET = "a-secret-of-the-hook"


def delivered(world: World, happened: Happened, secret: str = SECRET) -> tuple[dict[str, str], bytes]:
    headers, body = world.forge.dialects[world.kind].delivery(world.repository, happened, secret)
    return {name.lower(): value for name, value in headers.items()}, body


def pushed(world: World) -> Happened:
    return Happened("refs/heads/main", "0" * 40, world.commit, "Begin", "2026-01-01T00:00:00+00:00")


def test_a_push_is_heard_with_its_ref(world: World) -> None:
    headers, body = delivered(world, pushed(world))
    receiver = forges.known()[world.kind]
    assert receiver.authentic(headers, body, SECRET)
    assert receiver.event(headers, body) == Event("push", "refs/heads/main")


def test_a_pull_request_is_heard(world: World) -> None:
    pull_request = world.repository.propose({"a": "1"}, "One")
    for action in ("opened", "synchronize", "closed"):
        headers, body = delivered(world, Happened(pull_request=pull_request, action=action))
        assert forges.known()[world.kind].authentic(headers, body, SECRET)
        assert forges.known()[world.kind].event(headers, body).kind == "pull_request"


@pytest.mark.parametrize("world", ["bitbucket-cloud", "gitea", "github"], indirect=True)
def test_a_status_is_heard_with_its_commit_context_and_state(world: World) -> None:
    """The other forges tell of no status that comes from outside."""
    receiver = forges.known()[world.kind]
    for word, state in ((GREEN[world.kind], "green"), ("of a later version", "pending")):
        posted = Status("mvd/uk-1", word, "web", "", datetime(2026, 1, 1, tzinfo=UTC))
        headers, body = delivered(world, Happened(after=world.commit, status=posted))
        assert receiver.authentic(headers, body, SECRET)
        heard = Event("status", commit=world.commit, context="mvd/uk-1", state=cast(PostedState, state))
        assert receiver.event(headers, body) == heard


def test_what_was_not_made_with_the_secret_is_not_authentic(world: World) -> None:
    authentic = forges.known()[world.kind].authentic
    headers, body = delivered(world, pushed(world))
    assert not authentic(headers, body, SECRET + "x")
    assert not authentic({}, body, SECRET)
    assert not authentic({}, b"", SECRET)
    for name in headers:
        if name not in ("content-type", "user-agent"):
            for forged in ("", "sha256=", "Basic !!", "\xe4\u8a9e"):
                tried = {**headers, name: forged}
                assert authentic(tried, body, SECRET) in ((True,) if name not in SIGNED else (False,))


SIGNED = {"x-hub-signature-256", "x-hub-signature", "x-gitlab-token", "x-gitea-signature", "authorization"}


STATUSES_UNTOLD = [
    b'{"sha": 1, "context": "mvd/uk-1", "state": "success"}',
    b'{"sha": "1", "context": [], "state": "success"}',
    b'{"commit_status": {"links": {"commit": null}, "key": "mvd/uk-1", "state": "SUCCESSFUL"}}',
    b'{"commit_status": {"links": {"commit": {"href": 7}}, "name": {}, "state": {}}}',
]


NO_EVENTS = [b"[" * 100_000, b"null", b"[]", b'"x"', b'{"ref": 1}', *STATUSES_UNTOLD]


@given(st.binary(max_size=200) | st.sampled_from(NO_EVENTS))
def test_whatever_an_authentic_hook_says_is_some_event(body: bytes) -> None:
    pushed = {"x-github-event": "push", "x-gitlab-event": "Push Hook", "x-gitea-event": "push"}
    told = {"x-github-event": "status", "x-event-key": "repo:commit_status_updated", "x-gitea-event": "status"}
    for kind in forges.kinds():
        for headers in ({}, pushed, told):
            assert forges.known()[kind].event(headers, body).kind in {"push", "pull_request", "ping", "other"}


def test_a_client_goes_on_after_its_connection_was_closed(world: World) -> None:
    client = world.client()
    client.publish(world.commit, status())
    port = int(world.forge.url.rpartition(":")[2])
    world.forge.__exit__(None, None, None)
    with Forge(world.forge.root, port=port, token=TOKEN) as again:
        repository = again.create("acme/config")
        client.publish(world.commit, status())
        assert len(repository.statuses(world.commit)) == 1


# ---- answers that the lab's forge does not give ----------------------------------------------------------------------


class Scripted(BaseHTTPRequestHandler):
    """Gives one answer to everything, and keeps what it was asked."""

    answer: ClassVar[tuple[int, dict[str, str], bytes]]
    asked: ClassVar[list[tuple[str, dict[str, str], Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append((self.path, dict(self.headers), body))
        code, headers, content = self.answer
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def answering(code: int, headers: Mapping[str, str] | None = None, content: bytes = b"") -> Iterator[tuple[str, Any]]:
    handler = type("Handler", (Scripted,), {"answer": (code, headers or {}, content), "asked": []})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", handler.asked  # type: ignore[attr-defined]  # made above
        finally:
            server.shutdown()
            thread.join(10)


def github(url: str, token: str = TOKEN) -> ports.Forge:
    return forges.connect("github", Account("acme/config", lambda: token, url))


def failure(url: str, token: str = TOKEN) -> MvdError:
    with pytest.raises(MvdError) as raised:
        github(url, token).publish("a" * 40, status())
    assert TOKEN not in repr(raised.value)
    assert raised.value.__cause__ is None
    return raised.value


@pytest.mark.parametrize(
    ("code", "headers", "content", "least"),
    [
        (429, {"Retry-After": "30"}, b"", 30),
        (403, {"Retry-After": "60"}, b"You have exceeded a secondary rate limit", 60),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "in 690 s"}, b"API rate limit exceeded", 100),
        (403, {}, b'{"message": "You have exceeded a secondary rate limit."}', 60),
        (429, {"Retry-After": "soon"}, b"", 60),
        (429, {"Retry-After": "-5"}, b"", 60),
        (429, {"Retry-After": "9" * 5000}, b"", 60),
        (429, {"X-RateLimit-Remaining": "9" * 5000, "RateLimit-Limit": "-1"}, b"", 60),
    ],
)
def test_a_rate_limit_says_when_to_come_again(code: int, headers: dict[str, str], content: bytes, least: int) -> None:
    reset = {"X-RateLimit-Reset": str(int(time.time()) + 690)} if "X-RateLimit-Reset" in headers else {}
    with answering(code, headers | reset, content) as (url, _):
        error = failure(url)
    assert isinstance(error, RateLimited)
    assert least <= error.retry_after <= 700


def test_a_forge_that_wants_to_be_left_alone_for_years_is_asked_again_after_an_hour() -> None:
    for headers in ({"Retry-After": "9" * 12}, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9" * 12}):
        with answering(429, headers, b"") as (url, _):
            error = failure(url)
        assert isinstance(error, RateLimited)
        assert error.retry_after == 3600


def test_a_page_of_html_is_one_line_without_its_tags() -> None:
    page = b"<html>\n<body><h1>Sign in</h1>\n" + b"<p>please</p>" * 10_000
    with answering(400, {"Content-Type": "text/html"}, page) as (url, _):
        error = failure(url)
    assert isinstance(error, StepFailed)
    assert "Sign in please" in str(error)
    assert "<" not in str(error)
    assert len(str(error)) < 400


def test_a_page_of_html_in_place_of_an_acknowledgement_is_no_success() -> None:
    with answering(200, {"Content-Type": "text/html"}, b"<html>Sign in</html>") as (url, _):
        assert "Sign in" in str(failure(url))


def test_an_answer_that_repeats_the_token_is_blacked_out() -> None:
    with answering(400, {}, f"bad token {TOKEN}".encode()) as (url, _):
        assert "bad token ***" in str(failure(url))


def test_a_redirect_is_not_followed_with_the_token() -> None:
    with answering(201) as (elsewhere, asked), answering(307, {"Location": elsewhere}) as (url, _):
        assert "has moved" in str(failure(url))
        assert asked == []


def test_a_token_that_is_no_header_is_not_told() -> None:
    for token in (f"{TOKEN}\nX: y", f"{TOKEN}ä語"):
        with answering(201) as (url, _):
            failure(url, token)


def test_a_server_that_breaks_off_or_is_not_there_is_unavailable() -> None:
    with answering(201, {"Content-Length": "100"}, b"x") as (url, _):
        assert isinstance(failure(url), Unavailable)
    with answering(201, {"Content-Encoding": "gzip"}, b"not gzip") as (url, _):
        assert isinstance(failure(url), Unavailable)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    assert isinstance(failure(url), Unavailable)


def test_a_netrc_of_the_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    with answering(201) as (url, asked):
        github(url + "/").publish("a" * 40, status())
        [(path, headers, body)] = asked
    assert path == f"/repos/acme/config/statuses/{'a' * 40}"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert body == {
        "state": "success",
        "context": "mvd/srv1",
        "description": "3 apps healthy",
        "target_url": None,
    }


@given(st.text(max_size=300))
def test_a_description_is_never_longer_than_github_takes(text: str) -> None:
    told = cut(text, 140)
    assert len(told) <= 140
    told.encode()
    assert not [c for c in told if unicodedata.category(c) == "Cc"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1", "connection refused"),
        ("http://no-such-host.invalid", "unknown host name"),
    ],
)
def test_a_forge_that_does_not_answer_is_explained_without_the_words_of_a_library(url: str, reason: str) -> None:
    client = forges.connect("gitea", Account("acme/config", lambda: TOKEN, url))
    with pytest.raises(Unavailable) as caught:
        client.publish("1" * 40, status())
    assert str(caught.value) == f"Gitea at {url.removeprefix('http://')} does not answer: {reason}"
