"""What lies between users and a healthy container, and between the server and Git, is told and is over by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gitops_mvd.host.disruption import DOCKER_START_GRACE
from tests.integration.stories import HEALTH, Story, eventually, manifest, routed
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.repository import git

pytestmark = pytest.mark.lab

WAY = "web: the container is healthy, the way to it is not: "
DAEMON_JSON = "/etc/docker/daemon.json"
WITHIN_SECONDS = 150  # the next try, and two more


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


def told_at_once(story: Story, app: str, why: str) -> None:
    """See that who asks for the status is told, unless Docker has just been started."""

    def told() -> bool:
        [found] = [it for it in json.loads(story.mvd("status", "--json").out)["apps"] if it["name"] == app]
        return found["health"] == "Degraded" and str(found["why"]).startswith(why)

    eventually(f"that {app} is Degraded", told, DOCKER_START_GRACE + 20)


def turns(story: Story, commit: str, state: str) -> None:
    """See that the commit gets that status, at last."""
    eventually(f"{state} of {commit[:7]}", lambda: story.told(commit)[-1][0] == state, WITHIN_SECONDS)


def restart_docker(story: Story) -> None:
    story.run("systemctl", "reset-failed", "docker")
    story.run("systemctl", "restart", "docker")


def test_flushed_rules_are_told_and_over_once_they_are_there_again(story: Story, image: str) -> None:
    web = {"image": image, "ports": ["18081:7799"], "x-mvd": {"health": HEALTH}}
    apps = manifest("open", {"services": {"web": web}}) | manifest(
        "routed", {"services": {"web": routed(image, "/ways")}}
    )
    commit = story.merge(apps, "Deploy what is reached over a port and a route")
    story.ends(commit, "success")
    story.run("iptables", "--table", "nat", "--flush", "DOCKER")
    told_at_once(story, "open", f"{WAY}127.0.0.1:18081 ")
    told_at_once(story, "routed", WAY)
    turns(story, commit, "failure")
    restart_docker(story)
    turns(story, commit, "success")


def test_a_dead_proxy_of_docker_is_told(story: Story, image: str) -> None:
    engine = json.loads(story.run("cat", DAEMON_JSON))
    story.server.put(DAEMON_JSON, json.dumps({**engine, "userland-proxy": True}))
    restart_docker(story)
    web = {"image": image, "ports": ["18083:7799"], "x-mvd": {"health": HEALTH}}
    commit = story.deploy("proxied", {"services": {"web": web}})
    story.run("pkill", "-KILL", "docker-proxy")
    told_at_once(story, "proxied", f"{WAY}127.0.0.1:18083 ")
    turns(story, commit, "failure")
    story.server.put(DAEMON_JSON, json.dumps(engine))
    restart_docker(story)
    turns(story, commit, "success")


def test_a_service_whose_port_never_answers_is_not_green_for_a_moment(story: Story, image: str) -> None:
    rule = ["OUTPUT", "--protocol", "tcp", "--match", "conntrack", "--ctorigdstport", "18082", "--jump", "REJECT"]
    story.run("iptables", "--insert", *rule)
    web = {"image": image, "ports": ["127.0.0.1:18082:7799"], "x-mvd": {"health": HEALTH}}
    commit = story.merge(manifest("shut", {"services": {"web": web}}), "Deploy behind a firewall")
    assert f"{WAY}127.0.0.1:18082 " in story.ends(commit, "failure")
    assert "success" not in [state for state, _ in story.told(commit)]
    story.run("iptables", "--delete", *rule)
    turns(story, commit, "success")


def test_a_branch_that_is_gone_is_told_and_changes_nothing(story: Story, image: str) -> None:
    web = {"image": image, "x-mvd": {"health": HEALTH}}
    commit = story.deploy("stays", {"services": {"web": web}})
    git("update-ref", "-d", "refs/heads/main", at=story.repository.path)
    synced = story.mvd("sync")
    assert synced.code == 1
    assert "Git could not be asked since " in synced.err
    assert "has no branch main" in synced.err
    status = story.mvd("status")
    assert status.code == 1
    assert "Git could not be asked since " in status.out
    assert story.containers("stays")
    git("update-ref", "refs/heads/main", commit, at=story.repository.path)
    eventually("that all is well", lambda: story.mvd("status").code == 0)
