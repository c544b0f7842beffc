"""Deploys that lose nothing: drained, by turns, in order, and undone where they fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.stories import DAEMON, HEALTH, Story, eventually, manifest, routed
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.outage import all_the_while

pytestmark = pytest.mark.lab

Push = Callable[..., str]


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own, for all of these tests; every one has apps of its own."""
    repository = lab.forge.create("acme/deploys")
    repository.commit({"README.md": "Deploys\n"}, "Begin")
    server = lab.server("deploys")
    story = Story.set_up(lab, server, repository)
    image = lab.registry.push("fragile", "1", service.web("fragile", "1"))
    story.deploy("fragile", {"services": {"web": routed(image, "/fragile")}})
    yield story
    server.destroy()


@pytest.fixture
def push(lab: Lab) -> Push:
    """Makes an image of that name and version; `how` is the kind of service that is in it."""

    def push(name: str, version: str, how: Callable[..., service.Service] = service.web, **more: Any) -> str:
        return lab.registry.push(name, version, how(name, version, **more))

    return push


def updated(**config: Any) -> dict[str, Any]:
    return {"deploy": {"update_config": config}}


# ---- by turns --------------------------------------------------------------------------------------------------------


@contextmanager
def counting(story: Story, app: str) -> Iterator[list[int]]:
    """How many containers of an app were seen to run, again and again while the block lasts."""
    seen: list[int] = []
    with all_the_while(lambda: seen.append(len(story.containers(app))), pause=0.1):
        yield seen


def test_replicas_are_replaced_by_turns_and_scaled_and_no_request_is_lost(story: Story, push: Push) -> None:
    def turns(version: str, replicas: int) -> dict[str, Any]:
        more = {"deploy": {"replicas": replicas, "update_config": {"parallelism": 1}}, "stop_grace_period": "1s"}
        return {"services": {"web": routed(push("turns", version), "/turns", **more)}}

    story.deploy("turns", turns("1", 3))
    with story.never_failing("/turns", "turns 1", "turns 2"):
        with counting(story, "turns") as seen:
            story.deploy("turns", turns("2", 3))
        assert (min(seen), max(seen)) == (3, 4)
        story.deploy("turns", turns("2", 5))
        assert len(story.containers("turns")) == 5
        story.deploy("turns", turns("2", 2))
        assert len(story.containers("turns")) == 2
    story.remove("turns")


# ---- names on the network --------------------------------------------------------------------------------------------

CALLS = "while true; do wget -qO- http://api:7799/ || echo failed; sleep 0.05; done"


def test_what_is_called_by_name_moves_over_only_when_it_is_proven(story: Story, push: Push) -> None:
    def named(api: str, within: str = "60s") -> dict[str, Any]:
        caller = {"image": push("named", "caller"), "command": ["sh", "-c", CALLS], **updated(monitor="0s")}
        beside = {"image": api, "x-mvd": {"health": {**HEALTH, "within": within}}, **updated(order="start-first")}
        return {"services": {"api": beside, "caller": caller}}

    def heard(since: str) -> set[str]:
        lines = story.run("journalctl", "--quiet", "-o", "cat", "-t", "named/caller", f"--since=@{since}").splitlines()
        return {line for line in lines if line.startswith("named") or "failed" in line}

    story.deploy("named", named(push("named", "1")))
    began = story.run("date", "+%s.%N").strip()
    story.ends(story.merge(manifest("named", named(push("named", "2", service.sick), "4s")), "A sick api"), "failure")
    assert heard(began) == {"named 1"}, "nobody was led to what was not proven"
    story.deploy("named", named(push("named", "3")))
    eventually("the answers of the new one", lambda: "named 3" in heard(began))
    later = story.run("date", "+%s.%N").strip()
    eventually("the next answer", lambda: heard(later))
    assert heard(later) == {"named 3"}
    story.remove("named")


# ---- what a failure leads to -----------------------------------------------------------------------------------------


def test_one_service_that_fails_takes_the_others_and_the_routes_back(story: Story, push: Push) -> None:
    def two(web: str, api: str, path: str, within: str = "60s") -> dict[str, Any]:
        health = {"x-mvd": {"health": {**HEALTH, "within": within}}}
        return {"services": {"web": routed(web, path), "api": routed(api, "/two-api") | health}}

    well = push("two", "1")
    story.deploy("two", two(well, well, "/two"))
    before = story.containers("two"), sorted(story.routes("two"))
    with story.never_failing("/two", "two 1"):
        sick = two(push("two", "2"), push("two", "3", service.sick), "/elsewhere", "2s")
        bad = story.merge(manifest("two", sick), "One is sick")
        assert story.ends(bad, "failure") == "two: api: http 500 from /health for 2 s; rolled back"
    assert (story.containers("two"), sorted(story.routes("two"))) == before
    assert story.ask("/elsewhere").status_code == 404
    assert story.mvd("history", "--app", "two", "-n", "1").out.count("RolledBack") == 1
    story.ends(story.revert(bad), "success")
    story.remove("two")


def test_a_paused_update_waits_for_somebody_and_one_that_continues_does_not(story: Story, push: Push) -> None:
    def held(image: str, action: str, within: str = "60s") -> dict[str, Any]:
        health = {"x-mvd": {"health": {**HEALTH, "within": within}}}
        return {"services": {"web": routed(image, "/held") | health | updated(failure_action=action)}}

    well, sick = push("held", "1"), push("held", "2", service.sick)
    story.deploy("held", held(well, "pause"))
    paused = story.merge(manifest("held", held(sick, "pause", "2s")), "Pause")
    assert story.ends(paused, "failure") == "held: web: http 500 from /health for 2 s; paused"
    assert len(story.containers("held")) == 2, "the new one stays, to be looked at"
    story.answers("/held", "held 1")
    log = story.log()
    assert story.mvd("sync").code == 1
    assert "step app=held" not in story.log().removeprefix(log)
    went_on = story.merge(manifest("held", held(sick, "continue", "2s")), "Go on")
    assert "http 500" in story.ends(went_on, "failure")
    eventually("the new one alone", lambda: len(story.containers("held")) == 1)
    assert story.ask("/held").status_code == 500
    story.ends(story.merge(manifest("held", held(well, "rollback")), "Mend"), "success")
    story.answers("/held", "held 1")
    story.remove("held")


def test_a_revert_overtakes_a_pull_needs_no_registry_and_says_what_it_is_back_to(
    lab: Lab, story: Story, push: Push
) -> None:
    first = story.deploy("back", {"services": {"web": routed(push("back", "1"), "/back")}})
    second = story.deploy("back", {"services": {"web": routed(push("back", "2"), "/back")}})
    lab.registry.stop()
    try:
        back = story.revert(second)
        assert story.ends(back, "success").endswith(f"back: same version as in {first[:7]} (reverted)")
        story.answers("/back", "back 1")
    finally:
        lab.registry.start()
    story.remove("back")


# ---- jobs ------------------------------------------------------------------------------------------------------------


def migrating(image: str, version: str, migrate: str) -> dict[str, Any]:
    needs = {"migrate": {"condition": "service_completed_successfully"}}
    job = {"image": image, "restart": "no", "volumes": ["data:/data"], "command": ["sh", "-c", migrate]}
    web = routed(image, "/migrating", depends_on=needs, environment={"RELEASE": version})
    return {"services": {"web": web, "migrate": job}, "volumes": {"data": {}}}


def test_a_migration_is_done_once_for_each_content_and_never_again(story: Story, push: Push) -> None:
    image = push("migrating", "1")

    def done() -> list[str]:
        return story.run("cat", "/var/lib/docker/volumes/migrating_data/_data/done").split()

    first = story.deploy("migrating", migrating(image, "1", "echo one >> /data/done"))
    second = story.deploy("migrating", migrating(image, "2", "echo two >> /data/done"))
    assert done() == ["one", "two"]
    story.run("docker", "container", "prune", "--force")
    story.server.reboot()
    story.look_again()
    assert story.mvd("plan").out == ""
    story.ends(story.revert(second), "success")
    assert done() == ["one", "two"], "neither healed nor reverted"
    failing = story.merge(manifest("migrating", migrating(image, "3", "echo no such table; exit 4")), "Fail")
    told = story.ends(failing, "failure")
    assert told == "migrating: migrate: exited with code 4; it last said: no such table; rolled back"
    story.answers("/migrating", "migrating 1")
    story.ends(story.revert(failing), "success")
    assert first
    story.remove("migrating")


# ---- bad input -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fragile(push: Push) -> str:
    """The image of an app that does well, which is to be seen after each bad version."""
    return push("fragile", "1")


@pytest.mark.parametrize(
    ("what", "more", "cause"),
    [
        ("a probe that never passes", {"x-mvd": {"health": {"http": "/no", "port": 7799, "within": "2s"}}}, "http 404"),
        ("an image without the binary", {"command": ["no-such-program"]}, "no-such-program"),
        ("a container that ends", {"command": ["sh", "-c", "echo out of memory; exit 3"]}, "exited with code 3"),
    ],
)
def test_a_bad_version_is_red_with_its_cause_and_nothing_of_it_stays(
    story: Story, fragile: str, what: str, more: dict[str, Any], cause: str
) -> None:
    before = story.containers("fragile"), story.units("fragile"), story.images("fragile")
    bad = story.merge(manifest("fragile", {"services": {"web": routed(fragile, "/fragile") | more}}), what)
    told = story.ends(bad, "failure")
    assert told.startswith("fragile: web: ")
    assert cause in told
    eventually("the version before", lambda: story.ask("/fragile").text == "fragile 1\n")
    assert (story.containers("fragile"), story.units("fragile"), story.images("fragile")) == before
    story.ends(story.revert(bad), "success")


def test_of_two_apps_that_claim_one_path_the_later_one_is_red_and_says_of_whom(story: Story, fragile: str) -> None:
    bad = story.merge(manifest("zealous", {"services": {"web": routed(fragile, "/fragile")}}), "Claim the same path")
    told = story.ends(bad, "failure")
    assert "the route /fragile is used by fragile.web too" in told
    story.answers("/fragile", "fragile 1")
    assert not story.containers("zealous")
    story.ends(story.revert(bad), "success")


def test_a_circle_of_dependencies_is_a_mistake_with_file_and_line(story: Story, fragile: str) -> None:
    circle = {"a": {"image": fragile, "depends_on": ["b"]}, "b": {"image": fragile, "depends_on": ["a"]}}
    bad = story.merge(manifest("circle", {"services": circle}), "Go round")
    assert "apps/circle/compose.yaml:" in (told := story.ends(bad, "failure"))
    assert "depends on itself: " in told
    story.ends(story.revert(bad), "success")


# ---- explained -------------------------------------------------------------------------------------------------------


def test_the_command_explains_how_an_app_is_deployed_and_why(story: Story, fragile: str) -> None:
    told = json.loads(story.mvd("explain", "fragile/web", "--json").out)["fragile"]["web"]
    assert told["order"].startswith("start-first: it has a route")
    assert "fragile/web\n  order       start-first" in story.mvd("explain").out
    missing = story.mvd("explain", "fragil")
    assert missing.code == 1
    assert "no such app or service on this host: fragil" in missing.err
    story.run("systemctl", "is-active", DAEMON)
