"""One app is left as it is, or stopped, while all others go on: by an operator for a while, or by a commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.stories import HEALTH, Story, eventually, manifest, routed
from tests.lab import service
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("suspend", "1", service.web("shop", "1"))


@pytest.fixture(scope="module")
def story(lab: Lab, image: str) -> Iterator[Story]:
    repository = lab.forge.create("acme/suspend")
    repository.commit({"README.md": "Suspend\n"}, "Begin")
    server = lab.server("suspend")
    story = Story.set_up(lab, server, repository)
    apps = {**manifest("shop", shop(image, "1")), **manifest("work", work(image, "1"))}
    story.ends(story.merge(apps, "Deploy a shop, and work"), "success")
    yield story
    server.destroy()


def shop(image: str, version: str, **of_app: Any) -> dict[str, Any]:
    """An app with a route, and data in a volume."""
    web = routed(image, "/shop", environment={"A": version}, volumes=["data:/data"])
    return {**({"x-mvd": of_app} if of_app else {}), "services": {"web": web}, "volumes": {"data": {}}}


def work(image: str, version: str) -> dict[str, Any]:
    return {"services": {"work": {"image": image, "environment": {"A": version}, "x-mvd": {"health": HEALTH}}}}


def standing(story: Story, app: str = "shop") -> tuple[str, str, str]:
    """How the app stands: its sync, its health, and why."""
    [found] = [it for it in json.loads(story.mvd("status", "--json").out)["apps"] if it["app"] == app]
    return found["sync"], found["health"], found["why"]


def is_well(story: Story) -> bool:
    return standing(story) == ("Synced", "Healthy", "")


def asked(story: Story) -> int:
    """The status code with which the gateway answers for the shop."""
    return story.ask("/shop").status_code


def suspend_as_anna(story: Story, *words: str) -> None:
    ended = story.server.exec("env", "SUDO_USER=anna", "mvd", "suspend", *words)
    assert ended.out.startswith("suspended: ")


def test_a_suspended_app_is_left_alone_until_it_is_resumed(story: Story, image: str) -> None:
    before = story.containers("shop")
    suspend_as_anna(story, "shop", "--why", "looking at the disk")
    told = "suspended by anna: looking at the disk"
    eventually("that it is suspended", lambda: told in story.mvd("history", "-n", "1").out)
    assert standing(story) == ("Synced", "Suspended", told)

    unit = story.unit("shop")
    story.run("systemctl", "stop", unit)
    story.mvd("sync")
    assert story.containers("shop") == {}, "it is not repaired"
    assert standing(story)[:2] == ("OutOfSync", "Suspended")
    assert "web: exited with code" in standing(story)[2], "its health is still watched"
    story.run("systemctl", "start", unit)

    commit = story.merge(manifest("shop", shop(image, "2")), "Change the shop")
    assert story.ends(commit, "error") == f"shop: {told}"
    other = story.merge(manifest("work", work(image, "2")), "Change work")
    assert story.ends(other, "success").startswith(f"1 of 2 apps healthy; shop: {told}")
    assert story.containers("shop") == before
    assert f"# shop: left as it is: {told}" in story.mvd("plan").out
    assert f"shop: {told}" in story.mvd("doctor").out

    story.mvd("resume", "shop")
    eventually("that it is deployed", lambda: story.containers("shop").keys() != before.keys() and is_well(story))
    assert f"no longer {told}" in story.mvd("history", "--app", "shop").out


def test_an_app_is_stopped_and_its_data_is_there_when_it_goes_on(story: Story) -> None:
    before = story.containers("shop")
    [name] = before
    story.run("docker", "exec", name, "sh", "-c", "echo kept > /data/file; echo layer > /file")
    suspend_as_anna(story, "shop", "--stop")
    eventually("that it is stopped", lambda: story.containers("shop") == {} and not story.units("shop"))
    eventually("that nothing leads to it", lambda: asked(story) == 404)
    assert standing(story) == ("OutOfSync", "Suspended", "stopped by anna")
    story.mvd("sync")
    story.run("systemctl", "restart", "docker")
    story.mvd("sync")
    assert story.containers("shop") == {}

    story.mvd("resume", "shop")
    eventually("that it runs again", lambda: story.containers("shop") == before and is_well(story))
    story.answers("/shop", "shop 1")
    assert story.run("docker", "exec", name, "cat", "/data/file", "/file") == "kept\nlayer\n"


def test_a_suspension_ends_by_itself(story: Story, image: str) -> None:
    before = story.containers("shop")
    suspend_as_anna(story, "shop", "--until", "20s")
    commit = story.merge(manifest("shop", shop(image, "3")), "Change the shop again")
    assert story.ends(commit, "error").startswith("shop: suspended by anna until ")
    assert story.containers("shop") == before
    eventually("that it is deployed", lambda: story.told(commit)[-1][0] == "success")
    assert story.containers("shop").keys() != before.keys()
    assert "suspended.shop" not in story.run("ls", "/etc/gitops-mvd")


def test_a_commit_suspends_an_app_and_stops_it(story: Story, image: str) -> None:
    before = story.containers("shop")
    commit = story.merge(manifest("shop", shop(image, "4", suspend=True)), "Suspend the shop")
    assert story.ends(commit, "success") == "1 of 2 apps healthy; shop: suspended in Git"
    assert story.containers("shop") == before

    suspend = {"why": "sold out", "stop": True}
    commit = story.merge(manifest("shop", shop(image, "3", suspend=suspend)), "Stop the shop")
    assert story.ends(commit, "success") == "1 of 2 apps healthy; shop: stopped in Git: sold out"
    assert story.containers("shop") == {}
    assert standing(story) == ("Synced", "Suspended", "stopped in Git: sold out")

    story.ends(story.merge(manifest("shop", shop(image, "3")), "Open the shop"), "success")
    assert story.containers("shop") == before
    story.answers("/shop", "shop 1")
