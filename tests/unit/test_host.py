"""What one look at a server is good for."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.config.settings import read
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import LOST, App, Change, Check, Goal, Health, Instance, Resource, Role, Service, Update
from gitops_mvd.core.policy import Policy, Server
from gitops_mvd.daemon.connections import engine_data, known_server
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.machine import Machine
from gitops_mvd.host.monitor import Monitor
from gitops_mvd.probes import ProbeTools, discover
from gitops_mvd.secrets.store import Secrets
from gitops_mvd.systemd.client import Unit
from gitops_mvd.systemd.unit import Header
from gitops_mvd.systemd.unit_files import UnitFile
from tests.fakes import ROLES, FakeClock, FakeHistory, job, service, wanted


class Kind:
    prunes = True

    def __init__(self, name: str, *after: str, down: bool = False) -> None:
        self.name, self.after, self.down = name, after, down
        self.role, self.keeps_previous = ROLES[name], name == "image"
        self.there: dict[str, Resource] = {}
        self.refuses = ""  # the service whose resources it knows to be impossible

    def wanted(self, app: App) -> Iterable[Resource]:
        return [resource for resource in wanted(app) if resource.kind == self.name]

    def observe(self) -> Iterable[Resource]:
        if self.down:
            raise Unavailable(f"the {self.name}s cannot be looked at")
        return list(self.there.values())

    def prepare(self, changes: Sequence[Change]) -> None:
        if self.refuses in {change.to.service for change in changes if change.to} - {""}:
            raise StepFailed(f"{self.refuses}: no such user")

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.to:
                self.there[change.to.name] = change.to
            else:
                self.there.pop(change.resource.name, None)


class Engine:
    def __init__(self, *there: Instance) -> None:
        self.there = there
        self.inspected: list[str] = []

    def ping(self) -> None:
        pass

    def api_version(self) -> tuple[int, int]:
        return 1, 41

    def info(self) -> dict[str, Any]:
        return {"ServerVersion": "20.10.24"}

    def snapshot(self) -> nullcontext[None]:
        return nullcontext()

    def instance(self, name: str) -> Instance | None:
        self.inspected.append(name)
        return self.instances().get(name)

    def instances(self, app: str = "") -> dict[str, Instance]:
        return {instance.name: instance for instance in self.there}

    def require_externals(self, app: App) -> None:
        pass

    def images(self) -> dict[str, Any]:
        return {}

    def existing(self, app: App) -> dict[tuple[str, str], set[str]]:
        return {}

    def volumes_of(self, pinned: str) -> list[str]:
        return []

    def pin(self, service: Service) -> Service:
        return service


class Systemd:
    def units(self, pattern: str, within: float) -> dict[str, Unit]:
        return {}

    def is_going_down(self) -> bool:
        return False

    def phase(self, name: str) -> None:
        return None


def machine(
    *kinds: Kind,
    there: Iterable[Instance] = (),
    history: FakeHistory | None = None,
    precedence: Precedence | None = None,
    secrets: Secrets | None = None,
    monitor: Monitor | None = None,
    leaves_routes: bool = False,
    policy: Policy | None = None,
    server: Server | None = None,
) -> Machine:
    engine: Any = Engine(*there)
    systemd: Any = Systemd()
    clock, history = FakeClock(), history or FakeHistory()
    disruptions = Disruptions(engine, systemd, clock.now)
    gates = Gates(discover(ProbeTools(engine, systemd)), engine, systemd, disruptions, clock, None, history)
    named = {kind.name: kind for kind in kinds}
    more: Any = {"history": history, "secrets": secrets, "monitor": monitor, "leaves_routes": leaves_routes}
    more |= {"policy": policy, "server": server}
    host = Machine("h1", named, engine, gates, disruptions, clock, address="127.0.0.1", precedence=precedence, **more)
    host.refresh()
    return host


def test_a_gateway_that_is_down_holds_up_only_the_apps_that_need_it() -> None:
    host = machine(Kind("image"), Kind("unit", "image"), Kind("route", "unit", down=True))
    assert host.plan([Goal(App("kong", (service("kong", route=False),)))])
    with pytest.raises(Unavailable, match="the routes cannot be looked at"):
        host.plan([Goal(App("chat", (service("web"),)))])


def test_an_app_whose_instances_are_routed_is_not_removed_behind_the_back_of_its_gateway() -> None:
    routes, units = Kind("route", "unit"), Kind("unit", "image")
    host = machine(Kind("image"), units, routes)
    plan = host.plan([Goal(App("chat", (service("web"),)), proven=True)])
    host.carry_out(step for step in plan if isinstance(step, Change))
    routes.down = True
    host.refresh()
    with pytest.raises(Unavailable):
        host.plan([Goal(App("chat"))])


@pytest.mark.parametrize("leaves", [False, True])
def test_only_what_was_changed_by_hand_at_the_gateway_is_left_alone_and_only_where_that_is_wanted(leaves: bool) -> None:
    images, units, routes = Kind("image"), Kind("unit", "image"), Kind("route", "unit")
    host = machine(images, units, routes, leaves_routes=leaves)
    app = App("chat", (service("web"), service("api")))

    def left() -> bool:
        host.refresh()
        plan = host.plan([Goal(app, proven=True)])
        told = host.unrepaired(plan)
        assert not told or "chat.web" in told
        return bool(told)

    assert not left(), "all is new"
    host.carry_out(step for step in host.plan([Goal(app, proven=True)]) if isinstance(step, Change))
    assert not left(), "all is as it should be"
    was = routes.there["chat.web"]
    routes.there["chat.web"] = was.with_spec(entities="changed")
    assert left() is leaves
    del routes.there["chat.web"]
    assert left() is leaves
    unit = units.there.popitem()
    assert not left(), "an instance has to be made anew as well"
    units.there[unit[0]] = unit[1]
    routes.there.clear()
    assert not left(), "the gateway has lost all"
    routes.there = {
        "chat.web": was,
        "chat.old": Resource("route", "chat.old", "chat", "old", {"targets": [], "entities": {}}),
    }
    assert not left(), "what is no longer wanted is what a deploy has left behind"


def test_a_kind_that_others_need_is_needed_by_all() -> None:
    with pytest.raises(Unavailable):
        machine(Kind("image"), Kind("unit", "image", down=True), Kind("route", "unit"))


def test_two_apps_never_get_the_same_port() -> None:
    host = machine(Kind("image"), Kind("unit", "image"), Kind("route", "unit"))
    assert len({*_ports(host, "chat"), *_ports(host, "shop")}) == 2


def test_a_container_without_a_unit_yet_keeps_its_port() -> None:
    containers, others = Kind("image"), (Kind("image"), Kind("unit", "image"), Kind("route", "unit"))
    containers.name, containers.role = "container", Role.CONTAINER
    [port] = _ports(machine(containers, *others), "chat")
    made = Resource("container", "mvd-shop-web-00000001", "shop", "web", {"digest": "", "port": port, "state": "made"})
    containers.there[made.name] = made
    assert port not in _ports(machine(containers, *others), "chat")


def _ports(host: Machine, app: str) -> list[int]:
    """The ports of an app that is deployed."""
    plan = host.plan([Goal(App(app, (service("web"),)), proven=True)])
    return [step.to.spec["port"] for step in plan if isinstance(step, Change) and step.to and _is_unit(step.to)]


def _is_unit(resource: Resource | None) -> bool:
    return resource is not None and resource.kind == "unit"


def test_an_app_that_should_have_instances_and_has_none_is_missing() -> None:
    host = machine(Kind("image"), Kind("unit", "image"))
    assert host.health(App("chat", (Service("web", "v1"),))) is Health.MISSING


def test_a_job_that_was_done_is_healthy_whatever_is_left_of_it() -> None:
    history = FakeHistory()
    host = machine(Kind("image"), Kind("unit", "image"), history=history)
    app = App("chat", (job("migrate"),))
    assert host.health(app) is Health.MISSING
    history.mark_job_done(app.services[0].instances("chat")[0])
    assert host.health(app) is Health.HEALTHY


def test_what_runs_on_a_schedule_is_as_healthy_as_its_last_run() -> None:
    kinds = Kind("image"), Kind("unit", "image"), Kind("timer", "unit")
    app = App("chat", (Service("nightly", "v1", check=Check("scheduled"), schedule="daily"),))
    [name] = app.services[0].instances("chat")
    assert machine(*kinds).health(app) is Health.HEALTHY
    for state, code, expected in (
        ("running", 0, Health.HEALTHY),
        ("exited", 0, Health.HEALTHY),
        ("exited", 3, Health.DEGRADED),
    ):
        there = Instance(name, "chat", "nightly", state=state, exit_code=code)
        host = machine(*kinds, there=[there])
        assert host.health(app) is expected
        [shown] = host.services(app)
        why = "its last run ended with exit code 3" if code else ""
        assert (shown.health, shown.why) == (expected, why)
        assert shown.instances == ((there, expected, why),)


def test_why_the_last_run_has_failed_is_told_until_the_next_one_has_ended() -> None:
    app = App("chat", (Service("nightly", "v1", check=Check("scheduled"), schedule="daily"),))
    [name] = app.services[0].instances("chat")
    host = machine(Kind("image"), Kind("unit", "image"), Kind("timer", "unit"))
    engine: Any = host._snapshot._engine
    told = []
    for state, code in (("exited", 3), ("running", 0), ("exited", 0)):
        engine.there = (Instance(name, "chat", "nightly", state=state, exit_code=code),)
        host.refresh()
        told.append((host.health(app), host.health_reason(app)))
    failed = Health.DEGRADED, "nightly: its last run ended with exit code 3"
    assert told == [failed, failed, (Health.HEALTHY, "")]


def test_a_schedule_that_has_never_run_is_no_container_that_was_never_started() -> None:
    app = App("chat", (Service("nightly", "v1", check=Check("scheduled"), schedule="daily"),))
    [name] = app.services[0].instances("chat")
    units = Kind("unit", "image")
    [unit] = units.wanted(app)
    header = Header("chat", "nightly", "", 0, "no", 10.0)
    units.there = {unit.name: dataclasses.replace(unit, payload=UnitFile((0, 0, 0, 0, 0), "", header))}
    there = [Instance(name, "chat", "nightly", state="created", started="1")]
    [shown] = machine(Kind("image"), units, Kind("timer", "unit"), there=there).services(app)
    assert (shown.health, shown.why, shown.instances) == (Health.HEALTHY, "", ((there[0], Health.HEALTHY, ""),))


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ([], "web: its container is missing"),
        ([{"state": "running", "health": "unhealthy"}], "web: its healthcheck says unhealthy"),
        ([{"state": "running"}, {"state": "restarting", "exit_code": 3}], "web: exited with code 3"),
        ([{"state": "paused"}], "web: its container is paused"),
        ([{"state": "exited", "exit_code": 128}], "web: exited with code 128"),
        (
            [{"state": "exited", "exit_code": 128, "refused": "Bind for 0.0.0.0:80 failed: port is already allocated"}],
            "web: did not start: Bind for 0.0.0.0:80 failed: port is already allocated",
        ),
        ([{"state": "running"}], ""),
        ([{"state": "running", "health": "starting"}], ""),
    ],
)
def test_what_is_wrong_with_an_app_is_told_in_a_few_words(there: list[dict[str, Any]], why: str) -> None:
    instances = [Instance(f"mvd-chat-web-{n}", "chat", "web", **one) for n, one in enumerate(there)]
    host = machine(Kind("image"), Kind("unit", "image"), there=instances)
    assert host.health_reason(App("chat", (Service("web", "v1"),))) == why


def test_why_containers_were_not_started_is_asked_once_between_two_looks() -> None:
    there = [Instance(f"mvd-chat-web-{n}", "chat", "web", state="exited", refused="no device") for n in range(2)]
    host = machine(Kind("image"), Kind("unit", "image"), there=there)
    app = App("chat", (Service("web", "v1"),))
    engine: Any = host._snapshot._engine
    for looks in (1, 2):
        host.refresh()
        for _ in range(3):
            [shown] = host.services(app)
            assert [why for *_, why in shown.instances] == ["did not start: no device"] * 2
        assert sorted(engine.inspected) == sorted([it.name for it in there] * looks)


def test_a_job_that_was_done_is_not_planned_again_and_an_old_one_still_goes() -> None:
    history, units = FakeHistory(), Kind("unit", "image")
    host = machine(Kind("image"), units, history=history)
    app = App("chat", (job("migrate"),))
    history.mark_job_done(app.services[0].instances("chat")[0])
    units.there["mvd-chat-migrate-old"] = Resource(
        "unit", "mvd-chat-migrate-old", "chat", "migrate", {"port": 0, "state": "running", "grace": 10.0}
    )
    host.refresh()
    steps = [step for step in host.plan([Goal(app)]) if isinstance(step, Change)]
    assert [(step.verb, step.resource.name) for step in steps if step.resource.kind == "unit"] == [
        ("delete", "mvd-chat-migrate-old")
    ]


def test_an_app_whose_secret_is_missing_goes_no_further_until_it_is_there(tmp_path: Path) -> None:
    host = machine(Kind("image"), Kind("unit", "image"), Kind("route", "unit"), secrets=Secrets(tmp_path))
    plugin = {"name": "jwt", "config": {"key": "{file://token}"}}
    app = App("chat", (Service("web", "v1", kong={"port": 80, "routes": [{"paths": ["/"]}], "plugins": [plugin]}),))
    for _ in range(2):
        with pytest.raises(StepFailed, match=f"the secret token is missing on this host.*{tmp_path}/token"):
            host.pin(app)
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("s3cret")
    host.refresh()
    assert host.pin(app) == app


def test_an_app_whose_probe_needs_what_is_not_installed_goes_no_further_until_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = machine(Kind("image"), Kind("unit", "image"))
    consumer = {"topic": "orders", "group": "workers", "lag": 100, "bootstrap_servers": ["kafka:9092"]}
    app = App("chat", (service("web", check=Check("kafka", {"consumer": consumer})),))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "kafka", None)  # as if it were not installed
        with pytest.raises(StepFailed, match=r"web: the probe kafka needs .*pip install 'gitops-mvd\[kafka\]'"):
            host.pin(app)
    assert host.pin(app) == app


def test_a_changed_secret_is_planned_anew_at_the_next_look(tmp_path: Path) -> None:
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("one")
    secrets, asked = Secrets(tmp_path), []

    class Asking(Kind):
        def wanted(self, app: App) -> Iterable[Resource]:
            asked.append(secrets.read("token"))
            return super().wanted(app)

    host = machine(Kind("image"), Kind("unit", "image"), Asking("route", "unit"), secrets=secrets)
    app = App("chat", (service("web"),))
    for text in ("", "", "another", ""):
        if text:
            (tmp_path / "token").write_text(text)
        host.refresh()
        host.plan([Goal(app, proven=True)])
    assert asked == ["one", "another"]


class Precedence:
    """Keeps what it was asked about, and has every route be as it is found."""

    def __init__(self) -> None:
        self.cache_key: object = 1
        self.asked: list[tuple[str, bool]] = []

    def agree(self, wanted: Resource, found: Resource | None, *, held: bool) -> Resource:
        self.asked.append((wanted.service, held))
        return wanted.with_spec(**{**found.spec, "targets": wanted.spec["targets"]}) if found else wanted

    def is_set_by_other_host(self, route: Resource) -> bool:
        return route.spec["entities"] == "of another host"


def sharing() -> tuple[Machine, Precedence]:
    precedence = Precedence()
    return machine(Kind("image"), Kind("unit", "image"), Kind("route", "unit"), precedence=precedence), precedence


def test_what_the_commit_does_not_want_is_held_where_a_gateway_is_shared() -> None:
    host, precedence = sharing()
    app, good = App("chat", (service("web"),)), App("chat", (service("web", "v0"),))
    host.plan([Goal(host.pin(app))])
    host.plan([Goal(good, proven=True)])
    host.refresh()
    host.plan([Goal(app, proven=True)])
    assert precedence.asked == [("web", False), ("web", True), ("web", True)]
    precedence.asked.clear()
    host.proposing.plan([Goal(host.pin(app))])
    assert precedence.asked == [], "a commit to come has the say"


def test_what_another_host_has_said_was_not_changed_by_hand() -> None:
    class Saying(Precedence):
        def agree(self, wanted: Resource, found: Resource | None, *, held: bool) -> Resource:
            return wanted

    routes = Kind("route", "unit")
    host = machine(Kind("image"), Kind("unit", "image"), routes, precedence=Saying(), leaves_routes=True)
    app = App("chat", (service("web"),))
    host.carry_out(step for step in host.plan([Goal(app, proven=True)]) if isinstance(step, Change))
    was = routes.there["chat.web"]
    for changed, left in (
        ({"entities": "of nobody"}, True),
        ({"entities": "of another host"}, False),
        ({"targets": []}, True),
    ):
        routes.there["chat.web"] = was.with_spec(**changed)
        host.refresh()
        assert bool(host.unrepaired(host.plan([Goal(app, proven=True)]))) is left, changed


def test_who_has_the_say_is_asked_again_after_git_was() -> None:
    host, precedence = sharing()
    app = host.pin(App("chat", (service("web"),)))
    host.carry_out(step for step in host.plan([Goal(app, proven=True)]) if isinstance(step, Change))
    assert not host.plan([Goal(app, proven=True)])
    precedence.asked.clear()
    assert not host.plan([Goal(app, proven=True)])
    assert precedence.asked == [], "nothing is new"
    precedence.cache_key = 2
    assert not host.plan([Goal(app, proven=True)])
    assert precedence.asked == [("web", False)]


def test_what_the_watch_sees_is_health_and_changes_no_plan() -> None:
    """What runs, and answers 503: the health and the words are its probe's; nothing is done about it."""
    check = Check("http", {"path": "/health", "port": 80})
    app = App("chat", (Service("web", "v1", check=check),))
    [name] = app.services[0].instances("chat")
    there = Instance(name, "chat", "web", "10.0.0.2", "running", started="1760000000")
    history, said = FakeHistory(), [(Health.HEALTHY, "")]
    monitor = Monitor(lambda instance, service: said[0], lambda name: there, lambda reason: None)
    units = Kind("unit", "image")
    host = machine(Kind("image"), units, there=[there], history=history, monitor=monitor)
    for step in host.plan([Goal(app, proven=True)]).change:
        host.carry_out([step] if isinstance(step, Change) else [])
    assert host.to_watch() == [], "nothing has worked here yet"
    history.approve(app, "a" * 40)
    host.refresh()
    assert host.to_watch() == [(there, app.services[0])]
    for said[0], health, why in (
        ((Health.HEALTHY, ""), Health.HEALTHY, ""),
        ((Health.PROGRESSING, "http 503 from /health"), Health.DEGRADED, "web: http 503 from /health"),
        ((Health.HEALTHY, ""), Health.HEALTHY, ""),
    ):
        monitor.follow(host.to_watch())
        monitor.ask_all()
        assert (host.health(app), host.health_reason(app), bool(host.plan([Goal(app, proven=True)]))) == (
            health,
            why,
            False,
        )


@pytest.mark.parametrize(("ago", "health"), [(0, Health.DEGRADED), (3600, Health.HEALTHY)])
def test_the_ports_of_what_was_just_deployed_are_asked_before_its_health_is_told(
    ago: float, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitops_mvd.host.monitor.WAYS_TRY_PAUSE_SECONDS", 0)
    blocked = Health.PROGRESSING, "the container is healthy, the way to it is not: 127.0.0.1:80 refuses the connection"

    class Blocked:
        def ask_ports(self, instance: Instance, service: Service) -> tuple[Health, str]:
            return blocked

        def ask_route(self, instance: Instance, service: Service) -> tuple[Health, str]:
            raise AssertionError("a gate has just proven it")

    port = {"target": 80, "published": "80", "host_ip": "", "protocol": "tcp"}
    app = App("chat", (Service("web", "v1", run={"ports": [port]}),))  # type: ignore[typeddict-item]
    [name] = app.services[0].instances("chat")
    there = Instance(name, "chat", "web", "10.0.0.2", "running", started=str(int(time.time() - ago) + 1))
    monitor = Monitor(lambda *of: (Health.HEALTHY, ""), lambda name: there, lambda reason: None, ways=Blocked())
    history = FakeHistory()
    history.approve(app, "a" * 40)
    host = machine(Kind("image"), Kind("unit", "image"), there=[there], history=history, monitor=monitor)
    assert host.health(app) is health
    assert host.health_reason(app) == (f"web: {blocked[1]}" if health is Health.DEGRADED else "")


def test_only_what_runs_as_the_last_good_version_has_it_is_watched() -> None:
    check = Check("http", {"path": "/health", "port": 80})
    good, other = (App("chat", (Service("web", image, check=check),)) for image in ("v1", "v2"))
    names = [app.services[0].instances("chat")[0] for app in (good, other)]
    old, new = (Instance(name, "chat", "web", "10.0.0.2", "running", started="1760000000") for name in names)
    history = FakeHistory()
    history.approve(good, "a" * 40)
    host = machine(Kind("image"), Kind("unit", "image"), there=[old, new], history=history)
    assert [instance for instance, _ in host.to_watch()] == [old]
    history.approve(other, "b" * 40)
    assert [instance for instance, _ in host.to_watch()] == [new], "the old one is about to go"
    gone = dataclasses.replace(new, state="restarting")
    assert machine(Kind("image"), Kind("unit", "image"), there=[gone], history=history).to_watch() == []


def test_an_app_is_left_alone_from_its_first_change_on() -> None:
    left: list[str] = []

    class Left(Monitor):
        def pause(self, app: str) -> None:
            left.append(app)

    monitor = Left(lambda instance, service: (Health.HEALTHY, ""), lambda name: None, lambda reason: None)
    host = machine(Kind("image"), Kind("unit", "image"), monitor=monitor)
    plan = host.plan([Goal(App("chat", (service("web", route=False),)), proven=True)])
    assert left == []
    host.carry_out(step for step in plan if isinstance(step, Change))
    assert set(left) == {"chat"}


def test_what_starts_and_fails_is_progressing_and_says_why() -> None:
    app = App("chat", (Service("web", "v1", check=Check("http", {"path": "/health", "port": 80})),))
    [name] = app.services[0].instances("chat")
    there = Instance(name, "chat", "web", "10.0.0.2", "running", started=str(int(time.time())))
    failing = Health.PROGRESSING, "http /health refuses the connection on port 80"
    monitor = Monitor(lambda instance, service: failing, lambda name: there, lambda reason: None)
    host = machine(Kind("image"), Kind("unit", "image"), there=[there], monitor=monitor)
    monitor.follow([(there, app.services[0])])
    monitor.ask_all()
    assert (host.health(app), host.health_reason(app)) == (Health.PROGRESSING, f"web: {failing[1]}")


def test_a_policy_follows_the_links_of_the_host(tmp_path: Path) -> None:
    allowed, state = tmp_path / "allowed", tmp_path / "state"
    for folder in (allowed / "inside", state):
        folder.mkdir(parents=True)
    (allowed / "out").symlink_to("/etc/ssl")
    (allowed / "up").symlink_to(state)
    settings = read("config.yaml", f"repository: /srv/git\nstate: {state}\n".encode())
    server = known_server(settings, tmp_path / "config.yaml", "h1")
    host = machine(policy=Policy(mounts=(str(allowed),)), server=server)

    def mounting(name: str) -> App:
        mount: Any = {"type": "bind", "source": f"{allowed}/{name}", "target": "/x", "read_only": True}
        return App("chat", (Service("web", "nginx", run={"volumes": [mount]}),))

    host.pin(mounting("inside"))
    with pytest.raises(StepFailed, match="allowed/out, which leads to /etc/ssl"):
        host.pin(mounting("out"))
    with pytest.raises(StepFailed, match=f"allowed/up, which leads to {state}: {state} is for the daemon"):
        host.pin(mounting("up"))


def test_kongs_admin_api_is_not_routed_to_by_an_address_of_the_host(tmp_path: Path) -> None:
    settings = read("config.yaml", b"repository: /srv/git\nhost: h1\nkong: {admin: 'http://127.0.0.1:9001'}\n")
    host = machine(server=known_server(settings, tmp_path / "config.yaml", "h1"))
    for name in ("127.0.0.1", "h1", "H1."):
        with pytest.raises(StepFailed, match="leads to Kong's Admin API"):
            host.pin(App("gateway", kong_entities={"services": [{"name": "s", "host": name, "port": 9001}]}))
    host.pin(App("gateway", kong_entities={"services": [{"name": "s", "host": "h2", "port": 9001}]}))


def test_where_an_engine_keeps_its_data_is_read_from_its_settings(tmp_path: Path) -> None:
    settings = tmp_path / "daemon.json"
    assert engine_data(settings) == set()
    for text, found in (
        ('{"data-root": "/data/docker"}', {"/data/docker"}),
        ("{}", set()),
        ("[]", set()),
        ("{", set()),
    ):
        settings.write_text(text)
        assert engine_data(settings) == found


# ---- possible before destructive -------------------------------------------------------------------------------------


@pytest.mark.parametrize("refusing", ["unit", "route"])
def test_nothing_of_an_app_is_stopped_or_switched_before_all_of_it_is_known_to_be_possible(refusing: str) -> None:
    kinds = {"image": Kind("image"), "unit": Kind("unit", "image"), "route": Kind("route", "unit")}
    host = machine(*kinds.values())
    before, after = (
        App("chat", tuple(service(name, image, update=Update(order="stop-first")) for name in ("web", "zoo")))
        for image in ("v1", "v2")
    )
    host.carry_out(step for step in host.plan([Goal(before, proven=True)]) if isinstance(step, Change))
    served = dict(kinds["unit"].there), dict(kinds["route"].there)
    kinds[refusing].refuses = "zoo"  # the last one
    host.refresh()
    with pytest.raises(StepFailed, match="zoo: no such user"):
        host.carry_out(host.plan([Goal(after, proven=True)]).change)
    assert (kinds["unit"].there, kinds["route"].there) == served
    assert "v2" in {image.name for image in kinds["image"].there.values()}, "the image was pulled for it"


# ---- changed by hand -------------------------------------------------------------------------------------------------

CHANGED = "/etc/systemd/system/mvd-x.service.d/x.conf changes its unit"


def tampered(**spec: object) -> tuple[Machine, App, Resource]:
    """A machine with an app whose unit is there, with another spec; its units are the last kind of it."""
    units = Kind("unit", "image")
    app = App("chat", (service("web", route=False),))
    [unit] = units.wanted(app)
    images = Kind("image")
    images.there = {it.name: it for it in images.wanted(app)}
    units.there = {unit.name: unit.with_spec(**spec)}
    return machine(images, units), app, unit


def test_what_was_laid_over_a_unit_is_told_and_not_planned_to_be_undone() -> None:
    host, app, _ = tampered(overridden=CHANGED)
    assert not host.plan([Goal(app, proven=True)])
    assert host.overridden(app) == f"web: {CHANGED}"
    assert [it.name for it in host.overrides()] == app.services[0].instances("chat")
    assert host.overridden(App("chat")) == "", "what goes is not told of"


def test_a_unit_is_repaired_in_spite_of_what_was_laid_over_it_unless_that_is_what_it_runs() -> None:
    host, app, unit = tampered(overridden=CHANGED, state="stopped")
    assert [step.to for step in host.plan([Goal(app, proven=True)]) if isinstance(step, Change)] == [
        unit.with_spec(overridden=CHANGED)
    ]
    host, app, _ = tampered(overridden=CHANGED, state=LOST)
    assert not host.plan([Goal(app, proven=True)])
    host, app, unit = tampered(state=LOST)
    assert [step.to for step in host.plan([Goal(app, proven=True)]) if isinstance(step, Change)] == [unit]


def test_the_way_back_does_not_lead_to_what_somebody_had_laid_over() -> None:
    host, app, unit = tampered()
    assert not host.plan([Goal(app, True, (*host.found("chat")[:1], unit.with_spec(overridden=CHANGED)))])


@pytest.mark.parametrize(
    ("unit_for", "container_for", "health"),
    [(1000, 1000, Health.DEGRADED), (10, 1000, Health.PROGRESSING), (1000, 10, Health.PROGRESSING)],
)
def test_a_container_that_is_never_started_is_unhealthy(unit_for: int, container_for: int, health: Health) -> None:
    units, app = Kind("unit", "image"), App("chat", (Service("web", "v1"),))
    [unit] = units.wanted(app)
    now = int(time.time())
    header = Header("chat", "web", "", 0, "always", 10.0)
    stamp = (0, 0, 0, 0, (now - unit_for) * 10**9)
    there = [Instance(unit.name, "chat", "web", state="created", started=str(now - container_for))]
    assert machine(Kind("image"), units, there=there).health(app) is Health.PROGRESSING, "its unit is yet to be made"
    units.there = {unit.name: dataclasses.replace(unit, payload=UnitFile(stamp, "", header))}
    host = machine(Kind("image"), units, there=there)
    assert host.health(app) is health
    assert host.health_reason(app) == ("web: its container was never started" if health is Health.DEGRADED else "")


@pytest.mark.parametrize("good", [App("chat", (service("web", "v1", route=False),)), App("chat")], ids=["v1", "none"])
def test_the_image_of_a_failed_version_stays_until_the_commit_wants_another_one(good: App) -> None:
    history, images = FakeHistory(), Kind("image")
    host = machine(images, Kind("unit", "image"), history=history)
    failed, next_one = (App("chat", (service("web", image, route=False),)) for image in ("v2", "v3"))

    def carried_out(app: App) -> None:
        host.carry_out(step for step in host.plan([Goal(app, proven=True)]) if isinstance(step, Change) and step.to)

    def let_go() -> list[str]:
        plan = host.plan([Goal(good, proven=True)])
        return [it.resource.name for it in plan if isinstance(it, Change) and not it.to and it.resource.kind == "image"]

    carried_out(good)
    history.approve(good, "a")
    host.pin(failed)
    carried_out(failed)
    assert let_go() == [], "it may be tried again, and is not pulled twice"
    host.refresh()
    host.pin(next_one)
    assert let_go() == ["v2"]
    host.refresh()
    host.pin(App("chat"))
    assert "v2" in let_go()
