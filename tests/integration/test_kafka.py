"""A queue worker that keeps up with its topic, on a real server and with a real Kafka."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.stories import Story, eventually, manifest
from tests.lab.kafka import INSIDE_NAME
from tests.lab.lab import Lab
from tests.lab.service import TALKER_VOLUMES, forwarder, reader

pytestmark = pytest.mark.lab

TOPIC, GROUP, LAG = "orders", "workers", 100
SENTENCE = f"group {GROUP} is 1,204 behind on topic {TOPIC} (at most {LAG})"


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own, and the topic."""
    lab.kafka.create(TOPIC, partitions=3)
    repository = lab.forge.create("acme/queue")
    repository.commit({"README.md": "A queue\n"}, "Begin")
    server = lab.server("queue")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def queue(lab: Lab, version: str) -> dict[str, Any]:
    """The worker, and what leads it to the broker: that one is known by its name on the app's network only."""
    asked = {"bootstrap_servers": INSIDE_NAME, "topic": TOPIC, "group": GROUP, "lag": LAG}
    worker = {
        "image": lab.registry.push("queue/worker", "1", reader(INSIDE_NAME, TOPIC, GROUP)),
        "environment": {"VERSION": version},
        "volumes": list(TALKER_VOLUMES),
        "x-mvd": {"health": {"kafka": asked, "interval": "2s", "timeout": "10s", "within": "10s"}},
    }
    broker = {"image": lab.registry.push("queue/broker", "1", forwarder(9092, *lab.kafka.inside))}
    return {"services": {"worker": worker, "kafka": broker}}


def health(story: Story) -> tuple[str, str]:
    [app] = [app for app in json.loads(story.mvd("status", "--json").out)["apps"] if app["app"] == "queue"]
    return str(app["health"]), str(app["why"])


def told(story: Story, commit: str) -> tuple[str, str]:
    """The last status of a commit, and what it says of the worker."""
    state, text = (story.told(commit) or [("", "")])[-1]
    return state, text.rpartition("worker: ")[2]


def test_a_worker_that_runs_and_does_nothing_is_red_and_green_again_when_it_works(lab: Lab, story: Story) -> None:
    commit = story.deploy("queue", queue(lab, "1"))
    lab.kafka.produce(TOPIC, 500)
    eventually("that all was read", lambda: "read" in story.mvd("logs", "queue/worker").out)
    eventually("that it is healthy", lambda: health(story)[0] == "Healthy")

    [worker] = [name for name in story.containers("queue") if "worker" in name]
    story.run("docker", "exec", worker, "touch", "/tmp/idle")
    eventually("that it has caught up and stopped", lambda: health(story)[0] == "Healthy")
    lab.kafka.produce(TOPIC, 1204)
    eventually("that the commit is red", lambda: told(story, commit) == ("failure", SENTENCE), 90)
    assert health(story) == ("Degraded", f"worker: {SENTENCE}")
    assert story.run("docker", "ps", "--quiet", "--filter", f"name={worker}"), "nothing was stopped for it"

    story.run("docker", "exec", worker, "rm", "/tmp/idle")
    eventually("that it is healthy again", lambda: health(story)[0] == "Healthy")


def test_a_broker_that_is_away_is_held_against_no_version(lab: Lab, story: Story) -> None:
    story.deploy("queue", queue(lab, "2"))
    lab.kafka.stop()
    try:
        commit = story.merge(manifest("queue", queue(lab, "3")), "Deploy a version while the broker is away")
        eventually("that the gate could not ask", lambda: "kafka: " in told(story, commit)[1])
        assert told(story, commit)[0] == "pending"
    finally:
        lab.kafka.start()
    story.ends(commit, "success")
    assert [state for state, _ in story.told(commit) if state == "failure"] == []
