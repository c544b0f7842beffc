"""A Swarm, asked and changed by its manager: the laws of its kind, what Kong is led to, and what a gate sees."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest

from gitops_mvd.core.claims import PORT, VOLUME, Claim
from gitops_mvd.core.compose import Mount, Run, Volume
from gitops_mvd.core.compose import Tasks as HowMany
from gitops_mvd.core.errors import MvdError, NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Check, File, Health, Instance, Json, Resource, Service
from gitops_mvd.core.route import Target
from gitops_mvd.core.specs import Joined
from gitops_mvd.daemon.mailbox import Interruptible
from gitops_mvd.daemon.triggers import swarm_tasks
from gitops_mvd.docker.swarm import Manager
from gitops_mvd.docker.swarm_targets import TASKS, Serving
from gitops_mvd.host.tasks import First, Tasks
from gitops_mvd.kinds import Tools, discover
from gitops_mvd.kinds.swarm_file import SwarmFiles
from gitops_mvd.kinds.swarm_service import SwarmServices
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.systemd.client import Systemd
from tests.contract.swarm_standin import SwarmStandIn
from tests.fakes import FakeClock, FakeHistory

IMAGE = "registry.lab:5000/web@sha256:" + "1" * 64
HTTP = Check("http", {"path": "/health", "port": 7799})


@pytest.fixture
def swarm(tmp_path: Path) -> Iterator[SwarmStandIn]:
    with SwarmStandIn(tmp_path / "docker.sock") as swarm:
        yield swarm


@pytest.fixture
def manager(swarm: SwarmStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    manager = Manager(f"unix://{swarm.server_address!s}", timeout=5)
    yield manager
    manager.close()


@pytest.fixture
def kind(manager: Manager) -> SwarmServices:
    return SwarmServices(Tools("prod", manager, Systemd(), None, Interruptible()))


def web(replicas: int = 2, **more: object) -> App:
    kong = {"port": 7799, "protocol": "http", "routes": [], "plugins": [], "service": {}, "upstream": {}}
    tasks = HowMany(replicas=replicas, everywhere=False, probed=7799)
    of: dict[str, object] = {"tag": "registry.lab:5000/web:1", "check": HTTP, "kong": kong, "swarm": tasks, **more}
    return App("shop", (Service("web", IMAGE, **of),))  # type: ignore[arg-type]


def made(kind: SwarmServices, app: App) -> Resource:
    """The one service of the app, made."""
    [wanted] = kind.wanted(app)
    kind.apply([Change(None, wanted)])
    return wanted


# ---- the laws of a kind ----------------------------------------------------------------------------------------------


def test_the_kinds_of_a_swarm_are_others_than_those_of_a_plain_host(manager: Manager) -> None:
    tools = Tools("prod", manager, Systemd(), None, Interruptible())
    assert discover(tools).keys() == {"network", "swarm_file", "swarm_service", "route"}


def test_what_was_applied_is_what_is_observed_and_twice_is_once(kind: SwarmServices, swarm: SwarmStandIn) -> None:
    wanted = made(kind, web())
    assert [*kind.observe()] == [wanted]
    kind.apply([Change(None, wanted)])
    assert len(swarm.created) == 1


def test_a_delete_leaves_nothing_behind_and_may_be_repeated(kind: SwarmServices, swarm: SwarmStandIn) -> None:
    wanted = made(kind, web())
    for _ in range(2):
        kind.apply([Change(wanted, None)])
        assert [*kind.observe()] == []
    assert swarm.services == swarm.tasks == []


def test_what_others_have_made_is_neither_seen_nor_touched(kind: SwarmServices, swarm: SwarmStandIn) -> None:
    [wanted] = kind.wanted(web())
    labels = {"io.gitops-mvd.app": "shop", "io.gitops-mvd.service": "web", "io.gitops-mvd.digest": "0" * 64}
    mode = {"Replicated": {"Replicas": 1}}
    swarm.answer("POST", "/services/create", {}, {"Name": "by-hand", "Labels": None, "Mode": mode})
    swarm.answer("POST", "/services/create", {}, {"Name": "copied", "Labels": labels, "Mode": mode})
    assert [*kind.observe()] == []
    kind.apply([Change(None, wanted)])
    kind.apply([Change(wanted, None)])
    assert [it["Spec"]["Name"] for it in swarm.services] == ["by-hand", "copied"]


def test_a_service_that_was_scaled_by_hand_is_made_anew(kind: SwarmServices, swarm: SwarmStandIn) -> None:
    wanted = made(kind, web())
    swarm.services[0]["Spec"]["Mode"]["Replicated"]["Replicas"] = 5
    [found] = kind.observe()
    assert found.spec["state"] == "scaled by hand to 5, and not 2"
    kind.apply([Change(found, wanted)])
    assert [*kind.observe()] == [wanted]


def test_a_change_of_what_a_swarm_does_with_it_is_a_new_version() -> None:
    [one], [two] = web(2).services, web(3).services
    assert one.instances("shop") != two.instances("shop")
    assert len(two.instances("shop")) == 1


def test_an_image_of_one_node_alone_is_refused(kind: SwarmServices) -> None:
    app = App("shop", (Service("web", "sha256:" + "2" * 64, tag="web:1", swarm=web().services[0].swarm),))
    with pytest.raises(StepFailed, match="the image web:1 is on this node alone"):
        made(kind, app)


FILES = (
    File("/etc/motd", {"": "welcome\n"}, mode=0o400, uid=7),
    File("/etc/site", {"a.conf": "a", "b/c.conf": "\udcff"}),
)


def test_a_config_is_named_after_its_content(swarm: SwarmStandIn, manager: Manager) -> None:
    kind, app = SwarmFiles(Tools("prod", manager, Systemd(), None, Interruptible())), web(files=FILES)
    wanted = [*kind.wanted(app)]
    for _ in range(2):
        kind.apply([Change(None, it) for it in wanted])
        assert sorted(it.name for it in kind.observe()) == sorted(it.name for it in wanted)
    assert {it.key: it for it in kind.observe()} == {it.key: it for it in wanted}
    assert len(swarm.configs) == 3
    swarm.configs.append({"ID": "x", "Spec": {"Name": "mvd-shop-mine", "Labels": {"io.gitops-mvd.app": "shop"}}})
    for _ in range(2):
        kind.apply([Change(it, None) for it in wanted])
        assert [*kind.observe()] == []
    assert [it["ID"] for it in swarm.configs] == ["x"]


def test_a_service_mounts_its_files_as_configs(kind: SwarmServices, swarm: SwarmStandIn, manager: Manager) -> None:
    app = web(files=FILES)
    files = SwarmFiles(Tools("prod", manager, Systemd(), None, Interruptible()))
    files.apply([Change(None, it) for it in files.wanted(app)])
    made(kind, app)
    [body] = swarm.created
    by_id = {it["ID"]: base64.b64decode(it["Spec"]["Data"]) for it in swarm.configs}
    mounted = body["TaskTemplate"]["ContainerSpec"]["Configs"]
    assert {it["File"]["Name"]: by_id[it["ConfigID"]] for it in mounted} == {
        "/etc/motd": b"welcome\n",
        "/etc/site/a.conf": b"a",
        "/etc/site/b/c.conf": b"\xff",
    }
    assert mounted[0]["File"] == {"Name": "/etc/motd", "UID": "7", "GID": "0", "Mode": 0o400}


PASSWORD = "hunter2 is long enough"


@pytest.fixture
def secrets(tmp_path: Path, manager: Manager) -> Secrets:
    """Those of a manager, one of which is `pw`."""
    return Secrets(folder(tmp_path / "secrets"), key=manager.digest_key)


def folder(path: Path) -> Path:
    """A folder with the secret `pw`."""
    path.mkdir(mode=0o700)
    (path / "pw").touch(0o600)
    (path / "pw").write_text(f"{PASSWORD}\n")
    return path


def with_secrets(secrets: Secrets) -> App:
    """Mounts `pw` in two places, of other owners, and has it in its environment."""
    digests = {"pw": secrets.digest("pw", {})}
    files = (
        File("/run/secrets/pw", {}, mode=0o400, uid=7, gid=8, secrets={"": "pw"}),
        File("/etc/app", {"app.conf": "a"}, secrets={"keys/pw": "pw"}),
    )
    return web(files=files, secrets=digests, environment={"URL": "db://shop:{file://pw}@db"})


def test_a_secret_is_kept_by_the_swarm_and_named_after_no_content(
    swarm: SwarmStandIn, manager: Manager, secrets: Secrets
) -> None:
    tools = Tools("prod", manager, Systemd(), None, Interruptible(), secrets=secrets)
    kept, services = SwarmFiles(tools), SwarmServices(tools)
    app = with_secrets(secrets)
    wanted = [*kept.wanted(app)]
    for _ in range(2):
        kept.apply([Change(None, it) for it in wanted])
        assert {it.key: it for it in kept.observe()} == {it.key: it for it in wanted}
    assert {base64.b64decode(it["Spec"]["Data"]) for it in swarm.secrets} == {f"{PASSWORD}\n".encode()}
    made(services, app)
    [body] = swarm.created
    container = body["TaskTemplate"]["ContainerSpec"]
    assert container["Env"] == [f"URL=db://shop:{PASSWORD}@db"]
    assert [it["File"]["Name"] for it in container["Configs"]] == ["/etc/app/app.conf"]
    assert [it["File"] for it in container["Secrets"]] == [
        {"Name": "/run/secrets/pw", "UID": "7", "GID": "8", "Mode": 0o400},
        {"Name": "/etc/app/keys/pw", "UID": "0", "GID": "0", "Mode": 0o444},
    ]
    # A node keeps one file of each secret, of one owner.
    assert len({it["SecretID"] for it in container["Secrets"]}) == 2
    seen = repr((wanted, [*services.wanted(app)], body["Name"], body["Labels"], swarm.secrets[0]["Spec"]["Labels"]))
    assert PASSWORD not in seen
    assert {it["Spec"]["Labels"]["io.gitops-mvd.secret"] for it in swarm.secrets} == {"pw"}
    with pytest.raises(StepFailed, match="is in use"):
        kept.apply([Change(it, None) for it in wanted])
    services.apply([Change(next(iter(services.observe())), None)])
    kept.apply([Change(it, None) for it in wanted])
    assert swarm.secrets == []
    assert [it["Spec"]["Name"] for it in swarm.configs] == ["mvd-digest-key"]


class Late(Manager):
    """Another manager makes the key after this one has looked for it."""

    looks = 0

    def _digest_key(self) -> bytes:
        self.looks += 1
        return b"" if self.looks == 1 else super()._digest_key()


def test_of_two_managers_that_make_a_key_one_takes_that_of_the_other(swarm: SwarmStandIn, manager: Manager) -> None:
    key = manager.digest_key()
    late = Late(f"unix://{swarm.server_address!s}", timeout=5)
    assert late.digest_key() == key
    assert len(swarm.configs) == 1
    late.close()


def test_every_manager_makes_the_same_digests(swarm: SwarmStandIn, manager: Manager, tmp_path: Path) -> None:
    other = Manager(f"unix://{swarm.server_address!s}", timeout=5)
    found = set()
    for name, key in (("one", manager.digest_key), ("two", other.digest_key), ("plain", None)):
        found.add(Secrets(folder(tmp_path / name), key=key).digest("pw", {}))
    other.close()
    assert len(found) == 2
    assert [it["Spec"]["Name"] for it in swarm.configs] == ["mvd-digest-key"]
    seen = Secrets(folder(tmp_path / "three"), key=manager.digest_key)
    before = seen.digest("pw", {})
    swarm.configs.clear()  # as of a Swarm that was made anew
    seen.refresh()
    assert seen.digest("pw", {}) != before
    swarm.configs[0]["Spec"]["Data"] = ""
    with pytest.raises(Unavailable, match="mvd-digest-key"):
        manager.digest_key()


# ---- volumes ---------------------------------------------------------------------------------------------------------


class Waiting(FakeClock):
    """Each wait takes a quarter of a minute, in which `meanwhile` is done."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.waits = 0
        self._meanwhile = meanwhile

    def wait(self, seconds: float) -> None:
        super().wait(15.0)
        self.waits += 1
        self._meanwhile()


DATA: Mount = {"type": "volume", "source": "shop_data", "target": "/data", "read_only": False}
LOGS: Mount = {"type": "volume", "source": "shop_logs", "target": "/logs", "read_only": True}


def database(version: str) -> App:
    options: dict[str, Volume] = {"shop_logs": {"driver_opts": {"type": "nfs"}, "labels": {"team": "ai"}}}
    tasks = HowMany(replicas=1, everywhere=False, probed=0, constraints=["node.hostname==one"], volumes=options)
    run: Run = {"volumes": [DATA, LOGS], "tmpfs": ["/tmp"]}
    db = Service("db", IMAGE, run=run, environment={"VERSION": version}, swarm=tasks)
    return App("shop", (db,))


def test_a_volume_is_made_by_the_node_with_its_options(kind: SwarmServices, swarm: SwarmStandIn) -> None:
    made(kind, database("1"))
    [body] = swarm.created
    local = {"Name": "local", "Options": {}}
    assert body["TaskTemplate"]["ContainerSpec"]["Mounts"] == [
        {"Type": "tmpfs", "Target": "/tmp"},
        {
            "Type": "volume",
            "Source": "shop_data",
            "Target": "/data",
            "VolumeOptions": {"Labels": {"io.gitops-mvd.app": "shop"}, "DriverConfig": local},
        },
        {
            "Type": "volume",
            "Source": "shop_logs",
            "Target": "/logs",
            "ReadOnly": True,
            "VolumeOptions": {
                "Labels": {"io.gitops-mvd.app": "shop", "team": "ai"},
                "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}},
            },
        },
    ]
    assert body["TaskTemplate"]["Placement"] == {"Constraints": ["node.hostname==one"]}


def test_what_a_service_has_of_a_node_is_seen(kind: SwarmServices) -> None:
    ports = [{"target": 9000, "published": "9001", "host_ip": "", "protocol": "udp"}]
    app = database("1")
    made(kind, App("shop", (replace(app.services[0], run={**app.services[0].run, "ports": ports}),)))  # type: ignore[typeddict-item]
    [found] = kind.observe()
    assert isinstance(found.payload, Joined)
    assert found.payload.claims == {Claim(VOLUME, "shop_data", is_shared=True), Claim(PORT, "9001/udp")}


def test_a_volume_has_no_second_writer_while_a_removed_one_may_run(
    manager: Manager, kind: SwarmServices, swarm: SwarmStandIn
) -> None:
    """As after a daemon that ended while it waited, or where the node cannot be reached."""
    first = made(kind, database("1"))
    [service] = swarm.services
    swarm.lingers = True
    swarm.nodes["one"]["Status"]["State"] = "down"
    kind.apply([Change(first, None)])
    assert swarm.tasks

    late = SwarmServices(Tools("prod", manager, Systemd(), None, Waiting()))
    with pytest.raises(NotNow, match="db: a task that was removed may still write to shop_data"):
        made(late, database("2"))
    assert len(swarm.created) == 1

    clock = Waiting(lambda: swarm.end(service["ID"]))
    made(SwarmServices(Tools("prod", manager, Systemd(), None, clock)), database("2"))
    assert clock.waits == 1
    assert len(swarm.created) == 2


# ---- what is asked of the Swarm --------------------------------------------------------------------------------------


def test_a_service_is_asked_for_with_ports_of_its_nodes_and_no_mesh(kind: SwarmServices, swarm: SwarmStandIn) -> None:
    run: Mapping[str, object] = {
        "command": ["serve"],
        "cpus": 0.5,
        "mem_limit": 1 << 20,
        "ports": [{"target": 9000, "published": "9001", "host_ip": "", "protocol": "tcp"}],
        "healthcheck": {"test": ["CMD", "true"], "interval": 2.0},
    }
    made(kind, web(run=run, environment={"A": "b"}))
    [body] = swarm.created
    assert body["EndpointSpec"] == {
        "Mode": "dnsrr",
        "Ports": [
            {"Protocol": "tcp", "TargetPort": 9000, "PublishMode": "host", "PublishedPort": 9001},
            {"Protocol": "tcp", "TargetPort": 7799, "PublishMode": "host"},
        ],
    }
    template = body["TaskTemplate"]
    assert template["Resources"]["Limits"] == {"NanoCPUs": 500_000_000, "MemoryBytes": 1 << 20}
    assert template["RestartPolicy"] == {"Condition": "any", "Delay": 2_000_000_000}
    assert template["ContainerSpec"]["Args"] == ["serve"]
    assert template["ContainerSpec"]["Env"] == ["A=b"]
    assert template["ContainerSpec"]["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 2_000_000_000}
    assert template["LogDriver"] == {"Name": "journald", "Options": {"tag": "shop/web"}}
    assert body["Mode"] == {"Replicated": {"Replicas": 2}}


def test_an_image_is_pinned_as_the_service_that_was_made_of_its_tag(kind: SwarmServices, manager: Manager) -> None:
    made(kind, web())
    assert manager.pin(Service("web", "registry.lab:5000/web:1")).image == IMAGE


def test_who_leads_is_asked_of_the_nodes(swarm: SwarmStandIn, manager: Manager) -> None:
    assert manager.leader() == ""
    swarm.asks = "two"
    assert manager.leader() == "one"
    swarm.nodes["one"]["ManagerStatus"]["Leader"] = False
    with pytest.raises(Unavailable, match="the Swarm has no leader"):
        manager.leader()


def test_all_tasks_of_a_service_are_one_instance(kind: SwarmServices, swarm: SwarmStandIn, manager: Manager) -> None:
    swarm.begins = "preparing"
    name = made(kind, web()).name

    def instance() -> tuple[str, str]:
        [found] = manager.instances("shop").values()
        assert manager.instance(name) == found
        return found.state, found.lacks

    assert instance() == ("created", "")
    for task in swarm.tasks:
        task["Status"]["State"] = "running"
    assert instance() == ("running", "")
    for node in swarm.nodes.values():  # of all of them, so that there is none to go to
        node["Status"]["State"] = "down"
    assert instance() == ("running", "0 of 2 tasks run")
    for task in swarm.tasks:
        task["Status"]["State"] = "complete"
        task["DesiredState"] = "shutdown"
    assert instance() == ("exited", "")
    for task in swarm.tasks:
        task["Status"] |= {"State": "pending", "Err": "no suitable node (host-mode port already in use on 3 nodes)"}
    assert instance()[1].startswith("0 of 2 tasks run")
    assert manager.instances("other") == {}


def test_without_a_quorum_nothing_can_be_asked(kind: SwarmServices, swarm: SwarmStandIn, manager: Manager) -> None:
    wanted = made(kind, web())
    swarm.has_quorum = False
    for ask in (manager.leader, manager.instances, lambda: [*kind.observe()], lambda: made(kind, web())):
        with pytest.raises(Unavailable, match="does not have a leader"):
            ask()
    with pytest.raises(Unavailable):
        kind.apply([Change(wanted, None)])
    swarm.has_quorum = True
    assert [*kind.observe()] == [wanted]


# ---- what Kong is led to ---------------------------------------------------------------------------------------------


class NotYet:
    """Which tasks may be sent requests: all but those on some nodes."""

    def __init__(self) -> None:
        self.nodes: set[str] = set()

    def __call__(self, service: str, task: object) -> bool:
        return getattr(task, "node") not in self.nodes  # noqa: B009


def at_tasks(name: str) -> list[Target]:
    return [Target(instance=name, address=TASKS)]


def test_kong_follows_tasks_to_other_nodes(kind: SwarmServices, swarm: SwarmStandIn, manager: Manager) -> None:
    not_yet = NotYet()
    serving = Serving(manager, not_yet)
    name = made(kind, web()).name
    first = serving.resolved(at_tasks(name))
    assert [it["address"].partition(":")[0] for it in first] == ["127.0.0.1", "127.0.0.2"]
    assert serving.merged(first) == at_tasks(name)

    # The node of one is gone: Kong still has it, and the one in its place is not ready yet.
    not_yet.nodes = {"three"}
    swarm.nodes["two"]["Status"]["State"] = "down"
    swarm.schedule()
    assert serving.merged(first) == [Target(instance=name, address=", ".join(it["address"] for it in first))]
    assert serving.resolved(at_tasks(name)) == first[:1]
    assert serving.merged(first[:1]) == at_tasks(name)

    not_yet.nodes = set()
    assert [it["address"].partition(":")[0] for it in serving.resolved(at_tasks(name))] == ["127.0.0.1", "127.0.0.3"]
    assert serving.merged(first[:1]) != at_tasks(name)


@pytest.mark.parametrize("itself", ["127.0.0.1", "0.0.0.0"])
def test_a_leader_is_reached_at_the_address_that_it_has_for_others(
    kind: SwarmServices, swarm: SwarmStandIn, manager: Manager, itself: str
) -> None:
    leader = swarm.nodes["one"]
    leader["Status"]["Addr"], leader["ManagerStatus"]["Addr"] = itself, "10.0.0.7:2377"
    name = made(kind, web()).name
    reached = {it["address"].partition(":")[0] for it in Serving(manager, NotYet()).resolved(at_tasks(name))}
    assert reached == {"10.0.0.7", "127.0.0.2"}
    swarm.nodes["one"].pop("ManagerStatus")  # of a worker there is no other
    assert manager.services()[name].tasks[-1].address == itself


def test_a_task_that_kong_has_stays_even_if_it_is_not_ready(kind: SwarmServices, manager: Manager) -> None:
    not_yet = NotYet()
    serving = Serving(manager, not_yet)
    name = made(kind, web()).name
    first = serving.resolved(at_tasks(name))
    not_yet.nodes = {"one", "two", "three"}
    assert serving.merged(first) == at_tasks(name)


def test_kong_is_never_led_to_nothing(kind: SwarmServices, swarm: SwarmStandIn, manager: Manager) -> None:
    serving = Serving(manager, NotYet())
    name = made(kind, web()).name
    first = serving.resolved(at_tasks(name))
    for task in swarm.tasks:
        task["Status"]["State"] = "preparing"
    assert serving.merged(first) == at_tasks(name)  # there is nothing better
    with pytest.raises(Unavailable, match=f"no task of {name} serves: 0 of 2 tasks run"):
        serving.resolved(at_tasks(name))


# ---- what a gate sees ------------------------------------------------------------------------------------------------


class Answers:
    """The probe `http`: what it is asked, and what it answers, by address and port."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.sick: set[str] = set()

    def __call__(self, at: Instance, spec: Json) -> tuple[Health, str]:
        self.asked.append((at.ip, spec["port"]))
        sick = at.ip in self.sick
        return (Health.PROGRESSING, "http 500 from /health") if sick else (Health.HEALTHY, "")


@pytest.fixture
def http() -> Answers:
    return Answers()


@pytest.fixture
def tasks(manager: Manager, http: Answers) -> Tasks:
    return Tasks(manager, {"http": http}, FakeHistory())


def test_a_probe_is_asked_of_every_task_at_its_node(
    kind: SwarmServices, swarm: SwarmStandIn, tasks: Tasks, http: Answers
) -> None:
    name = made(kind, web()).name
    assert tasks.at_gate(name, HTTP, None, is_late=False)[:2] == (Health.HEALTHY, "")
    ports = [task["Status"]["PortStatus"]["Ports"][0]["PublishedPort"] for task in swarm.tasks]
    assert sorted(http.asked) == [("127.0.0.1", ports[0]), ("127.0.0.2", ports[1])]
    http.sick = {"127.0.0.2"}
    assert tasks.ask(name, HTTP) == (Health.PROGRESSING, "http 500 from /health on two")


def test_a_gate_waits_for_all_tasks_and_ends_with_the_first_that_fails(
    kind: SwarmServices, swarm: SwarmStandIn, tasks: Tasks
) -> None:
    swarm.begins = "preparing"
    name = made(kind, web()).name
    health, why, first = tasks.at_gate(name, HTTP, None, is_late=False)
    assert (health, why, first) == (Health.PROGRESSING, "0 of 2 tasks run", First())
    swarm.tasks[1]["Status"] |= {"State": "failed", "Err": "task: non-zero exit (3)"}
    swarm.tasks[1]["Status"]["ContainerStatus"] = {"ExitCode": 3}
    health, why, _ = tasks.at_gate(name, HTTP, first, is_late=False)
    assert (health, why) == (Health.DEGRADED, "its task exited with code 3 on two")


def test_a_task_that_failed_before_a_gate_is_not_held_against_what_runs(
    kind: SwarmServices, swarm: SwarmStandIn, tasks: Tasks
) -> None:
    name = made(kind, web()).name
    swarm.tasks[0]["Status"] |= {"State": "failed", "Err": "task: non-zero exit (137)"}
    swarm.tasks[0]["DesiredState"] = "shutdown"
    swarm.schedule()
    assert tasks.at_gate(name, HTTP, None, is_late=False)[0] is Health.HEALTHY


REJECTED: list[tuple[str, type[MvdError]]] = [
    ("driver failed: Bind for 0.0.0.0:80 failed: port is already allocated", NotNow),
    ("invalid mount config for type: executable file not found in $PATH", StepFailed),
    ("starting container failed: failed to initialize logging driver: dial tcp: connection refused", NotNow),
]


@pytest.mark.parametrize(("said", "error"), REJECTED)
def test_what_a_node_refuses_a_task_for_is_told_as_on_a_plain_host(
    kind: SwarmServices, swarm: SwarmStandIn, tasks: Tasks, said: str, error: type[MvdError]
) -> None:
    name = made(kind, web()).name
    swarm.tasks[0]["Status"] |= {"State": "failed" if said.startswith("starting") else "rejected", "Err": said}
    with pytest.raises(StepFailed, match=r"web: did not start: .* on one") as caught:
        tasks.at_gate(name, HTTP, First(), is_late=False)
    assert type(caught.value) is error


def test_a_swarm_without_room_is_waited_for_and_fails_no_version(
    kind: SwarmServices, swarm: SwarmStandIn, tasks: Tasks
) -> None:
    name = made(kind, web()).name
    why = "no suitable node (insufficient resources on 3 nodes)"
    swarm.tasks[0]["Status"] |= {"State": "pending", "Err": why}
    del swarm.tasks[0]["NodeID"]
    said = f"1 of 2 tasks run: {why}"
    assert tasks.at_gate(name, HTTP, First(), is_late=False)[:2] == (Health.PROGRESSING, said)
    with pytest.raises(NotNow, match="no suitable node"):
        tasks.at_gate(name, HTTP, First(), is_late=True)


def test_a_task_in_place_of_another_is_ready_once_its_probe_says_so(
    kind: SwarmServices, swarm: SwarmStandIn, manager: Manager, http: Answers
) -> None:
    app, history = web(), FakeHistory()
    tasks = Tasks(manager, {"http": http}, history)
    name = made(kind, app).name
    [task, _] = manager.services()[name].serving
    assert not tasks.is_ready(name, task)  # no version has worked yet: its gate has to be passed
    history.approve(app, "c1")
    http.sick = {task.address}
    assert not tasks.is_ready(name, task)
    assert tasks.is_waited_for
    http.sick = set()
    assert tasks.is_ready(name, task)


# ---- what wakes the loop ---------------------------------------------------------------------------------------------


def test_a_task_that_begins_or_ends_to_serve_wakes_the_loop(
    kind: SwarmServices, swarm: SwarmStandIn, manager: Manager, tasks: Tasks
) -> None:
    posted, stop = Queue[str](), threading.Event()
    thread = threading.Thread(target=swarm_tasks(manager, tasks, posted.put), args=(stop, lambda: None))
    made(kind, web())
    thread.start()
    try:
        tasks.is_waited_for = True
        assert posted.get(timeout=30) == "tasks"
        assert not tasks.is_waited_for
        swarm.nodes["two"]["Status"]["State"] = "down"
        swarm.schedule()
        assert posted.get(timeout=30) == "tasks"
    finally:
        stop.set()
        thread.join()
