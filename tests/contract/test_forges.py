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
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd import forges, ports
from gitops_mvd.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.forges.github import LONGEST_DESCRIPTION, cut
from gitops_mvd.lab.forge import Forge, Repository
from gitops_mvd.model import CommitStatus, Health, Operation

TOKEN = "t0ken-of-the-lab"
API = {"github": "/api/v3"}  # where the lab's forge answers as that forge does


@dataclasses.dataclass
class World:
    """A client, the forge that it talks to, and a commit there."""

    connect: Callable[..., ports.Forge]
    api: str
    forge: Forge
    repository: Repository
    commit: str

    def client(self, token: str = TOKEN, name: str = "acme/config") -> ports.Forge:
        return self.connect(name, token, self.forge.url + self.api)

    def said(self) -> list[tuple[str, str]]:
        return [(status.state, status.description) for status in self.repository.statuses(self.commit)]


@pytest.fixture(params=sorted(forges.discover()))
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with Forge(tmp_path / "forge", token=TOKEN) as forge:
        repository = forge.create("acme/config")
        commit = repository.commit({"fleet.yaml": "hosts: {}\n"}, "Begin")
        yield World(forges.discover()[request.param], API[request.param], forge, repository, commit)


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
    assert (arrived.state == "success") == green


@pytest.mark.parametrize("letter", ["x", "ä", "語", "e\u0301", "👩\u200d🔬", "\ud83d", "\n"], ids=ascii)
def test_a_long_description_is_cut_between_characters(world: World, letter: str) -> None:
    world.client().publish(world.commit, status(description="web: " + letter * 300))
    [arrived] = world.repository.statuses(world.commit)
    assert arrived.description.startswith("web:")
    assert arrived.description.endswith("…")
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
        "refused the token": lambda: world.client("wr0ng-token").publish(world.commit, status()),
        "lets nobody": lambda: world.client(name="acme/absent").publish(world.commit, status()),
        "does not know the commit": lambda: world.client().publish("f" * 40, status()),
    }
    for sentence, publish in refusals.items():
        with pytest.raises(StepFailed, match=sentence) as raised:
            publish()
        assert "\n" not in str(raised.value)
    world.forge.fail_next(1, 418)
    with pytest.raises(StepFailed, match="418"):
        world.client().publish(world.commit, status())


def test_too_many_statuses_are_told(world: World) -> None:
    client = world.client()
    client.publish(world.commit, status())
    [first] = world.repository.statuses(world.commit)
    with contextlib.suppress(Exception):
        while True:
            world.repository.post(world.commit, first)
    with pytest.raises(StepFailed, match="no more than 1000"):
        client.publish(world.commit, status())


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


def failure(url: str, token: str = TOKEN) -> MvdError:
    with pytest.raises(MvdError) as raised:
        forges.discover()["github"]("acme/config", token, url).publish("a" * 40, status())
    assert TOKEN not in repr(raised.value)
    assert raised.value.__cause__ is None
    return raised.value


RESET = str(int(time.time()) + 600)


@pytest.mark.parametrize(
    ("code", "headers", "content", "least"),
    [
        (429, {"Retry-After": "30"}, b"", 30),
        (403, {"Retry-After": "60"}, b"You have exceeded a secondary rate limit", 60),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": RESET}, b"API rate limit exceeded", 500),
        (403, {}, b'{"message": "You have exceeded a secondary rate limit."}', 60),
        (429, {"Retry-After": "soon"}, b"", 60),
    ],
)
def test_a_rate_limit_says_when_to_come_again(code: int, headers: dict[str, str], content: bytes, least: int) -> None:
    with answering(code, headers, content) as (url, _):
        error = failure(url)
    assert isinstance(error, Unavailable)
    assert least <= error.retry_after <= 700  # type: ignore[attr-defined]  # of the subclass, read by getattr


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
        assert isinstance(failure(url), StepFailed)


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
        forges.discover()["github"]("acme/config", TOKEN, url + "/").publish("a" * 40, status())
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
    told = cut(text)
    assert len(told) <= LONGEST_DESCRIPTION
    told.encode()
    assert not [c for c in told if unicodedata.category(c) == "Cc"]
