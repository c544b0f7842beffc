"""The random commits of `make chaos` are fit to be deployed, and the wires misbehave as they are told to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random

import pytest
import requests

from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import load
from tests.lab.chaos.commits import STEADY, Commit, State, commit
from tests.lab.chaos.faults import BY_HAND, FAULTS
from tests.lab.wire import MOODS, Wire
from tests.unit.memory_tree import MemoryTree


def commits(seed: str, number: int) -> Iterator[tuple[State, Commit]]:
    """So many commits, one after the other, each with what was there before; every one is reached."""
    random, state = Random(seed), State().settled()
    before = None
    for _ in range(number):
        made = commit(random, state, before, frozenset())
        yield state, made
        before, state = state.apps, State(made.apps, state.good).settled()


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_commits_are_the_same_for_a_seed_and_touch_what_they_say(seed: str) -> None:
    told = list(commits(seed, 60))
    assert told == list(commits(seed, 60))
    for state, made in told:
        changed = {name for name in {*state.apps, *made.apps} if state.apps.get(name) != made.apps.get(name)}
        assert changed == made.touched
        assert STEADY in made.apps
        assert STEADY not in changed
    assert any(made.revert for _, made in told)
    assert {app.broken for _, made in told for app in made.apps.values()} > {""}
    for word in ("Rename app", "Pass published", "path", "volume"):
        assert any(word in made.subject for _, made in told), word


def test_what_has_to_run_of_a_broken_app_is_what_worked_last_and_everything_else_as_in_git() -> None:
    for state, made in commits("1", 60):
        after = State(made.apps, state.good)
        for name, app in made.apps.items():
            assert after.running[name] == (state.running[name] if app.broken else app)
        assert after.is_green == (not any(app.broken for app in made.apps.values()))


def test_the_manifests_are_without_a_mistake_but_for_the_one_that_is_meant() -> None:
    for _, made in commits("2", 60):
        files: dict[str, str] = {}
        for app in made.apps.values():
            files |= app.files(lambda version, port, kind: f"registry.lab:5000/x:{version}")
        apps, broken = load(MemoryTree(files), HostFacts("h"))
        assert set(broken) == {name for name, app in made.apps.items() if app.broken == "misspelled"}
        assert {app.name for app in apps} == made.apps.keys() - broken.keys()


def test_there_are_many_faults_and_what_is_done_by_hand_is_done_to_one_app() -> None:
    assert len(FAULTS) > 60
    assert {name for name, fault in FAULTS.items() if fault.by_hand} == set(BY_HAND)


class _Upstream(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(201)
        self.send_header("X-Path", self.path)
        self.end_headers()
        self.wfile.write(b"got " + sent)

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def wired() -> Iterator[Wire]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Upstream) as upstream:
        thread = threading.Thread(target=upstream.serve_forever, args=(0.02,))
        thread.start()
        try:
            with Wire("127.0.0.1", lambda: f"http://127.0.0.1:{upstream.server_port}") as wire:
                yield wire
        finally:
            upstream.shutdown()
            thread.join()


def ask(wire: Wire, within: float = 30) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"{wire.url}/a?b=c", data=b"x", timeout=within, stream=True)


def test_a_wire_passes_on_what_it_is_asked_and_answered() -> None:
    with wired() as wire:
        answer = ask(wire)
        assert (answer.status_code, answer.headers["X-Path"], answer.content) == (201, "/a?b=c", b"got x")


@pytest.mark.parametrize(
    ("mood", "expected"),
    [
        ("dead", (0, b"ConnectionError")),
        ("silent", (0, b"ReadTimeout")),
        ("slow", (0, b"ReadTimeout")),
        ("500", (500, b"{")),
        ("401", (401, b"{")),
        ("html", (200, b"<")),
        ("drip", (200, b" ")),
        ("endless", (200, b" ")),
    ],
)
def test_a_wire_in_a_mood_misbehaves_and_then_is_well_again(mood: str, expected: tuple[int, bytes]) -> None:
    with wired() as wire:
        wire.mood = mood
        try:
            with ask(wire, 0.5 if mood in ("silent", "slow") else 30) as answer:
                said = answer.status_code, next(answer.iter_content(1))
        except requests.RequestException as error:
            said = 0, type(error).__name__.encode()
        assert said == expected
        assert mood in MOODS
        wire.mood = ""
        assert ask(wire).status_code == 201
