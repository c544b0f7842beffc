"""The life of a server under the daemon, on a real one: systemd, Docker, a registry, a gateway, a forge."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator

import pytest

from gitops_mvd.lab import service
from gitops_mvd.lab.lab import Lab
from tests.integration.stories import DAEMON, Story, eventually, manifest, routed

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own, for all of these tests; every one has apps of its own."""
    repository = lab.forge.create("acme/life")
    repository.commit({"README.md": "The life of a server\n"}, "Begin")
    server = lab.server("life")
    yield Story.set_up(lab, server, repository)
    server.destroy()


@pytest.fixture(scope="module")
def steady(lab: Lab, story: Story) -> str:
    """An app that nobody ever touches: whatever happens around it, its container stays.  Gives its name."""
    image = lab.registry.push("steady", "1", service.web("steady", "1"))
    story.deploy("steady", {"services": {"web": routed(image, "/steady")}})
    return "steady"


@pytest.fixture
def undisturbed(story: Story, steady: str) -> Iterator[None]:
    """Sees that the test does not touch the steady app."""
    before = story.containers(steady)
    yield
    assert story.containers(steady) == before
    story.answers("/steady", "steady 1")


# ---- nothing to do ---------------------------------------------------------------------------------------------------


def test_a_second_pass_does_nothing(story: Story, steady: str) -> None:
    before = story.containers()
    plan = story.mvd("plan")
    assert (plan.code, plan.out) == (0, ""), plan.err
    machine = json.loads(story.mvd("plan", "--json").out)
    assert machine["apps"]["steady"] == []
    assert story.mvd("sync").code == 0
    assert story.containers() == before
    log = story.log()
    story.look_again()
    assert "step app=" not in story.log().removeprefix(log)


def test_a_plan_shows_what_a_merge_would_do_and_does_none_of_it(lab: Lab, story: Story, undisturbed: None) -> None:
    image = lab.registry.push("planned", "1", service.web("planned", "1"))
    with story.without_daemon():
        before = story.containers(), story.units(""), story.kong("/routes"), story.images("*")
        commit = story.merge(manifest("planned", {"services": {"web": routed(image, "/planned")}}), "Deploy planned")
        plan = story.mvd("plan")
        machine = story.mvd("plan", "--json")
        assert (story.containers(), story.units(""), story.kong("/routes"), story.images("*")) == before
    shown = [line.split()[:3] for line in plan.out.splitlines()]
    [name] = {words[2] for words in shown if words[1] == "unit"}
    assert plan.code == 2
    assert machine.code == 2
    assert re.fullmatch(r"mvd-planned-web-[0-9a-f]{8}", name)
    assert shown == [
        ["+", "config", name],
        ["+", "image", f"{image.rpartition(':')[0]}@{lab.registry.digest('planned', '1')}"],
        ["+", "unit", name],
        ["?", "health", name],
        ["+", "route", "planned.web"],
        ["?", "health", "planned.web"],
    ]
    steps = json.loads(machine.out)["apps"]["planned"]
    assert [[step["do"], step["kind"]] for step in steps][2:4] == [["create", "unit"], ["wait", "unit"]]
    assert json.loads(machine.out)["revision"] == commit
    story.ends(commit, "success")
    assert [path.rpartition("/")[2] for path in story.units("planned")] == [f"{name}.service"]


# ---- drift -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drifting(lab: Lab, story: Story) -> str:
    """An app with one of everything, to be tampered with.  Gives its name."""
    image = lab.registry.push("drifting", "1", service.web("drifting", "1"))
    web = routed(image, "/drifting", environment={"COLOUR": "blue"}, networks=["inner"])
    story.deploy("drifting", {"services": {"web": web}, "networks": {"inner": {}}})
    return "drifting"


WHOLE = """
cat /etc/systemd/system/{unit}
systemctl show --property=ActiveState,SubState,UnitFileState,NeedDaemonReload {unit}
cat /etc/gitops-mvd/files/{instance}/env
find /etc/gitops-mvd/files/{instance} -printf '%P %m %U\\n'
docker ps --filter name={instance} --format '{{{{.Names}}}} {{{{.Image}}}} {{{{.Networks}}}}'
docker network ls --filter label=io.gitops-mvd.app={app} --format '{{{{.Name}}}}'
docker images --format '{{{{.Tag}}}}' gitops-mvd.local/app
curl -fsS http://127.0.0.1:8001/routes/{app}.web
"""


WITHOUT_RESTART = {
    "a unit file edited by hand": "echo '# by hand' >> /etc/systemd/system/{unit}",
    "a unit file deleted": "rm /etc/systemd/system/{unit}",
    "a unit disabled": "systemctl disable {unit}",
    "an environment file changed": "sed -i s/blue/red/ /etc/gitops-mvd/files/{instance}/env",
    "an environment file opened to all": "chmod 644 /etc/gitops-mvd/files/{instance}/env",
    "an image untagged": "docker rmi {image}",
    "the gateway's configuration lost": 'curl -fsS -d \'{{"_format_version": "3.0"}}\' '
    "-H 'Content-Type: application/json' http://127.0.0.1:8001/config",
}
WITH_RESTART = {
    "a unit stopped": "systemctl stop {unit}",
    "a container removed": "docker rm --force {instance}",
    "a container stopped": "docker stop {instance}",
    "a network removed": "systemctl stop {unit} && docker network prune --force",
}


@pytest.mark.parametrize("what", [*WITHOUT_RESTART, *WITH_RESTART])
def test_drift_is_put_right(story: Story, drifting: str, undisturbed: None, what: str) -> None:
    [(instance, container)] = story.containers(drifting).items()
    [image] = story.images(drifting)
    names = {"app": drifting, "instance": instance, "unit": f"{instance}.service", "image": image}

    def whole() -> str:
        """Everything there is of the app, but for the identity of its container."""
        return story.server.exec("sh", "-c", WHOLE.format(**names), check=False).out

    before = whole()
    story.run("sh", "-euc", {**WITHOUT_RESTART, **WITH_RESTART}[what].format(**names))
    eventually(f"the app as it was, after {what}", lambda: whole() == before)
    assert (story.containers(drifting)[instance] == container) == (what in WITHOUT_RESTART)
    story.answers("/drifting", "drifting 1")


# ---- removal ---------------------------------------------------------------------------------------------------------

STRANGER = """
docker run --detach --name mvd-stranger-web --label app=leaving {image}
printf '[Service]\\nExecStart=sleep infinity\\n' > /etc/systemd/system/mvd-stranger-web.service
systemctl daemon-reload
systemctl start mvd-stranger-web.service
"""
REMOVE_STRANGER = """
docker rm --force mvd-stranger-web
systemctl stop mvd-stranger-web.service
rm /etc/systemd/system/mvd-stranger-web.service
"""


def test_an_app_deleted_from_git_is_gone_but_for_its_data_and_all_that_is_not_ours(
    lab: Lab, story: Story, undisturbed: None
) -> None:
    image = lab.registry.push("leaving", "1", service.web("leaving", "1"))
    web = routed(image, "/leaving", volumes=["data:/data"], networks=["inner"], deploy={"replicas": 2})
    compose = {"services": {"web": web}, "volumes": {"data": {}}, "networks": {"inner": {}}}
    theirs = {"name": "theirs", "url": "http://127.0.0.1:9", "routes": [{"name": "theirs", "paths": ["/theirs"]}]}
    story.run("sh", "-euc", STRANGER.format(image=image))
    story.kong("/config", "POST", {"_format_version": "3.0", "services": [theirs]})
    story.deploy("leaving", compose)
    assert len(story.containers("leaving")) == 2
    assert story.images("leaving")

    story.remove("leaving")

    assert story.containers("leaving") == {}
    assert story.units("leaving") == []
    assert story.images("leaving") == []
    assert story.routes("leaving") == {}
    label = "--filter=label=io.gitops-mvd.app=leaving"
    assert story.run("docker", "ps", "--all", "--quiet", label) == ""
    assert story.run("docker", "network", "ls", "--quiet", label) == ""
    assert story.run("docker", "volume", "ls", label, "--format={{.Name}}") == "leaving_data\n"
    assert story.run("find", "/etc/gitops-mvd/files", "/etc/systemd", "-name", "mvd-leaving*") == ""
    assert "leaving" not in story.run("systemctl", "list-units", "--all", "mvd-*")
    assert story.kong("/routes/theirs")["paths"] == ["/theirs"]
    assert "mvd-stranger-web" in story.containers("stranger")
    assert story.run("systemctl", "is-active", "mvd-stranger-web.service") == "active\n"
    story.run("sh", "-euc", REMOVE_STRANGER)


# ---- the daemon comes and goes ---------------------------------------------------------------------------------------


@pytest.fixture
def slow(lab: Lab, story: Story) -> Iterator[Callable[[str], str]]:
    """An app at version 1; gives what merges another version, which takes some seconds until it answers."""

    def merge(version: str, after: float = 5) -> str:
        image = lab.registry.push("slow", version, service.web("slow", version, after=after))
        return story.merge(manifest("slow", {"services": {"web": routed(image, "/slow")}}), f"Slow {version}")

    story.ends(merge("1", after=0), "success")
    yield merge
    story.remove("slow")


def begun(story: Story) -> bool:
    """Is a second container of the slow app running beside the first?"""
    return len(story.containers("slow")) == 2


def test_a_lost_state_directory_disrupts_nothing(story: Story, undisturbed: None) -> None:
    before = story.containers()
    story.run("sh", "-c", "rm -rf /var/lib/gitops-mvd/*")
    eventually("a new state", lambda: not story.server.exec("ls", "/var/lib/gitops-mvd/history.db", check=False).code)
    story.run("systemctl", "restart", DAEMON)
    story.look_again()
    assert story.containers() == before
    plan = story.mvd("plan")
    assert (plan.code, plan.out) == (0, "")


def test_a_daemon_killed_in_the_middle_of_a_deploy_finishes_it_and_no_request_fails(
    story: Story, slow: Callable[[str], str], undisturbed: None
) -> None:
    with story.never_failing("/slow", "slow 1", "slow 2"):
        commit = slow("2")
        eventually("the new version beside the old one", lambda: begun(story))
        story.run("systemctl", "kill", "--signal=KILL", DAEMON)
        story.ends(commit, "success")
        story.answers("/slow", "slow 2")
        assert len(story.containers("slow")) == 1
    assert "status=9/KILL" in story.log()


def test_a_daemon_told_to_end_in_the_middle_of_a_deploy_ends_cleanly_and_finishes_it_later(
    story: Story, slow: Callable[[str], str], undisturbed: None
) -> None:
    with story.never_failing("/slow", "slow 1", "slow 3"):
        commit = slow("3")
        eventually("the new version beside the old one", lambda: begun(story))
        began = time.monotonic()
        story.run("systemctl", "stop", DAEMON)
        took = time.monotonic() - began
        assert story.told(commit)[-1][0] == "pending"
        assert story.run("systemctl", "show", "--property=Result,ExecMainStatus", DAEMON).split() == [
            "Result=success",
            "ExecMainStatus=0",
        ]
        assert took < 5, "it went on waiting for the new version"
        assert begun(story)
        story.run("systemctl", "start", DAEMON)
        story.ends(commit, "success")
        story.answers("/slow", "slow 3")
        assert len(story.containers("slow")) == 1


def test_a_restart_of_docker_is_survived_and_condemns_nothing(story: Story, steady: str) -> None:
    before, log = story.containers(), story.log()
    story.run("systemctl", "restart", "docker")  # for a moment Docker has no ports published: that is Docker's own
    eventually("every client attached again", lambda: story.mvd("status").code == 0)
    story.look_again()
    assert story.containers() == before
    story.answers("/steady", "steady 1")
    said = story.log().removeprefix(log)
    assert "step app=" not in said
    assert "rolled back" not in said


@pytest.mark.parametrize("enabled", [False, True], ids=["without the daemon", "with the daemon"])
def test_a_reboot_brings_every_container_back(story: Story, steady: str, enabled: bool) -> None:
    before, log = sorted(story.containers()), story.log()
    story.run("systemctl", "enable" if enabled else "disable", DAEMON)
    story.server.reboot()
    eventually("every container", lambda: sorted(story.containers()) == before)
    story.answers("/steady", "steady 1")
    if not enabled:
        assert story.server.exec("systemctl", "is-active", DAEMON, check=False).out == "inactive\n"
        story.run("systemctl", "enable", "--now", DAEMON)
    containers = story.containers()
    story.look_again()
    assert story.containers() == containers
    assert "step app=" not in story.log().removeprefix(log)
