"""Apps that move between hosts: in memory, with every order of commits and looks that hypothesis finds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Desired, Operation, Outcome, PostedState, PostedStatus, Revision
from gitops_mvd.core.moves import Branch, keep, remarks
from gitops_mvd.core.reconcile import reconcile
from gitops_mvd.core.waves import SUPERSEDED, Contents, Line, Rollouts
from gitops_mvd.status.status_text import status
from gitops_mvd.status.statuses import is_green
from tests.fakes import FakeHistory, FakeHost, service
from tests.unit.test_handover import routed, web

HOSTS = ("a", "b", "c")
APPS = ("shop", "news")


@dataclass(frozen=True)
class Commit:
    """Which services of apps each host has: host -> app -> the app as it is there."""

    apps: Mapping[str, Mapping[str, App]]

    def hosts(self) -> Mapping[str, bool]:
        return dict.fromkeys(self.apps, False)

    def services(self, app: str, host: str) -> frozenset[str] | None:
        found = self.apps.get(host, {}).get(app)
        return frozenset(it.name for it in found.services) if found else frozenset()


@dataclass
class Fleet:
    """Hosts in memory that follow one branch, each when it looks, and post to one forge."""

    commits: list[Commit] = field(default_factory=list)
    posts: dict[tuple[str, str], PostedStatus] = field(default_factory=dict)
    trailer: dict[str, Mapping[str, str]] = field(default_factory=dict)
    is_down: bool = False

    def __post_init__(self) -> None:
        self.hosts: dict[str, FakeHost] = {}
        for name in HOSTS:
            self.hosts[name] = FakeHost(FakeHistory())
            self.hosts[name].name = name

    def push(self, apps: Mapping[str, Iterable[App]]) -> None:
        self.commits.append(Commit({host: {app.name: app for app in apps.get(host, ())} for host in HOSTS}))

    # ---- as core/waves.py asks for it --------------------------------------------------------------------------------

    def contents(self, revision: Revision, host: str) -> Contents:
        return {name: app.version for name, app in self.commits[int(revision.commit)].apps[host].items()}

    def trailers(self, revision: Revision) -> Mapping[str, str]:
        return self.trailer.get(revision.commit, {})

    def statuses(self, revision: Revision) -> Mapping[str, PostedStatus]:
        if self.is_down:
            raise Unavailable("the forge does not answer")
        return {host: it for (commit, host), it in self.posts.items() if commit == revision.commit}

    def waited(self, revision: Revision, host: str) -> float:
        return 0.0

    now = forge_now = answer = None  # what moves never ask for

    # ---- what happens ------------------------------------------------------------------------------------------------

    def look(self, name: str) -> dict[str, Outcome]:
        """One pass of a host at the newest commit, and its post to the last one that changes it."""
        host = self.hosts[name]
        line = Line([Revision(str(it), "main") for it in range(len(self.commits))], 0, name, self)  # type: ignore[arg-type]
        branch = Branch(line, lambda revision: self.commits[int(revision.commit)], Rollouts())
        report = reconcile(
            Desired(line.revisions[-1], tuple(self.commits[-1].apps[name].values())),
            host,
            host._history,
            allow_empty=True,
            keeping=lambda every: keep(every, host, host._history, lambda: branch),
        )
        changed = [place for place in range(len(self.commits)) if line.changed(place, name)]
        if changed and not self.is_down:
            told = status(report)
            green = is_green(told)
            state: PostedState = "pending" if green is None else "green" if green else "red"
            for commit in map(str, changed[:-1]):
                if (commit, name) in self.posts and self.posts[commit, name].state == "pending":
                    self.posts[commit, name] = PostedStatus(name, "red", f"{SUPERSEDED} a newer one", "", 0.0)
            self.posts[str(changed[-1]), name] = PostedStatus(name, state, told.description, "", 0.0)
        return {outcome.app: outcome for outcome in report.outcomes}

    def serving(self, app: str) -> list[str]:
        return [name for name, host in self.hosts.items() if host.serving(app, "web")]


def shop(image: str = "v1", name: str = "shop", **more: Any) -> App:
    return App(name, (routed("web", f"/{name}", image, **more),))


@pytest.fixture
def fleet() -> Fleet:
    """The app `shop` on the host `a`."""
    made = Fleet()
    made.push({"a": [shop()]})
    made.look("a")
    assert made.serving("shop") == ["a"]
    return made


placements = st.fixed_dictionaries(
    {app: st.sets(st.sampled_from(HOSTS), min_size=1, max_size=2) for app in APPS},
    optional={"image": st.sampled_from(["v1", "v2", "sick"])},
)
happenings = st.lists(st.one_of(st.sampled_from([*HOSTS, *HOSTS, "down", "up"]), placements), min_size=3, max_size=25)


def pushed(placed: Mapping[str, Any]) -> dict[str, list[App]]:
    image = placed.get("image", "v1")
    return {host: [shop(image, app) for app in APPS if host in placed[app]] for host in HOSTS}


def test_an_app_that_is_also_elsewhere_is_kept_until_one_of_the_others_was_green_with_it(fleet: Fleet) -> None:
    fleet.push({"a": [shop()], "b": [shop()]})
    fleet.push({"b": [shop()]})
    assert fleet.look("a")["shop"].why == "kept until b has it: b is not green yet"
    assert fleet.serving("shop") == ["a"]
    fleet.look("b")
    fleet.look("a")
    assert fleet.serving("shop") == ["b"]


def test_an_app_that_has_long_been_elsewhere_goes_at_once(fleet: Fleet) -> None:
    fleet.push({"a": [shop()], "b": [shop()]})
    for name in ("a", "b"):
        fleet.look(name)
    fleet.push({"b": [shop()]})
    fleet.look("a")
    assert fleet.serving("shop") == ["b"]


@given(happenings)
def test_whatever_moves_whenever_who_looks_what_served_and_is_wanted_goes_on_serving(happened: Sequence[Any]) -> None:
    fleet = Fleet()
    fleet.push(pushed({app: {"a"} for app in APPS}))
    for host in HOSTS:
        fleet.look(host)
    for one in happened:
        if isinstance(one, dict):
            fleet.push(pushed(one))
        elif one in HOSTS:
            fleet.look(one)
        else:
            fleet.is_down = one == "down"
        assert all(map(fleet.serving, APPS)), f"after {one}"


@given(happenings, placements)
def test_whatever_happened_every_host_ends_with_what_the_last_commit_has(
    happened: Sequence[Any], last: Mapping[str, Any]
) -> None:
    fleet = Fleet()
    for one in [*happened, {**last, "image": "v3"}]:
        if isinstance(one, dict):
            fleet.push(pushed(one))
        elif one in HOSTS and fleet.commits:
            fleet.look(one)
    for _ in HOSTS:
        for host in HOSTS:
            fleet.look(host)
    for host in HOSTS:
        assert {app for app in APPS if fleet.hosts[host].images(app)} == {app for app in APPS if host in last[app]}
        assert all(outcome.is_green for outcome in fleet.look(host).values())


@given(happenings, st.permutations(HOSTS))
def test_hosts_that_exchange_what_has_one_port_never_wait_for_ever(
    happened: Sequence[Any], order: Sequence[str]
) -> None:
    """What stands in the way of something else goes first, as nothing of a circle could begin otherwise."""
    fleet, apps = Fleet(), ("shop", "news", "blog")

    def push(order: Sequence[str], shift: int) -> None:
        fleet.push({host: [App(apps[(n + shift) % 3], (web(port="80"),))] for n, host in enumerate(order)})

    push(HOSTS, 0)
    for shift, one in enumerate(happened):
        if isinstance(one, dict):
            push(order, shift)
        elif one in HOSTS:
            fleet.look(one)
    push(order, 1)
    for _ in range(4):
        for host in HOSTS:
            fleet.look(host)
    for n, host in enumerate(order):
        assert [app for app in apps if fleet.hosts[host].images(app)] == [apps[(n + 1) % 3]]


def test_what_is_kept_is_healed_and_its_commit_pending(fleet: Fleet) -> None:
    fleet.push({"b": [shop("v2")]})
    fleet.hosts["a"].resources = {key: it for key, it in fleet.hosts["a"].resources.items() if it.kind != "unit"}
    outcome = fleet.look("a")["shop"]
    assert fleet.serving("shop") == ["a"]
    assert (outcome.operation, outcome.why) == (Operation.RUNNING, "kept until b has it: b is not green yet")
    assert not outcome.is_on_its_way, "the next pass is not at once"
    assert fleet.posts["1", "a"].description == "keeps shop until b has it: b is not green yet"


def test_a_host_with_something_else_to_do_does_not_count_as_done(fleet: Fleet) -> None:
    fleet.push({"a": [shop("sick", "news")], "b": [shop()]})
    fleet.look("a")
    assert fleet.posts["1", "a"].state == "red"
    assert fleet.posts["1", "a"].description == "news: web: http 503; also shop"


def test_the_trailer_for_emergencies_lets_go_at_once(fleet: Fleet) -> None:
    fleet.push({"b": [shop()]})
    fleet.look("a")
    assert fleet.serving("shop") == ["a"]
    fleet.trailer["1"] = {"rollout": "all"}
    fleet.look("a")
    assert fleet.serving("shop") == []


def test_a_host_that_forgot_what_worked_keeps_what_runs(fleet: Fleet) -> None:
    fleet.push({"b": [shop()]})
    fleet.hosts["a"]._history.lose()
    fleet.look("a")
    assert fleet.serving("shop") == ["a"]
    fleet.look("b")
    fleet.look("a")
    assert fleet.serving("shop") == ["b"]


def test_an_address_on_a_wire_is_let_go_of_at_once(fleet: Fleet) -> None:
    """Two hosts with one address on a LAN disturb each other, so it is the old one that ends first."""
    lan = {"lan": {"driver": "macvlan"}}
    run = {"networks": {"lan": {"ipv4_address": "10.0.0.9"}}}
    alone = App("shop", (service("web", run=run),), networks=lan)  # type: ignore[arg-type]
    fleet.push({"a": [alone]})
    fleet.look("a")
    fleet.push({"b": [alone]})
    fleet.look("a")
    assert fleet.serving("shop") == []


def test_one_service_of_an_app_that_moves_keeps_the_app_as_it_is(fleet: Fleet) -> None:
    api = service("api")
    fleet.push({"a": [App("shop", (service("web"), api))]})
    fleet.look("a")
    fleet.push({"a": [App("shop", (service("api", "v2"),))], "b": [shop()]})
    fleet.look("a")
    assert fleet.hosts["a"].images("shop") == ["v1", "v1"]
    fleet.look("b")
    fleet.look("a")
    assert fleet.hosts["a"].images("shop") == ["v2"]


def test_a_plan_tells_where_an_app_goes_and_which_data_it_leaves_behind() -> None:
    data = web(volume="shop_data")
    both, rest = App("shop", (data, service("api"))), App("shop", (service("api"),))
    before, after = Commit({"a": {"shop": both}, "b": {}}), Commit({"a": {"shop": rest}, "b": {"shop": both}})
    assert [*remarks(rest, both, before, after, "a", Rollouts())] == [
        "web moves to b: it is kept here until it is green there",
        "its data stays on this host: volume shop_data",
    ]
    assert [*remarks(both, App("shop"), before, after, "b", Rollouts())] == [
        "comes from a, where it is kept until it is green here",
        "its data stays on a: volume shop_data",
    ]
    assert [*remarks(both, both, before, after, "a", Rollouts())] == []
