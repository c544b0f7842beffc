"""Devices with names (CDI) on a real engine: made up, and described in a file as a toolkit of a driver does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.integration.stories import HEALTH, Story, manifest
from tests.lab import service
from tests.lab.images import DAEMON
from tests.lab.lab import Lab
from tests.lab.outage import asked

pytestmark = pytest.mark.lab

PORT = 18500
NPU = "acme.example/npu"
FLEET = "hosts: {devices: {labels: {gpu: true}}}\n"


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/devices")
    repository.commit({"README.md": "Devices\n", "fleet.yaml": FLEET}, "Begin")
    server = lab.server("devices")
    describe(server.put, 0)
    story = Story.set_up(lab, server, repository)
    read_descriptions(story, True)
    yield story
    server.destroy()


def describe(put: Any, *numbers: int) -> None:
    """Have devices with these numbers, each of which is `/dev/null` in truth."""
    nodes = [{"path": f"/dev/npu{number}", "hostPath": "/dev/null"} for number in numbers]
    devices = [
        {"name": str(number), "containerEdits": {"deviceNodes": [node]}}
        for number, node in zip(numbers, nodes, strict=True)
    ]
    put("/etc/cdi/acme.json", json.dumps({"cdiVersion": "0.6.0", "kind": NPU, "devices": devices}))


def read_descriptions(story: Story, does: bool) -> None:
    """Have the engine read descriptions of devices, or none."""
    story.server.put("/etc/docker/daemon.json", json.dumps({**DAEMON, "features": {"cdi": does}}))
    story.run("systemctl", "restart", "docker")


def app(lab: Lab, **more: Any) -> Mapping[str, str | None]:
    """A service with a port of the host: its successor can only start after its end."""
    image = lab.registry.push("devices", "1", service.web("devices", "1"))
    web = {"image": image, "x-mvd": {"health": HEALTH}, "ports": [f"{PORT}:7799"], **more}
    return manifest("npu", {"services": {"web": web}})


def reserved(*names: str) -> dict[str, Any]:
    """The long form of Compose."""
    wanted = {"driver": "cdi", "capabilities": ["npu"], "device_ids": [*names]}
    return {"deploy": {"resources": {"reservations": {"devices": [wanted]}}}}


def in_container(story: Story) -> str:
    """The devices that the container has of those that are made up."""
    [name] = story.containers("npu")
    return story.run("docker", "exec", name, "sh", "-c", "cd /dev; echo npu*").strip()


def refused(story: Story, files: Mapping[str, str | None]) -> str:
    """Merge what cannot be, and return why; what serves goes on serving, and no request is lost."""
    before = story.containers("npu")
    with asked(f"http://{story.server.ip}:{PORT}/") as seen:
        commit = story.merge(files, "Want what is not here")
        told = story.ends(commit, "failure")
    assert [it.said for it in seen if not it.answered] == []
    assert story.containers("npu") == before
    story.ends(story.revert(commit), "success")
    return told


def test_a_device_is_in_the_container_and_one_that_the_host_has_not_is_red_while_the_old_version_serves(
    lab: Lab, story: Story
) -> None:
    story.ends(story.merge(app(lab, devices=[f"{NPU}=0"]), "Use a device"), "success")
    assert in_container(story) == "npu0"
    assert f"web: devices: this host has no {NPU}=7: it has {NPU}=0" in refused(story, app(lab, **reserved(f"{NPU}=7")))

    describe(story.server.put, 0, 7)
    story.ends(story.merge(app(lab, **reserved(f"{NPU}=0", f"{NPU}=7")), "Use both"), "success")
    assert in_container(story) == "npu0 npu7"

    told = story.mvd("doctor").out
    assert f"{NPU}=0, {NPU}=7" in told
    assert "fleet.yaml has the label gpu=true for this host, and Docker has no driver for GPUs" in told


def test_an_engine_that_reads_no_descriptions_is_told_with_the_setting(lab: Lab, story: Story) -> None:
    story.ends(story.merge(app(lab), "Use none"), "success")
    read_descriptions(story, False)
    told = refused(story, app(lab, devices=[f"{NPU}=0"]))
    assert "web: devices: Docker reads no descriptions of devices (CDI) on this host" in told
