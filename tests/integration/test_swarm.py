"""A Swarm of three as one host: one daemon of the three acts, and a new version is a service beside the old one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.stories import CHECKED, HEALTH, Story, eventually, manifest
from tests.lab import service
from tests.lab.images import DAEMON as ENGINE
from tests.lab.lab import Lab
from tests.lab.outage import asked, longest_outage
from tests.lab.server import Server
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

NODES = ("one", "two", "three")
FLEET = "hosts: {prod: {swarm: true}}\n"
SETTINGS_TEXT = """\
repository: {repository}
swarm: prod
interval: 2s
credentials: {{token_file: /etc/gitops-mvd/token, insecure: true}}
kong: {{admin: "http://{edge}:8001", proxy: "http://{edge}:8000"}}
forge: {{kind: github, base_url: "{forge}/api/v3"}}
"""


@dataclass(frozen=True)
class Swarm(Story):
    """The Swarm, as one of its managers sees it."""

    @property
    def context(self) -> str:
        return "mvd/prod"

    def services(self) -> list[str]:
        return sorted(self.run("docker", "service", "ls", "--format", "{{.Name}}").split())

    def nodes_of(self, service: str) -> list[str]:
        """The nodes that run its tasks now."""
        shown = ("--filter", "desired-state=running", "--format", "{{.Node}} {{.CurrentState}}")
        rows = self.run("docker", "service", "ps", *shown, service).splitlines()
        return sorted(row.split()[0] for row in rows if " Running " in f"{row} ")

    def leader(self) -> str:
        """The name of the node that leads."""
        rows = self.run("docker", "node", "ls", "--format", "{{.Hostname}} {{.ManagerStatus}}").splitlines()
        return next(row.split()[0] for row in rows if row.endswith("Leader"))


@pytest.fixture(scope="module")
def managers(lab: Lab, edge: Server) -> Iterator[dict[str, Swarm]]:
    repository = lab.forge.create("acme/swarm")
    repository.commit({"fleet.yaml": FLEET, "README.md": "A Swarm\n"}, "Begin")
    servers = {name: lab.server(name) for name in NODES}
    first = servers[NODES[0]]
    where = {"repository": repository.clone_url, "forge": lab.forge.url, "edge": edge.ip}
    for name, server in servers.items():
        server.put("/etc/docker/daemon.json", json.dumps({**ENGINE, "live-restore": False}))
        server.exec("systemctl", "restart", "docker")
        if server is first:
            server.exec("docker", "swarm", "init", "--advertise-addr", server.ip)
            token = server.exec("docker", "swarm", "join-token", "--quiet", "manager").out.strip()
        else:
            joined = ("--token", token, "--advertise-addr", server.ip, f"{first.ip}:2377")
            server.exec("docker", "swarm", "join", *joined)
        server.install(lab.wheel)
        server.put(SETTINGS, SETTINGS_TEXT.format(**where))
        server.put("/etc/gitops-mvd/token", f"{lab.forge.token}\n", 0o600)
        server.exec("mvd", "install")
        assert server.name == name
    yield {name: Swarm(server, repository, "") for name, server in servers.items()}
    for server in servers.values():
        server.destroy()


@pytest.fixture(scope="module")
def front(edge: Server, managers: dict[str, Swarm]) -> Story:
    """What users reach: the gateway before the Swarm."""
    return Story(edge, managers["one"].repository, "")


def web(lab: Lab, version: str, **more: Any) -> dict[str, str | None]:
    image = lab.registry.push("swarmed", version, service.web("swarmed", version))
    kong = {"port": 7799, "routes": [{"paths": ["/swarmed"]}], "service": {"connect_timeout": 500}, "upstream": CHECKED}
    one = {"image": image, "x-mvd": {"health": HEALTH}, "x-kong": kong, "stop_grace_period": "2s", **more}
    return manifest("shop", {"services": {"web": {**one, "deploy": {"replicas": 2}}}})


def targets(front: Story) -> list[str]:
    """The addresses that Kong leads to, each with its port."""
    return [it["target"] for it in front.kong("/upstreams/mvd.shop.web/targets")["data"]]


def hosts(front: Story) -> set[str]:
    """The same without ports."""
    return {target.partition(":")[0] for target in targets(front)}


def test_a_swarm_is_a_host(lab: Lab, managers: dict[str, Swarm], front: Story) -> None:
    one = managers["one"]
    addresses = {name: story.server.ip for name, story in managers.items()}
    one.ends(one.merge(web(lab, "1"), "Deploy 1"), "success")
    [first] = one.services()
    assert len(set(one.nodes_of(first))) == 2
    assert hosts(front) == {addresses[name] for name in one.nodes_of(first)}
    front.answers("/swarmed", "swarmed 1")

    # Deploys lose no request, and leave nothing behind.
    with front.never_failing("/swarmed", "swarmed 1", "swarmed 2", "swarmed 3", "swarmed 4"):
        for version in ("2", "3", "4"):
            one.ends(one.merge(web(lab, version), f"Deploy {version}"), "success")
    front.answers("/swarmed", "swarmed 4")
    [good] = one.services()
    assert good != first

    # A bad version goes back, and is the only one that is red.
    lab.registry.push("swarmed", "bad", service.sick("swarmed", "bad"))
    bad = manifest("shop", {"services": {"web": _as_bad(lab)}})
    with front.never_failing("/swarmed", "swarmed 4"):
        why = one.ends(one.merge(bad, "Deploy a bad one"), "failure")
    assert "http 500 from /health" in why
    assert one.services() == [good]
    assert all("is led by one" in managers[name].log() for name in ("two", "three"))
    assert one.mvd("status").code == 1
    one.ends(one.merge(web(lab, "4"), "Back to 4"), "success")

    # A node that is drained hands over its task, and Kong follows.
    left = one.nodes_of(good)[-1]
    with front.never_failing("/swarmed", "swarmed 4"):
        one.run("docker", "node", "update", "--availability", "drain", left)
        eventually("that Kong follows", lambda: len(targets(front)) == 2 and addresses[left] not in hosts(front), 60)
    one.run("docker", "node", "update", "--availability", "active", left)

    # The leader loses its power: what ran there runs elsewhere, Kong follows, and another daemon acts.
    with asked(f"http://{front.server.ip}:8000/swarmed", within=5) as seen:
        managers["one"].server.cut_power()
        two = managers["two"]
        eventually("another leader", lambda: _leads(two), 30)
        eventually("two tasks on two nodes", lambda: two.nodes_of(good) == ["three", "two"], 60)
        eventually("that Kong follows", lambda: hosts(front) == {addresses["two"], addresses["three"]}, 30)
    assert longest_outage(seen) < 30
    with front.never_failing("/swarmed", "swarmed 4", "swarmed 5"):
        two.ends(two.merge(web(lab, "5"), "Deploy 5"), "success")
    front.answers("/swarmed", "swarmed 5")

    # One of three is no quorum: what runs there goes on, and nobody calls that red.
    acts, other = (managers[name] for name in (two.leader(), next(it for it in ("two", "three") if it != two.leader())))
    other.server.cut_power()
    commit = acts.merge(web(lab, "6"), "Deploy 6")
    eventually("that it cannot ask", lambda: "waiting for=host" in acts.log().rpartition("Deploy 6")[2], 60)
    assert {state for state, _ in acts.told(commit)} <= {"pending"}
    front.answers("/swarmed", "swarmed 5")

    # With the others back, it goes on by itself.  In this order they get the addresses that they had.
    for story in (managers["one"], other):
        story.server.start(120)
    acts.ends(commit, "success")
    front.answers("/swarmed", "swarmed 6")


def _as_bad(lab: Lab) -> dict[str, Any]:
    image = "registry.lab:5000/swarmed:bad"
    health = {**HEALTH, "within": "6s"}
    kong = {"port": 7799, "routes": [{"paths": ["/swarmed"]}], "service": {"connect_timeout": 500}, "upstream": CHECKED}
    return {
        "image": image,
        "x-mvd": {"health": health},
        "x-kong": kong,
        "stop_grace_period": "2s",
        "deploy": {"replicas": 2},
    }


def _leads(story: Swarm) -> bool:
    found = story.server.exec("docker", "node", "ls", check=False)
    return found.code == 0 and story.leader() in ("two", "three")
