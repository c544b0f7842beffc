"""However Docker or the server goes: what it takes along is not held against a version, and what fails by itself is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Change, Check, Gate, Instance, Resource, Role, Service
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.machine import Machine
from gitops_mvd.probes import ProbeTools, discover
from gitops_mvd.systemd.client import Phase
from tests.fakes import FakeClock, FakeHistory

BEGAN = 1000.0  # where the clock starts; Docker has been up for 900 seconds by then
SHAKES = BEGAN + 5  # when whatever happens begins
WALL = 1_800_000_000.0  # Unix time less monotonic time

Phases = Sequence[tuple[float, str]]


@dataclass
class World:
    """A Docker that goes, in every way that it can, and a systemd that learns of it a moment later.

    `docker` and `containerd` are what systemd says of them from when on.  From `silent` on the engine answers nobody;
    who asks it then waits until it `answers` again, as docker.socket keeps connections, or gives up.
    """

    docker: Phases = ((100.0, "active"),)
    containerd: Phases = ((99.0, "active"),)
    silent: float = float("inf")
    answers: float = float("inf")
    shutdown: float = float("inf")
    bus: float = float("inf")  # from when on systemd does not answer
    clock: FakeClock = field(default_factory=FakeClock)
    develops: Callable[[float], Instance | None] = lambda now: None

    def ping(self) -> None:
        if self.silent <= self.clock.time < self.answers:
            if self.answers - self.clock.time > 5:
                self.clock.time += 5
                raise Unavailable("could not ping Docker: timed out")
            self.clock.time = self.answers

    def instance(self, name: str) -> Instance | None:
        self.ping()
        return self.develops(self.clock.time)

    def units(self, pattern: str) -> dict[str, object]:
        if self.bus <= self.clock.time:
            raise Unavailable("systemd does not answer")
        return {}

    def exit_code(self, container: str, ago: float) -> int | None:
        self.ping()
        return 137

    def is_going_down(self) -> bool:
        if self.clock.time >= self.bus:
            raise Unavailable("systemd could not be asked: connection refused")
        return self.clock.time >= self.shutdown

    def phase(self, name: str) -> Phase | None:
        phases = {"docker.service": self.docker, "containerd.service": self.containerd}[name]
        so_far = [(active, since) for since, active in phases if since <= self.clock.time]
        return Phase(*so_far[-1]) if so_far else None

    def journal(self, unit: str, lines: int) -> list[str]:
        return ['error during connect: Post "http://%2Fvar%2Frun%2Fdocker.sock/start": EOF']


class Units:
    """The kind `unit`, of which a step may be refused."""

    name, after, role, prunes, keeps_previous = "unit", (), Role.INSTANCE, True, False

    def __init__(self, world: World, refuses: float = float("inf")) -> None:
        self.world, self.refuses = world, refuses
        self.applied: list[Change] = []

    def prepare(self, changes: object) -> None:
        """Nothing can be known before."""

    def apply(self, changes: Sequence[Change]) -> None:
        self.applied += changes
        self.world.clock.wait(6)
        if self.world.clock.time >= self.refuses:
            raise StepFailed("could not docker create: Error response from daemon: grpc: the connection is closing")


def at(moment: float) -> str:
    return datetime.fromtimestamp(moment + WALL, UTC).isoformat().replace("+00:00", "Z")


def machine(world: World, units: Units | None = None) -> Machine:
    edge: Any = world
    kind: Any = units or Units(world)
    history = FakeHistory()
    disruptions = Disruptions(edge, edge, world.clock.now, lambda: world.clock.now() + WALL)
    gates = Gates(discover(ProbeTools(edge, edge)), edge, edge, disruptions, world.clock, None, history)
    named = {"unit": kind}
    return Machine("h1", named, edge, gates, disruptions, world.clock, address="127.0.0.1", history=history)


def unit(restart: str = "always") -> Resource:
    service = Service("worker", "image", run={"restart": restart})
    return Resource("unit", "mvd-chat-worker-1", "chat", "worker", payload=service)


def running(started: float = BEGAN - 1) -> Instance:
    return Instance("x", state="running", started=at(started))


def ended(code: int, started: float = BEGAN - 1) -> Instance:
    return Instance("x", state="exited", exit_code=code, started=at(started))


UP = (100.0, "active")
WAYS: dict[str, Callable[[], World]] = {
    "dockerd is killed": lambda: World(
        docker=(UP, (SHAKES + 0.3, "activating"), (SHAKES + 3, "active")), silent=SHAKES, answers=SHAKES + 3.01
    ),
    "dockerd is killed, and its next start is noticed late": lambda: World(
        docker=(UP, (SHAKES + 2, "activating"), (SHAKES + 3, "active")), silent=SHAKES, answers=SHAKES + 2.9
    ),
    "dockerd is killed, and systemd starts it by and by": lambda: World(
        docker=(UP, (SHAKES + 0.3, "activating"), (SHAKES + 60, "active")), silent=SHAKES, answers=SHAKES + 60
    ),
    "dockerd is killed, and not started again": lambda: World(docker=(UP, (SHAKES + 0.3, "failed")), silent=SHAKES),
    "docker.service is stopped": lambda: World(
        docker=(UP, (SHAKES, "deactivating"), (SHAKES + 4, "inactive")), silent=SHAKES + 0.2
    ),
    "docker.service is restarted": lambda: World(
        docker=(UP, (SHAKES, "deactivating"), (SHAKES + 2, "activating"), (SHAKES + 4, "active")),
        silent=SHAKES + 0.2,
        answers=SHAKES + 4,
    ),
    "containerd is killed": lambda: World(
        containerd=((99.0, "active"), (SHAKES, "activating"), (SHAKES + 0.5, "active"))
    ),
    "containerd is stopped": lambda: World(containerd=((99.0, "active"), (SHAKES, "inactive"))),
    "the server goes down": lambda: World(shutdown=SHAKES),
    "the server goes down, and systemd does not answer any more": lambda: World(bus=SHAKES),
}
each_way = pytest.mark.parametrize("disrupted", WAYS.values(), ids=WAYS.keys())


@each_way
@pytest.mark.parametrize("then", [None, ended(0), ended(137), running(SHAKES + 1)])
def test_what_ends_with_docker_is_no_failure_however_it_is_seen(
    disrupted: Callable[[], World], then: Instance | None
) -> None:
    world = disrupted()
    world.develops = lambda now: running() if now < SHAKES + 0.1 else then
    with pytest.raises(Unavailable):
        machine(world).carry_out([Gate(unit(), Check("running", hold=60))])


@each_way
def test_what_does_not_become_healthy_while_docker_goes_is_no_failure(disrupted: Callable[[], World]) -> None:
    world = disrupted()
    world.develops = lambda now: None
    with pytest.raises(Unavailable):
        machine(world).carry_out([Gate(unit(), Check("running", within=8))])


@each_way
def test_what_is_not_required_and_fails_while_docker_goes_is_no_failure(disrupted: Callable[[], World]) -> None:
    world = disrupted()
    world.develops = lambda now: None
    with pytest.raises(Unavailable):
        machine(world).carry_out([Gate(unit(), Check("running", within=8), required=False)])


@each_way
def test_what_is_refused_while_docker_goes_is_no_failure(disrupted: Callable[[], World]) -> None:
    world = disrupted()
    with pytest.raises(Unavailable, match="the connection is closing, and"):
        machine(world, Units(world, refuses=SHAKES)).carry_out([Change(None, unit())])


@each_way
@pytest.mark.parametrize("code", [1, 137, 143])
@pytest.mark.parametrize(("restart", "check"), [("no", "completed"), ("on-failure:3", "not_failed")])
def test_a_job_that_ends_with_docker_is_removed_so_that_it_is_run_anew(
    disrupted: Callable[[], World], code: int, restart: str, check: str
) -> None:
    world = disrupted()
    world.develops = lambda now: running() if now < SHAKES + 0.1 else ended(code)
    units, job = Units(world), unit(restart)
    answered = world.answers < SHAKES + 10 or world.silent == float("inf")
    with pytest.raises(Unavailable):
        machine(world, units).carry_out([Gate(job, Check(check, hold=60, within=60))])
    assert units.applied == ([Change(job, None)] if answered else [])


@each_way
@pytest.mark.parametrize("instead", [None, Instance("x", state="created", exit_code=128)])
def test_a_job_that_docker_did_not_get_to_start_is_not_waited_for_as_long_as_it_may_take(
    disrupted: Callable[[], World], instead: Instance | None
) -> None:
    world = disrupted()
    world.develops = lambda now: instead
    units, job = Units(world), unit("no")
    answered = world.answers < SHAKES + 10 or world.silent == float("inf")
    with pytest.raises(Unavailable):
        machine(world, units).carry_out([Gate(job, Check("completed", within=3600))])
    assert units.applied == ([Change(job, None)] if answered else [])
    assert world.clock.time < SHAKES + 30


def test_what_systemd_starts_again_is_not_removed() -> None:
    world = WAYS["docker.service is restarted"]()
    world.develops = lambda now: running() if now < SHAKES else ended(137)
    units = Units(world)
    with pytest.raises(Unavailable):
        machine(world, units).carry_out([Gate(unit(), Check("running", hold=60))])
    assert units.applied == []


@pytest.mark.parametrize("then", [None, ended(137, BEGAN - 61), running(BEGAN + 4)])
def test_what_a_docker_before_this_pass_took_along_is_no_failure(then: Instance | None) -> None:
    world = World(docker=((BEGAN - 60, "active"),))
    world.develops = lambda now: running(BEGAN - 61) if now < SHAKES else then
    with pytest.raises(Unavailable, match=r"worker ended, and docker\.service became active a moment ago"):
        machine(world).carry_out([Gate(unit(), Check("running", hold=60))])


@pytest.mark.parametrize("unit_of", ["docker", "containerd"])
def test_a_failure_in_the_last_moment_of_a_long_start_is_none(unit_of: str) -> None:
    starting: Any = {unit_of: ((BEGAN - 60, "activating"),)}
    world = World(**starting)
    with pytest.raises(Unavailable):
        machine(world, Units(world, refuses=BEGAN)).carry_out([Change(None, unit())])


def test_a_failure_shortly_after_a_start_of_docker_is_none() -> None:
    world = World(docker=((BEGAN - 4, "active"),))
    with pytest.raises(Unavailable):
        machine(world, Units(world, refuses=BEGAN)).carry_out([Change(None, unit())])


def test_a_clock_that_is_set_back_meanwhile_does_not_hide_a_restart() -> None:
    world = WAYS["docker.service is restarted"]()
    world.develops = lambda now: running() if now < SHAKES else ended(137, BEGAN - 1 + 7200)
    with pytest.raises(Unavailable):
        machine(world).carry_out([Gate(unit(), Check("running", hold=60))])


# ---- what is a failure -----------------------------------------------------------------------------------------------

CALM: dict[str, Callable[[], World]] = {
    "nothing happens": World,
    "Docker goes by another name": lambda: World(docker=(), containerd=()),
    "Docker is run by hand, beside a docker.service that failed long ago": lambda: World(docker=((50.0, "failed"),)),
    "Docker has a containerd of its own": lambda: World(containerd=((0.0, "inactive"),)),
}
each_calm = pytest.mark.parametrize("calm", CALM.values(), ids=CALM.keys())


@each_calm
@pytest.mark.parametrize("restart", ["always", "no"])
def test_what_ends_by_itself_has_failed(calm: Callable[[], World], restart: str) -> None:
    world = calm()
    world.develops = lambda now: running() if now < SHAKES else ended(3)
    units = Units(world)
    with pytest.raises(StepFailed, match="worker: exited with code 3"):
        machine(world, units).carry_out(
            [Gate(unit(restart), Check("completed" if restart == "no" else "running", hold=60))]
        )
    assert units.applied == []


@each_calm
def test_what_is_refused_without_a_cause_outside_has_failed(calm: Callable[[], World]) -> None:
    world = calm()
    with pytest.raises(StepFailed):
        machine(world, Units(world, refuses=BEGAN)).carry_out([Change(None, unit())])


@each_calm
def test_what_is_not_required_and_fails_is_told(calm: Callable[[], World]) -> None:
    world = calm()
    [complaint] = machine(world).carry_out([Gate(unit(), Check("running", within=8), required=False)])
    assert "its container was not created for 8 s" in complaint
