"""What the kind `unit` does on a server whose systemd and Docker only note what they are asked."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.errors import NotNow, StepFailed
from gitops_mvd.core.model import LOST, RUNNING, STAGED, App, Change, Instance, Resource, Service
from gitops_mvd.core.redact import learn
from gitops_mvd.docker.connection import SOCKET
from gitops_mvd.kinds import Tools
from gitops_mvd.kinds.unit import Units
from gitops_mvd.systemd.client import Loaded, Phase, Unit
from gitops_mvd.systemd.overrides import STALE
from gitops_mvd.systemd.unit import container_in, sealed
from gitops_mvd.systemd.unit_files import link
from tests.fakes import FakeClock

WEB = Service("web", "web@sha256:1", {"networks": {"front": {"aliases": ["web"]}}})


class Server:
    """Its systemd, its engine and its docker command at once; `done` is what was asked of them, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = SOCKET
        self.done: list[str] = []
        self.complaint = ""
        self.refusal = ""  # what the engine says as it refuses to start a container
        self.there: list[dict[str, Any]] = []
        self.drop_ins: tuple[str, ...] = ()
        self.is_stale = False
        self.active_for = self.ended_for = 1000.0  # seconds
        self.active: set[str] = set()  # the units that are so whatever their containers do
        self.activating: set[str] = set()
        folder.mkdir()
        edge: Any = self
        self.units_of = Units(Tools("h1", edge, edge, None, FakeClock(), files=Path("/files"), units=folder))

    def units(self, pattern: str) -> dict[str, Unit]:
        running = {found["Names"][0].strip("/") for found in self.there if found["State"] == "running"} | self.active
        states = {
            path.name: ("active", "running") if path.stem in running else ("inactive", "dead")
            for path in self.folder.glob("*.service")
        }
        states |= {f"{name}.service": ("activating", "start") for name in self.activating}
        return {name: Unit("loaded", active, sub) for name, (active, sub) in states.items()}

    def loaded(self, names: list[str]) -> dict[str, Loaded]:
        return {name: Loaded(str(self.folder / name), self.drop_ins, self.is_stale) for name in names}

    def phase(self, name: str) -> Phase:
        return Phase("active", time.monotonic() - self.active_for)

    def instance(self, name: str) -> Instance:
        ended = datetime.fromtimestamp(time.time() - self.ended_for, UTC)
        return Instance(name, state="exited", finished=ended.isoformat())

    def verify(self, paths: list[Path]) -> str:
        self.done.append(f"verify {' '.join(path.name for path in paths)}")
        return self.complaint

    def reload(self) -> None:
        self.done.append("reload")
        self.is_stale = False

    def reset_failed(self, names: list[str]) -> None:
        pass

    def start(self, names: list[str] | str) -> None:
        """Units, by systemd, or a container, by the engine."""
        self.done.append(f"start {names if isinstance(names, str) else ' '.join(names)}")
        if self.refusal:
            raise StepFailed(f"{names[0]}: failed")
        self.there = [{**found, "State": "running"} for found in self.there]

    def stop(self, names: list[str], within: float) -> None:
        self.done.append(f"stop {' '.join(names)} within {within:g}")
        self.active.clear()
        self.activating.clear()
        self.there = [{**found, "State": "exited"} for found in self.there]

    def journal(self, unit: str, lines: int, since: float = 0.0) -> list[str]:
        """Each later try fails of what the first one has left."""
        return [self.refusal, "endpoint with that name exists already"][:lines] if self.refusal and since else []

    def containers(self) -> list[dict[str, Any]]:
        return self.there

    def containers_of(self, app: str) -> list[dict[str, Any]]:
        return [found for found in self.there if found["Labels"]["io.gitops-mvd.app"] == app]

    def inspect(self, name: str) -> dict[str, Any]:
        """One with a program that the image does not have."""
        config = {"Labels": {"io.gitops-mvd.service": "web"}}
        networks = {"Networks": {}}
        return {
            "Id": "c1",
            "Name": f"/{name}",
            "Path": "/nope",
            "Config": config,
            "HostConfig": {},
            "NetworkSettings": networks,
        }

    def stat(self, container: str, path: str) -> None:
        return None

    def running(self) -> list[dict[str, Any]]:
        ports = [{"PublicPort": 8080, "Type": "tcp", "IP": "0.0.0.0"}]
        return [{"Id": "c9", "Names": ["/theirs"], "Labels": {}, "HostConfig": {}, "Ports": ports}]

    def outside(self, *words: str) -> str:
        return ""

    def container(self, name: str, staged: str = "", digest: str = WEB.digest) -> dict[str, Any]:
        own = {"app": "shop", "service": "web", "digest": digest, "port": "0", "staged": staged}
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

    def prepare(self, was: Resource | None, to: Resource | None) -> None:
        self.done.clear()
        self.units_of.prepare([Change(was, to)])

    def apply(self, was: Resource | None, to: Resource | None) -> None:
        self.done.clear()
        self.units_of.apply([Change(was, to)])

    def applied(self) -> tuple[Resource, Path]:
        """The unit that is wanted, once it is applied, and its file."""
        unit = self.wanted()
        self.apply(None, unit)
        return unit, self.folder / f"{unit.name}.service"


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


def test_a_new_container_that_serves_is_started_beforehand_so_that_its_unit_has_only_to_follow_it(
    server: Server,
) -> None:
    for restart, begins in (("always", ["start c1"]), ("on-failure", []), ("no", [])):
        service = replace(WEB, run={**WEB.run, "restart": restart})
        [unit] = server.units_of.wanted(App("shop", (service,)))
        server.there = [server.container(unit.name, digest=service.digest)]
        server.apply(None, unit)
        started = [done for done in server.done if done.startswith("start ")]
        assert started == [*begins, f"start {unit.name}.service"], restart


def test_a_container_that_has_run_before_is_started_by_its_unit_alone(server: Server) -> None:
    service = replace(WEB, run={**WEB.run, "restart": "always"})
    [unit] = server.units_of.wanted(App("shop", (service,)))
    server.there = [{**server.container(unit.name, digest=service.digest), "State": "exited"}]
    server.apply(None, unit)
    assert server.done == [f"verify {unit.name}.service", "reload", f"start {unit.name}.service"]


def test_a_unit_names_the_container_that_it_starts_and_is_written_anew_for_another_one(server: Server) -> None:
    unit, path = server.wanted(), server.folder / f"{server.wanted().name}.service"
    for number in "12":
        server.there = [{**server.container(unit.name), "Id": number * 64}]
        server.apply(None, unit)
        assert container_in(path.read_text()) == number * 64


def test_nothing_is_written_that_systemd_complains_about(server: Server) -> None:
    server.complaint = "Unknown key"
    for step in (server.prepare, server.apply):
        with pytest.raises(StepFailed, match="systemd does not accept the unit: Unknown key"):
            step(None, server.wanted())
        assert server.observed() == []


def test_what_cannot_start_is_refused_only_where_another_instance_stops_for_it(server: Server) -> None:
    """Beside the old one it costs nothing to let the engine say so."""
    unit = server.wanted()
    server.prepare(None, unit)
    old = replace(unit, name="mvd-shop-web-89abcdef")
    for refused in ([Change(old, None), Change(None, unit)], [Change(None, unit), Change(old, None)]):
        with pytest.raises(StepFailed, match="web: command: the image has no program /nope"):
            server.units_of.prepare(refused)
    server.there = [{**server.there[0], "State": "exited"}]
    server.units_of.prepare([Change(old, None), Change(None, unit)]), "it has started once"


def test_a_port_that_somebody_else_publishes_is_told_before_anything_is_done(server: Server) -> None:
    ports: Any = [{"target": 80, "published": "8080", "host_ip": "", "protocol": "tcp"}]
    service = replace(WEB, run={**WEB.run, "ports": ports})
    [unit] = server.units_of.wanted(App("shop", (service,)))
    container = server.container(unit.name)
    server.there = [{**container, "Labels": {**container["Labels"], "io.gitops-mvd.digest": service.digest}}]
    with pytest.raises(NotNow, match="web: the port 8080 of this host is used by the container theirs"):
        server.prepare(None, unit)
    server.there = [{**server.there[0], "State": "running"}]
    server.prepare(None, unit)


def test_what_was_verified_before_anything_stopped_is_not_verified_again(server: Server) -> None:
    unit = server.wanted()
    server.prepare(None, unit)
    assert server.done == [f"verify {unit.name}.service"]
    assert server.observed() == []
    server.apply(None, unit)
    assert server.done == ["reload", f"start {unit.name}.service"]


def test_of_services_with_the_same_options_one_unit_is_verified(server: Server) -> None:
    others = [replace(WEB, name=name) for name in ("api", "worker")]
    units = list(server.units_of.wanted(App("shop", (WEB, *others))))
    server.there = [server.container(unit.name) for unit in units]
    for there, unit in zip(server.there, units, strict=True):
        there["Labels"] |= {"io.gitops-mvd.service": unit.service, "io.gitops-mvd.digest": unit.spec["digest"]}
    server.units_of.prepare([Change(None, unit) for unit in units])
    [verified] = server.done
    assert len(verified.split()) == 2


@pytest.mark.parametrize(
    ("change", "is_read"), [({"image": "other"}, False), ({"run": {"restart": "on-failure:3"}}, True)]
)
def test_a_version_that_differs_only_in_its_digest_is_not_verified(
    server: Server, change: dict[str, Any], is_read: bool
) -> None:
    server.prepare(None, server.wanted())
    [unit] = server.units_of.wanted(App("shop", (replace(WEB, **change),)))
    container = server.container(unit.name)
    container["Labels"]["io.gitops-mvd.digest"] = unit.spec["digest"]
    server.there = [container]
    server.prepare(None, unit)
    assert server.done == ([f"verify {unit.name}.service"] if is_read else [])


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        ("Error response from daemon: write /var/lib/docker/x/hosts: no space left on device", NotNow),
        ("Error response from daemon: mkdir /var/lib/docker/x: disk quota exceeded", NotNow),
        ("Bind for 0.0.0.0:9999 failed: port is already allocated", NotNow),
        ('exec: "no-such-program": executable file not found in $PATH', StepFailed),
    ],
)
def test_a_start_is_refused_by_the_surroundings_or_for_good_and_its_first_cause_is_told(
    server: Server, refusal: str, error: type[StepFailed]
) -> None:
    server.refusal = refusal
    with pytest.raises(StepFailed) as caught:
        server.apply(None, server.wanted())
    assert type(caught.value) is error
    assert caught.value.service == "web"
    assert caught.value.message == f"web: did not start: {refusal.removeprefix('Error response from daemon: ')}"


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
    unit, path = server.applied()
    text = path.read_text()
    path.write_text(f"{text}# by hand\n")
    [found] = server.observed()
    assert found.spec["digest"] == "edited"
    server.apply(found, unit)
    assert path.read_text() == text


def test_a_unit_of_somebody_else_is_named_and_left_alone(server: Server) -> None:
    unit, theirs = server.wanted(), "[Service]\nExecStart=/usr/bin/theirs\n"
    path = server.folder / f"{unit.name}.service"
    path.write_text(theirs)
    with pytest.raises(NotNow, match=f"{unit.name}.service is there, and gitops-mvd did not write it"):
        server.apply(None, unit)
    assert (path.read_text(), server.done) == (theirs, [])
    path.unlink()
    server.apply(None, unit)
    assert server.observed() == [unit]


@pytest.mark.parametrize("left", ["", "\n"])
def test_a_unit_file_that_was_emptied_is_written_anew(server: Server, left: str) -> None:
    unit = server.wanted()
    (server.folder / f"{unit.name}.service").write_text(left)
    server.apply(None, unit)
    assert server.observed() == [unit]


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
    link(server.folder, f"{unit.name}.service", "multi-user.target")
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


# ---- changed by hand -------------------------------------------------------------------------------------------------


def test_what_systemd_has_not_read_again_is_seen_and_read(server: Server) -> None:
    unit, path = server.applied()
    server.is_stale = True
    path.write_text(path.read_text())  # its time is another one
    [found] = server.observed()
    assert found.spec["state"] == STALE
    server.apply(found, unit)
    assert server.done == ["reload"]
    assert server.observed() == [unit]


def test_a_drop_in_is_told_with_its_path_until_it_is_gone(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    folder = server.folder / f"{unit.name}.service.d"
    folder.mkdir()
    (folder / "x.conf").write_text("[Service]\nExecStart=\n")
    server.drop_ins = ("/usr/lib/systemd/system/service.d/10-vendor.conf", str(folder / "x.conf"))
    [found] = server.observed()
    why = f"{folder}/x.conf changes its unit: put the change into Git and remove the file"
    assert found.spec == {**unit.spec, "overridden": why}
    (folder / "x.conf").unlink()
    folder.rmdir()
    server.drop_ins = server.drop_ins[:1]
    assert server.observed() == [unit], "that of the vendor is for every service"


@pytest.mark.parametrize("container", ["created", "exited"])
def test_a_unit_that_has_run_for_a_while_without_its_container_is_started_anew(server: Server, container: str) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    server.there = [{**server.there[0], "State": container, "Status": "Exited (143) a while ago"}]
    server.active = {unit.name}
    server.active_for = 1.0
    assert server.observed() == [unit], "it has only just started"
    server.active_for, server.ended_for = 1000.0, 1.0
    assert [it.spec["state"] for it in server.observed()] == [RUNNING if container == "exited" else LOST]
    server.ended_for = 1000.0
    [found] = server.observed()
    assert found.spec["state"] == LOST
    server.apply(found, unit)
    assert server.done == ["reload", f"stop {unit.name}.service within 70", f"start {unit.name}.service"]
    assert server.observed() == [unit]


def test_a_container_that_runs_on_none_of_its_networks_is_lost_unless_it_is_run_once(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    networks = {"front": {"IPAMConfig": None, "EndpointID": "", "IPAddress": ""}}
    there = {**server.there[0], "State": "running", "NetworkSettings": {"Networks": networks}}
    server.active, server.there = {unit.name}, [there]
    server.active_for = 1.0
    assert server.observed() == [unit], "it has only just started"
    server.active_for = 1000.0
    assert [it.spec["state"] for it in server.observed()] == [LOST]
    networks["back"] = {"IPAMConfig": None, "EndpointID": "e2", "IPAddress": ""}
    assert server.observed() == [unit], "it is on one of them"
    server.there = [{**there, "Labels": {**there["Labels"], "io.gitops-mvd.follows": "client"}}]
    assert LOST not in [it.spec["state"] for it in server.observed()]


def test_a_unit_that_starts_what_it_no_longer_says_is_stopped_first(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    server.activating = {unit.name}
    server.apply(unit, unit)
    assert server.done == ["reload", f"start {unit.name}.service"], "it goes on with its start"
    server.activating, server.is_stale = {unit.name}, True
    path = server.folder / f"{unit.name}.service"
    path.write_text(path.read_text())  # its time is another one
    [found] = server.observed()
    assert found.spec["state"] == STALE
    server.apply(found, unit)
    assert server.done == ["reload", f"stop {unit.name}.service within 70", f"start {unit.name}.service"]


def test_an_instance_whose_container_has_another_name_is_still_seen(server: Server) -> None:
    unit = server.wanted()
    server.apply(None, unit)
    server.there = [{**server.there[0], "Names": ["/hidden"]}]
    server.active = {unit.name}
    assert server.observed() == [unit]


def test_no_secret_is_in_a_unit_that_everybody_may_read(server: Server) -> None:
    run: Any = {**WEB.run, "labels": {"com.example.password": "hunter2-x9"}, "command": ["serve", "--port=8080"]}
    service = replace(WEB, run=run)
    unit = server.wanted()
    name = service.instances("shop")[0]
    spec = {**unit.spec, "digest": service.digest}
    server.apply(None, replace(unit, name=name, spec=spec, payload=service))
    text = (server.folder / f"{name}.service").read_text()
    assert "hunter2" not in text
    assert "--label=com.example.password=***" in text
    assert "serve --port=8080" in text


def test_a_unit_in_which_an_older_version_left_a_secret_is_written_anew_and_its_container_goes_on(
    server: Server,
) -> None:
    unit, path = server.applied()
    clean = path.read_text()
    lines = clean.partition("\n")[2].replace("# docker run", "# docker run --label=a=hunter2-x9")
    path.write_text(sealed(lines))
    server.done.clear()
    learn("app shop", "hunter2-x9")
    [found] = server.observed()
    assert found.spec["state"] == "outdated"
    server.apply(found, unit)
    assert path.read_text() == clean
    assert not [done for done in server.done if done.startswith(("stop", "start"))]
    assert server.observed() == [unit]


def test_a_unit_of_an_older_version_that_starts_its_container_in_vain_is_written_anew_and_started(
    server: Server,
) -> None:
    unit, path = server.applied()
    clean = path.read_text()
    helper = clean[clean.index("    left() {") : clean.index("    parent() {")]
    path.write_text(sealed(clean.partition("\n")[2].replace(helper, "")))
    assert server.observed() == [unit], "while its container runs, it is left as it is"
    server.there = [{**server.there[0], "State": "exited"}]
    server.activating = {unit.name}
    [found] = server.observed()
    assert found.spec["state"] == "outdated"
    server.apply(found, unit)
    assert path.read_text() == clean
    assert server.done == ["reload", f"start {unit.name}.service"]
    assert server.observed() == [unit]
    server.there = [{**server.there[0], "State": "exited"}]
    assert server.observed() == [unit], "with the commands of today it goes on by itself"
