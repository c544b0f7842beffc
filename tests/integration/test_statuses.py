"""What a forge is told of commits in the long run, and in a burst of them, on a real server."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from itertools import groupby

import pytest

from gitops_mvd.host.monitor import FIRST_TRY_WITHIN_SECONDS
from gitops_mvd.status.debounce import DEBOUNCE_SECONDS
from tests.integration.stories import Story, eventually, routed, write_settings
from tests.lab import service
from tests.lab.burst import burst
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

MOOD = "/srv/mood/well"  # a file of the server, which an app shows as its health
FLAP = 4  # seconds
HANGS_WHERE_TOLD = """\
#!/bin/sh
[ ! -e /www/hang/up ] || sleep 20
printf 'Content-Type: text/plain\\r\\n\\r\\nok\\n'
"""


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own, which looks every second."""
    repository = lab.forge.create("acme/statuses")
    repository.commit({"README.md": "Statuses\n"}, "Begin")
    server = lab.server("statuses")
    story = Story.set_up(lab, server, repository)
    write_settings(story, story.run("cat", SETTINGS).replace("interval: 2s", "interval: 1s"), "daemon started")
    yield story
    server.destroy()


def seconds_until(story: Story, commit: str, state: str) -> float:
    began = time.monotonic()
    eventually(f"{state} of {commit[:7]}", lambda: story.told(commit)[-1][0] == state, 2 * DEBOUNCE_SECONDS)
    return time.monotonic() - began


def test_what_lasts_turns_the_applied_commit_red_and_green_again_and_a_flap_does_not(lab: Lab, story: Story) -> None:
    image = lab.registry.push("moody", "1", service.web("moody", "1"))
    check = {"test": ["CMD", "test", "-e", "/www/mood/well"], "interval": "1s", "retries": 1}
    web = routed(image, "/moody", volumes=["/srv/mood:/www/mood:ro"], healthcheck=check)
    story.run("sh", "-ec", f"mkdir -p /srv/mood && touch {MOOD}")
    commit = story.deploy("moody", {"services": {"web": web}})
    told = story.told(commit)

    def seems(health: str) -> Callable[[], bool]:
        return lambda: f'"health": "{health}"' in story.mvd("status", "--json").out

    began = time.monotonic()
    story.run("rm", MOOD)
    eventually("that it is noticed", seems("Degraded"))
    story.run("sleep", str(FLAP))
    story.run("touch", MOOD)
    eventually("that it is over", seems("Healthy"))
    assert story.told(commit) == told, "a flap is not told"

    story.run("rm", MOOD)  # it was well for a moment only, so it counts from the first one
    eventually("that it is noticed again", seems("Degraded"))
    between = story.merge({"README.md": "moody\n"}, "Change nothing that runs")
    assert story.ends(between, "success") == "nothing to do here"
    assert story.told(commit) == told
    seconds_until(story, commit, "failure")
    assert time.monotonic() - began > DEBOUNCE_SECONDS
    [(_, why)] = story.told(commit)[len(told) :]
    assert why == "moody: web: its healthcheck says unhealthy"
    after = story.merge({"README.md": "still moody\n"}, "Change nothing that runs either")
    assert story.ends(after, "success") == f"nothing to do here; since {commit[:7]} {why}"

    story.run("touch", MOOD)
    assert seconds_until(story, commit, "success") > DEBOUNCE_SECONDS - 5
    turns = [state for state, _ in groupby(state for state, _ in story.told(commit))]
    assert turns == ["pending", "success", "failure", "success"]
    assert len(story.told(between)) == len(story.told(after)) == 1


def test_what_hangs_after_its_deploy_turns_the_commit_red_and_nothing_is_done_to_it(lab: Lab, story: Story) -> None:
    pages = {"/cgi-bin/health": HANGS_WHERE_TOLD}
    image = lab.registry.push("hanging", "1", service.web("hanging", "1", pages=pages))
    health = {"http": "/cgi-bin/health", "port": 7799, "interval": "2s", "timeout": "500ms", "within": "20s"}
    web = routed(image, "/hanging", volumes=["/srv/hang:/www/hang:ro"], **{"x-mvd": {"health": health}})
    story.run("mkdir", "-p", "/srv/hang")
    commit = story.deploy("hanging", {"services": {"web": web}})
    containers, told = story.containers("hanging"), story.told(commit)

    time.sleep(FIRST_TRY_WITHIN_SECONDS + 2)  # what was never seen to be well would be given its time to start
    story.run("touch", "/srv/hang/up")
    began = time.monotonic()
    assert "web: http /cgi-bin/health does not answer within 0.5 s" in story.mvd("status").out, "it asks by itself"
    seconds_until(story, commit, "failure")
    assert time.monotonic() - began > DEBOUNCE_SECONDS
    shown = r"Degraded .* web: http /cgi-bin/health does not answer within 0.5 s$"
    assert re.search(shown, story.mvd("status").out, re.MULTILINE)
    [(_, why)] = story.told(commit)[len(told) :]
    assert why == "hanging: web: http /cgi-bin/health does not answer within 0.5 s"

    story.run("rm", "/srv/hang/up")
    assert seconds_until(story, commit, "success") > DEBOUNCE_SECONDS - 5
    turns = [state for state, _ in groupby(state for state, _ in story.told(commit))]
    assert turns == ["pending", "success", "failure", "success"]
    assert story.containers("hanging") == containers, "it is reported, and left as it is"


@pytest.mark.parametrize("long_outage", [False, True], ids=["the forge is away in the middle", "until all is over"])
def test_every_commit_of_a_burst_has_one_true_end_whoever_is_away_or_killed(
    lab: Lab, story: Story, long_outage: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    def restarts() -> int:
        return int(story.run("systemctl", "show", "--value", "--property=NRestarts", "gitops-mvd"))

    before = restarts()
    told = burst(story, lab, long_outage=long_outage)
    with capsys.disabled():
        after = (told.last - told.back).total_seconds()
        print(f"\n{told.calls} calls for {len(told.affected)} commits, the last {after:.1f} s after the forge's return")
    assert told.faults() == []
    assert restarts() == before + 2
