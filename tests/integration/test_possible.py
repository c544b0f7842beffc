"""What can never work, or cannot now, is found out while the good version serves: told at once, and no request lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.stories import HEALTH, Story, eventually, manifest
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.outage import asked

pytestmark = pytest.mark.lab

PORT = 18400
AT_ONCE_SECONDS = 10.0  # from the merge to the verdict: far below any `within`, and above what a busy machine adds


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/possible")
    repository.commit({"README.md": "Possible\n"}, "Begin")
    server = lab.server("possible")
    story = Story.set_up(lab, server, repository)
    story.run("docker", "network", "create", "--subnet=10.77.0.0/24", "fixed")
    yield story
    server.destroy()


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("possible", "1", service.web("possible", "1"))


@pytest.fixture(scope="module")
def serving(story: Story, image: str) -> dict[str, Any]:
    """A service with a port of the host: its successor can only start after its end."""
    web = {"image": image, "x-mvd": {"health": HEALTH}, "ports": [f"{PORT}:7799"]}
    story.deploy("web", {"services": {"web": web}})
    return web


@contextmanager
def serving_all_the_while(story: Story) -> Iterator[None]:
    """Ask the published port all the while, and see that no request is lost."""
    with asked(f"http://{story.server.ip}:{PORT}/") as seen:
        yield
    lost = [it.said for it in seen if not it.answered]
    assert not lost, f"{len(lost)} of {len(seen)} requests were lost, such as {lost[0]}"
    assert len(seen) > 10


def waits(story: Story, commit: str, why: str) -> None:
    eventually(f"{why!r} in the status", lambda: any(why in description for _, description in story.told(commit)))
    assert {state for state, _ in story.told(commit)} == {"pending"}


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "a program that is missing": ({"command": ["/nope"]}, "web: command: the image has no program /nope"),
    "a program that is not in the path": (
        {"command": ["nope"]},
        "web: command: the image has no program nope in $PATH",
    ),
    "a folder for a program": ({"command": ["/www"]}, "web: command: /www is a folder"),
    "a program behind an init": ({"command": ["/nope"], "init": True}, "web: command: the image has no program /nope"),
    "a user of no image": ({"user": "alice"}, "web: user: the image has no user alice"),
    "a group of no image": ({"group_add": ["alice"]}, "web: group_add: the image has no group alice"),
    "a device that is missing": ({"devices": ["/dev/nope"]}, "web: devices: this host has no /dev/nope"),
    "a folder that is missing": (
        {
            "volumes": [
                {"type": "bind", "source": "/opt/nope", "target": "/x", "bind": {"create_host_path": False}},
            ]
        },
        "bind source path does not exist: /opt/nope",
    ),
    "a folder at a file": ({"volumes": ["/opt:/etc/passwd"]}, "web: volumes: a folder is mounted at a file"),
    "a kernel parameter of the host": ({"sysctls": {"vm.swappiness": "10"}}, "web: sysctls: vm.swappiness is of the"),
    "an address of no network": (
        {"networks": {"fixed": {"ipv4_address": "10.9.9.9"}}},
        "web: networks.fixed.ipv4_address: 10.9.9.9 is not in 10.77.0.0/24",
    ),
    "gpus without a driver": ({"gpus": "all"}, "web: gpus: Docker has no driver for GPUs on this host"),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_cannot_start_is_red_at_once_and_no_request_is_lost(
    story: Story, serving: dict[str, Any], what: str
) -> None:
    more, told = IMPOSSIBLE[what]
    compose: dict[str, Any] = {"services": {"web": serving | more}}
    if "networks" in more:
        compose["networks"] = {"fixed": {"external": True}}
    before = story.containers("web")
    with serving_all_the_while(story):
        began = time.monotonic()
        commit = story.merge(manifest("web", compose), f"Have {what}")
        said = story.ends(commit, "failure")
        assert time.monotonic() - began < AT_ONCE_SECONDS
    assert told in said
    assert story.containers("web") == before
    story.ends(story.revert(commit), "success")


def test_a_port_that_a_process_of_the_host_has_is_told_with_its_name(
    story: Story, serving: dict[str, Any], image: str
) -> None:
    program = ("/opt/gitops-mvd/bin/python", "-m", "http.server")
    for port, unit in ((18480, "foreign"), (22, "sshd")):  # and one that the host itself uses
        story.run("systemd-run", f"--unit={unit}", *program, str(port))
        before = story.containers("web")
        with serving_all_the_while(story):
            more = {"ports": [*serving["ports"], f"{port}:7799"]}
            commit = story.merge(manifest("web", {"services": {"web": serving | more}}), f"Have port {port}")
            waits(story, commit, f"web: waiting: web: the port {port} of this host is used by python (pid ")
        assert story.containers("web") == before
        story.run("systemctl", "stop", unit)
        story.ends(commit, "success")
        story.ends(story.revert(commit), "success")
    with serving_all_the_while(story):
        more = {"ports": [*serving["ports"], "8001:7799"]}
        commit = story.merge(
            manifest("web", {"services": {"web": serving | more}}), "Have the port of Kong's Admin API"
        )
        waits(story, commit, "web: waiting: web: the port 8001 of this host is used by ")
    story.ends(story.revert(commit), "success")


def test_a_port_that_a_container_of_somebody_else_has_is_waited_for(
    story: Story, serving: dict[str, Any], image: str
) -> None:
    story.run("docker", "run", "--detach", "--name=squatter", "--publish=18490:80", image)
    before, by = story.containers("web"), "web: the port 18490 of this host is used by the container squatter"
    wanting = {"ports": [*serving["ports"], "18490:7799"]}
    with serving_all_the_while(story):
        commit = story.merge(manifest("web", {"services": {"web": serving | wanting}}), "Have a port of somebody else")
        waits(story, commit, f"web: waiting: {by}")
    assert story.containers("web") == before
    story.ends(story.revert(commit), "success")
    first = {"image": image, "x-mvd": {"health": HEALTH}, "ports": ["18490:7799"]}
    commit = story.merge(manifest("first", {"services": {"web": first}}), "Have it with a first version")
    waits(story, commit, f"first: waiting: {by}")
    assert (story.containers("first"), story.units("first")) == ({}, [])
    story.run("docker", "rm", "--force", "squatter")
    story.ends(commit, "success")
    assert story.containers("first")
    story.remove("first")


def test_a_job_whose_program_is_missing_is_not_waited_for(story: Story, image: str) -> None:
    job = {"image": image, "command": ["/nope"], "restart": "no"}
    began = time.monotonic()
    commit = story.merge(manifest("job", {"services": {"migrate": job}}), "Migrate with nothing")
    assert 'migrate: did not start: exec: "/nope"' in story.ends(commit, "failure")
    assert time.monotonic() - began < AT_ONCE_SECONDS
    story.ends(story.revert(commit), "success")
