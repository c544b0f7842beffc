"""What only one can have changes hands on a real server: ports, routes, volumes, subnets, between services and apps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from tests.integration.stories import DAEMON, HEALTH, Story, eventually, manifest, routed
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.outage import asked, longest_outage

pytestmark = pytest.mark.lab

MOST_DOWN_SECONDS = 20.0  # for one that stops before the next starts, on a busy machine

Push = Callable[[str, str], str]


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/handover")
    repository.commit({"README.md": "Hand over\n"}, "Begin")
    server = lab.server("handover")
    story = Story.set_up(lab, server, repository)
    image = lab.registry.push("beside", "1", service.web("beside", "1"))
    story.deploy("beside", {"services": {"web": routed(image, "/beside")}})
    yield story
    server.destroy()


@pytest.fixture
def push(lab: Lab) -> Push:
    return lambda name, version: lab.registry.push(name, version, service.web(name, version))


def fixed(image: str, port: int, within: str = "60s", **more: Any) -> dict[str, Any]:
    return {"image": image, "x-mvd": {"health": {**HEALTH, "within": within}}, "ports": [f"{port}:7799"], **more}


def moved(before: str, after: str, compose: dict[str, Any]) -> dict[str, str | None]:
    """The files of a commit in which the folder of an app is renamed."""
    return {**dict.fromkeys(manifest(before, compose)), **manifest(after, compose)}


def test_a_renamed_service_keeps_its_port(story: Story, push: Push) -> None:
    image = push("ren", "1")
    story.deploy("ren", {"services": {"web": fixed(image, 18081)}})
    with asked(f"http://{story.server.ip}:18081/") as seen:
        story.deploy("ren", {"services": {"frontend": fixed(image, 18081)}})
        time.sleep(1)
    assert longest_outage(seen) < MOST_DOWN_SECONDS
    assert [it.rpartition("-")[0] for it in story.units("ren")] == ["/etc/systemd/system/mvd-ren-frontend"]
    story.remove("ren")


def test_a_renamed_app_takes_port_and_route_and_the_old_one_is_gone(story: Story, push: Push) -> None:
    image = push("shop", "1")
    compose = {"services": {"web": {**fixed(image, 18111), "x-kong": {"port": 7799, "paths": ["/shop"]}}}}
    compose["services"]["web"]["volumes"] = ["data:/data"]
    compose["volumes"] = {"data": {}}
    story.deploy("shop", compose)
    with asked(f"http://{story.server.ip}:18111/") as seen:
        story.ends(story.merge(moved("shop", "store", compose), "Rename the shop"), "success")
        time.sleep(1)
    assert longest_outage(seen) < MOST_DOWN_SECONDS
    assert story.ask("/shop").text == "shop 1\n"
    assert (story.units("shop"), len(story.units("store"))) == ([], 1)
    assert list(story.routes("shop")) == []
    story.remove("store")


def test_a_route_passes_to_a_renamed_app_without_a_lost_request(story: Story, push: Push) -> None:
    image = push("fair", "1")
    compose = {"services": {"web": routed(image, "/fair", stop_grace_period="1s")}}
    story.deploy("fair", compose)
    with story.never_failing("/fair", "fair 1"):
        story.ends(story.merge(moved("fair", "market", compose), "Rename the fair"), "success")
        time.sleep(1)
    assert (story.units("fair"), len(story.units("market"))) == ([], 1)
    story.remove("market")


def test_a_taker_that_never_gets_healthy_gives_back_what_it_took(lab: Lab, story: Story, push: Push) -> None:
    image = push("keep", "1")
    sick = lab.registry.push("keep", "2", service.sick("keep", "2"))
    story.deploy("keep", {"services": {"web": fixed(image, 18112)}})
    files = {
        **dict.fromkeys(manifest("keep", {})),
        **manifest("lose", {"services": {"web": fixed(sick, 18112, within="3s")}}),
    }
    bad = story.merge(files, "A sick successor")
    assert "http 500" in story.ends(bad, "failure")
    assert requests.get(f"http://{story.server.ip}:18112/", timeout=5).text == "keep 1\n"
    assert (len(story.units("keep")), story.units("lose")) == (1, [])
    log = story.log()
    assert story.mvd("sync").code == 1
    assert "step app=keep" not in story.log().removeprefix(log)
    story.ends(story.revert(bad), "success")
    story.remove("keep")


def test_two_apps_swap_their_ports(story: Story, push: Push) -> None:
    one, other = push("left", "1"), push("right", "1")

    def ports(left: int, right: int) -> dict[str, str | None]:
        return {
            **manifest("left", {"services": {"web": fixed(one, left)}}),
            **manifest("right", {"services": {"web": fixed(other, right)}}),
        }

    story.ends(story.merge(ports(18113, 18114), "Two"), "success")
    story.ends(story.merge(ports(18114, 18113), "Swap"), "success")
    said = [requests.get(f"http://{story.server.ip}:{port}/", timeout=5).text for port in (18113, 18114)]
    assert said == ["right 1\n", "left 1\n"]
    story.remove("left")
    story.remove("right")


WRITES = """
if mkdir /data/lock 2>/dev/null; then :; else echo overlap >> /data/overlaps; fi
trap 'rmdir /data/lock; exit 0' TERM
while true; do sleep 0.1; done
"""


def test_two_writers_never_overlap_on_a_volume_that_passes(story: Story, push: Push) -> None:
    image = push("pass", "1")
    writer = {"image": image, "command": ["sh", "-c", WRITES], "volumes": ["data:/data"]}

    def compose(name: str) -> dict[str, Any]:
        return {"services": {name: writer}, "volumes": {"data": {"name": "passed_data"}}}

    story.deploy("pass", compose("one"))
    story.deploy("pass", compose("two"))
    story.ends(story.merge(moved("pass", "passed", compose("two")), "Move"), "success")
    data = "/var/lib/docker/volumes/passed_data/_data"
    assert story.run("ls", data).split() == ["lock"], "there is one writer, and never were two"
    story.remove("passed")


def test_a_network_is_changed_that_has_a_subnet_of_its_own(story: Story, push: Push) -> None:
    image = push("lan", "1")

    def compose(**options: Any) -> dict[str, Any]:
        lan = {"ipam": {"config": [{"subnet": "10.77.0.0/24"}]}, **options}
        web = fixed(image, 18115, networks={"lan": {"ipv4_address": "10.77.0.5"}})
        return {"services": {"web": web}, "networks": {"lan": lan}}

    story.deploy("lan", compose())
    with asked(f"http://{story.server.ip}:18115/") as seen:
        changed = story.deploy("lan", compose(internal=False, driver_opts={"com.docker.network.driver.mtu": "1400"}))
        time.sleep(1)
    assert longest_outage(seen) < MOST_DOWN_SECONDS
    story.ends(story.revert(changed), "success")
    eventually("the answer", lambda: requests.get(f"http://{story.server.ip}:18115/", timeout=5).text == "lan 1\n")
    story.remove("lan")


def test_a_daemon_that_is_killed_between_release_and_take_goes_on(story: Story, push: Push) -> None:
    image = push("cut", "1")
    slow = {"command": ["sh", "-c", "sleep 1; exec httpd -f -p 7799 -h /www"]}
    compose = {"services": {"web": fixed(image, 18116, **slow)}}
    story.deploy("cut", compose)
    commit = story.merge(moved("cut", "carried", compose), "Rename, and be killed")
    eventually("the release of the port", lambda: not story.units("cut"))
    story.run("systemctl", "kill", "--signal=KILL", DAEMON)
    story.ends(commit, "success")
    assert requests.get(f"http://{story.server.ip}:18116/", timeout=5).text == "cut 1\n"
    assert (story.units("cut"), len(story.units("carried"))) == ([], 1)
    story.remove("carried")
