"""The laws of a `Kind` (`core.ports`), over every kind there is, against a server's own systemd, Docker and Kong.

The server gives MVD_IMAGE, an image whose registry it reaches, and MVD_KONG, the admin address of its gateway.
"""

from __future__ import annotations

import dataclasses
import os
import pkgutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import requests

from gitops_mvd import kinds
from gitops_mvd.core.model import App, Change, Check, File, Resource, Service
from gitops_mvd.core.plan import in_order, place
from gitops_mvd.core.ports import Kind
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.docker.client import Engine
from gitops_mvd.kinds import Tools, discover
from gitops_mvd.kong.client import Kong
from gitops_mvd.systemd.client import Systemd

pytestmark = pytest.mark.server

# The kinds of a Swarm, which a server with `live-restore` cannot be in, have their own: tests/contract/test_swarm.py.
NAMES = [found.name for found in pkgutil.iter_modules(kinds.__path__) if "swarm" not in found.name]
ADDRESS = "127.0.0.1"


@dataclasses.dataclass(frozen=True)
class World:
    """One kind under test, what it wants for a sample app, and what that needs of other kinds, already there."""

    kind: Kind
    resources: list[Resource]
    tools: Tools

    def make(self) -> None:
        self.kind.apply([Change(None, resource) for resource in self.resources])

    def unmake(self) -> None:
        self.kind.apply([Change(resource, None) for resource in self.resources])

    def observed(self) -> list[Resource]:
        return sorted(self.kind.observe(), key=lambda resource: resource.key)


def shell(command: str) -> None:
    subprocess.run(["sh", "-euc", command], check=True, capture_output=True, timeout=60)


# ---- by hand: what else there may be on a server, and what hands may do to ours --------------------------------------

FOREIGN: Mapping[str, tuple[str, str]] = {  # kind: (make one that is not ours, remove it)
    "image": ("docker pull -q $MVD_IMAGE; docker tag $MVD_IMAGE mvd/by-hand:1", "docker rmi -f mvd/by-hand:1"),
    "network": ("docker network create mvd-by-hand", "docker network rm mvd-by-hand"),
    "volume": ("docker volume create contract_by-hand", "docker volume rm contract_by-hand"),
    "container": ("docker create --name mvd-by-hand $MVD_IMAGE", "docker rm -f mvd-by-hand"),
    "config": ("mkdir -p /etc/by-hand; echo A=b > /etc/by-hand/env", "rm -r /etc/by-hand"),
    "unit": (
        "printf '[Service]\\nExecStart=/bin/sleep 1000\\n' > /etc/systemd/system/mvd-by-hand.service;"
        "systemctl daemon-reload; systemctl start mvd-by-hand.service",
        "systemctl stop mvd-by-hand.service; rm /etc/systemd/system/mvd-by-hand.service; systemctl daemon-reload",
    ),
    "timer": (
        "cd /etc/systemd/system; printf '[Service]\\nExecStart=/bin/true\\n' > mvd-by-hand.service;"
        "printf '[Timer]\\nOnCalendar=2099-01-01\\nPersistent=yes\\n' > mvd-by-hand.timer;"
        "systemctl daemon-reload; systemctl start mvd-by-hand.timer",
        "test -e /var/lib/systemd/timers/stamp-mvd-by-hand.timer;"
        "systemctl is-active mvd-by-hand.timer; systemctl stop mvd-by-hand.timer;"
        "systemctl clean --what=state mvd-by-hand.timer; rm /etc/systemd/system/mvd-by-hand.*; systemctl daemon-reload",
    ),
}


@dataclasses.dataclass(frozen=True)
class Tampering:
    """What hands may `do` to a resource; to those of the service `but` it makes no difference."""

    do: Callable[[World, Resource], None]
    but: str = ""


def _lose_all_routes(world: World, resource: Resource) -> None:
    requests.post(f"{os.environ['MVD_KONG']}/config", json={"_format_version": "3.0"}, timeout=10).raise_for_status()


def _by(command: str, but: str = "") -> Tampering:
    def tamper(world: World, resource: Resource) -> None:
        shell(command.format(name=resource.name, files=world.tools.files, units=world.tools.units))

    return Tampering(tamper, but)


SCHEDULED = "nightly"


def _make_network_anew(world: World, resource: Resource) -> None:
    """Once it has run, a container knows its network by an id, which no other network ever has."""
    network = "mvd-contract-front-12345678"
    others = " ".join(it.name for it in world.resources if it.service != SCHEDULED)
    shell(f"docker start {others} || true; docker stop --time 1 {others}")  # the second time, it cannot be started
    shell(f"docker network rm {network}; docker network create --label io.gitops-mvd.app=contract {network}")


TAMPERING: Mapping[str, Mapping[str, Tampering]] = {
    "image": {"its digest was removed": _by("docker rmi {name}")},
    "network": {"it was removed": _by("docker network rm {name}")},
    "volume": {"it was removed": _by("docker volume rm {name}")},
    "config": {
        "a line was added": _by("echo A=b >> {files}/{name}/env"),
        "a mounted file was changed": _by("echo more >> {files}/{name}/files/0/file"),
        "it may be read by all": _by("chmod 644 {files}/{name}/env"),
        "it was removed": _by("rm -r {files}/{name}"),
    },
    "container": {
        "it was removed": _by("docker rm -f {name}"),
        "its network was made anew": Tampering(_make_network_anew, but=SCHEDULED),
        "it was taken off its network": _by(
            "docker network disconnect --force mvd-contract-front-12345678 {name}", but=SCHEDULED
        ),
    },
    "folder": {"it was removed": _by("rmdir {name}")},
    "unit": {
        "a line was added": _by("echo '# by hand' >> {units}/{name}.service; systemctl daemon-reload"),
        "it was stopped": _by("systemctl stop {name}.service", but=SCHEDULED),
        "it was disabled": _by("systemctl disable {name}.service", but=SCHEDULED),
        "its file was removed": _by("systemctl stop {name}; rm {units}/{name}.service; systemctl daemon-reload"),
        "it was masked": _by("ln -sf /dev/null {units}/{name}.service; systemctl daemon-reload"),
        "systemd has read another text": _by(
            "cp {units}/{name}.service /tmp/unit; sed -i s/RestartSec=2/RestartSec=9/ {units}/{name}.service;"
            "systemctl daemon-reload; cp /tmp/unit {units}/{name}.service",
            but=SCHEDULED,  # what is not loaded is read as it starts
        ),
    },
    "timer": {
        "a line was added": _by("echo '# by hand' >> {units}/{name}.timer; systemctl daemon-reload"),
        "it was stopped": _by("systemctl stop {name}.timer"),
        "it was disabled": _by("systemctl disable {name}.timer"),
        "it cannot be read any more": _by("sed -i 's/OnCalendar=/&x/' {units}/{name}.timer; systemctl daemon-reload"),
        "its file was removed": _by("rm {units}/{name}.timer"),
        "nothing of it was left": _by("systemctl disable --now {name}.timer; rm {units}/{name}.timer"),
    },
    "route": {"the gateway lost everything": Tampering(_lose_all_routes)},
}


# ---- the sample ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tools() -> Iterator[Tools]:
    engine = Engine()
    kong = Kong(os.environ["MVD_KONG"], os.environ["MVD_PROXY"])
    yield Tools(
        "contract", engine, Systemd(), kong, Interruptible(), files=Path("/etc/gitops-mvd/contract"), address=ADDRESS
    )
    engine.close()


@pytest.fixture(scope="module")
def app(tools: Tools) -> App:
    """An app that needs something of every kind."""
    service = Service(
        "web",
        os.environ["MVD_IMAGE"],
        run={
            "networks": {"mvd-contract-front-12345678": {"aliases": ["web"]}},
            "volumes": [
                {"type": "volume", "source": "contract_data", "target": "/data", "read_only": False},
                {"type": "bind", "source": "./data", "target": "/folder", "read_only": False},
            ],
        },
        environment={"GREETING": 'it\'s "$5" & 100% \\o/'},
        files=(File("/etc/motd", {"": "welcome\n"}),),
        check=Check("http", {"path": "/health", "port": 7799}),
        kong={
            "port": 7799,
            "protocol": "http",
            "service": {},
            "routes": [{"paths": ["/contract"]}],
            "plugins": [],
            "upstream": {},
        },
        replicas=2,
    )
    scheduled = Service(
        SCHEDULED,
        os.environ["MVD_IMAGE"],
        environment={"GREETING": "good night"},
        files=service.files,
        check=Check("scheduled"),
        schedule="2099-01-01",
    )
    networks = {"mvd-contract-front-12345678": {"driver": "bridge", "labels": {"team": "ai"}}}
    return App("contract", (tools.engine.pin(service), tools.engine.pin(scheduled)), networks, {"contract_data": {}})


@pytest.fixture(params=NAMES)
def world(request: pytest.FixtureRequest, tools: Tools, app: App) -> Iterator[World]:
    every = discover(tools)
    kind = every[request.param]
    order = in_order(every.values())
    wanted = [resource for name in order for resource in every[name].wanted(app)]
    placed = place(wanted, (), order, ADDRESS, iter(range(29000, 29100)))
    resources = {name: [resource for resource in placed if resource.kind == name] for name in order}
    needed = [name for name in order if name in _needs(kind, every)]
    try:
        for name in needed:
            every[name].apply([Change(None, resource) for resource in resources[name]])
        yield World(kind, sorted(resources[kind.name], key=lambda resource: resource.key), tools)
    finally:
        for name in reversed(list(order)):
            every[name].apply([Change(resource, None) for resource in resources[name]])


def _needs(kind: Kind, every: Mapping[str, Kind]) -> set[str]:
    return {needed for name in kind.after for needed in (name, *_needs(every[name], every))}


# ---- the laws --------------------------------------------------------------------------------------------------------


def test_what_was_applied_is_what_is_observed(world: World) -> None:
    assert world.resources, f"the sample app needs no {world.kind.name}: have it need one"
    world.make()
    assert world.observed() == world.resources


def test_applying_twice_is_applying_once(world: World) -> None:
    world.make()
    running = starts(world)
    world.make()
    assert world.observed() == world.resources
    assert starts(world) == running


def test_a_delete_leaves_nothing_behind_and_may_be_repeated(world: World) -> None:
    world.make()
    world.unmake()
    assert world.observed() == []
    world.unmake()
    assert world.observed() == []


def test_what_mvd_did_not_make_is_neither_seen_nor_touched(world: World) -> None:
    make, remove = FOREIGN.get(world.kind.name, ("true", "true"))
    shell(make)
    try:
        assert world.observed() == []
        world.make()
        assert world.observed() == world.resources
        world.unmake()
        assert world.observed() == []
    finally:
        shell(remove)  # which fails where ours took it along


def test_tampering_is_seen_and_mended(world: World) -> None:
    assert world.kind.name in TAMPERING, f"say in TAMPERING what hands may do to a {world.kind.name}"
    for what, tampering in TAMPERING[world.kind.name].items():
        world.make()
        for resource in world.resources:
            if resource.service == tampering.but:
                continue
            tampering.do(world, resource)
            assert resource not in world.observed(), f"not seen: {what}"
        found = {resource.key: resource for resource in world.observed()}
        world.kind.apply([Change(found.get(resource.key), resource) for resource in world.resources])
        assert [r for r in world.observed() if r.key in {w.key for w in world.resources}] == world.resources, what


def test_what_can_be_applied_is_not_refused_beforehand_and_asking_changes_nothing(world: World) -> None:
    changes = [Change(None, resource) for resource in world.resources]
    world.kind.prepare(changes)
    assert world.observed() == []
    world.make()
    world.kind.prepare(changes)
    assert world.observed() == world.resources


def starts(world: World, within: float = 30) -> dict[str, str]:
    """When each of our containers was last started, once all of them are; without units, nobody starts them."""
    runs = world.kind.name not in ("container", "timer")
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        every = [world.tools.engine.instance(name) for name in world.tools.engine.instances()]
        found = [instance for instance in every if instance and (runs and instance.service != SCHEDULED)]
        if all(instance.state == "running" for instance in found):
            return {instance.name: instance.started for instance in found}
        time.sleep(0.05)
    pytest.fail(f"not running after {within:g} s: {found}")
