"""What a plan says that a change costs, beside what those who ask all the while have seen of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.stories import HEALTH, Story, manifest, routed
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.outage import asked, longest_outage

pytestmark = pytest.mark.lab

PORT = 8095
Push = Callable[[str, str], str]


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/costs")
    repository.commit({"README.md": "What it costs\n"}, "Begin")
    server = lab.server("costs")
    story = Story.set_up(lab, server, repository)
    image = lab.registry.push("beside", "1", service.web("beside", "1"))
    story.deploy("beside", {"services": {"web": routed(image, "/beside")}})
    yield story
    server.destroy()


@pytest.fixture
def push(lab: Lab) -> Push:
    return lambda name, version: lab.registry.push(name, version, service.web(name, version))


def fixed(image: str, **more: Any) -> dict[str, Any]:
    return {"services": {"web": {"image": image, "ports": [f"{PORT}:7799"], "x-mvd": {"health": HEALTH}, **more}}}


def promised(story: Story, app: str, compose: dict[str, Any], text: str, **gone: None) -> float:
    """Merge it while nobody deploys it: the seconds that the plan says an app is down at most."""
    removed = {f"apps/{name}/compose.yaml": None for name in gone}
    story.merge({**manifest(app, compose), **removed}, "Change it")
    said = story.mvd("plan", "--json")
    change = json.loads(said.out)["changes"][app]
    assert text in change["lines"], change
    return float(change["cost"]["seconds_down_at_most"])


def test_a_fixed_port_is_down_for_no_longer_than_promised(story: Story, push: Push) -> None:
    story.deploy("fixed", fixed(push("fixed", "1")))
    with story.without_daemon():
        changed = f"  web: image {push('fixed', '1')} → 2"
        most = promised(story, "fixed", fixed(push("fixed", "2")), changed)
        with asked(f"http://{story.server.ip}:{PORT}/") as seen:
            assert story.mvd("sync").code == 0
    assert 0 < longest_outage(seen) <= most


def test_a_port_that_passes_to_a_renamed_app_is_down_for_no_longer_than_promised(story: Story, push: Push) -> None:
    image = push("fixed", "2")
    story.deploy("fixed", fixed(image))
    with story.without_daemon():
        most = promised(story, "renamed", fixed(image), "  takes the place of fixed", fixed=None)
        with asked(f"http://{story.server.ip}:{PORT}/") as seen:
            assert story.mvd("sync").code == 0
    assert 0 < longest_outage(seen) <= most


def test_a_route_is_never_down_where_that_is_promised(story: Story, push: Push) -> None:
    story.deploy("routed", {"services": {"web": routed(push("routed", "1"), "/routed")}})
    with story.without_daemon():
        changed = f"  web: image {push('routed', '1')} → 2"
        most = promised(story, "routed", {"services": {"web": routed(push("routed", "2"), "/routed")}}, changed)
        assert most == 0
        with story.never_failing("/routed", "routed 1", "routed 2"):
            assert story.mvd("sync").code == 0


def test_what_was_changed_is_in_the_history_the_status_and_the_json_in_the_same_words(story: Story, push: Push) -> None:
    story.deploy("words", {"services": {"web": routed(push("words", "1"), "/words")}})
    changed = {"services": {"web": routed(push("words", "1"), "/words", environment={"SECRET": "hunter2hunter2"})}}
    commit = story.merge(manifest("words", changed), "Change a variable")
    assert story.ends(commit, "success").endswith("healthy; words/web: env SECRET added")
    [newest, *_] = json.loads(story.mvd("history", "--app", "words", "--json").out)
    assert newest["changed"] == "words/web: env SECRET added"
    assert "words/web: env SECRET added" in story.mvd("history").out
    assert "hunter2" not in story.mvd("history", "--json").out
