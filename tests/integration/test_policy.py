"""What a server with a policy lets nobody do, whatever is merged; and that nothing is left of the attempt."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from tests.integration.stories import Story, manifest, routed
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

ALLOWED = "/srv/allowed"
OVERLAY = {"type": "overlay", "device": "overlay", "o": "lowerdir=/etc:/opt"}


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server with a policy, a link out of the one folder that may be mounted, and an app with data of its own."""
    repository = lab.forge.create("acme/policy")
    repository.commit({"README.md": "What a policy forbids\n"}, "Begin")
    server = lab.server("policy")
    story = Story.set_up(lab, server, repository)
    set_policy(story, {"mounts": [ALLOWED]})
    story.run("mkdir", "-p", ALLOWED)
    story.run("ln", "-s", "/etc", f"{ALLOWED}/out")
    image = lab.registry.push("bank", "1", service.web("bank", "1"))
    story.deploy("bank", {"services": {"web": routed(image, "/bank", volumes=["data:/data"])}, "volumes": {"data": {}}})
    yield story
    server.destroy()


@pytest.fixture(scope="module")
def image(lab: Lab) -> str:
    return lab.registry.push("hostile", "1", service.web("hostile", "1"))


def set_policy(story: Story, policy: Mapping[str, Any] | str) -> None:
    settings = {**yaml.safe_load(story.run("cat", SETTINGS)), "policy": policy}
    story.server.put(SETTINGS, yaml.safe_dump(settings))


def everything(story: Story) -> str:
    """All that the engine, systemd and Kong have."""
    listed = [
        story.run("docker", *words, "--no-trunc", "-q").split() for words in (("ps", "-a"), ("network", "ls"))
    ] + [story.run("docker", "volume", "ls", "-q").split()]
    routes = [route["name"] for route in story.kong("/routes?size=1000")["data"]]
    services = [it["name"] for it in story.kong("/services?size=1000")["data"]]
    return repr([*(sorted(it) for it in listed), sorted(routes), sorted(services), sorted(story.units(""))])


CODE = [{"name": "pre-function", "config": {"access": ["kong.response.exit(200, 'taken')"]}}]
ATTACKS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a file system of the host": (
        {"volumes": ["v:/v"]},
        {"volumes": {"v": {"driver_opts": OVERLAY}}},
        "volume hostile_v",
    ),
    "the kernel's": (
        {"volumes": ["v:/v"]},
        {"volumes": {"v": {"driver_opts": {"type": "proc", "device": "proc"}}}},
        "volume hostile_v: driver_opts",
    ),
    "a path in disguise": (
        {"volumes": ["v:/v"]},
        {"volumes": {"v": {"driver_opts": {"type": "none", "o": "bind", "device": f"{ALLOWED}/../../etc"}}}},
        "volume hostile_v: mounting ",
    ),
    "a link": ({"volumes": [f"{ALLOWED}/out/ssl:/x"]}, {}, f"mounting {ALLOWED}/out/ssl, which leads to /etc/ssl"),
    "the engine": ({"volumes": ["/var/run/docker.sock:/x"]}, {}, "mounting /var/run/docker.sock"),
    "processes of another": ({"pid": "container:bank"}, {}, "pid: container:bank"),
    "data of another": (
        {"volumes": ["v:/v"]},
        {"volumes": {"v": {"external": True, "name": "bank_data"}}},
        "volume bank_data, which is not the app's own",
    ),
    "a graphics card": ({"gpus": "all"}, {}, "web: gpus"),
    "a program in Kong": (
        {"x-kong": {"port": 7799, "paths": ["/hostile"], "plugins": CODE}},
        {},
        "web: the plugin pre-function",
    ),
    "a secret of another": ({"environment": {"A": "{file://bank.key}"}}, {}, "the secret bank.key"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_ends_in_one_red_sentence_and_leaves_nothing(story: Story, image: str, attack: str) -> None:
    keys, top, told = ATTACKS[attack]
    before = everything(story)
    commit = story.merge(manifest("hostile", {"services": {"web": {"image": image, **keys}}, **top}), attack)
    sentence = story.ends(commit, "failure")
    assert "hostile" in sentence
    assert "policy forbids" in sentence
    held = json.loads(story.mvd("plan", "--json").out)["held"]
    assert told in held["hostile"]
    assert everything(story) == before
    story.answers("/bank", "bank 1")
    story.ends(story.revert(commit), "success")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8001/", "http://0x7f.1:8001/", "http://{ip}:8001/"])
def test_the_admin_api_is_no_route(story: Story, url: str) -> None:
    before = everything(story)
    admin = {"name": "adm", "url": url.format(ip=story.server.ip), "routes": [{"name": "adm", "paths": ["/adm"]}]}
    files = {"kong/admin.yaml": yaml.safe_dump({"_format_version": "3.0", "services": [admin]})}
    commit = story.merge(files, f"Route to {admin['url']}")
    assert "Kong's Admin API" in story.ends(commit, "failure")
    assert everything(story) == before
    assert story.ask("/adm").status_code == 404
    story.ends(story.revert(commit), "success")


def test_a_hardened_app_is_deployed_where_all_have_to_be_and_no_other_is(story: Story, image: str) -> None:
    set_policy(story, {"level": "restricted", "trusted": ["bank"]})
    web = routed(image, "/hardened", user="1000:1000", read_only=True, cap_drop=["ALL"], volumes=["data:/data"])
    compose = {"services": {"web": {**web, "security_opt": ["no-new-privileges:true"]}}, "volumes": {"data": {}}}
    story.ends(story.merge(manifest("hardened", compose), "Harden it"), "success")
    story.answers("/hardened", "hostile 1")
    before = everything(story)
    commit = story.merge(manifest("soft", {"services": {"web": {"image": image}}}), "Deploy what is not hardened")
    assert "soft" in story.ends(commit, "failure")
    held = json.loads(story.mvd("plan", "--json").out)["held"]
    assert "hardened" not in held
    assert "gaining privileges" in held["soft"]
    assert everything(story) == before
