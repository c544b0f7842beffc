"""The daemon is killed at every step, the engine and the server restart in the middle: the end is always the same."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
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
SEED = "MVD_TEST_SEED"  # set this in the environment to have an engine go at other moments


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own; every test has an app of its own beside one that stays, as the last one is not removed."""
    repository = lab.forge.create("acme/crashes")
    repository.commit({"README.md": "Crashes\n"}, "Begin")
    server = lab.server("crashes")
    story = Story.set_up(lab, server, repository)
    image = lab.registry.push("steady", "1", service.web("steady", "1"))
    story.deploy("steady", {"services": {"web": routed(image, "/steady")}})
    yield story
    server.destroy()


@dataclass(frozen=True)
class Mortal:
    """An app of one test: its name is that of its images, too, and its path."""

    lab: Lab
    name: str

    def push(self, version: str, how: Callable[..., service.Service] = service.web, **more: Any) -> str:
        return self.lab.registry.push(self.name, version, how(self.name, version, **more))

    def compose(self, image: str, within: str = "60s") -> dict[str, Any]:
        """What is routed, has a name on a network and is quickly drained, and a worker."""
        web = routed(image, f"/{self.name}", stop_grace_period="1s", networks=["inner"])
        web["x-mvd"] = {"health": {**HEALTH, "within": within}}
        worker = {"image": image, "networks": ["inner"], "deploy": {"update_config": {"monitor": "0s"}}}
        return {"services": {"web": web, "worker": worker}, "networks": {"inner": {}}}

    def is_whole(self, story: Story, *instances: int) -> None:
        """As many web instances as there should be, one worker, and nothing that is left over of anything else."""
        web, worker = instances
        names = sorted(story.containers(self.name))
        assert [sum(f"-{kind}-" in name for name in names) for kind in ("web", "worker")] == [web, worker], names
        assert {path.rpartition("/")[2] for path in story.units(self.name)} == {f"{name}.service" for name in names}
        listed = story.run("docker", "ps", "--all", "--format", "{{.Names}}", "--filter", f"name=mvd-{self.name}-")
        assert sorted(listed.split()) == names
        folder = ("/etc/gitops-mvd/files", "-mindepth", "1", "-maxdepth", "1", "-name", f"mvd-{self.name}-*")
        folders = story.run("find", *folder).split()
        assert {path.rpartition("/")[2] for path in folders} == {name for name in names if name.count("-") == 3}
        assert story.run("find", "/etc", "-name", "*.new") == ""


def dies(story: Story, step: int, after: str = "0") -> bool:
    """One look that is killed in that step; False where it came to its end before."""
    argv = (f"{VENV}/bin/python", "-m", "tests.lab.mortal", str(step), after)
    return story.server.exec(*argv, check=False, timeout=120).code == KILLED


@pytest.mark.parametrize(
    ("name", "after", "stride"),
    [("between", "0", 1), ("within", INTO_THE_STEP, 3)],
    ids=["between steps", "in a step"],
)
def test_a_deploy_that_is_killed_at_any_step_is_finished_by_the_next_look(
    lab: Lab, story: Story, name: str, after: str, stride: int
) -> None:
    app = Mortal(lab, name)
    images = {version: app.push(version) for version in "12"}
    story.deploy(name, app.compose(images["1"]))
    with story.without_daemon(), story.never_failing(f"/{name}", f"{name} 1", f"{name} 2"):
        for step in range(0, MOST_STEPS, stride):
            version = "21"[step // stride % 2]
            story.merge(manifest(name, app.compose(images[version])), f"Version {version}, killed at {step}")
            killed = dies(story, step, after)
            assert story.mvd("sync").code == 0
            story.answers(f"/{name}", f"{name} {version}")
            app.is_whole(story, 1, 1)
            if not killed:
                break
        assert 12 < step < MOST_STEPS - stride, "it was killed at every step, and the last one was not killed"


def test_a_rollback_that_is_killed_at_any_step_is_finished_by_the_next_look(lab: Lab, story: Story) -> None:
    app = Mortal(lab, "returning")
    story.deploy("returning", app.compose(app.push("1")))
    before = sorted(story.containers("returning"))
    with story.without_daemon(), story.never_failing("/returning", "returning 1"):
        bad = story.merge(
            manifest("returning", app.compose(app.push("sick", service.sick), within="1s")), "A sick version"
        )
        for step in range(MOST_STEPS):
            killed = dies(story, step)
            assert story.mvd("sync").code == 1
            assert sorted(story.containers("returning")) == before
            app.is_whole(story, 1, 1)
            if not killed:
                break
            story.mvd("retry", "returning")
        assert 5 < step < MOST_STEPS - 1
    story.ends(story.revert(bad), "success")
    assert story.mvd("plan").out == ""


def test_a_removal_that_is_killed_at_any_step_is_finished_by_the_next_look(lab: Lab, story: Story) -> None:
    app = Mortal(lab, "leaving")
    story.deploy("leaving", app.compose(app.push("1")))
    with story.without_daemon():
        for step in range(MOST_STEPS):
            gone = story.merge({"apps/leaving/compose.yaml": None}, f"Remove it, killed at {step}")
            killed = dies(story, step)
            assert story.mvd("sync").code == 0
            app.is_whole(story, 0, 0)
            assert story.routes("leaving") == {}
            assert story.run("docker", "network", "ls", "--quiet", "--filter=label=io.gitops-mvd.app=leaving") == ""
            story.revert(gone)
            assert story.mvd("sync").code == 0
            app.is_whole(story, 1, 1)
            if not killed:
                break
        assert 5 < step < MOST_STEPS - 1


# ---- the ground shakes -----------------------------------------------------------------------------------------------

GOES = {
    "killed": "systemctl kill --signal=KILL docker",
    "terminated": "systemctl kill --kill-who=main --signal=TERM docker",
    "restarted": "systemctl restart docker",
    "stopped and started by whoever asks it next": "systemctl stop docker",
    "stopped with its socket and started again": "systemctl stop docker.socket docker; systemctl start docker",
    "left without its containerd": "systemctl kill --kill-who=main --signal=KILL containerd",
}
OVERRIDES = [f"/run/systemd/system/{unit}.service.d/at-once.conf" for unit in ("docker", "containerd")]
AT_ONCE = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=200ms\n"
DAEMON_JSON = "/etc/docker/daemon.json"


@contextmanager
def without_live_restore(story: Story) -> Iterator[None]:
    """While the block lasts, Docker takes all containers along."""
    before = story.run("cat", DAEMON_JSON)
    story.server.put(DAEMON_JSON, json.dumps({**json.loads(before), "live-restore": False}))
    story.run("systemctl", "reload", "docker")
    try:
        yield
    finally:
        story.server.put(DAEMON_JSON, before)
        story.run("systemctl", "start", "docker")
        story.run("systemctl", "reload", "docker")


@contextmanager
def started_at_once(story: Story) -> Iterator[None]:
    """While the block lasts, systemd starts Docker and containerd as soon as they end, however often that is."""
    for path in OVERRIDES:
        story.server.put(path, AT_ONCE)
    story.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        story.run("rm", "--force", *OVERRIDES)
        story.run("systemctl", "daemon-reload")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("restarting", "the engine restarts"),
        ("killing", "the engine is killed"),
        ("dragging", "the engine takes all containers along"),
        ("rebooting", "the server reboots"),
    ],
)
def test_a_deploy_in_the_middle_of_which_the_ground_shakes_comes_to_its_end(
    lab: Lab, story: Story, name: str, what: str
) -> None:
    app = Mortal(lab, name)
    story.deploy(name, app.compose(app.push("1")))
    slow = app.compose(app.push("slow", after=4))
    commit = story.merge(manifest(name, slow), f"A slow version, and {what}")
    eventually("the new version beside the old one", lambda: len(story.containers(f"{name}-web")) == 2)
    if what == "the server reboots":
        story.server.reboot()
    elif what == "the engine takes all containers along":
        with without_live_restore(story):
            story.run("systemctl", "restart", "docker")
    elif what == "the engine is killed":
        story.run("systemctl", "kill", "--signal=KILL", "docker")
    else:
        story.run("systemctl", "restart", "docker")
    story.ends(commit, "success")
    story.answers(f"/{name}", f"{name} slow")
    app.is_whole(story, 1, 1)
    story.run("systemctl", "is-active", DAEMON)
    story.remove(name)


LINGERS = """\
[Unit]
After=docker.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sleep 12
"""


def test_a_deploy_that_meets_a_shutdown_is_not_held_against_its_version(lab: Lab, story: Story) -> None:
    """systemd starts nothing more, while what is slow to stop keeps Docker up."""
    app = Mortal(lab, "late")
    story.deploy("late", app.compose(app.push("1")))
    story.server.put("/run/systemd/system/lingers.service", LINGERS)
    story.run("systemctl", "daemon-reload")
    story.run("systemctl", "start", "lingers")
    story.run("systemctl", "stop", DAEMON)
    commit = story.merge(manifest("late", app.compose(app.push("2"))), "Version 2, and the server goes down")
    with ThreadPoolExecutor() as pool:
        rebooting = pool.submit(story.server.reboot)
        is_stopping = ("systemctl", "is-system-running")
        eventually("the shutdown", lambda: "stopping" in story.server.exec(*is_stopping, check=False).out)
        print(story.server.exec("timeout", "8", "mvd", "sync", check=False))
        rebooting.result()
    story.ends(commit, "success")
    assert "failure" not in {state for state, _ in story.told(commit)}
    story.answers("/late", "late 2")
    app.is_whole(story, 1, 1)
    story.remove("late")


def test_an_end_that_the_engine_has_not_heard_of_is_mended(lab: Lab, story: Story) -> None:
    """Without its containerd, an engine takes a container for running whose process has ended, and for good."""
    app = Mortal(lab, "unheard")
    story.deploy("unheard", app.compose(app.push("1")))
    names = [*story.containers("unheard")]
    pids = [story.run("docker", "inspect", "--format", "{{.State.Pid}}", name).strip() for name in names]
    story.run("systemctl", "stop", "containerd")
    story.run("kill", "-KILL", *pids)
    story.run("systemctl", "start", "containerd")
    states = {story.run("docker", "inspect", "--format", "{{.State.Status}}", name).strip() for name in names}
    assert states == {"running"}, "if Docker sees it by itself, there is nothing to mend"

    def is_mended() -> bool:
        print(story.server.exec("timeout", "60", "mvd", "sync", check=False, timeout=120))
        return story.mvd("status").code == 0

    eventually("that all is well", is_mended, within=120)
    story.answers("/unheard", "unheard 1")
    app.is_whole(story, 1, 1)
    story.remove("unheard")


def is_over(story: Story, commit: str) -> bool:
    """Is the status of a commit final?  The daemon is not left to wait longer and longer for an engine.

    A pass that waits for an engine may take minutes: it goes on, while the command is not waited for any longer.
    """
    story.server.exec("timeout", "60", "mvd", "sync", check=False, timeout=120)
    return story.told(commit)[-1:] != [] and story.told(commit)[-1][0] != "pending"


def migrated(image: str, version: int) -> dict[str, Any]:
    """A migration, a worker that waits for it, and a web server; all of them new with every version."""
    more = {"stop_grace_period": "1s", "environment": {"VERSION": str(version)}}
    migration = {"image": image, "command": ["sh", "-c", "sleep 0.5"], "restart": "no"}
    worker = {
        "image": image,
        "command": ["sleep", "1000"],
        "deploy": {"update_config": {"monitor": "0.5s"}},
        "depends_on": {"migration": {"condition": "service_completed_successfully"}},
    }
    web = {"image": image, "x-mvd": {"health": HEALTH}}
    return {"services": {"migration": migration | more, "worker": worker | more, "web": web | more}}


@pytest.mark.parametrize(("name", "takes_along"), [("standing", False), ("falling", True)])
def test_no_version_fails_because_an_engine_goes_at_any_moment_of_its_deploy(
    lab: Lab, story: Story, name: str, takes_along: bool
) -> None:
    chance = random.Random(os.environ.get(SEED, "1"))
    image = lab.registry.push(name, "1", service.web(name, "1"))
    began = time.monotonic()
    story.deploy(name, migrated(image, 0))
    takes = time.monotonic() - began
    with started_at_once(story), without_live_restore(story) if takes_along else nullcontext():
        for version, way in enumerate(chance.sample(list(GOES), len(GOES)), 1):
            commit = story.merge(manifest(name, migrated(image, version)), f"Version {version}")
            after, began = chance.random(), time.monotonic()
            with ThreadPoolExecutor() as pool:
                pool.submit(story.mvd, "sync")
                time.sleep(after * takes)
                story.server.exec("sh", "-c", GOES[way], check=False, timeout=200)
            eventually(f"the end of version {version}", partial(is_over, story, commit), within=400)
            lasted = time.monotonic() - began
            print(f"version {version}: {way} after {after:.0%} of {takes:.1f} s, at its end after {lasted:.1f} s")
            story.ends(commit, "success")
        story.look_again()
    story.remove(name)
