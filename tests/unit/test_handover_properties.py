"""Random commits in which ports, volumes and routes pass between services and apps, with a fault at any step.

Safety: two services never have one port, and never write to one volume unless the commit wants both to; what was served
and is still wanted by the commit, or by the versions that it could not replace, is served when a pass is over.
Nothing of an app that is suspended is changed, but for what runs of it if it is to stop.
Liveness: once the faults and suspensions stop, two passes settle and the next is a no-op.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gitops_mvd.core.claims import Claim, of_service
from gitops_mvd.core.errors import Interrupted, NotNow, StepFailed, Unavailable
from gitops_mvd.core.model import (
    App,
    Change,
    Desired,
    Gate,
    Operation,
    Outcome,
    Resource,
    Revision,
    Service,
    Step,
    Update,
)
from gitops_mvd.core.reconcile import reconcile
from gitops_mvd.core.specs import service_of
from gitops_mvd.core.suspension import Suspension
from tests.fakes import FakeHistory, FakeHost, Killed, service

FAULTS = {
    "unreachable": Unavailable("no answer"),
    "refused": StepFailed("refused"),
    "not now": NotNow("a foreign process has the port"),
    "interrupted": Interrupted("something newer"),
    "killed": Killed(),
}
APPS, NAMES, PORTS, VOLUMES, PATHS = ("a", "b", "c"), ("web", "api"), ("1", "2"), ("data", "more"), ("/x", "/y")


@dataclass(frozen=True)
class Has:
    """What one service of a commit has of the host."""

    image: str
    ports: frozenset[str] = frozenset()
    volumes: frozenset[str] = frozenset()
    path: str = ""
    order: str = "stop-first"


@dataclass(frozen=True)
class Commit:
    """The services by app and name, and a fault after so many steps of the pass over it.

    Of the apps that are `suspended` then, it says which are to stop.
    """

    services: tuple[tuple[str, str, Has], ...]
    fault: str = ""
    at: int = 0
    suspended: Mapping[str, bool] = field(default_factory=dict)

    @property
    def is_sick(self) -> bool:
        return any(has.image == "sick" for *_, has in self.services)


@st.composite
def commits(draw: st.DrawFn) -> Commit:
    """A commit without contests: what only one can have is given to one."""
    places = draw(st.lists(st.sampled_from([(app, name) for app in APPS for name in NAMES]), max_size=4, unique=True))
    ports = {port: draw(st.sampled_from([None, *places])) for port in PORTS}
    paths = {path: draw(st.sampled_from([None, *places])) for path in PATHS}
    volumes = {volume: draw(st.sampled_from([None, *places])) for volume in VOLUMES}
    services = tuple(
        (
            *place,
            Has(
                draw(st.sampled_from(["v1", "v1", "v2", "sick"])),
                frozenset(port for port, owner in ports.items() if owner == place),
                frozenset(volume for volume, owner in volumes.items() if owner == place),
                next((path for path, owner in paths.items() if owner == place), ""),
                "start-first"
                if draw(st.booleans()) and place not in (*ports.values(), *volumes.values())
                else "stop-first",
            ),
        )
        for place in places
    )
    suspended = draw(st.just({}) | st.dictionaries(st.sampled_from(APPS), st.booleans(), max_size=2))
    return Commit(services, draw(st.sampled_from(["", "", *FAULTS])), draw(st.integers(0, 14)), suspended)


def orders(is_free: bool) -> list[str]:
    return ["stop-first", "start-first"] if is_free else ["stop-first"]


def desired(commit: Commit, number: int) -> Desired:
    apps = tuple(
        App(app, tuple(made(app, name, has) for of, name, has in commit.services if of == app))
        for app in sorted({app for app, *_ in commit.services})
    )
    return Desired(Revision(f"{number:040}", "main"), apps)


def made(app: str, name: str, has: Has) -> Service:
    ports = [{"target": 80, "published": port, "host_ip": "", "protocol": "tcp"} for port in sorted(has.ports)]
    mounts = [
        {"type": "volume", "source": volume, "target": f"/{volume}", "read_only": False}
        for volume in sorted(has.volumes)
    ]
    run = {**({"ports": ports} if ports else {}), **({"volumes": mounts} if mounts else {})}
    one = service(name, f"{app}-{has.image}", route=bool(has.path), update=Update(has.order), run=run)
    if has.path:
        one.kong["routes"][0]["paths"] = [has.path]  # type: ignore[index]
    return one


class Engine(FakeHost):
    """A host on which a port is refused to whoever comes while another one has it."""

    def __init__(self, history: FakeHistory) -> None:
        super().__init__(history)
        self.commit = Commit(())
        self.steps = 0
        self.fault = self.check

    def begin(self, commit: Commit) -> None:
        self.commit, self.steps = commit, 0

    def check(self, step: Step) -> None:
        self.steps += 1
        if isinstance(step, Change) and (app := step.resource.app) in self.commit.suspended:
            assert self.commit.suspended[app], f"{app} is suspended, and {step} was to be done"
            assert not step.to
            assert step.resource.kind in ("unit", "route")
        if self.commit.fault and self.steps > self.commit.at:
            raise FAULTS[self.commit.fault]
        if isinstance(step, Change) and step.to and step.to.kind == "unit" and not step.was:
            for unit in self.units():
                ours = of_service(step.to.app, service_of(step.to))
                for claim in ours:
                    for other in of_service(unit.app, service_of(unit)):
                        if claim.meets(other) and (unit.app, unit.service) != (step.to.app, step.to.service):
                            raise AssertionError(f"{claim} of {unit.name} is taken by {step.to.name}")

    def units(self) -> list[Resource]:
        return [resource for resource in self.resources.values() if resource.kind == "unit"]

    def served(self, stopping: Collection[str] = ()) -> set[Claim]:
        """The ports and paths at which a healthy instance is, of apps that are not `stopping`."""
        ports = {
            claim
            for unit in self.units()
            if not self._sick(unit) and unit.app not in stopping
            for claim in of_service(unit.app, service_of(unit))
            if claim.kind == "port"
        }
        paths = {
            Claim("path", route.spec["entities"]["routes"][0]["paths"][0])
            for route in self.resources.values()
            if route.kind == "route" and route.app not in stopping
            if self.serving(route.app, route.service) and not self._sick(route)
        }
        return ports | paths


def suspensions(commit: Commit) -> dict[str, Suspension]:
    return {app: Suspension("anna", stop=stop) for app, stop in commit.suspended.items()}


def wanted_claims(apps: Iterable[App]) -> set[Claim]:
    services = [(app.name, one) for app in apps for one in app.services]
    ports = {claim for app, one in services for claim in of_service(app, one) if claim.kind == "port"}
    return ports | {Claim("path", one.kong["routes"][0]["paths"][0]) for _, one in services if one.kong}


@settings(max_examples=4 * settings.default.max_examples)
@given(st.lists(commits(), min_size=1, max_size=5))
@example([Commit((("a", "web", Has("v1", frozenset("1"))),)), Commit((("b", "web", Has("sick", frozenset("1"))),))])
@example(
    [
        Commit((("a", "web", Has("v1", frozenset("1"))), ("b", "web", Has("v1", frozenset("2"))))),
        Commit((("a", "web", Has("v1", frozenset("2"))), ("b", "web", Has("v1", frozenset("1"))))),
    ]
)
def test_what_is_exclusive_changes_hands_in_order(history: list[Commit]) -> None:
    memory = FakeHistory()
    host = Engine(memory)
    for number, commit in enumerate(history):
        stopping = [app for app, stops in commit.suspended.items() if stops]
        before, goods = host.served(stopping), [good[-1] for good in memory.good.values()]
        host.begin(commit)
        with contextlib.suppress(Killed):
            report = reconcile(desired(commit, number), host, memory, allow_empty=True, suspended=suspensions(commit))
            left = {outcome.app for outcome in report.outcomes if outcome.suspended}
            assert left <= commit.suspended.keys()
        if not commit.fault:
            kept = before & wanted_claims(desired(commit, number).apps) & wanted_claims(goods)
            assert kept <= host.served()
            assert not [unit for unit in host.units() if unit.app in stopping]

    last = Commit(history[-1].services)
    before = host.served()
    host.begin(last)
    settled(last, host, memory)
    outcomes = settled(last, host, memory)
    assert all(outcome.operation is not Operation.RUNNING for outcome in outcomes)
    if not last.is_sick:
        memory.bad.clear()  # `mvd retry`: an innocent version may have been marked failed by a refused step
        outcomes = settled(last, host, memory)
        assert all(outcome.operation is Operation.SUCCEEDED for outcome in outcomes)
        assert host.served() == wanted_claims(desired(last, 99).apps)
    host.log.clear()
    settled(last, host, memory)
    assert [step for step in host.log if isinstance(step, Change | Gate)] == []


def settled(commit: Commit, host: Engine, memory: FakeHistory) -> tuple[Outcome, ...]:
    return reconcile(desired(commit, 99), host, memory, allow_empty=True).outcomes
