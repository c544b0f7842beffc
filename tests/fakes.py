"""A small working world that keeps the laws of `gitops_mvd.ports`, with faults on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count

from gitops_mvd.errors import StepFailed, Unhealthy
from gitops_mvd.model import App, Change, Gate, Health, Plan, Resource, Service, Step
from gitops_mvd.plan import make_plan, place

ORDER = ("image", "unit", "route")


class Killed(BaseException):
    """The daemon dies here: nothing catches it."""


def service(name: str, image: str = "v1", *, route: bool = True, **more: object) -> Service:
    kong = {"port": 80, "routes": [{"paths": [f"/{name}"]}]} if route else None
    return Service(name, image, kong=kong, **more)  # type: ignore[arg-type]


def wanted(app: App) -> list[Resource]:
    resources = []
    for one in app.services:
        instances = one.instances(app.name)
        resources += [Resource("image", one.image, app.name)]
        resources += [
            Resource("unit", name, app.name, one.name, {"digest": one.digest, "port": 0, "state": "running"}, one)
            for name in instances
        ]
        if one.kong:
            targets = [{"instance": name, "address": ""} for name in instances]
            spec = {"entities": one.kong["routes"], "targets": targets}
            resources += [Resource("route", f"{app.name}.{one.name}", app.name, one.name, spec)]
    return resources


class FakeHost:
    """A host in memory.  An image whose name has "sick" in it never gets healthy, one with "gone" can not be pulled.

    `fault(step)` is asked before every step and may raise; `log` has every step that was carried out.
    """

    name = "h1"

    def __init__(self) -> None:
        self.resources: dict[tuple[str, str], Resource] = {}
        self.fault: Callable[[Step], None] = lambda step: None
        self.log: list[Step] = []

    def apps(self) -> set[str]:
        return {resource.app for resource in self.resources.values()}

    def pin(self, app: App) -> App:
        return app

    def found(self, app: str) -> tuple[Resource, ...]:
        return tuple(resource for resource in self.resources.values() if resource.app == app)

    def plan(self, app: App, proven: bool) -> Plan:
        return self._plan(app, wanted(app), proven)

    def way_back(self, app: App, before: Sequence[Resource]) -> Plan:
        return self._plan(App(app.name), before, proven=True)

    def _plan(self, app: App, want: Sequence[Resource], proven: bool) -> Plan:
        taken = {resource.spec.get("port") for resource in self.resources.values()}
        free = (port for port in count(20000) if port not in taken)
        placed = place(want, self.found(app.name), "127.0.0.1", free)
        return make_plan(app, placed, self.found(app.name), ORDER, proven=proven)

    def carry_out(self, steps: Iterable[Step]) -> None:
        for step in steps:
            self.fault(step)
            self.log.append(step)
            if isinstance(step, Change):
                self._change(step)
            else:
                self._wait(step)

    def _change(self, change: Change) -> None:
        if change.to and change.to.kind == "image" and "gone" in change.to.name:
            raise StepFailed(f"no such image: {change.to.name}")
        if change.to:
            self.resources[change.to.key] = change.to
        elif change.was:
            self.resources.pop(change.was.key, None)

    def _wait(self, gate: Gate) -> None:
        if self._sick(gate.on):
            raise Unhealthy(f"{gate.on.name}: http 503")

    def _sick(self, resource: Resource) -> bool:
        if resource.kind == "route":
            return any(self._sick(self.resources[("unit", t["instance"])]) for t in resource.spec["targets"])
        return "sick" in resource.payload.image

    def health(self, app: App) -> Health:
        units = [resource for resource in self.found(app.name) if resource.kind == "unit"]
        if app.services and not units:
            return Health.MISSING
        return Health.DEGRADED if any(map(self._sick, units)) else Health.HEALTHY

    def images(self, app: str) -> list[str]:
        """The images of the units that run, for tests to look at."""
        return sorted(r.payload.image for r in self.found(app) if r.kind == "unit")


class FakeHistory:
    """A memory that forgets on demand: `lose()` is the state directory deleted."""

    def __init__(self) -> None:
        self.lose()

    def lose(self) -> None:
        self.good: dict[str, App] = {}
        self.bad: dict[tuple[str, str], str] = {}

    def last_good(self, app: str) -> App | None:
        return self.good.get(app)

    def condemned(self, app: App) -> str:
        return self.bad.get((app.name, app.version), "")

    def approve(self, app: App) -> None:
        self.good[app.name] = app
        self.bad.pop((app.name, app.version), None)

    def condemn(self, app: App, why: str) -> None:
        self.bad[app.name, app.version] = why


class FakeClock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds
