"""Timers on a real systemd: they run a container again and again, and leave nothing behind."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Change, Check, Health, Instance, Service
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.docker.client import Engine
from gitops_mvd.kinds import Tools, discover
from gitops_mvd.probes import ProbeTools, scheduled
from gitops_mvd.systemd.client import Systemd
from tests.contract.test_units import shell, wait_for

pytestmark = pytest.mark.server

KINDS = ("config", "network", "container", "unit", "timer")
UNITS = Path("/etc/systemd/system")
STAMPS = Path("/var/lib/systemd/timers")
NEVER = "2099-01-01"
OFTEN = "*:*:0/2"


class Server:
    """One app of one service that runs on a schedule."""

    def __init__(self, tools: Tools, image: str) -> None:
        self.tools = tools
        self.image = image
        self.kinds = discover(tools)

    def service(self, script: str = "echo done", schedule: str = OFTEN, **run: object) -> Service:
        """A service of its own, so that its journal is empty."""
        run = {"command": ["sh", "-c", script], "labels": {"test.of": str(time.time_ns())}, **run}
        return Service("nightly", self.image, run, check=Check("scheduled"), schedule=schedule)

    def make(self, service: Service) -> str:
        """Bring the app to that service.  Returns the name of its instance."""
        for kind in KINDS:
            wanted = self.kinds[kind].wanted(App("timers", (service,)))
            self.kinds[kind].apply([Change(None, resource) for resource in wanted])
        [name] = service.instances("timers")
        return name

    def remove(self) -> None:
        for kind in reversed(KINDS):
            found = [resource for resource in self.kinds[kind].observe() if resource.app == "timers"]
            self.kinds[kind].apply([Change(resource, None) for resource in found])

    def runs(self, name: str) -> int:
        return len(self.tools.systemd.journal(f"{name}.service", lines=100))

    def instance(self, name: str) -> Instance:
        return self.tools.engine.instance(name) or Instance(name)

    def health(self, name: str) -> tuple[Health, str]:
        listed = self.tools.engine.instances().get(name, Instance(name))
        return scheduled.check(listed, {}, ProbeTools(self.tools.engine, self.tools.systemd))

    def state(self, kind: str) -> str:
        [found] = [resource for resource in self.kinds[kind].observe() if resource.app == "timers"]
        return str(found.spec["state"])


@pytest.fixture
def server() -> Iterator[Server]:
    engine = Engine()
    image = engine.pin(Service("nightly", os.environ["MVD_IMAGE"])).image
    engine.pull(image)
    tools = Tools("timers", engine, Systemd(), None, Interruptible(), files=Path("/etc/gitops-mvd/timers"))
    server = Server(tools, image)
    yield server
    server.remove()
    assert left_of("mvd-timers") == []
    engine.close()


def left_of(name: str) -> list[str]:
    """Everything that systemd or we keep by that name."""
    folders = UNITS, STAMPS, Path("/etc/gitops-mvd/timers")
    units = shell(f"systemctl list-units --all --plain --no-legend '{name}*'").splitlines()
    return [str(path) for folder in folders for path in folder.rglob(f"*{name}*")] + units


# ---- running ---------------------------------------------------------------------------------------------------------


def test_it_runs_again_and_again_and_how_it_went_is_its_health(server: Server) -> None:
    name = server.make(server.service("echo ran at $(date +%s)"))
    wait_for(lambda: server.runs(name) >= 3)
    wait_for(lambda: server.instance(name).state == "exited")
    assert server.health(name) == (Health.HEALTHY, "")
    assert (server.state("unit"), server.state("timer")) == ("running", "active")
    assert shell(f"systemctl list-timers --no-legend '{name}.timer'") != ""


def test_a_run_that_fails_is_seen_until_one_ends_well(server: Server) -> None:
    name = server.make(server.service("test -e /state/mended && exit; date; exit 3", volumes=[bind("/run/timers")]))
    wait_for(lambda: server.health(name) == (Health.DEGRADED, "its last run ended with exit code 3"))
    assert (server.state("unit"), server.state("timer")) == ("running", "active"), "it is no drift"
    before = server.runs(name)
    wait_for(lambda: server.runs(name) > before)
    shell("touch /run/timers/mended")
    wait_for(lambda: (server.instance(name).state, server.health(name)[0]) == ("exited", Health.HEALTHY))


def bind(path: str) -> dict[str, object]:
    shell(f"rm -rf {path}; mkdir {path}")
    return {"type": "bind", "source": path, "target": "/state", "read_only": False}


def test_a_run_that_cannot_be_started_is_seen(server: Server) -> None:
    with pytest.raises(StepFailed, match="No such image"):  # before there is a timer
        server.make(dataclasses.replace(server.service(), image="sha256:" + "0" * 64))
    name = server.make(server.service(schedule=NEVER, entrypoint=["/no/such/program"], init=False))
    assert server.health(name) == (Health.HEALTHY, ""), "it did not run yet"
    shell(f"systemctl start {name}.service")
    wait_for(lambda: server.health(name) == (Health.DEGRADED, "its last run could not be started"))


def test_two_runs_never_overlap(server: Server) -> None:
    name = server.make(server.service("echo begins; sleep 2; echo ends", schedule="*:*:*"))
    wait_for(lambda: server.runs(name) >= 4)
    said = server.tools.systemd.journal(f"{name}.service", lines=100)[:4]
    assert said == ["begins", "ends", "begins", "ends"]


# ---- not running -----------------------------------------------------------------------------------------------------


def test_a_deploy_runs_nothing(server: Server) -> None:
    name = server.make(server.service(schedule=NEVER))
    time.sleep(1)
    assert server.instance(name).state == "created"
    assert server.runs(name) == 0
    assert not (UNITS / "multi-user.target.wants" / f"{name}.service").is_symlink()
    assert (UNITS / "timers.target.wants" / f"{name}.timer").is_symlink()
    shell(f"systemctl start {name}.service")  # which one may, by hand
    wait_for(lambda: server.runs(name) == 1)


def test_a_new_schedule_is_a_new_timer_and_the_same_unit_and_nothing_runs_for_it(server: Server) -> None:
    service = server.service(schedule=NEVER)
    name = server.make(service)
    time.sleep(2)
    unit = (UNITS / f"{name}.service").stat()
    past = shell("date -d '-1 sec' +%H:%M:%S")
    assert server.make(dataclasses.replace(service, schedule=f"*-*-* {past}")) == name
    assert f"OnCalendar=*-*-* {past}\n" in (UNITS / f"{name}.timer").read_text()
    assert (UNITS / f"{name}.service").stat() == unit
    assert server.state("timer") == "active"
    time.sleep(2)
    assert server.runs(name) == 0, "it was due a second ago, but not by the old schedule"


def test_what_was_missed_while_the_timer_was_off_is_caught_up(server: Server) -> None:
    due = int(time.time()) + 10
    soon = shell(f"date -d @{due} +%H:%M:%S")
    name = server.make(server.service(schedule=f"*-*-* {soon}"))
    shell(f"systemctl stop {name}.timer")
    wait_for(lambda: time.time() > due + 1)
    assert server.runs(name) == 0
    shell(f"systemctl start {name}.timer")
    wait_for(lambda: server.runs(name) == 1)


# ---- refused and removed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["whenever", "*-*-* 25:00:00", "--version", "daily\nOnBootSec=1"])
def test_what_is_no_time_for_systemd_is_refused_in_its_words(server: Server, schedule: str) -> None:
    assert "Failed to parse calendar specification" in server.tools.systemd.refusal(schedule)
    with pytest.raises(StepFailed, match="does not accept the schedule: Failed to parse calendar specification"):
        server.make(server.service(schedule=schedule))
    assert list(UNITS.glob("mvd-timers-*.timer")) == []


@pytest.mark.parametrize(
    "schedule", ["hourly", "Mon..Fri 09..17:00/15 Europe/Berlin", "*-*~1 03:00", "*-*-* 03:00:00.5"]
)
def test_what_is_a_time_for_systemd_is_taken(server: Server, schedule: str) -> None:
    assert server.tools.systemd.refusal(schedule) == ""


def test_nothing_is_left_of_a_timer_not_even_systemds_stamp(server: Server) -> None:
    name = server.make(server.service("sleep 100"))
    wait_for(lambda: server.instance(name).state == "running")
    assert (STAMPS / f"stamp-{name}.timer").is_file()
    server.remove()
    assert left_of(name) == []
    assert server.tools.engine.instance(name) is None
