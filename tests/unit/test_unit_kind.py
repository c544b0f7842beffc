"""What the kind `unit` does on a server whose systemd and Docker only note what they are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import RUNNING, STAGED, App, Change, Resource, Service
from gitops_mvd.kinds import Tools
from gitops_mvd.kinds.unit import Units
from gitops_mvd.systemd.client import Unit
from gitops_mvd.systemd.unit import sealed
from tests.fakes import FakeClock

WEB = Service("web", "web@sha256:1", {"networks": {"front": {"aliases": ["web"]}}})


class Server:
    """Its systemd, its engine and its docker command at once; `done` is what was asked of them, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[str] = []
        self.complaint = ""
        self.there: list[dict[str, Any]] = []
        folder.mkdir()
        edge: Any = self
        self.units_of = Units(Tools("h1", edge, edge, None, FakeClock(), files=Path("/files"), units=folder))

    def units(self, pattern: str) -> dict[str, Unit]:
        running = {found["Names"][0].strip("/") for found in self.there if found["State"] == "running"}
        states = {
            path.name: ("active", "running") if path.stem in running else ("inactive", "dead")
            for path in self.folder.glob("*.service")
        }
        return {name: Unit("loaded", active, sub) for name, (active, sub) in states.items()}

    def verify(self, paths: list[Path]) -> str:
        self.done.append(f"verify {' '.join(path.name for path in paths)}")
        return self.complaint

    def enable(self, names: list[str]) -> None:
        wants = self.folder / "multi-user.target.wants"
        wants.mkdir(exist_ok=True)
        for name in names:
            (wants / name).touch()

    def reload(self) -> None:
        self.done.append("reload")

    def reset_failed(self, names: list[str]) -> None:
        pass

    def start(self, names: list[str]) -> None:
        self.done.append(f"start {' '.join(names)}")
        self.there = [{**found, "State": "running"} for found in self.there]

    def stop(self, names: list[str], within: float) -> None:
        self.done.append(f"stop {' '.join(names)} within {within:g}")

        self.there = [{**found, "State": "exited"} for found in self.there]

    def journal(self, unit: str, lines: int) -> list[str]:
        return []

    def containers(self) -> list[dict[str, Any]]:
        return self.there

    def container(self, name: str, staged: str = "") -> dict[str, Any]:
        own = {"app": "shop", "service": "web", "digest": WEB.digest, "port": "0", "staged": staged}
        own["follows"] = "systemd"
        endpoint = {"IPAMConfig": None, "EndpointID": "e1", "IPAddress": "10.0.0.9"}
        return {
            "Id": "c1",
            "Names": [f"/{name}"],
            "Labels": {f"io.gitops-mvd.{key}": value for key, value in own.items() if value},
            "State": "created",
            "Status": "Up 3 seconds",
            "Created": 7,
            "HostConfig": {"NetworkMode": "front"},
            "NetworkSettings": {"Networks": {"front": endpoint}},
        }

    def wanted(self) -> Resource:
        [unit] = self.units_of.wanted(App("shop", (WEB,)))
        self.there = self.there or [self.container(unit.name)]
        return unit

    def observed(self) -> list[Resource]:
        return list(self.units_of.observe())

    def apply(self, was: Resource | None, to: Resource | None) -> None:
        self.done.clear()
        self.units_of.apply([Change(was, to)])


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path / "units")


def test_an_instance_is_verified_started_and_then_observed_as_it_was_wanted(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    assert server.done == [f"verify {unit.name}.service", "reload", f"start {unit.name}.service"]
    assert server.observed() == [unit]
    server.apply(unit, unit)
    assert server.done == ["reload"], "it runs already"


def test_nothing_is_written_that_systemd_complains_about(server: Server) -> None:
    server.complaint = "Unknown key"
    with pytest.raises(StepFailed, match="systemd does not accept the unit: Unknown key"):
        server.apply(None, server.wanted())
    assert server.observed() == []


def test_what_was_found_is_put_back_as_it_was(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    [found] = server.observed()
    text = (server.folder / f"{unit.name}.service").read_text()
    server.apply(found, None)
    assert server.done[:1] == [f"stop {unit.name}.service within 70"]
    assert server.observed() == []
    assert [there["State"] for there in server.there] == ["exited"], "its container stays"
    server.apply(None, found)
    assert (server.folder / f"{unit.name}.service").read_text() == text
    assert server.observed() == [unit]


def test_an_edited_unit_is_written_anew(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    path = server.folder / f"{unit.name}.service"
    text = path.read_text()
    path.write_text(f"{text}# by hand\n")
    [found] = server.observed()
    assert found.spec["digest"] == "edited"
    server.apply(found, unit)
    assert path.read_text() == text


def test_a_unit_without_its_container_is_stopped_and_one_for_another_follower_is_outdated(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    container = server.there[0]
    another = {**container, "Labels": {**container["Labels"], "io.gitops-mvd.follows": ""}}
    for there, state in (([], "stopped"), ([another], "outdated")):
        server.there = there
        assert [found.spec["state"] for found in server.observed()] == [state]
    server.there = [container]
    assert server.observed() == [unit]


def test_a_unit_of_an_older_version_is_written_anew_and_its_container_goes_on(server: Server) -> None:
    unit = server.wanted()
    header = (
        f'{{"app": "shop", "digest": "{WEB.digest}", "grace": 10.0, "port": 0, "restart": "always", "service": "web"}}'
    )
    server.folder.joinpath(f"{unit.name}.service").write_text(sealed(f"# {header}\n[Unit]\n"))
    server.enable([f"{unit.name}.service"])
    old = server.container(unit.name)
    server.there = [{**old, "State": "running", "Labels": {**old["Labels"], "io.gitops-mvd.follows": ""}}]
    [found] = server.observed()
    assert found.spec["state"] == "outdated"
    server.apply(found, unit)
    assert server.done == [f"verify {unit.name}.service", "reload"]
    assert server.observed() == [unit]
    text = server.folder.joinpath(f"{unit.name}.service").read_text()
    assert "docker start --attach" in text, "its logging driver is not the journal's"
    assert "rm " not in text


def test_a_staged_container_is_observed_as_such(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    server.there = [{**server.container(unit.name, staged="front"), "State": "running"}]
    assert [found.spec["state"] for found in server.observed()] == [STAGED]
    assert unit.spec["state"] == RUNNING
