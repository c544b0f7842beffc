"""Apps on a Swarm, reconciled as on a plain host: a Swarm in memory whose tasks answer, behind a Kong."""

from __future__ import annotations

import base64
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd import probes
from gitops_mvd.core.compose import Mount
from gitops_mvd.core.compose import Tasks as HowMany
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import (
    App,
    Check,
    Desired,
    File,
    Gate,
    Goal,
    Health,
    Operation,
    Outcome,
    Revision,
    Service,
    Update,
)
from gitops_mvd.core.reconcile import reconcile
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.machine import Machine
from gitops_mvd.host.tasks import Tasks
from gitops_mvd.kinds import Tools, discover
from gitops_mvd.kong.client import Kong
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.state.task_ports import TaskPorts
from tests.contract.gateway import Gateway, running_gateway
from tests.contract.swarm_standin import SwarmStandIn
from tests.fakes import FakeHistory
from tests.lab.outage import asked, failures
from tests.unit.test_host import Systemd

NO_SECRETS = Path("/nonexistent")


@dataclasses.dataclass
class World:
    """One Swarm with its Kong, as the daemon on its leader has it."""

    swarm: SwarmStandIn
    manager: Manager
    gateway: Gateway
    history: FakeHistory
    host: Machine

    def become(self, *apps: App) -> list[Outcome]:
        """The outcomes of one pass."""
        self.host.refresh()
        desired = Desired(Revision("c" * 40, "main"), apps)
        return [*reconcile(desired, self.host, self.history, allow_empty=True).outcomes]

    def services(self) -> list[str]:
        return [it["Spec"]["Name"] for it in self.swarm.services]

    def targets(self) -> list[str]:
        there = self.gateway.ask("GET", "/upstreams/mvd.shop.web/targets").get("data", ())
        return sorted(it["target"] for it in there)

    def tasks(self) -> list[str]:
        """The addresses of the tasks that run."""
        nodes = {node["ID"]: node["Status"]["Addr"] for node in self.swarm.nodes.values()}
        live = [it for it in self.swarm.tasks if it["DesiredState"] == "running"]
        ports = {it["ID"]: it["Status"]["PortStatus"]["Ports"][0]["PublishedPort"] for it in live}
        return sorted(f"{nodes[it['NodeID']]}:{ports[it['ID']]}" for it in live)


class Killed(BaseException):
    """The daemon is no more."""


class Life(Interruptible):
    """The clock of a daemon that is killed after so many steps, and -1 never is: they ask it for leave to go on."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._steps = steps

    def wait(self, seconds: float) -> None:
        super().wait(seconds)
        if not seconds:
            self.go_on()

    def go_on(self) -> None:
        if self._steps == 0:
            raise Killed
        self._steps -= 1


class Mortal(Manager):
    """May also be killed after each request that changes the Swarm."""

    life = Life(-1)

    def _post(self, *args: Any, **options: Any) -> str:
        answer = super()._post(*args, **options)
        self.life.go_on()
        return answer

    def create_service(self, name: str, image: str, body: Any) -> None:
        super().create_service(name, image, body)
        self.life.go_on()

    def _delete(self, what: str, path: str) -> None:
        super()._delete(what, path)
        self.life.go_on()


def _world(
    swarm: SwarmStandIn, gateway: Gateway, history: FakeHistory, folder: Path = NO_SECRETS, steps: int = -1
) -> World:
    """A daemon that has just been started: it remembers nothing but its history.  In `folder` are its secrets."""
    manager, clock = Mortal(f"unix://{swarm.server_address!s}", timeout=5), Life(steps)
    manager.life = clock
    kong, systemd = Kong(gateway.admin, gateway.proxy), Systemd()
    disruptions = Disruptions(manager, systemd)  # type: ignore[arg-type]
    known = probes.discover(probes.ProbeTools(manager, systemd))  # type: ignore[arg-type]
    tasks = Tasks(manager, known, history)
    secrets = Secrets(folder, key=manager.digest_key)
    tools = Tools("prod", manager, systemd, kong, clock, secrets=secrets, is_ready=tasks.is_ready)  # type: ignore[arg-type]
    gates = Gates(known, manager, systemd, disruptions, clock, kong, history, tasks=tasks)  # type: ignore[arg-type]
    how = {"address": "127.0.0.1", "history": history, "secrets": secrets}
    host = Machine("prod", discover(tools), manager, gates, disruptions, clock, **how)  # type: ignore[arg-type]
    return World(swarm, manager, gateway, history, host)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway("off", tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


@pytest.fixture
def world(tmp_path: Path, gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with SwarmStandIn(tmp_path / "docker.sock") as swarm:
        swarm.serves = True
        world = _world(swarm, gateway, FakeHistory())
        yield world
        world.manager.close()


def shop(version: str) -> App:
    web = Service(
        "web",
        "registry.lab:5000/web:1",
        run={"stop_grace_period": 0.3},
        environment={"VERSION": version},
        check=Check("http", {"path": "/health", "port": 7799}, within=0.5),
        kong={
            "port": 7799,
            "protocol": "http",
            "service": {"connect_timeout": 500},
            "routes": [{"paths": ["/shop"]}],
            "plugins": [],
            "upstream": {},
        },
        swarm=HowMany(replicas=2, everywhere=False, probed=7799),
    )
    return App("shop", (web,))


def test_a_version_is_made_proven_and_routed_and_a_second_pass_does_nothing(world: World) -> None:
    [outcome] = world.become(shop("1"))
    assert outcome.is_green, outcome
    assert world.targets() == world.tasks()
    assert len({it.partition(":")[0] for it in world.targets()}) == 2
    [made] = world.swarm.created
    world.become(shop("1"))
    assert world.swarm.created == [made]
    assert [it["Name"] for it in world.swarm.networks] == ["mvd-shop-default-44136fa3"]


def test_a_new_version_is_a_service_beside_the_old_one_and_no_request_fails(world: World) -> None:
    world.become(shop("1"))
    [first] = world.services()
    with asked(f"{world.gateway.proxy}/shop") as seen:
        [outcome] = world.become(shop("2"))
    assert outcome.is_green, outcome
    assert failures(seen) == 0
    assert {it.said for it in seen} <= {"1", "2"}
    [second] = world.services()
    assert second != first
    assert world.targets() == world.tasks()


def test_a_bad_version_never_has_a_request_and_is_not_tried_again(world: World) -> None:
    world.become(shop("1"))
    before = world.services(), world.targets()
    with asked(f"{world.gateway.proxy}/shop") as seen:
        [outcome] = world.become(shop("sick"))
    assert outcome.operation is Operation.ROLLED_BACK
    assert outcome.why.startswith("web: http 500 from /health on ")
    assert (world.services(), world.targets()) == before
    assert {it.said for it in seen} == {"1"}
    made = len(world.swarm.created)
    world.become(shop("sick"))
    assert len(world.swarm.created) == made


def test_a_node_that_is_lost_takes_its_tasks_out_of_kong_and_back_elsewhere(world: World) -> None:
    world.become(shop("1"))
    lost = world.targets()[0]
    world.swarm.nodes["one"]["Status"]["State"] = "down"
    world.swarm.schedule()
    [outcome] = world.become(shop("1"))
    assert outcome.is_green, outcome
    assert lost not in world.targets()
    assert world.targets() == world.tasks()
    assert len(world.swarm.created) == 1


def test_a_swarm_that_is_short_of_a_task_is_degraded_and_says_what_it_lacks(world: World) -> None:
    world.become(shop("1"))
    world.swarm.nodes["one"]["Status"]["State"] = world.swarm.nodes["three"]["Status"]["State"] = "down"
    world.swarm.schedule()
    [outcome] = world.become(shop("1"))
    assert (outcome.health, outcome.why) == (Health.DEGRADED, "web: 1 of 2 tasks run")
    assert world.targets() == world.tasks()


def test_another_daemon_that_takes_over_finds_everything_and_changes_nothing(world: World) -> None:
    world.become(shop("1"))
    before = world.services(), world.targets()
    other = _world(world.swarm, world.gateway, FakeHistory())
    [outcome] = other.become(shop("1"))
    assert outcome.is_green, outcome
    assert (other.services(), other.targets()) == before
    other.manager.close()


def test_a_version_that_kong_leads_to_was_proven_by_who_led_before_and_another_one_was_not(world: World) -> None:
    world.become(shop("1"))
    other = _world(world.swarm, world.gateway, FakeHistory())
    other.host.refresh()
    for version, gates in (("1", 0), ("2", 2)):
        plan = other.host.plan([Goal(other.host.pin(shop(version)))])
        assert sum(isinstance(step, Gate) for step in plan.change) == gates, version
    other.manager.close()


def test_a_changed_file_is_a_new_version_and_the_old_config_goes_with_the_old_one(world: World) -> None:
    one, two = (
        App("shop", (dataclasses.replace(shop("1").services[0], files=(File("/etc/motd", {"": text}),)),))
        for text in ("hello", "welcome")
    )
    world.become(one)
    [config], [service] = world.swarm.configs, world.services()
    [outcome] = world.become(two)
    assert outcome.is_green, outcome
    assert [it["Spec"]["Name"] for it in world.swarm.configs] != [config["Spec"]["Name"]]
    assert len(world.swarm.configs) == 1
    assert world.services() != [service]


def with_secret() -> App:
    file = File("/run/secrets/pw", {}, secrets={"": "pw"})
    return App("shop", (dataclasses.replace(shop("1").services[0], files=(file,), secrets={"pw": ""}),))


def keep(path: Path, text: str) -> Path:
    """The folder of secrets of a manager, in which `pw` is that text."""
    path.mkdir(mode=0o700, exist_ok=True)
    (path / "pw").touch(0o600)
    (path / "pw").write_text(text)
    return path


def test_a_changed_secret_is_a_new_version_and_whoever_leads_next_finds_it_so(world: World, tmp_path: Path) -> None:
    one = _world(world.swarm, world.gateway, FakeHistory(), keep(tmp_path / "one", "first"))
    [outcome] = one.become(with_secret())
    assert outcome.is_green, outcome
    [first], [service] = [it["Spec"] for it in world.swarm.secrets], one.services()
    assert base64.b64decode(first["Data"]) == b"first"

    two = _world(world.swarm, world.gateway, FakeHistory(), keep(tmp_path / "two", "first"))
    [outcome] = two.become(with_secret())
    assert outcome.is_green, outcome
    assert two.services() == [service]

    keep(tmp_path / "two", "second")
    [outcome] = two.become(with_secret())
    assert outcome.is_green, outcome
    assert [base64.b64decode(it["Spec"]["Data"]) for it in world.swarm.secrets] == [b"second"]
    assert two.services() != [service]

    [outcome] = two.become()
    assert world.swarm.secrets == []
    assert [it["Spec"]["Name"] for it in world.swarm.configs] == ["mvd-digest-key"]
    one.manager.close()
    two.manager.close()


def test_a_secret_that_no_swarm_keeps_is_refused_before_anything_is_made(world: World, tmp_path: Path) -> None:
    with_it = _world(world.swarm, world.gateway, FakeHistory(), keep(tmp_path / "one", "x" * 512_000))
    [outcome] = with_it.become(with_secret())
    assert outcome.why == "web: the secret pw has 512,000 bytes, and a Swarm keeps secrets of 1 to 511,999"
    assert world.swarm.created == world.swarm.secrets == []
    with_it.manager.close()


def with_data(version: str) -> App:
    """A service that writes to a volume, and is asked nothing."""
    data: Mount = {"type": "volume", "source": "shop_data", "target": "/data", "read_only": False}
    db = Service(
        "db",
        "registry.lab:5000/db:1",
        run={"volumes": [data]},
        environment={"VERSION": version},
        check=Check("running"),
        update=Update(order="stop-first"),
        swarm=HowMany(replicas=1, everywhere=False, probed=0, constraints=["node.hostname==one"]),
    )
    return App("shop", (db,))


def moved(version: str) -> App:
    """The same by another name of the service."""
    return App("shop", (dataclasses.replace(with_data(version).services[0], name="database"),))


@pytest.mark.parametrize("remembers", [True, False], ids=["the same daemon", "one that took over"])
@pytest.mark.parametrize("to", [with_data, moved], ids=["a version", "a service of another name"])
def test_a_volume_never_has_two_writers(world: World, remembers: bool, to: Callable[[str], App]) -> None:
    world.become(with_data("1"))
    [first] = world.services()
    other = world if remembers else _world(world.swarm, world.gateway, FakeHistory())
    [outcome] = other.become(to("2"))
    assert outcome.is_green, outcome
    [second] = world.services()
    assert second != first
    assert world.swarm.beside == [[], []]  # nothing ran as either was made
    if not remembers:
        other.manager.close()


def with_file(version: str) -> App:
    """What is asked at /shop, with a file of this version."""
    web = dataclasses.replace(shop(version).services[0], files=(File("/etc/motd", {"": version}),))
    return App("shop", (web,))


def takeovers(world: World, app: Callable[[str], App]) -> Iterator[tuple[World, str, int]]:
    """Deploys of newer and newer versions, each killed one step later than the one before, up to one that is not.

    After each, whoever takes over has brought the same version to its end: that world, the version, and the step.
    """
    for steps in itertools.count():
        version, was_killed = str(steps + 1), False
        first = _world(world.swarm, world.gateway, FakeHistory(), steps=steps)
        try:
            first.become(app(version))
        except Killed:
            was_killed = True
        first.manager.close()
        next_one = _world(world.swarm, world.gateway, FakeHistory())
        [outcome] = next_one.become(app(version))
        assert outcome.is_green, (steps, outcome)
        yield next_one, version, steps
        next_one.manager.close()
        if not was_killed:
            return


def test_whoever_takes_over_goes_on_at_each_step_of_a_deploy(world: World) -> None:
    world.become(with_file("0"))
    with asked(f"{world.gateway.proxy}/shop") as seen:
        for next_one, version, steps in takeovers(world, with_file):
            assert world.targets() == world.tasks(), steps
            assert (len(world.services()), len(world.swarm.configs)) == (1, 1), steps
            made = len(world.swarm.created)
            next_one.become(with_file(version))
            assert len(world.swarm.created) == made, steps
    assert failures(seen) == 0
    assert steps > 10


def test_whoever_takes_over_at_a_step_never_makes_a_second_writer(world: World) -> None:
    world.become(with_data("0"))
    for _, _, steps in takeovers(world, with_data):
        assert len(world.services()) == 1, steps
    assert not any(world.swarm.beside)
    assert steps > 3


def test_a_daemon_that_takes_over_from_a_lost_node_leads_kong_away_from_it_at_once(world: World) -> None:
    world.become(shop("1"))
    lost = world.targets()[0]
    world.swarm.nodes["one"]["Status"]["State"] = "unknown"  # and its task was not made elsewhere yet
    other = _world(world.swarm, world.gateway, FakeHistory())
    [outcome] = other.become(shop("1"))
    assert (outcome.operation, outcome.health) == (Operation.SUCCEEDED, Health.DEGRADED)
    assert lost not in other.targets()
    assert len(other.targets()) == 1
    assert not other.history.bad
    other.manager.close()


@pytest.mark.parametrize("has_seen", [True, False], ids=["seen before", "never seen"])
def test_a_task_whose_port_the_swarm_forgot_is_not_called_unhealthy(
    world: World, tmp_path: Path, has_seen: bool
) -> None:
    """By a daemon that has been started since: it knows the port, if one before it saw that."""
    memory = TaskPorts(tmp_path / "task-ports.json")
    world.become(shop("1"))
    url, check = f"unix://{world.swarm.server_address!s}", shop("1").services[0].check
    if has_seen:
        before = Manager(url, timeout=5, memory=memory)
        before.services()
        before.close()
    for task in world.swarm.tasks:
        task["Status"]["PortStatus"] = {}
    manager = Manager(url, timeout=5, memory=memory)
    probed = probes.discover(probes.ProbeTools(manager, Systemd()))  # type: ignore[arg-type]
    health, _ = Tasks(manager, probed, FakeHistory()).ask(world.services()[0], check)
    assert health is (Health.HEALTHY if has_seen else Health.UNKNOWN)
    manager.close()


@pytest.mark.parametrize("has_looked", [True, False], ids=["looked on before", "started since"])
def test_a_port_that_the_swarm_forgot_as_its_leader_changed_is_led_to_as_before(world: World, has_looked: bool) -> None:
    world.become(shop("1"))
    before = world.targets()
    other = _world(world.swarm, world.gateway, FakeHistory())
    if has_looked:
        other.host.refresh()
    for task in world.swarm.tasks:
        task["Status"]["PortStatus"] = {}
    [outcome] = other.become(shop("1"))
    assert other.targets() == before
    assert outcome.is_green, outcome
    other.manager.close()


def test_without_a_quorum_a_pass_ends_and_what_runs_goes_on(world: World) -> None:
    world.become(shop("1"))
    world.swarm.has_quorum = False
    with pytest.raises(Unavailable, match="does not have a leader"):
        world.become(shop("2"))
    world.swarm.has_quorum = True
    [outcome] = world.become(shop("2"))
    assert outcome.is_green, outcome


def test_an_app_that_is_removed_leaves_nothing_behind(world: World) -> None:
    world.become(shop("1"))
    [outcome] = world.become()
    assert outcome.removed
    assert (world.services(), world.targets(), world.swarm.networks) == ([], [], [])
