"""A new version gets its traffic by and by: a good one gets it all, a bad one is gone before most have seen it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.stories import DAEMON, Story, eventually, manifest, talking
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.outage import Seen, asked

pytestmark = pytest.mark.lab

JUDGE = {"min_requests": 20, "errors": "5%", "latency": "20x"}  # a busy machine is slow at times, whoever answers


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own."""
    repository = lab.forge.create("acme/canary")
    repository.commit({"README.md": "Canary\n"}, "Begin")
    server = lab.server("canary")
    yield Story.set_up(lab, server, repository)
    server.destroy()


@pytest.fixture(scope="module")
def deploy(lab: Lab, story: Story) -> Callable[..., str]:
    """Merges a version of a talker, of which each so-and-so-many-th answer may be a failure; gives the commit."""
    image = lab.registry.push("talk", "1", service.talker("talk", "1"))

    def deploy(version: str, lasts: str = "4s", fails_every: int = 0) -> str:
        web: dict[str, Any] = talking(image, "/talk", version, stop_grace_period="5s")
        web["x-mvd"] = {**web["x-mvd"], "canary": {"steps": [10, 50, 100], "for": lasts, "judge": JUDGE}}
        if fails_every:
            web["environment"] = {**web["environment"], "FAILS_EVERY": str(fails_every)}
        return story.merge(manifest("talk", {"services": {"web": web}}), f"Talk {version}")

    return deploy


def url(story: Story) -> str:
    return f"http://{story.server.ip}:8000/talk"


def weights(story: Story) -> list[int]:
    """Those of the targets that Kong has, the lightest first."""
    return sorted(it["weight"] for it in story.kong("/upstreams/mvd.talk.web/targets")["data"])


def plugins(story: Story) -> list[str]:
    return [it["name"] for it in story.kong("/plugins")["data"]]


def begun(story: Story) -> list[str]:
    """The shares that were begun to be judged."""
    return [line.partition("share=")[2] for line in story.log().splitlines() if "canary begun" in line]


def versions(seen: list[Seen]) -> Counter[str]:
    return Counter(it.said.strip() for it in seen)


def test_a_good_version_gets_all_of_the_traffic_share_by_share_and_no_request_is_lost(
    story: Story, deploy: Callable[..., str]
) -> None:
    story.ends(deploy("1"), "success")
    with asked(url(story)) as seen:
        commit = deploy("2")
        eventually("a tenth of the traffic", lambda: weights(story) == [10, 90])
        assert "udp-log" in plugins(story)
        eventually("a half of it", lambda: weights(story) == [50, 50])
        story.ends(commit, "success")
    assert [it for it in seen if not it.answered] == []
    assert set(versions(seen)) == {"talk 1", "talk 2"}
    assert weights(story) == [100]
    assert plugins(story) == []
    told = [line for line in story.log().splitlines() if "canary passed" in line]
    assert ["share=10%" in told[0], "share=50%" in told[1], len(told)] == [True, True, 2]
    assert "judged on" in told[0]
    assert story.ask("/talk").text == "talk 2\n"


def test_a_bad_version_goes_back_at_the_first_share_and_most_never_see_it(
    story: Story, deploy: Callable[..., str]
) -> None:
    good = story.containers("talk")
    with asked(url(story)) as seen:
        why = story.ends(deploy("3", "30s", fails_every=2), "failure")
    assert "canary at 10 %:" in why
    assert "failed; of the old version's, 0 of" in why
    met = versions(seen)["talk 3"]
    assert 0 < met < len(seen) / 5, f"{met} of {len(seen)} met the bad version"
    assert story.containers("talk") == good
    assert weights(story) == [100]
    assert plugins(story) == []


def test_a_revert_in_the_middle_waits_for_nothing(story: Story, deploy: Callable[..., str]) -> None:
    with asked(url(story)) as seen:
        commit = deploy("4", "10m")
        eventually("a tenth of the traffic", lambda: weights(story) == [10, 90])
        back = deploy("2")
        story.ends(back, "success")
    assert story.told(commit)[-1][0] != "success"
    assert [it for it in seen if not it.answered] == []
    assert weights(story) == [100]
    assert len(story.containers("talk")) == 1


def test_a_killed_daemon_goes_on_with_the_share_that_it_finds(story: Story, deploy: Callable[..., str]) -> None:
    with asked(url(story)) as seen:
        commit = deploy("5", "5s")
        eventually("a half of the traffic, and what Kong tells of it", lambda: begun(story)[-1:] == ["50%"])
        story.run("systemctl", "kill", "--signal=KILL", DAEMON)
        assert weights(story) == [50, 50]
        story.ends(commit, "success")
    assert [it for it in seen if not it.answered] == []
    assert begun(story)[-3:] == ["10%", "50%", "50%"]
    assert weights(story) == [100]
    assert story.ask("/talk").text == "talk 5\n"
