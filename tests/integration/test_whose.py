"""Whose a volume, a network and a start are, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.stories import HEALTH, Story, eventually
from tests.lab import service
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("whose", "1", service.web("whose", "1"))


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/whose")
    repository.commit({"README.md": "Whose\n"}, "Begin")
    server = lab.server("whose")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def storing(image: str, version: str = "1", **volume: Any) -> dict[str, Any]:
    one = {
        "image": image,
        "environment": {"VERSION": version},
        "x-mvd": {"health": HEALTH},
        "volumes": ["data:/data"],
    }
    return {"services": {"db": one}, "volumes": {"data": volume or None}}


def kept(story: Story, volume: str) -> str:
    """What lies in the file `row` of a volume."""
    folder = story.run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip()
    return story.run("cat", f"{folder}/row").strip()


def write_row(story: Story, volume: str, row: str) -> None:
    folder = story.run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume).strip()
    story.server.put(f"{folder}/row", f"{row}\n")


def test_a_restored_backup_is_used_told_once_and_may_be_adopted(story: Story, image: str) -> None:
    story.run("docker", "volume", "create", "pgx_data")
    write_row(story, "pgx_data", "restored")
    story.deploy("pgx", storing(image))
    told = "pgx_data is on this host already, and not made by gitops-mvd: it is used as it is"
    assert story.log().count(told) == 1
    story.deploy("pgx", storing(image, "2"))
    assert kept(story, "pgx_data") == "restored"
    assert story.log().count(told) == 1
    adopted = story.mvd("adopt", "volume", "pgx_data")
    assert (adopted.code, adopted.out) == (0, "volume pgx_data is used by pgx as it is, from the next sync on.\n")
    assert story.mvd("sync").code == 0


def test_a_volume_that_was_reset_by_hand_is_the_apps(story: Story, image: str) -> None:
    story.deploy("reset", storing(image))
    [unit] = story.units("reset")
    name = unit.rpartition("/")[2].removesuffix(".service")
    story.run("systemctl", "stop", name)
    story.run("sh", "-c", f"docker rm --force {name}; docker volume rm reset_data; docker volume create reset_data")
    story.look_again()
    story.deploy("reset", storing(image, "2"))


def test_data_goes_along_when_an_app_is_renamed(story: Story, image: str) -> None:
    story.deploy("shop", storing(image))
    write_row(story, "shop_data", "sold")
    story.remove("shop")
    story.deploy("store", storing(image, name="shop_data"))
    assert kept(story, "shop_data") == "sold"


def test_a_prune_of_everything_beside_a_schedule_is_mended(story: Story, image: str) -> None:
    nightly = {**storing(image)["services"]["db"], "x-mvd": {"schedule": "daily"}, "command": ["true"]}
    story.deploy("nightly", {"services": {"job": nightly}, "volumes": {"data": None}})
    story.run("docker", "system", "prune", "--all", "--volumes", "--force")
    story.look_again()
    [unit] = story.units("nightly")
    name = unit.rpartition("/")[2].removesuffix(".service")
    story.run("systemctl", "start", name)
    assert story.run("docker", "inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0"
    story.look_again()


def test_restarts_by_hand_are_no_failures(story: Story, image: str) -> None:
    web = {"image": image, "restart": "on-failure:3", "x-mvd": {"health": HEALTH}}
    story.deploy("often", {"services": {"web": web}})
    [unit] = story.units("often")
    for _ in range(6):
        story.run("systemctl", "restart", unit.rpartition("/")[2])
    story.look_again()


def test_a_service_that_fails_again_and_again_gives_up_after_its_tries(story: Story, image: str) -> None:
    web = {"image": image, "restart": "on-failure:3", "x-mvd": {"health": HEALTH}}
    story.deploy("giving", {"services": {"web": web}})
    [unit] = story.units("giving")
    name = unit.rpartition("/")[2].removesuffix(".service")
    story.run("systemctl", "restart", name)
    for _ in range(40):
        story.run("sh", "-c", f"docker kill {name} 2>/dev/null || true")
        if story.run("sh", "-c", f"systemctl is-active {name} || true").strip() == "failed":
            break
        story.run("sleep", "0.5")
    eventually(
        "that it gave up", lambda: story.run("sh", "-c", f"systemctl is-active {name} || true").strip() == "failed"
    )
