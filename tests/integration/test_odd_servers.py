"""Servers that are set up otherwise than most: users of containers that are others outside, and no IPv6."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.stories import Story, routed
from tests.lab import service
from tests.lab.images import DAEMON
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

NO_IPV6 = """\
[Unit]
Before=docker.service
[Service]
Type=oneshot
ExecStart=sysctl --write net.ipv6.conf.all.disable_ipv6=1
[Install]
WantedBy=multi-user.target
"""
KEY = "/etc/gitops-mvd/secrets/key"


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server whose Docker has `userns-remap`, and which has no address of IPv6, not even after a reboot."""
    repository = lab.forge.create("acme/odd")
    repository.commit({"README.md": "An odd server\n"}, "Begin")
    server = lab.server("odd")
    server.put("/etc/systemd/system/no-ipv6.service", NO_IPV6)
    server.exec("systemctl", "enable", "--now", "no-ipv6.service")
    server.put("/etc/docker/daemon.json", json.dumps({**DAEMON, "userns-remap": "default"}))
    server.exec("systemctl", "restart", "docker")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def app(image: str) -> dict[str, Any]:
    """It reads a file of the repository and two secrets, and writes to a folder and a volume."""
    web = routed(
        image,
        "/odd",
        volumes=["./page:/page", "./data:/data", "kept:/kept"],
        secrets=[
            {"source": "key", "target": "of-root", "mode": 0o400},
            {"source": "key", "target": "of-nobody", "mode": 0o400, "uid": "65534", "gid": "65534"},
        ],
    )
    return {"services": {"web": web}, "secrets": {"key": {"external": True}}, "volumes": {"kept": {}}}


def in_container(story: Story, *argv: str) -> str:
    [container] = story.containers("odd")
    return story.run("docker", "exec", container, *argv)


def test_what_is_mounted_is_open_to_the_users_of_containers_that_are_others_outside(lab: Lab, story: Story) -> None:
    first, second = (lab.registry.push("odd", version, service.web("odd", version)) for version in ("1", "2"))
    story.server.put(KEY, "s3cret\n", 0o600)
    story.deploy("odd", app(first), page="a page\n")
    assert in_container(story, "cat", "/page", "/run/secrets/of-root") == "a page\ns3cret\n"
    assert in_container(story, "stat", "-c", "%a %u %g", "/run/secrets/of-nobody") == "400 65534 65534\n"
    in_container(story, "touch", "/data/mine", "/kept/mine")
    [user, *_] = story.run("stat", "--format", "%u", "/srv/mvd/odd/data", "/srv/mvd/odd/data/mine").split()
    assert int(user) > 65535
    assert story.mvd("plan").code == 0, "nothing is to be changed"
    story.deploy("odd", app(second), page="another page\n")
    story.answers("/odd", "odd 2")
    assert in_container(story, "cat", "/page") == "another page\n"
    assert in_container(story, "ls", "/data", "/kept").split() == ["/data:", "mine", "/kept:", "mine"]


def test_without_ipv6_published_ports_are_answered_also_after_a_reboot(lab: Lab, story: Story) -> None:
    image = lab.registry.push("port", "1", service.web("port", "1"))
    story.deploy("port", {"services": {"web": routed(image, "/port", ports=["8080:7799"])}})
    assert story.run("cat", "/proc/net/if_inet6") == ""
    curl = ("curl", "-sSf", "-m", "5", "http://127.0.0.1:8080/")
    assert story.run(*curl) == "port 1\n"
    doctor = story.mvd("doctor").out
    assert "ok    ipv6           none on this server" in doctor
    assert "ok    userns-remap   on: root of a container is user " in doctor
    story.server.reboot()
    story.answers("/port", "port 1")
    assert story.run(*curl) == "port 1\n"
