"""Bad days, on a real server: each gives one clear line, changes nothing that runs, and mends when its cause goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from gitops_mvd.lab import service
from gitops_mvd.lab.lab import Lab
from gitops_mvd.lab.repository import git
from gitops_mvd.lab.stage import SETTINGS, until
from tests.integration.stories import DAEMON, HEALTH, Story, eventually, manifest, routed

pytestmark = pytest.mark.lab

STATE, FILES, UNITS = "/var/lib/gitops-mvd", "/etc/gitops-mvd/files", "/etc/systemd/system"
DISKS = {STATE: "24m", FILES: "1m", UNITS: "4m"}

Said = Callable[[], list[str]]


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own, whose three folders of ours are small disks; every test has apps of its own."""
    repository = lab.forge.create("acme/bad-days")
    repository.commit({"README.md": "Bad days\n"}, "Begin")
    server = lab.server("bad-days")
    for folder, size in DISKS.items():
        mounted = (
            f"mkdir -p {folder} && cp -a {folder} /tmp/was && mount -t tmpfs -o size={size},mode=755 tmpfs {folder}"
        )
        server.exec("sh", "-ec", f"{mounted} && cp -a /tmp/was/. {folder} && rm -r /tmp/was")
    server.exec("systemctl", "daemon-reload")
    yield Story.set_up(lab, server, repository)
    server.destroy()


@pytest.fixture(scope="module")
def steady(lab: Lab, story: Story) -> str:
    """An app that nobody ever touches.  Gives its name."""
    image = lab.registry.push("steady", "1", service.web("steady", "1"))
    story.deploy("steady", {"services": {"web": routed(image, "/steady")}})
    return "steady"


@pytest.fixture(autouse=True)
def undisturbed(story: Story, steady: str) -> Iterator[None]:
    """Whatever happens: what runs is not touched, and the daemon does not die of it."""
    before = story.containers(steady), main_process(story)
    yield
    assert (story.containers(steady), main_process(story)) == before
    story.answers("/steady", "steady 1")


@pytest.fixture
def said(story: Story) -> Said:
    """What the daemon has said since the test began, by lines."""
    before = len(story.log().splitlines())
    return lambda: story.log().splitlines()[before:]


def main_process(story: Story) -> str:
    return story.run("systemctl", "show", DAEMON, "--property=NRestarts")


def lines(said: Said, text: str) -> list[str]:
    return [line for line in said() if text in line]


def is_said_once(story: Story, said: Said, text: str) -> None:
    """Wait for it, look twice more, and see that it is not said again."""
    eventually(f"{text!r} in the log", lambda: lines(said, text))
    for _ in range(2):
        story.mvd("sync")
    assert len(lines(said, text)) == 1, said()


def waits(story: Story, commit: str, why: str) -> None:
    """See that a commit is pending, for a reason."""
    eventually(f"{why!r} in the status", lambda: any(why in description for _, description in story.told(commit)))
    assert {state for state, _ in story.told(commit)} == {"pending"}


# ---- the repository --------------------------------------------------------------------------------------------------


@contextmanager
def no_answer(lab: Lab, story: Story) -> Iterator[None]:
    lab.forge.down = True
    yield
    lab.forge.down = False


@contextmanager
def another_token(lab: Lab, story: Story) -> Iterator[None]:
    token, lab.forge.token = lab.forge.token, "another"
    yield
    lab.forge.token = token


@contextmanager
def no_repository(lab: Lab, story: Story) -> Iterator[None]:
    gone = lab.forge.repositories.pop(story.repository.name)
    yield
    lab.forge.repositories[story.repository.name] = gone


@contextmanager
def no_branch(lab: Lab, story: Story) -> Iterator[None]:
    git("branch", "--move", "main", "trunk", at=story.repository.path)
    yield
    git("branch", "--move", "trunk", "main", at=story.repository.path)


@contextmanager
def force_pushed(lab: Lab, story: Story) -> Iterator[None]:
    tip, *_, first = git("rev-list", "main", at=story.repository.path).splitlines()
    git("update-ref", "refs/heads/main", first, at=story.repository.path)
    yield
    git("update-ref", "refs/heads/main", tip, at=story.repository.path)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (no_answer, "does not answer"),
        (another_token, "refused the login"),
        (no_repository, "has no such repository"),
        (no_branch, "has no branch main"),
        (force_pushed, "which does not build on it"),
    ],
)
def test_while_the_repository_is_out_of_reach_the_host_is_kept_as_it_was(
    lab: Lab, story: Story, said: Said, trouble: Callable[..., Iterator[None]], sentence: str
) -> None:
    image = lab.registry.push("kept", "1", service.web("kept", "1"))
    if not story.units("kept"):
        story.deploy("kept", {"services": {"web": routed(image, "/kept")}})
    with trouble(lab, story):
        story.run("systemctl", "stop", story.unit("kept"))
        is_said_once(story, said, sentence)
        story.answers("/kept", "kept 1")
    story.ends(story.merge({"README.md": f"{sentence}\n"}, "Change nothing that runs"), "success")
    assert len(lines(said, "no longer: ")) == 1, said()
