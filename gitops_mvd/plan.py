"""Wanted and found become a plan.  Pure.

A plan is plain diff order.  Because every instance is named after what it is, a new version is a new thing: it is
created and proven, the route is switched and proven, and only then the old thing is deleted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from gitops_mvd.model import App, Change, Check, Gate, Json, Plan, Resource, Service, Step

ROUTE_CHECK = Check("route", within=30.0)  # covers both of Kong's default frequencies of 5 s, several times over

# Requests on their way when the route moved on come to their end before the instance that has them is stopped.
DRAIN = Check("route", within=30.0, hold=1.0)

Key = tuple[str, str]


def make_plan(
    app: App,
    wanted: Iterable[Resource],
    found: Iterable[Resource],
    order: Sequence[str],
    *,
    proven: bool,
    spare: Iterable[Key] = (),
) -> Plan:
    """What it takes to bring one app from `found` to `wanted`.

    `order` lists the kinds, each after those that it needs.  Creations and updates follow it, and inside a kind the
    app's `depends_on`; deletions come last and run against it.  A gate stands right behind what it guards.  A service
    that says `order: stop-first` has its old instances deleted before the new ones are created; all others drain first.
    What is `spare` is neither made nor deleted.

    An app that is not `proven` passes every one of its gates, even where nothing changes: the daemon may have died
    between a switch and its gate.
    """
    want, have = ({r.key: r for r in side if r.key not in spare} for side in (wanted, found))
    changes = [Change(have.get(key), want.get(key)) for key in want.keys() | have.keys()]
    if proven:  # what is as it should be need not be looked at again
        changes = [change for change in changes if change.was != change.to]
    rank = {name: place for place, name in enumerate(startup_order(app.services))}
    changes.sort(key=lambda c: (order.index(c.resource.kind), rank.get(c.resource.service, len(rank)), c.resource.name))
    differing = [change for change in changes if change.was != change.to]
    kills = [change for change in reversed(differing) if not change.to]
    alone = {service.name for service in app.services if service.update.order == "stop-first"}
    early = [change for change in kills if change.resource.kind == "unit" and change.resource.service in alone]
    early = [change for change in early if _is_replaced(change, differing)]
    late = [change for change in kills if change not in early]
    emptied = {kill.resource.service for kill in late if kill.resource.kind == "unit"} & rank.keys()
    drains = [Gate(r, DRAIN) for r in want.values() if r.kind == "route" and r.service in emptied]
    return Plan((*early, *_guarded(changes, app)), (*drains, *late))


def _is_replaced(kill: Change, differing: Iterable[Change]) -> bool:
    return any(
        change.to and change.resource.kind == "unit" and change.resource.service == kill.resource.service
        for change in differing
    )


def _guarded(changes: Sequence[Change], app: App) -> Iterator[Step]:
    """The changes, with the gates of each group behind it: a group is what can start together."""
    services = {service.name: service for service in app.services}
    started: list[Gate] = []
    for change in changes:
        kind, service = change.resource.kind, services.get(change.resource.service)
        if not change.to:
            continue
        if started and (kind != "unit" or (service and _waits_for(service, started))):
            yield from started
            started = []
        if change.was != change.to:
            yield change
        if service and kind == "unit":
            started.append(Gate(change.to, service.check))
        elif service and kind == "route":
            yield Gate(change.to, ROUTE_CHECK)
    yield from started


def _waits_for(service: Service, gates: Iterable[Gate]) -> bool:
    return any(service.depends_on.get(gate.on.service, "service_started") != "service_started" for gate in gates)


def startup_order(services: Iterable[Service]) -> list[str]:
    """The names of the services, each behind those that it depends on; otherwise as they were given."""
    try:
        return list(TopologicalSorter({service.name: service.depends_on.keys() for service in services}).static_order())
    except CycleError as error:
        raise ValueError(f"depends_on goes round in a circle: {' -> '.join(error.args[1])}") from None


def place(wanted: Iterable[Resource], found: Iterable[Resource], address: str, free: Iterator[int]) -> list[Resource]:
    """Give every routed instance its host port, and every route the addresses of its instances.

    An instance that is there keeps the port it has; others draw one from `free`.  What was observed has its place.
    """
    wanted = list(wanted)
    ports = {resource.name: resource.spec["port"] for resource in found if resource.kind == "unit"}
    targets = [target for resource in wanted if resource.kind == "route" for target in resource.spec["targets"]]
    routed = {target["instance"] for target in targets if not target["address"]}
    ports |= {name: next(free) for name in sorted(routed) if not ports.get(name)}

    def placed(resource: Resource) -> Resource:
        if resource.kind == "unit" and resource.name in routed:
            return resource.with_spec(port=ports[resource.name])
        if resource.kind == "route":
            return resource.with_spec(targets=[_addressed(t, ports, address) for t in resource.spec["targets"]])
        return resource

    return [placed(resource) for resource in wanted]


def _addressed(target: Json, ports: Mapping[str, int], address: str) -> Json:
    return target if target["address"] else {**target, "address": f"{address}:{ports[target['instance']]}"}


def kinds_in_order(after: Mapping[str, Iterable[str]]) -> list[str]:
    """The names of the kinds, each behind those that it needs."""
    return list(TopologicalSorter({name: sorted(needs) for name, needs in sorted(after.items())}).static_order())


SIGNS = {"create": "+", "update": "~", "delete": "-"}


def lines(plan: Plan) -> Iterator[str]:
    """The plan for people, a step a line; it never has a secret in it, as no `spec` has."""
    for step in plan:
        resource = step.on if isinstance(step, Gate) else step.resource
        sign = "?" if isinstance(step, Gate) else SIGNS[step.verb]
        kind = "health" if isinstance(step, Gate) else resource.kind
        what = _gate(step.check) if isinstance(step, Gate) else _difference(step)
        yield f"{sign} {kind:<8} {resource.name:<40} {what}".rstrip()


def _gate(check: Check) -> str:
    asks = " ".join([check.probe, *(str(value) for value in check.spec.values())])
    holds = f", holds {check.hold:g}s" if check.hold else ""
    return f"{asks} within {check.within:g}s{holds}"


def _difference(change: Change) -> str:
    if change.to and change.to.kind == "route":
        before, after = (
            [_instance(t) for t in side.spec["targets"]] if side else [] for side in (change.was, change.to)
        )
        if before != after:
            return f"{', '.join(before)} → {', '.join(after)}" if before else f"→ {', '.join(after)}"
    if not (change.was and change.to):
        return ""
    told = [key for key in change.to.spec if change.was.spec.get(key) != change.to.spec[key]]
    return ", ".join(_told(key, change.was.spec.get(key)) for key in told)


def _told(key: str, was: object) -> str:
    return str(was) if key in {"state", "digest"} and was in {"stopped", "disabled", "edited", "no unit file"} else key


def _instance(target: Json) -> str:
    return str(target["instance"]) or str(target["address"])


def as_json(plan: Plan) -> list[dict[str, object]]:
    """The plan for programs: a list of steps."""
    return [
        {
            "do": "wait" if isinstance(step, Gate) else step.verb,
            "kind": (step.on if isinstance(step, Gate) else step.resource).kind,
            "name": (step.on if isinstance(step, Gate) else step.resource).name,
            "what": _gate(step.check) if isinstance(step, Gate) else _difference(step),
        }
        for step in plan
    ]
