"""What hands change on a server is put right, or told with its cause for as long as it lasts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from gitops_mvd.kinds.unit import LOST_AFTER_SECONDS
from gitops_mvd.status.debounce import DEBOUNCE_SECONDS
from tests.integration.stories import HEALTH, Story, eventually, manifest, routed, settings
from tests.lab import service
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

BY_HAND = ("keep", "shop", "db")


def database(image: str, version: str) -> dict[str, Any]:
    """An app that stops before it starts, on two networks and with a volume."""
    one = {
        "image": image,
        "environment": {"VERSION": version},
        "x-mvd": {"health": HEALTH},
        "networks": ["inner", "outer"],
        "volumes": ["data:/data"],
        "deploy": {"update_config": {"order": "stop-first"}},
    }
    return {"services": {"db": one}, "networks": {"inner": {}, "outer": {}}, "volumes": {"data": {}}}


def work(image: str, version: str) -> dict[str, Any]:
    """An app whose deploy takes a moment."""
    health = {**HEALTH, "start_period": "1s"}
    return {"services": {"work": {"image": image, "environment": {"VERSION": version}, "x-mvd": {"health": health}}}}


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("hands", "1", service.web("hands", "1"))


@pytest.fixture(scope="module")
def story(lab: Lab, image: str) -> Iterator[Story]:
    """A server of our own, with apps to be tampered with."""
    repository = lab.forge.create("acme/hands")
    repository.commit({"README.md": "Hands\n"}, "Begin")
    server = lab.server("hands")
    story = Story.set_up(lab, server, repository)
    apps = {
        **manifest("keep", {"services": {"web": {"image": image, "x-mvd": {"health": HEALTH}}}}),
        **manifest("shop", {"services": {"web": routed(image, "/shop")}}),
        **manifest("db", database(image, "1")),
        **manifest("work", work(image, "1")),
    }
    story.ends(story.merge(apps, "Deploy apps to be tampered with"), "success")
    yield story
    server.destroy()


def standing(story: Story, app: str) -> tuple[str, str, str]:
    """How the app stands: its sync, its health, and why."""
    said = story.mvd("status", "--json").out
    [found] = [it for it in json.loads(said)["apps"] if it["name"] == app]
    return found["sync"], found["health"], found["why"]


def is_well(story: Story, app: str) -> bool:
    return standing(story, app) == ("Synced", "Healthy", "")


def instance(story: Story, app: str) -> tuple[str, str]:
    """The one running container of an app: its name and its id."""
    [(name, id)] = story.containers(app).items()
    return name, id


# ---- told ------------------------------------------------------------------------------------------------------------

DROP_IN = "[Service]\nType=simple\nExecStart=\nExecStart=/bin/sleep 100000\nExecStop=\n"


def test_a_drop_in_is_told_until_it_is_gone_and_then_the_container_runs_again(story: Story, image: str) -> None:
    name, container = instance(story, "keep")
    path = f"/etc/systemd/system/{name}.service.d/x.conf"
    story.server.put(path, DROP_IN)
    story.run("systemctl", "daemon-reload")
    eventually("that it is told", lambda: path in standing(story, "keep")[2])
    assert standing(story, "keep")[:2] == ("OutOfSync", "Healthy"), "the container goes on"
    assert f"# keep: deployed, but web: {path} changes its unit" in story.mvd("plan").out
    assert f"by hand        unit {name}: {path} changes its unit" in story.mvd("doctor").out

    story.run("systemctl", "restart", name)  # which stops the container, and runs something else
    eventually("that it is unhealthy", lambda: standing(story, "keep")[1] == "Degraded")
    commit = story.merge(manifest("work", work(image, "2")), "Deploy another app")
    assert path in story.ends(commit, "failure"), "it has lasted"

    story.run("rm", "-r", path.rpartition("/")[0])
    eventually("that it is over", lambda: is_well(story, "keep"), within=LOST_AFTER_SECONDS + 30)
    assert instance(story, "keep") == (name, container)
    eventually("a green commit", lambda: story.told(commit)[-1][0] == "success", within=DEBOUNCE_SECONDS + 15)


def test_what_set_property_writes_is_told_and_does_not_keep_a_unit_from_being_started(story: Story) -> None:
    name, container = instance(story, "keep")
    story.run("systemctl", "set-property", "--runtime", name, "MemoryHigh=900M")
    eventually("that it is told", lambda: "50-MemoryHigh.conf" in standing(story, "keep")[2])
    story.run("systemctl", "stop", name)
    eventually("that it runs again", lambda: story.containers("keep") == {name: container})
    story.run("systemctl", "revert", f"{name}.service")
    eventually("that it is over", lambda: is_well(story, "keep"))


def test_a_paused_container_is_told_and_left_so(story: Story) -> None:
    name, container = instance(story, "keep")
    story.run("docker", "pause", name)
    paused = "OutOfSync", "Suspended", f"web: its container is paused: docker unpause {name}"
    eventually("that it is told", lambda: standing(story, "keep") == paused)
    story.mvd("sync")
    assert standing(story, "keep") == paused
    story.run("docker", "unpause", name)
    eventually("that it is over", lambda: is_well(story, "keep"))
    assert instance(story, "keep") == (name, container)


def test_labels_of_ours_on_a_container_of_somebody_else_mean_nothing(story: Story) -> None:
    name, _ = instance(story, "keep")
    story.run("docker", "commit", name, "by-hand")
    story.run("docker", "run", "--detach", "--name", "by-hand", "by-hand")
    story.run("docker", "kill", "by-hand")
    story.mvd("sync")
    assert is_well(story, "keep")
    assert "container by-hand has labels of gitops-mvd" in story.mvd("doctor").out
    assert "by-hand" in story.run("docker", "ps", "--all", "--format", "{{.Names}}").split()
    story.run("docker", "rm", "--force", "by-hand")


# ---- put right -------------------------------------------------------------------------------------------------------

KEEPING_ITS_CONTAINER = {
    "a container renamed": ("shop", "docker rename {name} hidden"),
    "a unit masked": ("keep", "ln -sf /dev/null /etc/systemd/system/{name}.service; systemctl daemon-reload"),
    "a unit shadowed by a link": (
        "keep",
        "cp /etc/systemd/system/{name}.service /root/shadow; ln -sf /root/shadow /etc/systemd/system/{name}.service;"
        "systemctl daemon-reload",
    ),
    "a network left": ("keep", "docker network disconnect --force $(docker network ls -qf name=mvd-keep-) {name}"),
    "a second network left": ("db", "docker network disconnect --force $(docker network ls -qf name=-outer-) {name}"),
    "another text read by systemd": (
        "keep",
        "cp /etc/systemd/system/{name}.service /root/unit;"
        "systemctl kill --signal=STOP gitops-mvd;"
        "sed -i s/RestartSec=2/RestartSec=9/ /etc/systemd/system/{name}.service;"
        "systemctl daemon-reload; cp /root/unit /etc/systemd/system/{name}.service;"
        "systemctl kill --signal=CONT gitops-mvd",
    ),
}
LOOKS = """
set -e
docker inspect --format '{{{{.Id}}}} {{{{range $on, $_ := .NetworkSettings.Networks}}}}{{{{$on}}}} {{{{end}}}}' {name}
cat /etc/systemd/system/{name}.service
test ! -L /etc/systemd/system/{name}.service
systemctl show --property=ActiveState,LoadState,RestartUSec,NeedDaemonReload {name}
"""


@pytest.mark.parametrize("what", KEEPING_ITS_CONTAINER)
def test_it_is_put_right_and_the_container_goes_on(story: Story, what: str) -> None:
    app, by_hand = KEEPING_ITS_CONTAINER[what]
    name, _ = instance(story, app)

    def looks() -> str:
        return story.server.exec("sh", "-c", LOOKS.format(name=name), check=False).out

    before = looks()
    story.run("sh", "-euc", by_hand.format(name=name))
    eventually(f"what was before {what}", lambda: looks() == before)
    eventually("that all is well", lambda: is_well(story, app))


def test_a_volume_that_was_removed_is_made_again_as_ours(story: Story, image: str) -> None:
    name, _ = instance(story, "db")
    story.run("sh", "-c", f"docker rm --force {name}; docker volume rm --force db_data")
    eventually("a container", lambda: name in story.containers("db"))
    eventually("that all is well", lambda: is_well(story, "db"))
    assert story.mvd("plan").code == 0
    story.deploy("db", database(image, "2"))


def test_a_container_that_was_renamed_goes_with_its_version(story: Story, image: str) -> None:
    name, container = instance(story, "db")
    with story.without_daemon():
        story.run("docker", "rename", name, "hidden")
        commit = story.merge(manifest("db", database(image, "3")), "Deploy another version")
    story.ends(commit, "success")
    assert container not in story.run("docker", "ps", "--all", "--quiet", "--no-trunc")
    assert is_well(story, "db")


# ---- another socket --------------------------------------------------------------------------------------------------

OTHER = "unix:///run/other.sock"


def test_another_socket_of_the_engine_reaches_the_commands_of_the_units(story: Story, image: str) -> None:
    story.server.put("/run/systemd/system/docker.socket.d/other.conf", "[Socket]\nListenStream=/run/other.sock\n")
    story.run("systemctl", "daemon-reload")
    story.run("systemctl", "stop", "docker.socket", "docker")
    story.run("systemctl", "start", "docker.socket", "docker")
    _, before = instance(story, "shop")
    with settings(story, f"docker: {{url: '{OTHER}'}}"):
        story.look_again()
        assert f"Environment=DOCKER_HOST={OTHER}\n" in story.run("systemctl", "cat", story.unit("shop"))
        assert instance(story, "shop")[1] == before, "no container is made or started anew for it"
        story.run("systemctl", "restart", story.unit("shop"))
        eventually("that it runs again", lambda: is_well(story, "shop"))
    story.look_again()
    assert OTHER not in story.run("systemctl", "cat", story.unit("shop"))


# ---- the end of a commit ---------------------------------------------------------------------------------------------


def test_a_commit_is_green_in_spite_of_what_was_down_for_a_moment_beside_it(story: Story, image: str) -> None:
    name, _ = instance(story, "db")
    story.run("docker", "pause", name)
    commit = story.merge(manifest("work", work(image, "3")), "Deploy work beside it")
    eventually("that it is waited for", lambda: "db: " in story.told(commit)[-1][1] if story.told(commit) else False)
    story.run("docker", "unpause", name)
    story.ends(commit, "success")
    assert [state for state, _ in story.told(commit) if state != "pending"] == ["success"]
    story.deploy("work", work(image, "4"))
    assert story.told(commit)[-1][0] == "success"


def test_a_commit_that_removes_apps_counts_those_that_are_left(story: Story) -> None:
    gone = {f"apps/{app}/compose.yaml": None for app in BY_HAND}
    assert story.ends(story.merge(gone, "Remove all but one"), "success") == f"{len(gone)} removed, 1 app healthy"
