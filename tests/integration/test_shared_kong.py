"""One gateway for several servers: they deploy, leave and die, and whoever asks it notices nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.integration.stories import CHECKED, DAEMON, HEALTH, Story, manifest, talking
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.outage import asked
from tests.lab.server import Server
from tests.lab.stage import until

pytestmark = pytest.mark.lab

FLEET = "hosts:\n  one: {labels: {web: 'yes'}}\n  two: {labels: {web: '%s'}}\n  front: {}\n"
DRAINED = FLEET.replace("{web: '%s'}}", "{web: 'yes'}, drain: true}")
JUDGE = {"min_requests": 20, "errors": "5%", "latency": "20x"}  # a busy machine is slow at times, whoever answers
MOVED = FLEET.replace("one: {labels: {web: 'yes'}}", "one: {}") % "yes"
GRACE_SECONDS = 2.0  # in which every worker of the gateway has heard of a weight, and open requests end


@pytest.fixture(scope="module")
def stories(lab: Lab, edge: Server) -> Iterator[tuple[Story, Story, Story]]:
    """Two servers behind one gateway, and that of the gateway itself, to ask through."""
    repository = lab.forge.create("acme/shared")
    idle = manifest(
        "idle", {"services": {"idle": {"image": "registry.lab:5000/shared:1", "command": ["sleep", "9999"]}}}
    )
    lab.registry.push("shared", "1", service.web("shared", "1"))
    repository.commit({"fleet.yaml": FLEET % "yes", "README.md": "Shared\n", **idle}, "Begin")
    servers = [lab.server(name) for name in ("one", "two")]
    one, two = (Story.set_up(lab, server, repository, edge=edge) for server in servers)
    yield one, two, Story(edge, repository, "")
    for server in servers:
        server.destroy()


def web(lab: Lab, version: str, **more: Any) -> Mapping[str, str | None]:
    image = lab.registry.push("shared", version, service.web("shared", version))
    kong = {"port": 7799, "routes": [{"paths": ["/shared"]}], "service": {"connect_timeout": 500}, "upstream": CHECKED}
    placed = {"placement": {"constraints": ["node.labels.web == yes"]}, "replicas": 2}
    one = {"image": image, "x-mvd": {"health": HEALTH}, "x-kong": {**kong, **more}, "deploy": placed}
    return manifest("shared", {"services": {"web": one}})


def targets(edge: Story) -> dict[str, str]:
    """The hosts' targets: address -> tag of its host."""
    listed = edge.kong("/upstreams/mvd.shared.web/targets")["data"]
    return {it["target"]: next(tag for tag in it["tags"] if tag.startswith("host:")) for it in listed}


def talk(lab: Lab, version: str, lasts: str = "3s", fails_every: int = 0) -> Mapping[str, str | None]:
    """A talker whose new versions are judged by a fifth, and then by half of the requests of a server."""
    image = lab.registry.push("talk", "1", service.talker("talk", "1"))
    web: dict[str, Any] = talking(image, "/talk", version, stop_grace_period="5s")
    web["x-mvd"] = {**web["x-mvd"], "canary": {"steps": [20, 50, 100], "for": lasts, "judge": JUDGE}}
    web["deploy"] = {"placement": {"constraints": ["node.labels.web == yes"]}}
    if fails_every:
        web["environment"] = {**web["environment"], "FAILS_EVERY": str(fails_every)}
    return manifest("talk", {"services": {"web": web}})


def judged(story: Story, what: str) -> list[float]:
    """When the daemon of a server has said so of its canary."""
    said = story.run("journalctl", "--unit", DAEMON, "--output=short-unix", "--no-pager").splitlines()
    return [float(line.split()[0]) for line in said if f"canary {what} app=talk" in line]


def test_a_version_is_judged_on_one_server_after_the_other(lab: Lab, stories: tuple[Story, Story, Story]) -> None:
    *both, edge = stories
    one = both[0]
    commit = one.merge(talk(lab, "1"), "Talk 1")
    for story in both:
        story.ends(commit, "success")
    with asked(f"http://{edge.server.ip}:8000/talk") as seen:
        commit = one.merge(talk(lab, "2"), "Talk 2")
        for story in both:
            story.ends(commit, "success")
    assert [it for it in seen if not it.answered] == []
    assert {it.said for it in seen} == {"talk 1\n", "talk 2\n"}
    assert [len(judged(story, "passed")) for story in both] == [2, 2]
    first, second = sorted(both, key=lambda story: judged(story, "begun"))
    assert judged(first, "passed")[-1] < judged(second, "begun")[0]
    assert [weights(edge, name, "talk") for name in ("one", "two")] == [[100], [100]]
    assert edge.kong("/plugins")["data"] == []

    with asked(f"http://{edge.server.ip}:8000/talk") as seen:
        commit = one.merge(talk(lab, "3", "20s", fails_every=2), "Talk 3")
        for story in both:
            assert "canary at 20 %:" in story.ends(commit, "failure")
    met = sum(it.said == "talk 3\n" for it in seen)
    assert 0 < met < len(seen) / 5, f"{met} of {len(seen)} met the bad version"
    assert {it.said for it in seen if not it.answered} == {"talk 3\n"}
    assert [weights(edge, name, "talk") for name in ("one", "two")] == [[100], [100]]
    assert edge.kong("/plugins")["data"] == []
    one.remove("talk")


def test_servers_deploy_leave_and_die_behind_one_gateway(lab: Lab, stories: tuple[Story, Story, Story]) -> None:
    one, two, edge = stories
    commit = one.merge(web(lab, "1"), "Deploy 1")
    for story in (one, two):
        story.ends(commit, "success")
    assert sorted(targets(edge).values()) == ["host:one"] * 2 + ["host:two"] * 2
    assert len(edge.kong("/routes")["data"]) == 1

    with edge.never_failing("/shared", "shared 1", "shared 2"):
        commit = one.merge(web(lab, "2"), "Deploy 2")
        for story in (one, two):
            story.ends(commit, "success")
        edge.answers("/shared", "shared 2")
    assert sorted(targets(edge).values()) == ["host:one"] * 2 + ["host:two"] * 2
    with edge.never_failing("/shared", "shared 2"):
        time.sleep(1)

    for story in (one, two):
        assert story.mvd("plan").code == 0
    before = edge.kong("/routes")["data"], targets(edge)
    for story in (one, two):
        story.look_again()
    assert (edge.kong("/routes")["data"], targets(edge)) == before

    with edge.never_failing("/shared", "shared 2"):
        commit = one.merge({"fleet.yaml": FLEET % "no"}, "Take it off two")
        two.ends(commit, "success")
        assert set(targets(edge).values()) == {"host:one"}
        assert not two.containers("shared")
        commit = one.merge({"fleet.yaml": MOVED}, "Move it from one to two")
        for story in (two, one):
            story.ends(commit, "success")
        assert set(targets(edge).values()) == {"host:two"}
        assert not one.containers("shared")
        assert any("keeps shared until two has it" in description for _, description in one.told(commit))
        commit = one.merge({"fleet.yaml": FLEET % "yes"}, "Put it on one again")
        one.ends(commit, "success")
    assert sorted(targets(edge).values()) == ["host:one"] * 2 + ["host:two"] * 2

    with edge.never_failing("/shared", "shared 2"):
        one.merge({"fleet.yaml": DRAINED}, "Drain two")
        until(lambda: set(weights(edge, "two")) == {0} or None, "that two gets no more requests", 60)
        time.sleep(GRACE_SECONDS)
        running = two.containers("shared")
        two.server.reboot()
        until(lambda: two.mvd("sync").code == 0 or None, "that what is drained is healthy", 120)
        assert two.containers("shared") == running, "its containers go on"
        assert set(weights(edge, "two")) == {0}
        one.merge({"fleet.yaml": FLEET % "yes"}, "Let two have requests again")
        until(lambda: set(weights(edge, "two")) == {100} or None, "that two gets requests again", 60)
        edge.answers("/shared", "shared 2")

    with edge.never_failing("/shared", "shared 2", "shared 3"):
        two.server.cut_power()
        until(lambda: unhealthy(edge) == 2 or None, "that the gateway takes out what is dead", 20)
        commit = one.merge(web(lab, "3"), "Deploy 3")
        one.ends(commit, "success")
    with edge.never_failing("/shared", "shared 3"):
        time.sleep(1)
    assert "removed 2 targets of two" in one.mvd("forget", "two").out
    assert set(targets(edge).values()) == {"host:one"}
    assert one.mvd("forget", "one").code == 1


def weights(edge: Story, host: str, app: str = "shared") -> list[int]:
    """Those of the targets of one host."""
    listed = edge.kong(f"/upstreams/mvd.{app}.web/targets")["data"]
    return [it["weight"] for it in listed if f"host:{host}" in it["tags"]]


def unhealthy(edge: Story) -> int:
    listed = edge.kong("/upstreams/mvd.shared.web/health")["data"]
    return sum(it["health"] == "UNHEALTHY" for it in listed)
