"""The life of a job that runs on a schedule, on a real server: told from its first run to its removal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gitops_mvd.status.debounce import DEBOUNCE_SECONDS
from tests.integration.stories import Story, eventually, manifest
from tests.lab.lab import Lab
from tests.lab.service import Service

pytestmark = pytest.mark.lab

OFTEN, LESS_OFTEN = "*:*:0/2", "*:*:0/3"
STAMP = "/var/lib/systemd/timers/stamp-"
TRACES = """
find /etc/systemd /var/lib/systemd /etc/gitops-mvd/files -name '*mvd-jobs*'
systemctl list-units --all --plain --no-legend 'mvd-jobs*'
docker ps --all --quiet --filter label=io.gitops-mvd.app=jobs
docker images --format '{{.Tag}}' gitops-mvd.local/app | grep jobs || true
"""


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own."""
    repository = lab.forge.create("acme/jobs")
    repository.commit({"README.md": "Jobs\n"}, "Begin")
    server = lab.server("jobs")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def jobs(image: str, schedule: str) -> dict[str, Any]:
    nightly = {"image": image, "volumes": ["state:/state"], "x-mvd": {"schedule": schedule}}
    return {"services": {"nightly": nightly}, "volumes": {"state": {}}}


def health(story: Story) -> str:
    status = story.mvd("status", "--json")
    [app] = [app for app in json.loads(status.out)["apps"] if app["name"] == "jobs"]
    assert (status.code == 0) == (app["health"] == "Healthy")
    return str(app["health"])


def runs(story: Story) -> int:
    return story.mvd("logs", "jobs/nightly", "-n", "1000").out.count("cleaned up at")


def test_a_job_runs_on_its_schedule_as_long_as_git_says_so(lab: Lab, story: Story) -> None:
    script = "test ! -e /state/broken || exit 3; echo cleaned up at $(date +%s) by $VERSION"
    image, second = (
        lab.registry.push("jobs/nightly", version, Service(("sh", "-c", script), environment={"VERSION": version}))
        for version in ("1", "2")
    )

    # A server is not emptied just so: something else runs, too.
    story.deploy("steady", {"services": {"sleep": {"image": image, "command": ["sleep", "1000"]}}})
    story.deploy("jobs", jobs(image, OFTEN))
    eventually("three runs", lambda: runs(story) >= 3)
    assert story.mvd("plan").code == 0
    assert health(story) == "Healthy"
    unit = story.unit("jobs")
    timer = unit.replace(".service", ".timer")
    assert timer in story.run("systemctl", "list-timers", "mvd-*")

    # Another schedule is another timer: the unit is not touched.
    def written() -> str:
        return story.run("stat", "--format=%i %Z", f"/etc/systemd/system/{unit}")

    before, log = written(), story.log()
    story.deploy("jobs", jobs(image, LESS_OFTEN))
    said = [line for line in story.log().removeprefix(log).splitlines() if "step app=" in line]
    assert [line.split()[-3:] for line in said] == [["update", "timer", timer.removesuffix(".timer")]]
    assert written() == before
    assert f"OnCalendar={LESS_OFTEN}" in story.run("systemctl", "cat", timer)
    ran = runs(story)
    eventually("a run by the new schedule", lambda: runs(story) > ran)

    # What systemd does not take for a time is told in its words, and the job goes on as it was.
    refused = story.merge(manifest("jobs", jobs(image, "whenever")), "Run whenever")
    assert "Failed to parse calendar specification 'whenever'" in story.ends(refused, "failure")
    ran = runs(story)
    eventually("a run by the schedule before", lambda: runs(story) > ran)
    story.ends(story.revert(refused), "success")

    # A new version takes the place of the old one, and what ran is still told.
    commit = story.deploy("jobs", jobs(second, LESS_OFTEN))
    assert story.unit("jobs") != unit
    unit = story.unit("jobs")
    timer = unit.replace(".service", ".timer")
    assert story.run("find", "/var/lib/systemd/timers", "-name", "stamp-mvd-jobs*").split() == [f"{STAMP}{timer}"]
    eventually("a run of the new version", lambda: "by 2" in story.mvd("logs", "jobs/nightly", "-n", "1000").out)
    assert "by 1" in story.mvd("logs", "jobs/nightly", "-n", "1000").out
    assert story.mvd("plan").code == 0

    # How its last run ended is its health, on the server and on the commit.
    data = story.run("docker", "volume", "inspect", "--format={{.Mountpoint}}", "jobs_state").strip()
    story.run("touch", f"{data}/broken")
    eventually("the app Degraded", lambda: health(story) == "Degraded")
    red = "failure", "jobs: nightly: its last run ended with exit code 3"
    eventually("a red commit", lambda: story.told(commit)[-1] == red, 2 * DEBOUNCE_SECONDS)
    log = story.log()
    assert story.mvd("plan").code == 0, "a run that failed is no drift"
    story.run("rm", f"{data}/broken")
    eventually("the app well again", lambda: health(story) == "Healthy")
    eventually("a green commit", lambda: story.told(commit)[-1][0] == "success", 2 * DEBOUNCE_SECONDS)
    assert "step app=" not in story.log().removeprefix(log)

    # Stopped by hand, it is started again; and removed from Git, it leaves nothing but its data.
    story.run("systemctl", "disable", "--now", timer)
    as_it_was = ["ActiveState=active", "UnitFileState=enabled"]
    shown = ("systemctl", "show", "--property=ActiveState,UnitFileState", timer)
    eventually("the timer again", lambda: story.run(*shown).split() == as_it_was)
    story.remove("jobs")
    assert story.run("sh", "-euc", TRACES) == ""
    assert "jobs_state" in story.run("docker", "volume", "ls")
