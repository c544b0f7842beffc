"""A small working world that keeps the laws of `gitops_mvd.core.ports`, with faults on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import count

from gitops_mvd.core import canary
from gitops_mvd.core.claims import of_service
from gitops_mvd.core.decide import PASSING
from gitops_mvd.core.errors import StepFailed, Unhealthy
from gitops_mvd.core.model import (
    RUNNING,
    STAGED,
    App,
    Change,
    Check,
    Failure,
    Gate,
    Goal,
    Health,
    Plan,
    Resource,
    Role,
    Service,
    Step,
)
from gitops_mvd.core.plan import Side, make_plan, place
from gitops_mvd.core.rollout import DRAINED
from gitops_mvd.core.specs import Joined, claims_by_instance, service_of
from gitops_mvd.host.turns import Turns

ROLES = {"image": Role.SUPPORT, "unit": Role.INSTANCE, "route": Role.ROUTE, "timer": Role.TIMER}
UNIT = {"port": 0, "state": "running", "grace": 10.0}


class Killed(BaseException):
    """The daemon dies here: nothing catches it."""


def service(name: str, image: str = "v1", *, route: bool = True, **more: object) -> Service:
    kong = {"port": 80, "routes": [{"paths": [f"/{name}"]}]} if route else None
    return Service(name, image, kong=kong, **more)  # type: ignore[arg-type]


def job(name: str, image: str = "v1", **more: object) -> Service:
    return service(name, image, route=False, check=Check("completed"), **more)


def wanted(app: App) -> list[Resource]:
    resources = []
    for one in app.services:
        instances = one.instances(app.name)
        resources += [Resource("image", one.image, app.name)]
        resources += [
            Resource("unit", name, app.name, one.name, {**UNIT, "digest": one.digest}, one) for name in instances
        ]
        if one.kong:
            targets = [{"instance": name, "address": ""} for name in instances]
            spec = {"entities": {"routes": dict(enumerate(one.kong["routes"]))}, "targets": targets}
            resources += [Resource("route", f"{app.name}.{one.name}", app.name, one.name, spec)]
        if one.schedule:
            resources += [Resource("timer", instances[0], app.name, one.name, {"schedule": one.schedule})]
    return resources


class FakeHost:
    """A host in memory.  An image whose name has "sick" in it never gets healthy, one with "gone" cannot be pulled, and
    "bad" is one that is healthy, and fails its callers.

    `fault(step)` is asked before every step and may raise; `log` has every step that was carried out, and `starts` how
    often each instance was made.
    """

    name = "h1"
    roles = ROLES

    def __init__(self, history: FakeHistory) -> None:
        self.resources: dict[tuple[str, str], Resource] = {}
        self.fault: Callable[[Step], None] = lambda step: None
        self.log: list[Step] = []
        self.starts: Counter[str] = Counter()
        self.overrides: dict[tuple[str, str], str] = {}  # what somebody has laid over a resource, by its key
        self.leaves: set[str] = set()  # the kinds of which a change by hand is left alone
        self.turns = Turns(8)
        self._history = history
        self._made: dict[str, Service] = {}  # what units were made of

    def apps(self) -> set[str]:
        return {resource.app for resource in self.resources.values()}

    def pin(self, app: App) -> App:
        return app

    def found(self, app: str) -> tuple[Resource, ...]:
        """What is here of an app; of an instance it can be seen what it has, and not what it was made of."""
        return tuple(
            replace(it, payload=Joined(frozenset(), "", of_service(app, service_of(it)))) if it.kind == "unit" else it
            for it in self.resources.values()
            if it.app == app
        )

    @property
    def proposing(self) -> FakeHost:
        return self

    def plan(self, goals: Sequence[Goal]) -> Plan:
        return make_plan([self._side(goal) for goal in goals], ROLES)

    def unrepaired(self, plan: Plan) -> str:
        changed = [step.resource.kind for step in plan if isinstance(step, Change)]
        return "changed by hand" if self.leaves and changed and set(changed) <= self.leaves else ""

    def _side(self, goal: Goal) -> Side:
        app = goal.app if goal.before is None else App(goal.app.name)
        want = wanted(app) if goal.before is None else goal.before
        taken = {resource.spec.get("port") for resource in self.resources.values()}
        free = (port for port in count(20000) if port not in taken)
        found = self.found(app.name)
        placed = place(want, found, ROLES, "127.0.0.1", free)
        done = {r.key for r in placed if r.kind == "unit" and r not in found and self._history.is_job_done(r.name)}
        claims = claims_by_instance([r.name for r in (*placed, *found) if r.kind == "unit"], (), found)
        good = self._history.last_good(app.name) or App(app.name)
        tried = {name for one in good.services for name in one.instances(app.name)}
        return Side(app, placed, found, goal.proven, done, claims, tried, self._history.has_worked(app))

    def carry_out(self, steps: Iterable[Step]) -> list[str]:
        complaints = []
        for step in steps:
            self.fault(step)
            self.log.append(step)
            if isinstance(step, Change):
                self._change(step)
            elif why := self._wait(step):
                complaints.append(why)
        return complaints

    def _change(self, change: Change) -> None:
        if change.to and change.to.kind == "image" and "gone" in change.to.name:
            raise StepFailed(f"no such image: {change.to.name}")
        if change.to:
            made = change.to
            if isinstance(made.payload, Service):
                self._made[made.name] = made.payload
            elif made.kind == "unit":  # it goes back to what was found
                made = replace(made, payload=self._made[made.name])
            self.resources[made.key] = made
            runs = change.was is not None and change.was.spec.get("state") in {RUNNING, STAGED}
            self.starts[change.to.name] += change.to.kind == "unit" and not runs
        elif change.was:
            self.resources.pop(change.was.key, None)

    def _wait(self, gate: Gate) -> str:
        passes = gate.check.probe == DRAINED or gate.check.spec.get("everywhere")
        if gate.check.probe == canary.PROBE and self._fails_callers(gate):
            failed = Unhealthy(f"{gate.resource.service}: canary at {gate.check.spec['share']} %: 3 of 31 failed")
            failed.app, failed.service = gate.resource.app, gate.resource.service
            raise failed
        if passes or not self._sick(gate.resource):
            if gate.check.probe == "completed":
                self._history.mark_job_done(gate.resource.name)
            return ""
        error = Unhealthy(f"{gate.resource.service}: http 503")
        error.app, error.service = gate.resource.app, gate.resource.service
        if gate.required:
            raise error
        return str(error)

    def _fails_callers(self, gate: Gate) -> bool:
        """Do the callers of the new version get errors, though its probe is well?"""
        new = [it["instance"] for it in gate.resource.spec["targets"] if it["address"] in gate.check.spec["new"]]
        return any("bad" in self._made[name].image for name in new)

    def _sick(self, resource: Resource) -> bool:
        if resource.kind == "route":
            targets = [("unit", target["instance"]) for target in resource.spec["targets"]]
            return all(self._sick(self.resources[key]) for key in targets if key in self.resources)
        return "sick" in self.image(resource)

    def forget_gone(self) -> None:
        """Forget what units were made of that are gone."""
        self._made = {name: made for name, made in self._made.items() if ("unit", name) in self.resources}

    def image(self, unit: Resource) -> str:
        """The image that an instance runs, as it was made here, or is to be."""
        return (self._made.get(unit.name) or service_of(unit)).image

    def overridden(self, app: App) -> str:
        keys = {resource.key for resource in wanted(app)}
        return next((self.overrides[key] for key in self.overrides if key in keys), "")

    def health(self, app: App) -> Health:
        units = [it for it in self.resources.values() if (it.kind, it.app) == ("unit", app.name)]
        if app.services and not units:
            return Health.MISSING
        return Health.DEGRADED if any(map(self._sick, units)) else Health.HEALTHY

    def health_reason(self, app: App) -> str:
        return "" if self.health(app) is Health.HEALTHY else "web: http 503"

    def images(self, app: str) -> list[str]:
        """The images of the units that run, for tests to look at."""
        return sorted(service_of(r).image for r in self.resources.values() if (r.kind, r.app) == ("unit", app))

    def serving(self, app: str, service: str) -> list[str]:
        """The instances that the gateway leads to and that are there."""
        route = self.resources.get(("route", f"{app}.{service}"))
        targets = [target["instance"] for target in route.spec["targets"]] if route else []
        return [name for name in targets if ("unit", name) in self.resources]


class FakeHistory:
    """A memory that forgets on demand: `lose()` is the state directory deleted.

    `tries` counts how often in a row a version failed.
    """

    is_late = True  # is it time again for what waits?

    def __init__(self) -> None:
        self.lose()

    def lose(self) -> None:
        self.good: dict[str, list[App]] = {}
        self.bad: dict[tuple[str, str], Failure] = {}
        self.ran: dict[tuple[str, str], list[str]] = {}
        self.jobs: set[str] = set()
        self.tries: Counter[tuple[str, str]] = Counter()

    def last_good(self, app: str) -> App | None:
        return self.good[app][-1] if app in self.good else None

    def good_before(self, app: App) -> App | None:
        return next((good for good in reversed(self.good.get(app.name, [])) if good != app), None)

    def failure_of(self, app: App) -> Failure | None:
        failure = self.bad.get((app.name, app.version))
        return replace(failure, is_due=self.is_late) if failure and failure.action in PASSING else failure

    def approve(self, app: App, commit: str) -> None:
        if self.last_good(app.name) != app:
            self.good.setdefault(app.name, []).append(app)
            self.ran.setdefault((app.name, app.version), []).append(commit)
        self.bad.pop((app.name, app.version), None)
        self.tries.pop((app.name, app.version), None)

    def mark_failed(self, app: App, failure: Failure) -> None:
        self.bad[app.name, app.version] = failure
        self.tries[app.name, app.version] += 1

    def forget(self, app: str) -> None:
        self.good.pop(app, None)

    def reverted_to(self, app: App, commit: str) -> str:
        *earlier, last = self.ran.get((app.name, app.version), [""])
        return earlier[-1] if earlier and last == commit else ""

    def has_worked(self, app: App) -> bool:
        return (app.name, app.version) in self.ran

    def is_job_done(self, job: str) -> bool:
        return job in self.jobs

    def mark_job_done(self, job: str) -> None:
        self.jobs.add(job)

    def adopted(self) -> dict[tuple[str, str], str]:
        return {}


class FakeClock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds
