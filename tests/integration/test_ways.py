"""What lies between users and a healthy container is told, and is over by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.stories import HEALTH, Story, eventually, routed
from tests.lab import service
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

WAY = "web: the container is healthy, the way to it is not: "
WITHIN_SECONDS = 120  # the next try, and two more


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("ways", "1", service.web("ways", "1"))


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/ways")
    repository.commit({"README.md": "Ways\n"}, "Begin")
    server = lab.server("ways")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def reason(story: Story, app: str) -> str:
    [found] = [it for it in json.loads(story.mvd("status", "--json").out)["apps"] if it["app"] == app]
    return str(found["why"])


def turns(story: Story, commit: str, state: str) -> None:
    """See that the commit gets that status, at last."""
    eventually(f"{state} of {commit[:7]}", lambda: story.told(commit)[-1][0] == state, WITHIN_SECONDS)


def test_a_dead_proxy_of_docker_is_told_and_over_once_it_is_there_again(story: Story, image: str) -> None:
    web = {"image": image, "ports": ["18081:7799"], "x-mvd": {"health": HEALTH}}
    commit = story.deploy("open", {"services": {"web": web}})
    story.run("pkill", "-KILL", "docker-proxy")
    assert reason(story, "open").startswith(f"{WAY}127.0.0.1:18081 "), "who asks is told at once"
    turns(story, commit, "failure")
    story.run("systemctl", "restart", "docker")
    turns(story, commit, "success")


def test_a_service_whose_port_never_answers_is_not_green_for_a_moment(story: Story, image: str) -> None:
    story.run("iptables", "-I", "OUTPUT", "-p", "tcp", "--dport", "18082", "-j", "REJECT", "--reject-with", "tcp-reset")
    story.run("iptables", "-I", "INPUT", "-p", "tcp", "--dport", "18082", "-j", "REJECT", "--reject-with", "tcp-reset")
    web = {"image": image, "ports": ["127.0.0.1:18082:7799"], "x-mvd": {"health": HEALTH}}
    commit = story.merge({"apps/shut/compose.yaml": json.dumps({"services": {"web": web}})}, "Deploy behind a firewall")
    assert "the way to it is not" in story.ends(commit, "failure")
    assert "success" not in [state for state, _ in story.told(commit)]
    assert reason(story, "shut").startswith(f"{WAY}127.0.0.1:18082 ")
    for chain in ("OUTPUT", "INPUT"):
        story.run("iptables", "-D", chain, "1")
    turns(story, commit, "success")


def test_a_gateway_that_lost_its_way_to_the_host_is_told(story: Story, image: str) -> None:
    commit = story.deploy("routed", {"services": {"web": routed(image, "/ways")}})
    story.run("iptables", "-I", "INPUT", "-i", "lo", "-p", "tcp", "--dport", "20000:29999", "-j", "DROP")
    eventually("that it is told", lambda: "the way to it is not" in reason(story, "routed"), WITHIN_SECONDS)
    story.run("iptables", "-D", "INPUT", "1")
    turns(story, commit, "success")
