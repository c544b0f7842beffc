"""A server of any size, recorded: what is ours of it is real, and what others answer is what they would.

The repository, its mirror, the unit files, the env files and the history are there.  Docker, systemd and Kong's Admin
API are asked over their own sockets, and answer as if all of it ran.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import requests

from gitops_mvd import kinds
from gitops_mvd.config.settings import Settings
from gitops_mvd.config.settings.engine import Docker
from gitops_mvd.config.settings.kong import KongSettings
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Change, Resource, Service
from gitops_mvd.core.plan import in_order, place
from gitops_mvd.core.specs import service_of
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.daemon.wiring import Wired, wire
from gitops_mvd.docker.answers import APP, DIGEST
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.command_line import equivalent
from gitops_mvd.docker.create import Place, Request, request
from gitops_mvd.kinds import Tools
from gitops_mvd.kinds.config import layout
from gitops_mvd.kinds.image import Images
from gitops_mvd.kong.declare import Declarations
from gitops_mvd.kong.entities import entities_of
from gitops_mvd.manifest import load, read_fleet
from gitops_mvd.systemd import unit as unitfile
from tests.lab.kong_standin.store import Store
from tests.lab.repository import Repository, git

HOST = "bench"
ENGINE = "20.10.24"
ADDRESS = "127.0.0.1"
SERVICES_OF_AN_APP = 5
BEGAN = 1_760_000_000  # when all of it was started, in seconds since 1970

COMPOSE = """\
x-service: &service
  image: registry.example/{app}:1.0
  env_file: environment
  deploy: {{resources: {{limits: {{memory: 128M}}}}}}
services:
"""
SERVICE = """\
  s{number}:
    <<: *service
    x-mvd: {{health: {{http: /health, port: 8080}}}}
    x-kong: {{port: 8080, routes: [{{paths: [/{app}/s{number}]}}]}}
"""
ENVIRONMENT = "".join(f"SETTING_{number}=a value of some length, number {number}\n" for number in range(20))


def manifests(services: int, of_an_app: int = SERVICES_OF_AN_APP) -> dict[str, str]:
    """The files of a repository with so many services."""
    files = {}
    for first in range(0, services, of_an_app):
        app = f"app-{first // of_an_app:03}"
        numbers = range(min(of_an_app, services - first))
        texts = [SERVICE.format(app=app, number=number) for number in numbers]
        files[f"apps/{app}/compose.yaml"] = COMPOSE.format(app=app) + "".join(texts)
        files[f"apps/{app}/environment"] = ENVIRONMENT
    return files


@dataclass(frozen=True)
class World:
    """A recorded server; `wired` is what its daemon runs on."""

    wired: Wired
    folder: Path
    wires: subprocess.Popen[str]
    kong: str  # where the Admin API is
    asked: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def calls(self) -> dict[str, int]:
        """The calls so far, by whom they were made to."""
        assert self.wires.stdin
        assert self.wires.stdout
        self.wires.stdin.write("\n")
        self.wires.stdin.flush()
        told = json.loads(self.wires.stdout.readline())
        status = requests.get(f"{self.kong}/status", timeout=10).json()
        return {**told, "kong": status["server"]["total_requests"] - next(self.asked)}  # without these questions

    def bare_look(self) -> None:
        """The yardstick: parse Docker's one answer, and ask the disk for every unit file."""
        for container in json.loads((self.folder / "containers.json").read_bytes()):
            os.stat(self.folder / "units" / f"{container['Names'][0][1:]}.service")


@contextmanager
def recorded(folder: Path, services: int, mode: str) -> Iterator[World]:
    """Such a server with so many services, all of them in sync; `mode` is Kong's word for its database."""
    repository = Repository("acme/config", folder / "config.git", (folder / "config.git").as_uri())
    git("init", "--quiet", "--bare", "--initial-branch=main", str(repository.path), at=folder)
    repository.commit(manifests(services), "Begin")
    nobody = wire(_settings(folder, repository.clone_url, "http://nobody.invalid"), folder, folder / "units")
    tree = nobody.source.tree(nobody.source.fetch())
    apps, _ = load(tree, read_fleet(tree).host(HOST))
    _write(folder, mode, [_pinned(app) for app in apps], nobody.tools)
    with ExitStack() as parts:
        wires = parts.enter_context(process("tests.lab.bench.wires", str(folder)))
        gateway = parts.enter_context(
            process(
                *("tests.lab.kong_standin", "--database", mode, "--prefix", str(folder / "kong")),
                *("--admin", "127.0.0.1:0", "--proxy", "127.0.0.1:0"),
            )
        )
        kong = told(gateway, "admin ")
        told(wires, "{")
        parts.enter_context(_docker_command(folder / "bin"))
        parts.enter_context(_bus(folder / "bus.sock"))
        wired = wire(_settings(folder, repository.clone_url, kong), folder, folder / "units")
        parts.callback(wired.close)
        parts.enter_context(_events(wired.engine))
        for app in apps:
            wired.history.approve(wired.host.pin(app), "recorded")
        yield World(wired, folder, wires, kong)


@contextmanager
def _docker_command(folder: Path) -> Iterator[None]:
    """While the block lasts, the docker command tells the version of the recorded engine, and systemd-run is here."""
    folder.mkdir()
    here = 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'
    for name, script in {"docker": f"echo {ENGINE}", "systemd-run": here}.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    with mock.patch.dict(os.environ, PATH=f"{folder}:{os.environ['PATH']}"):
        yield


def _settings(folder: Path, repository: str, kong: str) -> Settings:
    docker, gateway = Docker(f"unix://{folder / 'docker.sock'}"), KongSettings(kong, kong, ADDRESS)
    state, files = str(folder / "state"), str(folder / "files")
    return Settings(repository, host=HOST, docker=docker, kong=gateway, state=state, files=files)


# ---- the record ------------------------------------------------------------------------------------------------------


def _pinned(app: App) -> App:
    return dataclasses.replace(app, services=tuple(map(_with_digest, app.services)))


def _with_digest(service: Service) -> Service:
    repository = service.image.rpartition(":")[0]
    return dataclasses.replace(service, image=f"{repository}@sha256:{_hash(service.image)}", tag=service.image)


def _write(folder: Path, mode: str, apps: Sequence[App], tools: Tools) -> None:
    """All that the apps make of a server: its files, and what Docker, systemd and Kong say."""
    known = kinds.discover(tools)
    wanted = [resource for kind in known.values() for app in apps for resource in kind.wanted(app)]
    placed = place(wanted, (), in_order(known.values()), ADDRESS, itertools.count(20000))
    of_kind = {kind: [resource for resource in placed if resource.kind == kind] for kind in known}
    for config in of_kind["config"]:
        for path, entry in layout(config.app, service_of(config)).items():
            file = tools.files / config.name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(entry.content)
            file.chmod(entry.mode)
    wants = tools.units / f"{unitfile.TARGET}.wants"
    wants.mkdir(parents=True)
    containers = []
    for number, unit in enumerate(of_kind["unit"]):
        service, port, files = service_of(unit), unit.spec["port"], str(tools.files / unit.name)
        where = Place(files=files, folders="/srv/mvd", port=port, address=ADDRESS, follows=unitfile.SYSTEMD)
        like = equivalent(unit.app, service, unit.name, where)
        by = {"follows": unitfile.SYSTEMD, "docker": "/usr/bin/docker", "engine": tools.engine.url}
        text = unitfile.render(unit.app, service, unit.name, port, **by, like=like)
        (tools.units / f"{unit.name}.service").write_text(text)
        (wants / f"{unit.name}.service").symlink_to(tools.units / f"{unit.name}.service")
        containers.append(_container(number, unit, request(unit.app, service, where, (1, 41))))
    docker = {
        "/containers/json": containers,
        "/images/json": _images(of_kind["image"]),
        "/networks": [_network(network) for network in of_kind["network"]],
        "/volumes": {"Volumes": []},
        "/version": {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": ENGINE},
        "/info": {"ServerVersion": ENGINE},
    }
    (folder / "docker.json").write_text(json.dumps(docker))
    (folder / "containers.json").write_text(json.dumps(containers))
    (folder / "units.json").write_text(json.dumps([_unit(unit) for unit in of_kind["unit"]]))
    store = Store(folder / "kong", mode == "postgres")
    for route in of_kind["route"]:
        targets = Declarations(HOST).targets((route.app, route.service), route.spec["targets"])
        for entity in (*entities_of(route), *targets):
            store.insert(entity.type, entity.fields)
    store.close()


def _container(number: int, unit: Resource, asked: Request) -> Mapping[str, Any]:
    """A running container as `GET /containers/json` of an engine 20.10 has it."""
    service = service_of(unit)
    networks = service.run.get("networks") or ["bridge"]
    endpoint = {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": None,
        "NetworkID": _hash("network"),
        "EndpointID": _hash(unit.name),
        "Gateway": "172.17.0.1",
        "IPAddress": f"172.17.{number // 250}.{number % 250 + 2}",
        "IPPrefixLen": 16,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "02:42:ac:11:00:02",
        "DriverOpts": None,
    }
    return {
        "Id": _hash(f"container {unit.name}"),
        "Names": [f"/{unit.name}"],
        "Image": service.image,
        "ImageID": f"sha256:{_hash(f'id of {service.image}')}",
        "Command": "/sbin/docker-init -- /serve --port 8080",
        "Created": BEGAN,
        "Ports": [{"IP": ADDRESS, "PrivatePort": 8080, "PublicPort": unit.spec["port"], "Type": "tcp"}],
        "Labels": asked.body["Labels"],
        "State": "running",
        "Status": "Up 3 days",
        "HostConfig": {"NetworkMode": next(iter(networks))},
        "NetworkSettings": {"Networks": {network: endpoint for network in networks}},
        "Mounts": [],
    }


def _images(images: Iterable[Resource]) -> list[Mapping[str, Any]]:
    """The images as `GET /images/json` has them, after they were held by the kind itself."""
    held = _Held()
    kind = Images(held, Interruptible())  # type: ignore[arg-type]  # it has all that is asked of an engine here
    kind.apply([Change(None, image) for image in images])
    return [
        {
            "Containers": -1,
            "Created": BEGAN,
            "Id": f"sha256:{_hash(f'id of {name}')}",
            "Labels": None,
            "ParentId": "",
            "RepoDigests": [name],
            "RepoTags": tags,
            "SharedSize": -1,
            "Size": 123_456_789,
            "VirtualSize": 123_456_789,
        }
        for name, tags in held.tags.items()
    ]


class _Held:
    """The part of an engine that images are held with."""

    def __init__(self) -> None:
        self.tags: dict[str, list[str]] = {}

    def has(self, pinned: str) -> bool:
        return pinned in self.tags

    def images(self) -> list[Mapping[str, Any]]:
        return [{"Id": "", "RepoDigests": [name], "RepoTags": tags} for name, tags in self.tags.items()]

    def pull(self, pinned: str, platform: str) -> None:
        self.tags[pinned] = []

    def tag(self, pinned: str, name: str) -> None:
        self.tags[pinned].append(name)


def _network(network: Resource) -> Mapping[str, Any]:
    return {
        "Name": network.name,
        "Id": _hash(f"network {network.name}"),
        "Created": "2026-01-01T00:00:00Z",
        "Scope": "local",
        "Driver": "bridge",
        "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": [{"Subnet": "172.18.0.0/16"}]},
        "Internal": False,
        "Attachable": False,
        "Containers": {},
        "Options": {},
        "Labels": {APP: network.app, DIGEST: network.spec["digest"]},
    }


def _unit(unit: Resource) -> Sequence[object]:
    """A row of ListUnitsByPatterns."""
    path = f"/org/freedesktop/systemd1/unit/{unit.name.replace('-', '_2d')}_2eservice"
    description = f"{unit.app}/{unit.service} {unit.spec['digest'][:8]} (gitops-mvd)"
    return [f"{unit.name}.service", description, "loaded", "active", "running", "", path, 0, "", "/"]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


# ---- who answers -----------------------------------------------------------------------------------------------------


@contextmanager
def process(*module: str) -> Iterator[subprocess.Popen[str]]:
    """A module run in a process of its own, until the end of the block."""
    command = [sys.executable, "-m", *module]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.terminate()


def told(process: subprocess.Popen[str], prefix: str) -> str:
    """The rest of the first line that begins so."""
    assert process.stdout
    for line in process.stdout:
        if line.startswith(prefix):
            return line.removeprefix(prefix).strip()
    raise RuntimeError(f"a process ended before it said {prefix!r}")


@contextmanager
def _bus(path: Path) -> Iterator[None]:
    """Inside, the system bus is the one at `path`."""
    name, before = "DBUS_SYSTEM_BUS_ADDRESS", os.environ.get("DBUS_SYSTEM_BUS_ADDRESS")
    os.environ[name] = f"unix:path={path}"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextmanager
def _events(engine: Engine) -> Iterator[None]:
    """Docker's events are followed, as by the daemon: thanks to them it need not be asked for what did not change."""
    connected = threading.Event()

    def follow() -> None:
        with suppress(Unavailable):  # by which it ends
            engine.follow(lambda *notice: connected.set())

    thread = threading.Thread(target=follow, name="docker-events", daemon=True)
    thread.start()
    try:
        if not connected.wait(10):
            raise RuntimeError("the recorded Docker does not stream its events")
        yield
    finally:
        engine.hang_up()
        thread.join(5)
