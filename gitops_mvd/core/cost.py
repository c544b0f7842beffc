"""What a plan costs those who use an app: how long what is out of service, and who waits for whom.  Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from gitops_mvd.core.difference import Difference
from gitops_mvd.core.model import OUTDATED, RUNNING, STAGED, App, Change, Check, Gate, Plan, Role, Roles, Service, Step
from gitops_mvd.core.rollout import DRAINED, ROUTE_PROOF

NO_DOWNTIME = "no downtime"
START_SECONDS = 5.0  # until a container runs of which nothing is asked
UNASKED = ("running", "not_failed")  # the probes that ask nothing
SERVING = (RUNNING, OUTDATED, STAGED)  # states of a unit whose container runs
HANDED_OVER = "what only one can have changes hands"
COMPLETED = "service_completed_successfully"
_RESTARTS_NOTHING = {
    "health": "health check",
    "route": "route",
    "plugin": "plugin",
    "image": "tag",
    "update": "update",
    "canary": "canary",
}


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of a plan in words, and the seconds that the service with the longest outage is down at most."""

    text: str = ""
    seconds: float = 0.0


def cost(
    plan: Plan, app: App, roles: Roles, differences: Iterable[Difference], why: Mapping[str, str], together: Plan
) -> Cost:
    """What it costs to carry a plan out that leads to `app`; `why` tells why services stop first, by their name.

    `together` is the plan of all apps that change with it, of which `plan` is the share of this one.
    """
    down = dict(_outages(together, app, roles))
    first = _outage_text(down, app, why) if down else _without_outage(plan, app, roles, differences)
    return Cost("; ".join([first, *_jobs(plan, app, roles)]), max(down.values(), default=0.0))


def _outage_text(down: Mapping[str, float], app: App, why: Mapping[str, str]) -> str:
    """`up to 15 s down (fixed port 8080)`, with the names of the services if there are several."""
    told = [
        f"{f'{name}: ' if len(app.services) > 1 else ''}{why.get(name, HANDED_OVER)}"
        for name, _ in sorted(down.items(), key=lambda it: -it[1])
    ]
    return f"up to {math.ceil(max(down.values()))} s down ({'; '.join(told)})"


def _without_outage(plan: Plan, app: App, roles: Roles, differences: Iterable[Difference]) -> str:
    if any(_restarts(step, roles) for step in plan):
        if not app.services:
            return "everything stops for good"
        return (
            NO_DOWNTIME
            if any(_serving(service, plan, app, roles) for service in app.services)
            else "nothing of it runs yet"
        )
    changed = list(dict.fromkeys(_RESTARTS_NOTHING.get(it.text.split()[0], "settings") for it in differences))
    listed = " and ".join(filter(None, [", ".join(changed[:-1]), *changed[-1:]]))
    return f"only {listed} change{'s' * (len(changed) == 1)}; nothing restarts" if changed else "nothing restarts"


def _restarts(step: Step, roles: Roles) -> bool:
    """Does a step start or stop an instance?"""
    if not isinstance(step, Change) or roles[step.resource.kind] is not Role.INSTANCE:
        return False
    return not (step.was and step.to and step.was.spec["state"] in SERVING)


def _jobs(plan: Plan, app: App, roles: Roles) -> Iterator[str]:
    """`runs migrate first; 2 services wait for it`."""
    made = {it.resource.service for it in plan if isinstance(it, Change) and it.to and _restarts(it, roles)}
    for job in (service.name for service in app.services if service.is_job and service.name in made):
        waiting = sum(1 for it in app.services if it.depends_on.get(job) == COMPLETED and it.name in made)
        waits = "1 service waits" if waiting == 1 else f"{waiting} services wait"
        yield f"runs {job} first; {waits} for it" if waiting else f"runs {job}"


# ---- outages ---------------------------------------------------------------------------------------------------------


def _outages(plan: Plan, app: App, roles: Roles) -> Iterator[tuple[str, float]]:
    """The services that are down for a while, with the seconds that this lasts at most."""
    for service in app.services:
        serving = _serving(service, plan, app, roles) or _givers(plan, roles)
        seconds = _outage(service, serving, plan.change, app, roles)
        if seconds and not (service.is_job or service.schedule):
            yield service.name, seconds


def _serving(service: Service, plan: Plan, app: App, roles: Roles) -> set[str]:
    """The instances of a service that run before the plan, as far as it tells."""
    changes = [it for it in plan if isinstance(it, Change) and _is_of(service, it, app, roles)]
    ran = {it.resource.name for it in changes if it.was and it.was.spec["state"] in SERVING}
    return (set(service.instances(app.name)) - {it.resource.name for it in changes}) | ran


def _givers(plan: Plan, roles: Roles) -> set[str]:
    """The instances that go before others start, and have no successor of their own: these take what they had."""
    changes = [it for it in plan.change if isinstance(it, Change) and _restarts(it, roles)]
    made = {_of(it) for it in changes if it.to}
    gone = [it.resource for it in changes if not it.to and _of(it) not in made]
    return {unit.name for unit in gone if unit.spec["state"] in SERVING}


def _of(step: Step) -> tuple[str, str]:
    """The app and the service that a step is about."""
    return step.resource.app, step.resource.service


def _is_of(service: Service, step: Step, app: App, roles: Roles) -> bool:
    return _of(step) == (app.name, service.name) and roles[step.resource.kind] is Role.INSTANCE


def _outage(service: Service, serving: set[str], steps: Iterable[Step], app: App, roles: Roles) -> float:
    """The seconds from the stop of the last of these instances until a new one of the service serves."""
    seconds, is_down = 0.0, False
    for _, batch in itertools.groupby(steps, lambda step: _batch(step, roles)):
        together = list(batch)
        if not is_down:
            gates = (it for it in together if isinstance(it, Gate) and it.check.probe != DRAINED)
            serving |= {it.resource.name for it in gates if _is_of(service, it, app, roles)}
            changes = [it for it in together if isinstance(it, Change) and not it.to]
            gone = {it.resource.name for it in changes if roles[it.resource.kind] is Role.INSTANCE}
            is_down = bool(serving) and serving <= gone
            serving -= gone
            seconds = _lasts(together) if is_down else 0.0
        elif any(_is_back(service, step, app, roles) for step in together):
            return seconds + (0.0 if service.kong else _wait(service.check))
        else:
            seconds += _lasts(together)
    return seconds


def _batch(step: Step, roles: Roles) -> object:
    """What tells steps that are carried out together."""
    return "gate" if isinstance(step, Gate) else (roles[step.resource.kind], step.to is None)


def _lasts(together: Iterable[Step]) -> float:
    """The seconds of a batch at most: what stops gets its grace, and what has started the time of its check."""
    return max(map(_seconds, together), default=0.0)


def _seconds(step: Step) -> float:
    if isinstance(step, Gate):
        return 0.0 if step.check.probe == ROUTE_PROOF else _wait(step.check) + step.check.hold
    return 0.0 if step.to else float(step.resource.spec.get("grace", 0.0))


def _wait(check: Check) -> float:
    return START_SECONDS if check.probe in UNASKED else check.start_period + check.within


def _is_back(service: Service, step: Step, app: App, roles: Roles) -> bool:
    """A service with a route is back once that leads to its new instances, any other one once it is there."""
    if service.kong:
        return _of(step) == (app.name, service.name) and roles[step.resource.kind] is Role.ROUTE
    return isinstance(step, Gate) and _is_of(service, step, app, roles) and step.check.probe != DRAINED
