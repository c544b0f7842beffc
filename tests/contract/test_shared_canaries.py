"""Canaries of hosts that share one Kong: one host at a time judges, and whatever becomes of it, others go on."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.errors import NotNow, OnItsWay, Unavailable
from gitops_mvd.core.model import App, Change, Resource
from gitops_mvd.core.route import weighing
from gitops_mvd.kong.counted import PLUGIN
from gitops_mvd.kong.shared.judging import MARGIN_SECONDS
from tests.contract.gateway import Gateway
from tests.contract.test_counting import Backend, ask, backends, told_by_each_worker, until  # noqa: F401
from tests.contract.test_kong_shared import Branch, Host, branch, paths, running, shop  # noqa: F401

ADDRESSES = {"web-1": "127.0.0.2", "web-2": "127.0.0.3", "web-3": "127.0.0.4"}  # which are all of this machine
LASTS = 300.0  # of a share


class Server(Host):
    """A host whose instances are at an address of this machine: an old one, and the new one that gets its share."""

    def start(self) -> None:
        self.address = ADDRESSES[self.name]
        super().start()

    @property
    def route(self) -> Resource:
        (found,) = self.found("shop")
        return found

    def deployed(self, old: int = 20000) -> Server:
        """With a first version."""
        (wanted,) = self.routes.wanted(shop())
        target = {"instance": "mvd-shop-web-old", "address": f"{self.address}:{old}"}
        self.routes.apply([Change(None, wanted.with_spec(targets=[target]))])
        return self

    def begin(self, share: int = 5, lasts: float = LASTS, new: int = 20001) -> Resource:
        """Gives the new instance its share; raises OnItsWay if another one judges."""
        was = self.route
        (old,) = (it for it in was.spec["targets"] if it["instance"] == "mvd-shop-web-old")
        fresh = {"instance": "mvd-shop-web-new", "address": f"{self.address}:{new}"}
        targets = [weighing(fresh, share), weighing(old, 100 - share)]
        to = was.with_spec(targets=targets, counted={"share": share, "lasts": lasts})
        self.routes.apply([Change(was, to)])
        return to

    def end(self, instance: str = "mvd-shop-web-new") -> None:
        """That instance gets all requests, and nothing is judged any more."""
        was = self.route
        spec = {key: value for key, value in was.spec.items() if key != "counted"}
        targets = [it for it in was.spec["targets"] if it["instance"] == instance]
        targets = [{key: value for key, value in it.items() if key != "weight"} for it in targets]
        to = Resource(was.kind, was.name, was.app, was.service, {**spec, "targets": targets}, was.payload)
        self.routes.apply([Change(was, to)])

    def weights(self) -> list[int]:
        """Those of its targets in Kong, the lightest first."""
        there = self.gateway.ask("GET", "/upstreams/mvd.shop.web/targets").get("data", ())
        return sorted(it["weight"] for it in there if f"host:{self.name}" in it["tags"])

    def waits_for(self) -> str:
        return self.kong.judged_elsewhere(self.route)


@contextlib.contextmanager
def serving(name: str, gateway: Gateway, branch: Branch) -> Iterator[Server]:  # noqa: F811
    """A server that follows the first commit."""
    made = Server(name, gateway, branch)
    with made.wire:
        made.follow(1)
        yield made
        made.wire.shutdown()


@pytest.fixture
def server(gateway: Gateway, branch: Branch) -> Iterator[Callable[[str], Server]]:  # noqa: F811
    with contextlib.ExitStack() as opened:
        yield lambda name: opened.enter_context(serving(name, gateway, branch))


Servers = Callable[[str], Server]


@pytest.fixture
def two(server: Servers) -> tuple[Server, Server]:
    """Two servers that run the first version."""
    return server("web-1").deployed(), server("web-2").deployed()


def judging(gateway: Gateway) -> list[str]:
    """The hosts that Kong tells of requests."""
    tags = [it["tags"] for it in gateway.all("plugins") if it["name"] == PLUGIN]
    return [tag.removeprefix("host:") for some in tags for tag in some if tag.startswith("host:")]


# ---- one host at a time ----------------------------------------------------------------------------------------------


def test_what_was_applied_is_what_is_observed_and_other_hosts_see_nothing_of_it(
    gateway: Gateway, two: tuple[Server, Server]
) -> None:
    one, other = two
    before = other.route
    applied = one.begin()
    assert one.route == applied
    assert other.route is before
    assert one.weights() == [5, 95]
    assert other.weights() == [100]
    calls = len(one.writes())
    one.routes.apply([Change(applied, applied)])
    assert len(one.writes()) == calls
    one.end()
    assert one.route.spec.get("counted") is None
    assert one.weights() == [100]
    assert gateway.all("plugins") == []


def test_the_second_host_waits_until_the_first_is_done_and_says_so(two: tuple[Server, Server]) -> None:
    one, other = two
    assert one.waits_for() == other.waits_for() == ""
    one.begin()
    assert one.waits_for() == "", "it has its turn"
    why = r"the canary of web is being judged on web-1 at 5 %, until about \d\d:\d\d UTC"
    with pytest.raises(OnItsWay, match=why):
        other.begin()
    assert other.weights() == [100], "nothing of it was begun"
    one.begin(25)
    assert "at 25 %" in other.waits_for()
    one.end()
    assert other.waits_for() == ""
    other.begin()
    assert "on web-2" in one.waits_for()


def test_hosts_that_deploy_do_not_disturb_the_one_that_judges(gateway: Gateway, two: tuple[Server, Server]) -> None:
    one, other = two
    applied = one.begin()
    app = shop(version=2, plugins=[{"name": "key-auth"}])
    (wanted,) = other.follow(2).routes.wanted(app)
    other.routes.apply([Change(other.route, wanted.with_spec(targets=other.route.spec["targets"]))])
    assert paths(gateway) == ["/web/v2"]
    assert (one.route.spec["targets"], one.route.spec["counted"]) == (applied.spec["targets"], applied.spec["counted"])
    assert one.kong.is_counted(one.route)


def test_of_two_that_begin_at_the_same_instant_one_is_first(gateway: Gateway, two: tuple[Server, Server]) -> None:
    one, other = two

    def just_before(call: str) -> bool:
        """The other one is faster by a hair: `one` has looked already, and is about to write."""
        if call.startswith("PUT /plugins/") and not judging(gateway):
            other.begin()
        return False

    one.wire.fails = just_before
    with pytest.raises(OnItsWay, match="on web-2"):
        one.begin()
    assert judging(gateway) == ["web-2"]
    assert one.weights() == [100], "it is not judged, and gets no share"


def test_of_many_that_begin_together_one_alone_is_judged(gateway: Gateway, server: Servers) -> None:
    servers = [server(name).deployed() for name in ("web-1", "web-2", "web-3")]
    for _ in range(3):
        together, waiting = threading.Barrier(3), []

        def begin(one: Server, together: threading.Barrier = together, waiting: list[str] = waiting) -> None:
            together.wait()
            try:
                one.begin()
            except OnItsWay:
                waiting.append(one.name)

        threads = [threading.Thread(target=begin, args=(one,)) for one in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (first,) = judging(gateway)
        assert sorted([first, *waiting]) == ["web-1", "web-2", "web-3"]
        assert [one.name for one in servers if one.weights() != [100]] == [first]
        next(one for one in servers if one.name == first).end("mvd-shop-web-old")


def test_a_plugin_of_somebody_else_is_told_by_its_id_and_left_alone(
    gateway: Gateway, two: tuple[Server, Server]
) -> None:
    one, _ = two
    theirs = gateway.ask(
        "POST", "/services/mvd.shop.web/plugins", json={"name": PLUGIN, "config": {"host": "10.9.9.9", "port": 9}}
    )
    with pytest.raises(NotNow, match=f"plugin udp-log is already in Kong and not managed .*{theirs['id']}"):
        one.begin()
    assert one.weights() == [100]
    assert [it["id"] for it in gateway.all("plugins")] == [theirs["id"]]


# ---- a host that dies, comes back, leaves ----------------------------------------------------------------------------


def test_a_host_that_died_amid_holds_up_the_others_for_as_long_as_it_said_and_no_longer(
    gateway: Gateway, two: tuple[Server, Server]
) -> None:
    dead, other = two
    dead.begin()
    other.wire.later = LASTS + MARGIN_SECONDS - 5
    assert "on web-1" in other.waits_for()
    with pytest.raises(OnItsWay):
        other.begin()
    other.wire.later = LASTS + MARGIN_SECONDS + 5
    assert other.waits_for() == ""
    other.begin()
    assert judging(gateway) == ["web-2"]
    assert dead.weights() == [5, 95], "its targets are its own affair"


def test_a_host_that_returns_after_its_time_waits_for_the_one_that_judges_now(
    gateway: Gateway, two: tuple[Server, Server]
) -> None:
    dead, other = two
    dead.begin()
    other.wire.later = LASTS + MARGIN_SECONDS + 5
    other.begin()
    assert not dead.kong.is_counted(dead.route), "what it has heard since is worth nothing"
    dead.start()
    assert "counted" not in dead.route.spec
    assert "on web-2" in dead.waits_for()
    with pytest.raises(OnItsWay, match="on web-2"):
        dead.begin()
    dead.end("mvd-shop-web-old")  # as after a revert
    assert judging(gateway) == ["web-2"]
    assert other.kong.is_counted(other.route)


def test_a_killed_daemon_that_is_back_in_time_has_its_turn_still(gateway: Gateway, two: tuple[Server, Server]) -> None:
    one, other = two
    applied = one.begin(25)
    [before] = gateway.all("plugins")
    one.start()
    assert one.route == applied.with_spec(counted={}), "another process is told"
    assert one.waits_for() == ""
    one.begin(25)
    [after] = gateway.all("plugins")
    assert after["id"] == before["id"]
    assert after["config"] != before["config"]
    assert one.kong.is_counted(one.route)
    assert "on web-1" in other.waits_for()


def test_a_share_has_its_own_time(two: tuple[Server, Server]) -> None:
    one, other = two
    one.begin(5, lasts=1.0)
    one.begin(25, lasts=3600.0)
    other.wire.later = 1800.0
    assert "at 25 %" in other.waits_for()


def test_the_last_host_that_leaves_amid_leaves_nothing(gateway: Gateway, two: tuple[Server, Server]) -> None:
    one, other = two
    one.begin()
    one.apply(App("shop"))
    assert (one.weights(), judging(gateway)) == ([], [])
    assert other.waits_for() == ""
    other.begin()
    other.apply(App("shop"))
    assert [gateway.all(type) for type in ("services", "routes", "upstreams", "plugins")] == [[], [], [], []]


@pytest.mark.parametrize("calls", range(6))
def test_a_host_that_is_stopped_on_its_way_out_goes_on_with_it(
    gateway: Gateway, two: tuple[Server, Server], calls: int
) -> None:
    one, other = two
    one.begin()
    left = iter(range(calls))
    one.wire.fails = lambda call: not call.startswith("GET") and next(left, None) is None
    with contextlib.suppress(Unavailable):
        one.apply(App("shop"))
    one.wire.fails = lambda call: False
    one.start()
    one.apply(App("shop"))
    assert (one.weights(), judging(gateway)) == ([], [])
    assert other.weights() == [100]


def test_a_dead_host_that_is_forgotten_has_no_turn(gateway: Gateway, two: tuple[Server, Server]) -> None:
    dead, other = two
    dead.begin()
    other.kong.remove_host("web-1")
    assert (dead.weights(), judging(gateway)) == ([], [])
    other.begin()


@pytest.mark.parametrize("calls", range(4))
def test_whatever_is_interrupted_by_a_kong_that_is_down_goes_on(
    gateway: Gateway, two: tuple[Server, Server], calls: int
) -> None:
    one, _ = two
    left = iter(range(calls))
    one.wire.fails = lambda call: not call.startswith("GET") and next(left, None) is None
    with contextlib.suppress(Unavailable):
        one.begin()
    assert one.weights() == [100] or judging(gateway) == ["web-1"], "no share without its turn"
    one.wire.fails = lambda call: True
    with pytest.raises(Unavailable):
        one.kong.judged_elsewhere(shop_route())
    one.wire.fails = lambda call: False
    one.begin()
    assert one.weights() == [5, 95]
    one.end()
    assert (one.weights(), judging(gateway)) == ([100], [])


def shop_route() -> Resource:
    return Resource("route", "shop.web", "shop", "web", {"targets": []})


acts = st.tuples(
    st.sampled_from(["web-1", "web-2", "web-3"]),
    st.sampled_from(["begin", "begin", "end", "revert", "kill", "break off", "wait"]),
    st.integers(0, 4),
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(acts, min_size=4, max_size=8))
def test_whatever_hosts_do_one_alone_has_its_turn_and_none_gives_a_share_without_one(
    gateway: Gateway,
    branch: Branch,  # noqa: F811
    history: list[tuple[str, str, int]],
) -> None:
    gateway.clear()
    with contextlib.ExitStack() as opened:
        servers = {name: opened.enter_context(serving(name, gateway, branch)) for name in ADDRESSES}
        for one in servers.values():
            one.deployed()
        for name, act, number in history:
            one, had = servers[name], judging(gateway)
            before = {it.name: it.weights() for it in servers.values()}
            left = iter(range(number))
            if act == "break off":
                one.wire.fails = lambda call, left=left: not call.startswith("GET") and next(left, None) is None  # type: ignore[misc]
            if act in {"begin", "break off"}:
                with contextlib.suppress(OnItsWay, Unavailable):
                    one.begin(5 * (number + 1))
                if one.weights() != before[name]:
                    assert judging(gateway) == [name]
            elif act in {"end", "revert"}:
                is_new = act == "end" and any(it["instance"].endswith("new") for it in one.route.spec["targets"])
                one.end("mvd-shop-web-new" if is_new else "mvd-shop-web-old")
                assert name not in judging(gateway)
                one.deployed()
            elif act == "kill":
                one.start()
            elif act == "wait":
                one.wire.later = LASTS + MARGIN_SECONDS + 5
            one.wire.fails = lambda call: False
            may_end, one.wire.later = one.wire.later > 0, one.wire.later if act == "wait" else 0.0
            assert len(judging(gateway)) <= 1
            others = servers.keys() - {name}
            assert {it: servers[it].weights() for it in others} == {it: before[it] for it in others}
            assert judging(gateway) == had or name in {*judging(gateway), *had} or may_end
        for one in servers.values():
            one.end("mvd-shop-web-old")
        assert judging(gateway) == []
        assert {tuple(one.weights()) for one in servers.values()} == {(100,)}


# ---- what is counted -------------------------------------------------------------------------------------------------


def test_a_host_counts_the_requests_of_its_own_instances_alone(
    gateway: Gateway,
    two: tuple[Server, Server],
    backends: Callable[..., Backend],  # noqa: F811
) -> None:
    one, other = two
    old, new = backends(ip=one.address), backends(ip=one.address)
    theirs = backends(500, ip=other.address, port=old.server_port)  # on another server, the same port is another's
    one.deployed(old.server_port)
    other.deployed(theirs.server_port)
    route = one.begin(50, new=new.server_port)
    addresses = [old.address, new.address, theirs.address]
    told_by_each_worker(gateway, one.kong, route, addresses, "/web/v1")
    watch = one.kong.watch(route, addresses)
    answers = ask(gateway, 40, "/web/v1")
    found = until(watch, 40)
    mine = [found[old.address], found[new.address]]
    assert sum(it.requests for it in mine) == answers.count(200) > 0
    assert sum(it.errors for it in mine) == 0
    assert found[theirs.address].errors == answers.count(500) > 0


def test_other_versions_of_gitops_mvd_take_the_plugin_for_nobodys(gateway: Gateway, two: tuple[Server, Server]) -> None:
    one, _ = two
    one.begin()
    [plugin] = gateway.all("plugins")
    assert "shared:edge" not in plugin["tags"], "each host deletes what has that, and is not in its commit"
    assert {"managed-by:gitops-mvd", "host:web-1", "app:shop", "service:web"} <= set(plugin["tags"])
