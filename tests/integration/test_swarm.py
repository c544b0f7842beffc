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
from tests.lab.stage import SETTINGS, SHARED

pytestmark = pytest.mark.lab

NODES = ("one", "two", "three")
PLAIN = "plain"  # a host that is none
FLEET = """\
hosts:
  prod: {{swarm: true, nodes: [one, two, three], labels: {{web: {prod}}}}}
  plain: {{labels: {{web: {plain}}}}}
"""
PASSWORD = "hunter2 is long enough"
KEEPS = """\
echo start $$VERSION $$(cat /run/secrets/pw) >>/data/log
httpd -f -p 7799 -h /www & trap "echo stop $$VERSION >>/data/log; exit 0" TERM; wait $$!
"""
DEPLOYS = 3  # 20 were tried, and lost nothing: but each takes some 10 s
SETTINGS_TEXT = """\
repository: {repository}
swarm: prod
interval: 2s
credentials: {{token_file: /etc/gitops-mvd/token, insecure: true}}
kong: {{{kong}}}
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
    repository.commit({**placed("prod"), "README.md": "A Swarm\n"}, "Begin")
    servers = {name: lab.server(name) for name in NODES}
    first = servers[NODES[0]]
    where = {"repository": repository.clone_url, "forge": lab.forge.url}
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
        server.put(SETTINGS, SETTINGS_TEXT.format(**where, kong=SHARED.format(edge=edge.ip, address=server.ip)))
        server.put("/etc/gitops-mvd/secrets/pw", f"{PASSWORD}\n", 0o600)
        server.put("/etc/gitops-mvd/token", f"{lab.forge.token}\n", 0o600)
        server.exec("mvd", "install")
        assert server.name == name
    yield {name: Swarm(server, repository, "") for name, server in servers.items()}
    for server in servers.values():
        server.destroy()


@pytest.fixture(scope="module")
def plain(lab: Lab, edge: Server, managers: dict[str, Swarm]) -> Iterator[Story]:
    """A server of the same repository, behind the same gateway."""
    server = lab.server(PLAIN)
    yield Story.set_up(lab, server, managers["one"].repository, edge=edge)
    server.destroy()


@pytest.fixture(scope="module")
def front(edge: Server, managers: dict[str, Swarm]) -> Story:
    """What users reach: the gateway before the Swarm."""
    return Story(edge, managers["one"].repository, "")


def placed(name: str) -> dict[str, str | None]:
    """The fleet with the app on that one of its hosts."""
    return {"fleet.yaml": FLEET.format(**{host: "'yes'" if host == name else "'no'" for host in ("prod", PLAIN)})}


def web(lab: Lab, version: str, **more: Any) -> dict[str, str | None]:
    image = lab.registry.push("swarmed", version, service.web("swarmed", version))
    kong = {"port": 7799, "routes": [{"paths": ["/swarmed"]}], "service": {"connect_timeout": 500}, "upstream": CHECKED}
    on = {"replicas": 2, "placement": {"constraints": ["node.labels.web == yes"]}}
    one = {"image": image, "x-mvd": {"health": HEALTH}, "x-kong": kong, "stop_grace_period": "1s", "deploy": on}
    return manifest("shop", {"services": {"web": {**one, **more}}})


def data(lab: Lab, version: str) -> dict[str, str | None]:
    """What keeps data on one node, and has a secret."""
    image = lab.registry.push("swarmed", "1", service.web("swarmed", "1"))
    keeper = {
        "image": image,
        "command": ["sh", "-c", KEEPS],
        "environment": {"VERSION": version},
        "volumes": ["data:/data"],
        "secrets": [{"source": "pw", "uid": "7", "mode": 0o400}],
        "x-mvd": {"health": HEALTH},
        "deploy": {"placement": {"constraints": ["node.hostname == two"]}},
    }
    top = {"volumes": {"data": {}}, "secrets": {"pw": {"external": True}}}
    return manifest("data", {"services": {"keeper": keeper}, **top})


def idle(lab: Lab) -> dict[str, str | None]:
    """What stays on the plain host."""
    image = lab.registry.push("swarmed", "1", service.web("swarmed", "1"))
    on = {"placement": {"constraints": [f"node.hostname == {PLAIN}"]}}
    return manifest("idle", {"services": {"idle": {"image": image, "deploy": on, "x-mvd": {"health": HEALTH}}}})


def targets(front: Story) -> list[str]:
    """The addresses that Kong leads to, each with its port."""
    return [it["target"] for it in front.kong("/upstreams/mvd.shop.web/targets")["data"]]


def hosts(front: Story) -> set[str]:
    """The same without ports."""
    return {target.partition(":")[0] for target in targets(front)}


def test_a_swarm_is_a_host(lab: Lab, managers: dict[str, Swarm], plain: Story, front: Story) -> None:
    one = managers["one"]
    addresses = {name: story.server.ip for name, story in managers.items()}
    commit = one.merge({**web(lab, "1"), **data(lab, "1"), **idle(lab)}, "Deploy 1")
    for story in (one, plain):
        story.ends(commit, "success")
    keeper, first = one.services()
    assert len(set(one.nodes_of(first))) == 2
    assert hosts(front) == {addresses[name] for name in one.nodes_of(first)}
    front.answers("/swarmed", "swarmed 1")

    # Deploys lose no request, and leave nothing behind.  Only those of a new version write to a volume.
    versions = [str(number) for number in range(1, DEPLOYS + 2)]
    with front.never_failing("/swarmed", *(f"swarmed {version}" for version in versions)):
        for version in versions[1:]:
            files = web(lab, version) | (data(lab, version) if version == "2" else {})
            commit = one.merge(files, f"Deploy {version}")
            one.mvd("sync")
            one.ends(commit, "success")
    last = versions[-1]
    front.answers("/swarmed", f"swarmed {last}")
    keeper, good = one.services()
    assert good != first
    kept = managers["two"].run("cat", "/var/lib/docker/volumes/data_data/_data/log").splitlines()
    assert kept == [f"start 1 {PASSWORD}", "stop 1", f"start 2 {PASSWORD}"]
    told = "".join(story.log() + story.mvd("plan").out for story in managers.values())
    assert PASSWORD not in told + one.run(
        "docker", "secret", "inspect", *one.run("docker", "secret", "ls", "-q").split()
    )

    # One commit moves it to a server, and another one back: it is kept until it has been taken on.
    routes = front.routes("shop")
    with front.never_failing("/swarmed", f"swarmed {last}"):
        for lets_go, takes in ((one, plain), (plain, one)):
            there = takes.context.removeprefix("mvd/")
            moved = takes.merge(placed(there), f"Move to {there}")
            for story in (takes, lets_go):
                story.ends(moved, "success")
            assert front.routes("shop").keys() == routes.keys()
            if takes is plain:
                assert (one.services(), hosts(front)) == ([keeper], {plain.server.ip})
    assert (one.services(), plain.containers("shop")) == ([keeper, good], {})
    assert {name: it["paths"] for name, it in front.routes("shop").items()} == {
        name: it["paths"] for name, it in routes.items()
    }

    # A bad version goes back, and is the only one that is red.
    sick = lab.registry.push("swarmed", "bad", service.sick("swarmed", "bad"))
    bad = web(lab, last, image=sick, **{"x-mvd": {"health": {**HEALTH, "within": "6s"}}})
    with front.never_failing("/swarmed", f"swarmed {last}"):
        why = one.ends(one.merge(bad, "Deploy a bad one"), "failure")
    assert "http 500 from /health" in why
    assert one.services() == [keeper, good]
    assert all("is led by one" in managers[name].log() for name in ("two", "three"))
    assert one.mvd("status").code == 1
    one.ends(one.merge(web(lab, last), "Back"), "success")

    # A node that is drained hands over its task, and Kong follows.
    left = one.nodes_of(good)[-1]
    with front.never_failing("/swarmed", f"swarmed {last}"):
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
    with front.never_failing("/swarmed", f"swarmed {last}", "swarmed next"):
        two.ends(two.merge(web(lab, "next"), "Deploy the next one"), "success")
    front.answers("/swarmed", "swarmed next")
    assert two.services()[0] == keeper, "whoever leads makes the same digest of a secret"

    # One of three is no quorum: what runs there goes on, and nobody calls that red.
    acts, other = (managers[name] for name in (two.leader(), next(it for it in ("two", "three") if it != two.leader())))
    other.server.cut_power()
    commit = acts.merge(web(lab, "late"), "Deploy late")
    eventually("that it cannot ask", lambda: "waiting for=host" in acts.log().rpartition("Deploy late")[2], 60)
    assert {state for state, _ in acts.told(commit)} <= {"pending"}
    front.answers("/swarmed", "swarmed next")

    # With the others back, it goes on by itself.  In this order they get the addresses that they had.
    for story in (managers["one"], other):
        story.server.start(120)
    acts.ends(commit, "success")
    front.answers("/swarmed", "swarmed late")


def _leads(story: Swarm) -> bool:
    found = story.server.exec("docker", "node", "ls", check=False)
    return found.code == 0 and story.leader() in ("two", "three")
