"""The daemon as its unit confines it, on a real server, and under all that a repository can do to it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.contract.test_hostile_pull_requests import HOSTILE
from tests.contract.test_hostile_repositories import FOLDER, Objects
from tests.integration.stories import DAEMON, Story, eventually
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.repository import PullRequest

pytestmark = pytest.mark.lab

MOST_EXPOSED = 2.6  # by systemd-analyze
MOST_MEMORY = 80 << 10  # KiB that the daemon itself ever had in memory


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own."""
    repository = lab.forge.create("acme/limits")
    repository.commit({"README.md": "Limits\n"}, "Begin")
    server = lab.server("limits")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def shown(story: Story, *names: str) -> dict[str, str]:
    printed = story.run("systemctl", "show", DAEMON, f"--property={','.join(names)}")
    return dict(line.split("=", 1) for line in printed.splitlines())


def test_the_unit_has_limits_and_few_rights(story: Story) -> None:
    limits = shown(story, "MemoryHigh", "MemoryMax", "TasksMax", "LimitCORE", "OOMPolicy", "MemoryDenyWriteExecute")
    assert limits == {
        "MemoryHigh": str(640 << 20),
        "MemoryMax": str(768 << 20),
        "TasksMax": "512",
        "LimitCORE": "0",
        "OOMPolicy": "continue",
        "MemoryDenyWriteExecute": "yes",
    }
    judged = story.run("systemd-analyze", "security", "--no-pager", DAEMON)
    exposure = re.search(rf"Overall exposure level for {re.escape(DAEMON)}: ([0-9.]+)", judged)
    assert exposure
    assert float(exposure[1]) <= MOST_EXPOSED, judged


def test_no_repository_takes_more_than_the_daemon_may_have(lab: Lab, story: Story) -> None:
    """Each as an open pull request, then merged, then reverted: one app is refused, and the good one stays healthy."""
    image = lab.registry.push("limits", "1", service.web("limits", "1"))
    objects = Objects(story.repository.path)
    good = objects.app(f"services: {{web: {{image: '{image}'}}}}\n".encode())
    base = objects.commit(good=good, parent=story.repository.resolve("main"))
    story.mvd("sync")
    story.ends(base, "success")
    before = story.containers("good")
    for number, (make, said) in enumerate(HOSTILE.items(), 1):
        ref = f"refs/pull/{number}/head"
        hostile = objects.commit((FOLDER, b"bomb", make(objects)), good=good, parent=base, ref=ref)
        opened = PullRequest(number, make.__name__, f"pull-request-{number}", "main", hostile)
        story.repository.pull_requests.append(opened)
        story.mvd("sync")
        story.run("systemctl", "kill", "--signal=USR1", "--kill-whom=main", DAEMON)
        eventually(f"the plan of {make.__name__}", lambda commit=hostile, said=said: said in plan(story, commit))
        story.repository.close(opened)
        merged = objects.commit((FOLDER, b"bomb", make(objects)), good=good, parent=base, message=b"Merge")
        story.mvd("sync")
        assert "bomb" in story.ends(merged, "failure")
        base = objects.commit(good=good, parent=merged, message=b"Revert")
        story.mvd("sync")
        story.ends(base, "success")
    assert story.containers("good") == before
    process = shown(story, "MainPID", "NRestarts")
    assert process["NRestarts"] == "0"
    status = story.run("cat", f"/proc/{process['MainPID']}/status")
    assert int(status.partition("VmHWM:")[2].split()[0]) < MOST_MEMORY


def plan(story: Story, commit: str) -> str:
    told = story.repository.statuses(commit)
    return " ".join(status.description for status in told if status.context == f"{story.context}/plan")
