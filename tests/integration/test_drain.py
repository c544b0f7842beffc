"""What is on its way to an old instance comes to its end before that is stopped, or its grace is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import aiohttp
import pytest
import requests

from tests.integration.stories import Story, eventually, manifest, talking
from tests.lab import service
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

CALLER = """
import time, urllib.request
while True:
    try:
        said = urllib.request.urlopen("http://api:7799/", timeout=5).read().decode().strip()
    except OSError as error:
        said = f"failed: {error}"
    print(said, flush=True)
    time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own."""
    repository = lab.forge.create("acme/drain")
    repository.commit({"README.md": "Drain\n"}, "Begin")
    server = lab.server("drain")
    yield Story.set_up(lab, server, repository)
    server.destroy()


@pytest.fixture(scope="module")
def deploy(lab: Lab, story: Story) -> Callable[[str, str], str]:
    """Merges a version of a talker, which dies at once when it is told to stop; gives the commit."""
    image = lab.registry.push("talk", "1", service.talker("talk", "1"))

    def deploy(version: str, grace: str) -> str:
        web = talking(image, "/talk", version, stop_grace_period=grace)
        return story.merge(manifest("talk", {"services": {"web": web}}), f"Talk {version}")

    return deploy


def url(story: Story, path: str) -> str:
    return f"http://{story.server.ip}:8000/talk{path}"


def wait_for_it(story: Story, path: str) -> str:
    answer = requests.get(url(story, path), timeout=90)
    return f"{answer.status_code} {answer.text}"


def chat(story: Story, until: float, pause: float) -> str:
    """Talk over a WebSocket until that time; returns who was talked to, and what became of it."""

    async def talk() -> str:
        async with aiohttp.ClientSession() as session, session.ws_connect(url(story, "/echo")) as socket:
            who = await socket.receive_str()
            while time.monotonic() < until:
                try:
                    await socket.send_str("are you there?")
                    await socket.receive_str()
                except (ConnectionError, TypeError):  # which is how a closed one is told
                    return f"{who} hung up"
                await asyncio.sleep(pause)
            return f"{who} was there all the time"

    return asyncio.run(talk())


def test_what_is_on_its_way_comes_to_its_end(story: Story, deploy: Callable[[str, str], str]) -> None:
    began = time.monotonic()
    story.ends(deploy("1", "120s"), "success")
    takes = round(3 * (time.monotonic() - began))
    lasts = min(max(9, takes), 50)  # seconds: longer than it takes to switch, and shorter than the gateway waits
    [old] = story.containers("talk")
    with ThreadPoolExecutor() as pool, story.never_failing("/talk", "talk 1", "talk 2"):
        until = time.monotonic() + lasts
        talks: list[Future[str]] = [pool.submit(chat, story, until, pause) for pause in (0.3, 4.0)]
        slow, stream = (pool.submit(wait_for_it, story, f"/{what}?seconds={lasts}") for what in ("slow", "stream"))
        time.sleep(1)
        commit = deploy("2", "120s")
        eventually("answers of the new one", lambda: story.ask("/talk").text == "talk 2\n")
        assert not slow.done(), "it was switched while all of this was on its way"
        assert old in story.containers("talk")
        assert slow.result() == "200 talk 1\n"
        assert stream.result().startswith("200 talk 1\n")
        assert stream.result().endswith("talk 1\nend\n")
        assert [talk.result() for talk in talks] == ["talk 1 was there all the time"] * 2
        story.ends(commit, "success")
    assert old not in story.containers("talk")


def test_what_never_ends_is_waited_for_as_long_as_its_grace(story: Story, deploy: Callable[[str, str], str]) -> None:
    story.ends(deploy("3", "4s"), "success")
    with ThreadPoolExecutor() as pool:
        began = time.monotonic()
        endless = pool.submit(chat, story, began + 60, 0.2)
        time.sleep(1)
        commit = deploy("4", "4s")
        eventually("answers of the new one", lambda: story.ask("/talk").text == "talk 4\n")
        switched = time.monotonic()
        assert endless.result() == "talk 3 hung up"
        assert 2 < time.monotonic() - switched < 50, "it would go on for a minute"
        story.ends(commit, "success")


def test_a_removed_app_ends_what_it_was_asked(story: Story, deploy: Callable[[str, str], str]) -> None:
    story.merge({"README.md": "Another app stays\n", "apps/talk/compose.yaml": None, **other(story)}, "Prepare")
    story.ends(deploy("5", "15s"), "success")
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(wait_for_it, story, "/slow?seconds=5")
        time.sleep(1)
        gone = story.merge({"apps/talk/compose.yaml": None}, "Remove it")
        eventually("no route", lambda: story.ask("/talk").status_code == 404)
        assert slow.result() == "200 talk 5\n"
    story.ends(gone, "success")
    assert not story.containers("talk")


def test_what_kong_keeps_for_later_holds_up_no_deploy(story: Story, deploy: Callable[[str, str], str]) -> None:
    story.ends(deploy("6", "60s"), "success")
    began = story.run("date", "+%s.%N").strip()
    with ThreadPoolExecutor() as pool, story.never_failing("/talk", "talk 6", "talk 7"):
        silent = pool.submit(wait_for_it, story, "/slow?seconds=8")
        time.sleep(1)
        commit = deploy("7", "60s")
        eventually("answers of the new one", lambda: story.ask("/talk").text == "talk 7\n")
        assert silent.result() == "200 talk 6\n", "what is silent is not idle"
        story.ends(commit, "success")
        said = story.run("journalctl", "--quiet", "-o", "cat", "-u", "gitops-mvd", f"--since=@{began}")
    assert " drained after=" in said
    assert "not drained" not in said, "its grace was waited for"


def other(story: Story) -> dict[str, str | None]:
    return manifest(
        "other", {"services": {"idle": {"image": "registry.lab:5000/talk:1", "command": ["sleep", "1000"]}}}
    )


def test_who_calls_by_name_and_tries_the_next_address_loses_nothing(lab: Lab, story: Story) -> None:
    image = lab.registry.push("talk", "1", service.talker("talk", "1"))
    python = {"image": image, "volumes": list(service.TALKER_VOLUMES)}

    def named(version: str) -> dict[str, Any]:
        api = {**python, "environment": {"VERSION": version}, "deploy": {"update_config": {"order": "start-first"}}}
        health = {"x-mvd": {"health": {"http": "/health", "port": 7799}}}
        caller = {**python, "command": ["/usr/bin/python3", "-c", CALLER]}
        caller["deploy"] = {"update_config": {"monitor": "0s"}}
        return {"services": {"api": {**api, **health}, "caller": caller}}

    story.deploy("named", named("1"))
    began = story.run("date", "+%s.%N").strip()
    for version in "23":
        story.deploy("named", named(version))
    said = story.run("journalctl", "--quiet", "-o", "cat", "-t", "named/caller", f"--since=@{began}").splitlines()
    heard = [line for line in said if line.startswith(("talk", "failed"))]
    assert set(heard) == {"talk 1", "talk 2", "talk 3"}
    assert len(heard) > 100
