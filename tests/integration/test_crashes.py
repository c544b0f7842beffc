"""The daemon is killed at every step, the engine and the server restart in the middle: the end is always the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.stories import DAEMON, HEALTH, Story, eventually, manifest, routed
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.server import VENV

pytestmark = pytest.mark.lab

KILLED = 137  # 128 + SIGKILL
INTO_THE_STEP = "0.03"  # s
MOST_STEPS = 40


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own, whose daemon only looks when it is told to."""
    repository = lab.forge.create("acme/crashes")
    repository.commit({"README.md": "Crashes\n"}, "Begin")
    server = lab.server("crashes")
    story = Story.set_up(lab, server, repository)
    image = lab.registry.push("steady", "1", service.web("steady", "1"))
    story.deploy("steady", {"services": {"web": routed(image, "/steady")}})
    yield story
    server.destroy()


@pytest.fixture(scope="module")
def images(lab: Lab) -> dict[str, str]:
    web = {version: lab.registry.push("mortal", version, service.web("mortal", version)) for version in ("1", "2")}
    return {**web, "sick": lab.registry.push("mortal", "sick", service.sick("mortal", "sick"))}


def app(image: str) -> dict[str, Any]:
    """What is routed, has a name on a network and is quickly drained, and a worker."""
    web = routed(image, "/mortal", stop_grace_period="1s", networks=["inner"])
    web["x-mvd"] = {"health": {**HEALTH, "within": "1s"}}
    worker = {"image": image, "networks": ["inner"], "deploy": {"update_config": {"monitor": "0s"}}}
    return {"services": {"web": web, "worker": worker}, "networks": {"inner": {}}}


def dies(story: Story, step: int, after: str = "0") -> bool:
    """One look that is killed in that step; False where it came to its end before."""
    argv = (f"{VENV}/bin/python", "-m", "tests.lab.mortal", str(step), after)
    return story.server.exec(*argv, check=False, timeout=120).code == KILLED


def is_whole(story: Story, *instances: int) -> None:
    """As many web instances as there should be, one worker, and nothing that is left over of anything else."""
    web, worker = instances
    names = sorted(story.containers("mortal"))
    assert [sum(f"-{kind}-" in name for name in names) for kind in ("web", "worker")] == [web, worker], names
    assert {path.rpartition("/")[2] for path in story.units("mortal")} == {f"{name}.service" for name in names}
    listed = story.run("docker", "ps", "--all", "--format", "{{.Names}}", "--filter", "name=mvd-mortal").split()
    assert sorted(listed) == names
    folders = story.run("find", "/etc/gitops-mvd/files", "-mindepth", "1", "-maxdepth", "1", "-name", "mvd-mortal*")
    assert {path.rpartition("/")[2] for path in folders.split()} == {name for name in names if name.count("-") == 3}
    assert story.run("find", "/etc", "-name", "*.new") == ""


@pytest.mark.parametrize(("after", "stride"), [("0", 1), (INTO_THE_STEP, 3)], ids=["between steps", "in a step"])
def test_a_deploy_that_is_killed_at_any_step_is_finished_by_the_next_look(
    story: Story, images: dict[str, str], after: str, stride: int
) -> None:
    story.deploy("mortal", app(images["1"]))
    with story.without_daemon(), story.never_failing("/mortal", "mortal 1", "mortal 2"):
        for step in range(0, MOST_STEPS, stride):
            version = "21"[step // stride % 2]
            story.merge(manifest("mortal", app(images[version])), f"Version {version}, killed at {step}")
            killed = dies(story, step, after)
            assert story.mvd("sync").code == 0
            story.answers("/mortal", f"mortal {version}")
            is_whole(story, 1, 1)
            if not killed:
                break
        assert 12 < step < MOST_STEPS - stride, "it was killed at every step, and the last one was not killed"


def test_a_rollback_that_is_killed_at_any_step_is_finished_by_the_next_look(
    story: Story, images: dict[str, str]
) -> None:
    story.deploy("mortal", app(images["1"]))
    before = sorted(story.containers("mortal"))
    with story.without_daemon(), story.never_failing("/mortal", "mortal 1"):
        bad = story.merge(manifest("mortal", app(images["sick"])), "A sick version")
        for step in range(MOST_STEPS):
            killed = dies(story, step)
            assert story.mvd("sync").code == 1
            assert sorted(story.containers("mortal")) == before
            is_whole(story, 1, 1)
            if not killed:
                break
            story.mvd("retry", "mortal")
        assert 5 < step < MOST_STEPS - 1
    story.ends(story.revert(bad), "success")
    assert story.mvd("plan").out == ""


def test_a_removal_that_is_killed_at_any_step_is_finished_by_the_next_look(
    story: Story, images: dict[str, str]
) -> None:
    story.deploy("mortal", app(images["1"]))
    with story.without_daemon():
        for step in range(MOST_STEPS):
            gone = story.merge({"apps/mortal/compose.yaml": None}, f"Remove it, killed at {step}")
            killed = dies(story, step)
            assert story.mvd("sync").code == 0
            is_whole(story, 0, 0)
            assert story.routes("mortal") == {}
            assert story.run("docker", "network", "ls", "--quiet", "--filter=label=io.gitops-mvd.app=mortal") == ""
            story.revert(gone)
            assert story.mvd("sync").code == 0
            is_whole(story, 1, 1)
            if not killed:
                break
        assert 5 < step < MOST_STEPS - 1


@pytest.mark.parametrize(
    "what",
    ["the engine restarts", "the engine is killed", "the engine takes all containers along", "the server reboots"],
)
def test_a_deploy_in_the_middle_of_which_the_ground_shakes_comes_to_its_end(
    lab: Lab, story: Story, images: dict[str, str], what: str
) -> None:
    story.deploy("mortal", app(images["1"]))
    slow = lab.registry.push("mortal", "slow", service.web("mortal", "slow", after=4))
    compose = app(slow)
    compose["services"]["web"]["x-mvd"]["health"]["within"] = "60s"
    commit = story.merge(manifest("mortal", compose), f"A slow version, and {what}")
    eventually("the new version beside the old one", lambda: len(story.containers("mortal-web")) == 2)
    if what == "the server reboots":
        story.server.reboot()
    elif what == "the engine takes all containers along":
        story.run("sed", "-i", 's/"live-restore": true/"live-restore": false/', "/etc/docker/daemon.json")
        story.run("systemctl", "reload", "docker")
        story.run("systemctl", "restart", "docker")
        story.run("sed", "-i", 's/"live-restore": false/"live-restore": true/', "/etc/docker/daemon.json")
        story.run("systemctl", "reload", "docker")
    elif what == "the engine is killed":
        story.run("systemctl", "kill", "--signal=KILL", "docker")
    else:
        story.run("systemctl", "restart", "docker")
    story.ends(commit, "success")
    story.answers("/mortal", "mortal slow")
    is_whole(story, 1, 1)
    story.run("systemctl", "is-active", DAEMON)
    story.remove("mortal")
