"""One Kong with a database and several hosts, against the stand-in gateway of the lab."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Health, Json, Plan, Resource, Revision, Service
from gitops_mvd.core.plan import Side, make_plan
from gitops_mvd.core.route import drained, is_drained
from gitops_mvd.kinds.route import Routes
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.database import RESCAN_EVERY
from gitops_mvd.kong.shared.precedence import LastApplied, Precedence
from gitops_mvd.kong.shared.store import LEAVING
from tests.contract.gateway import Gateway, running_gateway
from tests.contract.test_kong_client import FOREIGN, Wire, foreign, make_foreign
from tests.fakes import ROLES

SHARED = "edge"
ADDRESSES = {"web-1": "10.0.0.1", "web-2": "10.0.0.2", "web-3": "10.0.0.3"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway("postgres", tmp_path_factory.mktemp("gateway")) as gateway:
        yield gateway


# ---- hosts, as the daemon has them -----------------------------------------------------------------------------------


def revision(number: int) -> Revision:
    return Revision(f"{number:040x}", "main")


@dataclass
class Branch:
    """Commits by number, each on top of the one before; committed a minute apart, where nothing else is said."""

    times: dict[int, int] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)

    def committed(self, revision: Revision) -> int:
        number = int(revision.commit, 16)
        return self.times.get(number, 1_790_000_000 + 60 * number)

    def builds_on(self, revision: Revision, commit: str) -> bool:
        return int(commit, 16) <= int(revision.commit, 16) and int(commit, 16) not in self.gone


class Host:
    """One of the hosts, over a wire of its own."""

    def __init__(self, name: str, gateway: Gateway, branch: Branch, shared: str = SHARED) -> None:
        self.name = name
        self.address = ADDRESSES[name]
        self.wire = Wire(gateway)
        self.gateway = gateway
        self.precedence = Precedence(shared, name, branch)
        self.is_drained = False
        self.start()

    def start(self) -> None:
        """A new process: it remembers nothing."""
        self.kong = Kong(self.wire.url, self.gateway.proxy, address=self.address, precedence=self.precedence)
        self.routes = Routes(self.kong, self.name, self.address)

    def follow(self, number: int, *, fetched: bool = True) -> Host:
        self.precedence.follow(revision(number), fetched=fetched)
        return self

    def found(self, app: str) -> list[Resource]:
        return [resource for resource in self.routes.observe() if resource.app == app]

    def plan(self, app: App, *, held: bool = False) -> Plan:
        """As the host plans it, without what it needs beside the gateway."""
        found = self.found(app.name)
        have = {resource.key: resource for resource in found}
        wanted = []
        for resource in self.routes.wanted(app):
            targets = [
                t if t["address"] else {**t, "address": f"{self.address}:{20000 + n}"}
                for n, t in enumerate(resource.spec["targets"])
            ]
            placed = resource.with_spec(targets=targets)
            wanted.append(self.precedence.agree(placed, have.get(placed.key), held=held))
        if self.is_drained:
            wanted = [drained(route) for route in wanted]
        return make_plan([Side(app, list(wanted), list(found), proven=True)], ROLES)

    def apply(self, app: App, *, held: bool = False) -> None:
        for changes in self.changes(app, held=held):
            self.routes.apply(changes)

    def changes(self, app: App, *, held: bool = False) -> list[list[Change]]:
        plan = [step for step in self.plan(app, held=held) if isinstance(step, Change)]
        made, gone = [step for step in plan if step.to], [step for step in plan if not step.to]
        return [batch for batch in (made, gone) if batch]

    def writes(self) -> list[str]:
        return [call for call in self.wire.calls if not call.startswith(("GET", "POST /schemas"))]


@pytest.fixture
def branch() -> Branch:
    return Branch()


@pytest.fixture
def host(gateway: Gateway, branch: Branch) -> Iterator[Callable[[str], Host]]:
    with contextlib.ExitStack() as opened:

        def host(name: str, shared: str = SHARED) -> Host:
            made = Host(name, gateway, branch, shared)
            opened.enter_context(made.wire)
            opened.callback(made.wire.shutdown)
            return made.follow(1)

        yield host


def shop(*names: str, version: int = 1, plugins: Sequence[Json] = (), **more: Json) -> App:
    """An app the routes of which tell the version."""
    kong = {"port": 80, "protocol": "http", "plugins": list(plugins), **more}
    return App(
        "shop",
        tuple(
            Service(name, f"shop:{version}", kong={**kong, "routes": [{"paths": [f"/{name}/v{version}"]}]})
            for name in names or ["web"]
        ),
    )


CONSUMERS = App(
    "gateway", kong_entities={"consumers": [{"username": "bob", "keyauth_credentials": [{"key": "of-bob"}]}]}
)


def paths(gateway: Gateway) -> list[str]:
    return sorted(path for route in gateway.all("routes") for path in route["paths"])


def targets(gateway: Gateway, name: str = "shop.web") -> list[str]:
    there = gateway.ask("GET", f"/upstreams/mvd.{name}/targets").get("data", ())
    return sorted(target["target"] for target in there)


def everything(gateway: Gateway) -> int:
    return sum(len(gateway.all(type)) for type in ("services", "routes", "upstreams", "plugins", "consumers"))


Hosts = Callable[..., Host]


# ---- what is shared, and what is not ---------------------------------------------------------------------------------


def test_hosts_share_all_but_their_targets(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    app = shop(plugins=[{"name": "key-auth"}])
    one.apply(app)
    before = {type: gateway.all(type) for type in ("services", "routes", "upstreams", "plugins")}
    two.apply(app)
    assert before == {type: gateway.all(type) for type in ("services", "routes", "upstreams", "plugins")}
    assert targets(gateway) == ["10.0.0.1:20000", "10.0.0.2:20000"]
    for each in (one, two):
        (route,) = each.found("shop")
        assert [target["address"] for target in route.spec["targets"]] == [f"{ADDRESSES[each.name]}:20000"]
        assert not each.plan(app)
    (service,) = gateway.all("services")
    assert "shared:edge" in service["tags"]
    assert not any(tag.startswith("host:") for tag in service["tags"])


def test_a_host_sees_nothing_of_what_it_has_no_target_of(gateway: Gateway, host: Hosts) -> None:
    host("web-1").apply(shop())
    assert list(host("web-2").routes.observe()) == []


def test_a_host_that_leaves_takes_its_targets_along_and_the_last_one_the_rest(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    for app in (shop(plugins=[{"name": "key-auth"}]), CONSUMERS):
        one.apply(app)
        two.apply(app)
    one.apply(App("shop"))
    one.apply(App("gateway"))
    assert targets(gateway) == ["10.0.0.2:20000"]
    assert len(gateway.all("routes")) == len(gateway.all("plugins")) == len(gateway.all("consumers")) == 1
    assert list(one.routes.observe()) == []
    assert not two.plan(shop(plugins=[{"name": "key-auth"}]))
    two.apply(App("shop"))
    two.apply(App("gateway"))
    assert everything(gateway) == 0


def weights(gateway: Gateway) -> dict[str, int]:
    there = gateway.ask("GET", "/upstreams/mvd.shop.web/targets")["data"]
    return {target["target"]: target["weight"] for target in there}


def test_a_drained_host_keeps_its_targets_without_a_share_of_the_requests(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    for each in (one, two):
        each.apply(shop())
    two.is_drained = True
    assert is_drained(two.changes(shop())[0][0].resource)
    two.apply(shop())
    assert weights(gateway) == {"10.0.0.1:20000": 100, "10.0.0.2:20000": 0}
    two.start()
    for each in (one, two):
        assert not each.plan(shop()), "a second pass does nothing, also in a new process"
    for each in (one, two):
        each.follow(2).apply(shop(version=2))
    assert paths(gateway) == ["/web/v2"]
    assert weights(gateway) == {"10.0.0.1:20000": 100, "10.0.0.2:20000": 0}
    one.apply(App("shop"))
    assert weights(gateway) == {"10.0.0.2:20000": 0}, "it goes on to be one of those that need what is shared"
    two.is_drained = False
    two.apply(shop(version=2))
    assert weights(gateway) == {"10.0.0.2:20000": 100}
    two.apply(App("shop"))
    assert everything(gateway) == 0


def test_a_dead_host_s_targets_go_when_someone_says_so(gateway: Gateway, host: Hosts) -> None:
    one, two, dead = host("web-1"), host("web-2"), host("web-3")
    two.apply(shop("web"))
    dead.apply(shop("web", "api"))
    Kong(one.wire.url, precedence=one.precedence).remove_host("web-3")
    assert targets(gateway) == ["10.0.0.2:20000"]
    assert paths(gateway) == ["/web/v1"]


def test_what_is_not_ours_stays_as_it_was(gateway: Gateway, host: Hosts) -> None:
    make_foreign(gateway)
    before = foreign(gateway)
    assert len(FOREIGN) <= sum(map(len, before.values()))
    for each in (one := host("web-1"), two := host("web-2")):
        each.apply(shop())
    assert foreign(gateway) == before
    for each in (one, two):
        each.apply(App("shop"))
    assert foreign(gateway) == before


def test_another_shared_name_is_another_world(gateway: Gateway, host: Hosts) -> None:
    host("web-1").apply(shop("web"))
    other = host("web-2", "other")
    with pytest.raises(StepFailed, match="not managed by gitops-mvd"):
        other.apply(shop("web"))
    other.apply(App("blog", shop("blog").services))
    other.apply(App("blog"))
    assert paths(gateway) == ["/web/v1"]


def test_a_gateway_of_one_host_becomes_a_shared_one_without_a_gap(gateway: Gateway, host: Hosts) -> None:
    alone = Routes(Kong(gateway.admin), "web-1")
    app = shop(plugins=[{"name": "key-auth"}])
    wanted = [
        r.with_spec(targets=[{**t, "address": "127.0.0.1:20000"} for t in r.spec["targets"]]) for r in alone.wanted(app)
    ]
    alone.apply([Change(None, route) for route in wanted])
    ids = [gateway.all(type)[0]["id"] for type in ("services", "routes", "upstreams", "plugins")]
    one = host("web-1", "web-1")
    one.apply(app)
    assert [gateway.all(type)[0]["id"] for type in ("services", "routes", "upstreams", "plugins")] == ids
    assert targets(gateway) == ["10.0.0.1:20000"]
    assert not one.plan(app)


def test_tampering_is_mended_whoever_said_it(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    for each in (one, two):
        each.apply(shop())
    for change in ({"paths": ["/elsewhere"]}, None):
        (route,) = gateway.all("routes")
        gateway.ask("PATCH" if change else "DELETE", f"/routes/{route['id']}", json=change)
        two.apply(shop())
        assert paths(gateway) == ["/web/v1"]
        assert not one.plan(shop())


def test_a_kong_without_a_database_has_one_host_only(host: Hosts) -> None:
    one = host("web-1")
    one.wire.retells = lambda content: content.replace(b'"database":"postgres"', b'"database":"off"')
    with pytest.raises(Unavailable, match="a Kong without a database can have only one host"):
        list(one.routes.observe())


# ---- who has the say -------------------------------------------------------------------------------------------------


def test_who_follows_the_newer_commit_has_the_say(gateway: Gateway, host: Hosts) -> None:
    behind, ahead = host("web-1"), host("web-2")
    behind.apply(shop(version=1))
    ahead.follow(2).apply(shop(version=2))
    assert not behind.plan(shop(version=1)), "it takes what it finds"
    behind.apply(App("shop"))
    behind.apply(shop(version=1))
    assert paths(gateway) == ["/web/v2"], "also where it comes anew"
    assert targets(gateway) == ["10.0.0.1:20000", "10.0.0.2:20000"]
    behind.follow(2).apply(shop(version=2))
    assert not ahead.plan(shop(version=2))


def test_what_a_newer_commit_takes_away_stays_away(gateway: Gateway, host: Hosts) -> None:
    behind, ahead = host("web-1"), host("web-2")
    with_plugin, without = shop(plugins=[{"name": "key-auth"}]), shop()
    behind.apply(with_plugin)
    ahead.follow(2).apply(without)
    assert gateway.all("plugins") == []
    assert not behind.plan(with_plugin)


def test_a_revert_is_a_newer_commit(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    one.follow(2).apply(shop(version=2))
    two.follow(3).apply(shop(version=1))
    assert paths(gateway) == ["/web/v1"]
    assert not one.plan(shop(version=2))


def test_a_plan_that_was_made_before_another_host_spoke_does_not_undo_it(gateway: Gateway, host: Hosts) -> None:
    behind, ahead = host("web-1"), host("web-2")
    planned = behind.changes(shop(version=1))
    ahead.follow(2).apply(shop(version=2))
    for changes in planned:
        behind.routes.apply(changes)
    assert paths(gateway) == ["/web/v2"]
    assert targets(gateway) == ["10.0.0.1:20000", "10.0.0.2:20000"]


def test_a_host_that_is_held_at_an_older_version_takes_what_it_finds(gateway: Gateway, host: Hosts) -> None:
    held, well = host("web-1"), host("web-2")
    held.apply(shop(version=1))
    well.follow(2).apply(shop(version=2))
    held.follow(2)
    assert not held.plan(shop(version=1), held=True)
    held.follow(3)
    assert not held.plan(shop(version=1), held=True)
    assert paths(gateway) == ["/web/v2"]


def test_a_host_that_failed_undoes_what_it_said_itself_and_another_one_says_it_again(
    gateway: Gateway, host: Hosts
) -> None:
    failed, well = host("web-1").follow(2), host("web-2").follow(2)
    failed.apply(shop(version=2))
    failed.apply(shop(version=1), held=True)
    assert paths(gateway) == ["/web/v1"]
    well.apply(shop(version=2))
    assert paths(gateway) == ["/web/v2"]
    assert not failed.plan(shop(version=1), held=True)
    assert not well.plan(shop(version=2))


def test_what_another_host_says_is_told_from_what_was_changed_by_hand(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    for each in (one, two):
        each.apply(shop())
    for number, path in enumerate(["/web/v1", "/by-hand"]):
        (route,) = gateway.all("routes")
        gateway.ask("PATCH", f"/routes/{route['id']}", json={"paths": [path]})
        assert [one.precedence.is_set_by_other_host(it) for it in one.found("shop")] == [False]
        assert [two.precedence.is_set_by_other_host(it) for it in two.found("shop")] == [not number]


def test_two_hosts_that_are_held_at_different_versions_do_not_fight(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1").follow(3), host("web-2").follow(3)
    one.apply(shop(version=1), held=True)
    two.apply(shop(version=2), held=True)
    assert paths(gateway) == ["/web/v1"]
    assert not one.plan(shop(version=1), held=True)
    assert not two.plan(shop(version=2), held=True)


def test_two_contents_of_one_commit_are_told_and_touch_nothing(gateway: Gateway, host: Hosts) -> None:
    host("web-1").apply(shop(version=1))
    other = host("web-2")
    with pytest.raises(StepFailed, match=r"shop\.web: web-1 has other routes"):
        other.apply(shop(version=2))
    assert paths(gateway) == ["/web/v1"]
    assert targets(gateway) == ["10.0.0.1:20000"]


@pytest.mark.parametrize("times", [{2: 1}, {1: 1_790_000_500, 2: 1_790_000_500}])
def test_a_wrong_clock_and_equal_times_hold_nobody_up(
    gateway: Gateway, host: Hosts, branch: Branch, times: Mapping[int, int]
) -> None:
    branch.times.update(times)
    old, new = host("web-1"), host("web-2")
    old.apply(shop(version=1))
    new.follow(2).apply(shop(version=2))
    assert paths(gateway) == ["/web/v2"]
    old.follow(2).apply(shop(version=2))
    assert not new.plan(shop(version=2))


def test_a_commit_that_was_taken_away_has_the_say_until_git_was_asked_once_more(
    gateway: Gateway, host: Hosts, branch: Branch
) -> None:
    one, two = host("web-1"), host("web-2")
    two.apply(shop(version=1))
    one.follow(2).apply(shop(version=2))
    two.follow(1)  # the branch was put back
    assert not two.plan(shop(version=1))
    two.follow(1, fetched=False)
    assert not two.plan(shop(version=1)), "Git did not answer"
    two.follow(1)
    two.apply(shop(version=1))
    assert paths(gateway) == ["/web/v1"]
    branch.gone.add(2)
    one.follow(1).apply(shop(version=1))
    assert not two.plan(shop(version=1))


def test_what_is_said_reads_back() -> None:
    for said in (LastApplied(1, "a" * 40, "web-1", "d1"), LastApplied(0, "-", "web-1", "d1", held=True)):
        assert LastApplied.parse(str(said)) == said
    assert LastApplied.parse("") is LastApplied.parse("tomorrow a b c") is LastApplied.parse("1 a b c d e") is None


# ---- at once ---------------------------------------------------------------------------------------------------------


def test_all_that_leave_at_once_leave_nothing(gateway: Gateway, host: Hosts) -> None:
    hosts = [host(name) for name in ADDRESSES]
    for each in hosts:
        each.apply(shop("web", "api", plugins=[{"name": "key-auth"}]))
    leaving = [(each, each.changes(App("shop"))) for each in hosts]
    threads = [
        threading.Thread(target=lambda e=each, c=changes: [e.routes.apply(batch) for batch in c])  # type: ignore[misc]
        for each, changes in leaving
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert everything(gateway) == 0


@pytest.mark.parametrize("app", [shop(plugins=[{"name": "key-auth"}]), CONSUMERS], ids=lambda app: app.name)
def test_whoever_dies_while_it_makes_something_leaves_nothing_that_nobody_finds(
    gateway: Gateway, host: Hosts, app: App
) -> None:
    one, two = host("web-1"), host("web-2")
    calls, done = 0, False
    while not done:
        left = iter(range(calls))
        one.wire.fails = lambda call, left=left: not call.startswith("GET") and next(left, None) is None  # type: ignore[misc]
        try:
            one.apply(app)
            done = True
        except Unavailable:
            calls += 1
        one.wire.fails = lambda call: False
        one.start()
        two.apply(App(app.name))
        assert bool(one.found(app.name)) is (everything(gateway) > 0)
        one.apply(App(app.name))
        assert everything(gateway) == 0
    assert calls >= 5


def test_what_another_host_is_about_to_claim_is_left_alone(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    one.wire.fails = lambda call: "/targets" in call and call.startswith(("POST /up", "PATCH"))
    with pytest.raises(Unavailable):
        one.apply(shop())
    one.wire.fails = lambda call: False
    assert list(two.routes.observe()) == []
    Kong(two.wire.url, precedence=two.precedence).remove_host("web-2")
    assert [it["name"] for it in gateway.all("upstreams")] == ["mvd.shop.web"]
    two.apply(shop())
    assert list(one.routes.observe()) == []
    one.apply(shop())
    assert targets(gateway) == ["10.0.0.1:20000", "10.0.0.2:20000"]


@pytest.mark.parametrize("others", [0, 1])
def test_whoever_dies_while_leaving_goes_on_with_it(gateway: Gateway, host: Hosts, others: int) -> None:
    one, two = host("web-1"), host("web-2")
    if others:
        two.apply(shop(plugins=[{"name": "key-auth"}]))
    calls = 0
    while True:
        one.apply(shop(plugins=[{"name": "key-auth"}]))
        left = iter(range(calls))
        one.wire.fails = lambda call, left=left: not call.startswith("GET") and next(left, None) is None  # type: ignore[misc]
        try:
            one.apply(App("shop"))
            break
        except Unavailable:
            one.wire.fails = lambda call: False
            one.start()
            assert one.found("shop"), "the claim is still to be found"
            one.apply(App("shop"))
        assert targets(gateway) == ["10.0.0.2:20000"] * others
        assert everything(gateway) == 4 * others
        calls += 1
    one.wire.fails = lambda call: False
    assert calls >= 2


def test_a_claim_that_is_given_up_holds_nothing(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    for each in (one, two):
        each.apply(shop())
    upstream = "/upstreams/mvd.shop.web/targets"
    for target in gateway.ask("GET", upstream)["data"]:
        if target["target"].startswith("10.0.0.1"):
            gateway.ask("PATCH", f"{upstream}/{target['id']}", json={"tags": [*target["tags"], LEAVING], "weight": 0})
    two.apply(App("shop"))
    assert everything(gateway) == 0
    assert one.found("shop") == []


def test_a_route_that_another_host_took_away_is_no_fault_of_a_new_version(gateway: Gateway, host: Hosts) -> None:
    one = host("web-1")
    one.apply(shop())
    (route,) = one.found("shop")
    (there,) = gateway.all("routes")
    gateway.ask("DELETE", f"/routes/{there['id']}")
    gateway.await_route("/web/v1", {404})
    assert one.kong.answers(route)[0] is Health.UNKNOWN


def test_a_kong_that_may_have_other_nodes_is_never_taken_for_idle(gateway: Gateway, host: Hosts) -> None:
    one = host("web-1")
    one.apply(shop())
    alone = Kong(gateway.admin)
    alone.observe("web-1")
    assert alone.was_idle()
    assert not one.kong.was_idle()


class Turns:
    """Lets the calls of several hosts through one at a time, in an order that is given."""

    def __init__(self, order: Sequence[int], running: int) -> None:
        self._order = list(order)
        self._running = set(range(running))
        self._waiting: set[int] = set()
        self._busy = False
        self._changed = threading.Condition()

    def take(self, number: int) -> None:
        with self._changed:
            self._waiting.add(number)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_next(number), timeout=20)
            self._waiting.discard(number)
            self._busy = True

    def give(self) -> None:
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def end(self, number: int) -> None:
        with self._changed:
            self._running.discard(number)
            self._changed.notify_all()

    def _is_next(self, number: int) -> bool:
        if self._busy or self._waiting != self._running:
            return False
        wanted = self._order[0] % len(self._running) if self._order else 0
        if sorted(self._running)[wanted] != number:
            return False
        if self._order:
            self._order.pop(0)
        return True


def at_once(works: Sequence[tuple[Host, Callable[[], None]]], order: Sequence[int]) -> None:
    """Do it all at once, call by call in that order."""
    turns = Turns(order, len(works))
    wrong: list[BaseException] = []

    def work(number: int, do: Callable[[], None]) -> None:
        try:
            do()
        except Unavailable:
            pass
        except BaseException as error:
            wrong.append(error)
        finally:
            turns.end(number)

    def through(number: int, fails: Callable[[str], bool]) -> Callable[[str], bool]:
        def ask(call: str) -> bool:
            turns.take(number)
            if fails(call):
                turns.give()
                return True
            return False

        return ask

    def heard(content: bytes) -> bytes:
        turns.give()
        return content

    threads = []
    for number, (host, do) in enumerate(works):
        host.wire.fails, host.wire.retells = through(number, host.wire.fails), heard
        threads.append(threading.Thread(target=work, args=(number, do)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for host, _ in works:
        host.wire.fails, host.wire.retells = (lambda call: False), (lambda content: content)
    if wrong:
        raise wrong[0]


NAMES = ("web-1", "web-2", "web-3")
one_service = st.fixed_dictionaries(
    {
        "version": st.integers(1, 3),
        "plugins": st.lists(st.sampled_from(["key-auth", "cors"]), max_size=2, unique=True),
        "on": st.sets(st.sampled_from(NAMES)),
    }
)
commits = st.fixed_dictionaries({"web": one_service, "api": one_service, "consumers": st.sets(st.sampled_from(NAMES))})
step = st.tuples(
    st.lists(st.tuples(st.sampled_from(NAMES), st.booleans()), min_size=1, max_size=3, unique_by=lambda one: one[0]),
    st.lists(st.integers(0, 2), max_size=60),
    st.none() | st.integers(0, 6),
)


def wanted_of(commit: Json, host: str) -> list[App]:
    """What a commit wants of a host."""
    services = tuple(
        service
        for name in ("web", "api")
        if host in commit[name]["on"]
        for service in shop(
            name, version=commit[name]["version"], plugins=[{"name": it} for it in commit[name]["plugins"]]
        ).services
    )
    return [App("shop", services), CONSUMERS if host in commit["consumers"] else App("gateway")]


def is_as_wanted(gateway: Gateway, commit: Json) -> None:
    there = [name for name in ("web", "api") if commit[name]["on"]]
    assert paths(gateway) == sorted(f"/{name}/v{commit[name]['version']}" for name in there)
    plugins = sorted(plugin for name in there for plugin in commit[name]["plugins"])
    assert sorted(plugin["name"] for plugin in gateway.all("plugins")) == plugins
    for name in there:
        hosts = sorted(f"{ADDRESSES[host]}:2000" for host in commit[name]["on"])
        assert [target[:-1] for target in targets(gateway, f"shop.{name}")] == hosts
    ours = [it for it in gateway.all("consumers") if "managed-by:gitops-mvd" in (it["tags"] or ())]
    assert [consumer["username"] for consumer in ours] == (["bob"] if commit["consumers"] else [])
    upstreams = {it["name"] for it in gateway.all("upstreams") if "managed-by:gitops-mvd" in (it["tags"] or ())}
    assert upstreams == {f"mvd.shop.{name}" for name in there} | ({"mvd.gateway"} if commit["consumers"] else set())


@given(history=st.lists(commits, min_size=1, max_size=3), steps=st.lists(step, min_size=1, max_size=5))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_hosts_do_at_once_ends_at_the_newest_commit(
    gateway: Gateway,
    branch: Branch,
    history: list[Json],
    steps: list[tuple[list[tuple[str, bool]], list[int], int | None]],
) -> None:
    gateway.clear()
    make_foreign(gateway)
    before = foreign(gateway)
    hosts = {name: Host(name, gateway, branch).follow(1) for name in NAMES}
    at = dict.fromkeys(NAMES, 1)

    def a_pass(name: str) -> None:
        host = hosts[name]
        for app in wanted_of(history[at[name] - 1], name):
            host.apply(app)

    with contextlib.ExitStack() as opened:
        for host in hosts.values():
            opened.enter_context(host.wire)
            opened.callback(host.wire.shutdown)
        for passing, order, dies_at in steps:
            for name, fetches in passing:
                if fetches:
                    at[name] = min(at[name] + 1, len(history))
                    hosts[name].follow(at[name])
            if dies_at is not None:
                left = iter(range(dies_at))
                hosts[passing[0][0]].wire.fails = (
                    lambda call, left=left: not call.startswith("GET") and next(left, None) is None  # type: ignore[misc]
                )
            at_once([(hosts[name], lambda name=name: a_pass(name)) for name, _ in passing], order)  # type: ignore[misc]
            if dies_at is not None:
                hosts[passing[0][0]].start()
        for name in NAMES:
            at[name] = len(history)
            hosts[name].follow(len(history))
        for _ in range(2):
            for name in NAMES:
                a_pass(name)
        is_as_wanted(gateway, history[-1])
        assert foreign(gateway) == before
        for name, host in hosts.items():
            host.wire.calls.clear()
            a_pass(name)
            assert host.writes() == []


# ---- calls -----------------------------------------------------------------------------------------------------------


def test_a_look_takes_few_calls_however_many_services_the_others_have(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    two.apply(shop(*(f"s{n}" for n in range(20))))
    one.apply(shop("s3", "s4"))
    list(one.routes.observe())
    one.wire.calls.clear()
    two.apply(shop(*(f"s{n}" for n in range(21))))
    for _ in range(RESCAN_EVERY):
        list(one.routes.observe())
    assert len(one.wire.calls) == RESCAN_EVERY * 5 + 1
    one.wire.calls.clear()
    one.start()
    list(one.routes.observe())
    assert len(one.wire.calls) <= 1 + 5 + 21, "a new process has to look for its targets once"


def test_to_change_only_targets_writes_only_these(gateway: Gateway, host: Hosts) -> None:
    one, two = host("web-1"), host("web-2")
    for each in (one, two):
        each.apply(shop())
    one.wire.calls.clear()
    again = App("shop", tuple(Service(it.name, "shop:again", kong=it.kong, replicas=2) for it in shop().services))
    one.apply(again)
    assert all("/targets" in call for call in one.writes())
    assert len(targets(gateway)) == 3
