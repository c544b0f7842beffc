"""Wanted and found become a plan.  Pure.

A plan is plain diff order.  Because every instance is named after what it is, a new version is a new thing: it is
created and proven, the route is switched and proven, and only then the old thing is drained and deleted.  Containers
are created before anything stops, and deleted after all else: what is stopped can be started again until then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from gitops_mvd.core.model import OUTDATED, App, Change, Json, Plan, Resource, Role, Roles, Service, Step
from gitops_mvd.core.ports import Kind
from gitops_mvd.core.rollout import Rollout, drained, prove
from gitops_mvd.core.specs import Unnamed, service_of

Key = tuple[str, str]


def make_plan(
    app: App,
    wanted: Iterable[Resource],
    found: Iterable[Resource],
    roles: Roles,
    *,
    proven: bool,
    ignored: Iterable[Key] = (),
) -> Plan:
    """What it takes to bring one app from `found` to `wanted`.

    `roles` has the kinds in order, each after those that it needs.  Creations and updates follow it, and inside a kind
    the app's `depends_on`; deletions come last and run against it.  A gate stands right behind what it guards.
    Instances replace each other as `rollout.py` has it.  What is `ignored` is neither made nor deleted.

    An app that is not `proven` passes every one of its gates, even where nothing changes: the daemon may have died
    between a switch and its gate.
    """
    want, have = ({r.key: r for r in side if r.key not in ignored} for side in (wanted, found))
    rank = {name: place for place, name in enumerate(startup_order(app.services))}
    order, instances = list(roles), list(roles.values()).index(Role.INSTANCE)

    def place_of(resource: Resource) -> tuple[int, int, str]:
        return order.index(resource.kind), rank.get(resource.service, len(rank)), resource.name

    services = {service.name: service for service in app.services}
    routed = {target["instance"] for r in of_role(Role.ROUTE, have.values(), roles) for target in r.spec["targets"]}
    rollouts = {name: _rollout(services[name], want, have, roles, routed, proven) for name in rank}
    by_rollout = {unit.key for rollout in rollouts.values() for unit in (*rollout.new, *rollout.outdated)}
    others = sorted((r for key, r in want.items() if have.get(key) != r and key not in by_rollout), key=place_of)
    after = sorted((r for r in want.values() if order.index(r.kind) > instances), key=place_of)
    change = [
        *(Change(have.get(r.key), _named(r, rollouts, roles)) for r in others if order.index(r.kind) <= instances),
        *_start(rollouts.values()),
        *_finish(after, rollouts, have, proven),
    ]
    removed = {key for rollout in rollouts.values() for key in rollout.removed}
    deletions = sorted((r for key, r in have.items() if key not in want.keys() | removed), key=place_of, reverse=True)
    named = {name for name, rollout in rollouts.items() if rollout.is_found_by_name}
    return Plan(tuple(change), tuple(_clean(deletions, want.values(), roles, named, routed)))


def _named(resource: Resource, rollouts: Mapping[str, Rollout], roles: Roles) -> Resource:
    """A container whose instance is staged at first is made without the aliases of its service."""
    rollout = rollouts.get(resource.service)
    if roles[resource.kind] is not Role.CONTAINER or not (rollout and rollout.is_staged_at_first(resource.name)):
        return resource
    return replace(resource, payload=Unnamed(service_of(resource)))


def of_role(role: Role, resources: Iterable[Resource], roles: Roles) -> list[Resource]:
    """Those of the resources whose kind has that role."""
    return [resource for resource in resources if roles[resource.kind] is role]


def _rollout(
    service: Service,
    want: Mapping[Key, Resource],
    have: Mapping[Key, Resource],
    roles: Roles,
    routed: Set[str],
    proven: bool,
) -> Rollout:
    def of_service(side: Mapping[Key, Resource], role: Role) -> list[Resource]:
        return [r for r in of_role(role, side.values(), roles) if r.service == service.name]

    wanted, found = of_service(want, Role.INSTANCE), of_service(have, Role.INSTANCE)
    outdated = [unit for unit in wanted if have.get(unit.key) == unit.with_spec(state=OUTDATED)]
    to = next(iter(of_service(want, Role.ROUTE)), None)
    return Rollout(
        service,
        new=[unit for unit in wanted if have.get(unit.key) != unit and unit not in outdated],
        current=[] if proven else [unit for unit in wanted if have.get(unit.key) == unit or unit in outdated],
        old=[unit for unit in found if unit.key not in want],
        have={unit.name: unit for unit in found},
        route=have.get(to.key) if to else None,
        to=to,
        routed=routed,
        all_in_one_batch=proven,
        outdated=outdated,
        timers=of_service(have, Role.TIMER),
    )


def _start(rollouts: Iterable[Rollout]) -> Iterator[Step]:
    """The instances of all services.  What others depend on is proven before these are made, all else together."""
    waiting: list[tuple[Rollout, Sequence[Resource]]] = []
    for rollout in rollouts:
        if any(_waits_for(rollout.service, earlier.service) for earlier, _ in waiting):
            yield from prove(waiting)
            waiting = []
        yield from rollout.steps()
        waiting.append((rollout, rollout.unproven()))
    yield from prove(waiting)


def _finish(
    after: Iterable[Resource], rollouts: Mapping[str, Rollout], have: Mapping[Key, Resource], proven: bool
) -> Iterator[Step]:
    """What comes after the instances: the routes, each proven to lead to them and to no others, and the rest."""
    for resource in after:
        rollout = rollouts.get(resource.service)
        rollout = rollout if rollout and rollout.to is resource else None
        was = rollout.route if rollout else have.get(resource.key)
        if was != resource:
            yield Change(was, resource)
        if rollout and (was != resource or not proven):
            yield rollout.switched(resource, rollout.remaining())


def _clean(
    deletions: Sequence[Resource], wanted: Iterable[Resource], roles: Roles, named: Set[str], routed: Set[str]
) -> Iterator[Step]:
    """Delete what is no longer wanted, in reverse order; instances after they were drained."""
    leaving = of_role(Role.INSTANCE, deletions, roles)
    emptied = {unit.service for unit in leaving}
    routes = [r for r in of_role(Role.ROUTE, (*wanted, *deletions), roles) if r.service in emptied]
    first = deletions.index(leaving[0]) if leaving else 0
    yield from (Change(resource, None) for resource in deletions[:first])
    yield from drained(routes, leaving, named, routed)
    yield from (Change(resource, None) for resource in deletions[first:])


def _waits_for(service: Service, earlier: Service) -> bool:
    return service.depends_on.get(earlier.name, "service_started") != "service_started"


def startup_order(services: Iterable[Service]) -> list[str]:
    """The names of the services, each behind those that it depends on; otherwise as they were given."""
    try:
        return list(TopologicalSorter({service.name: service.depends_on.keys() for service in services}).static_order())
    except CycleError as error:
        raise ValueError(f"depends_on goes round in a circle: {' -> '.join(error.args[1])}") from None


PLACED = (Role.CONTAINER, Role.INSTANCE)  # have a port of the host; of two that differ, that of the instance counts


def place(
    wanted: Iterable[Resource], found: Iterable[Resource], roles: Roles, address: str, free: Iterator[int]
) -> list[Resource]:
    """Give every routed instance its host port, and every route the addresses of its instances.

    An instance that is there keeps the port it has; others draw one from `free`.  What was observed has its place.
    """
    wanted = list(wanted)
    found = list(found)
    ports = {it.name: it.spec["port"] for role in PLACED for it in of_role(role, found, roles)}
    targets = [target for route in of_role(Role.ROUTE, wanted, roles) for target in route.spec["targets"]]
    routed = {target["instance"] for target in targets if not target["address"]}
    ports |= {name: next(free) for name in sorted(routed) if not ports.get(name)}

    def placed(resource: Resource) -> Resource:
        if roles[resource.kind] in PLACED and resource.name in routed:
            return resource.with_spec(port=ports[resource.name])
        if roles[resource.kind] is Role.ROUTE:
            return resource.with_spec(targets=[_addressed(t, ports, address) for t in resource.spec["targets"]])
        return resource

    return [placed(resource) for resource in wanted]


def _addressed(target: Json, ports: Mapping[str, int], address: str) -> Json:
    return target if target["address"] else {**target, "address": f"{address}:{ports[target['instance']]}"}


def in_order(kinds: Iterable[Kind]) -> Roles:
    """The roles of the kinds, each kind behind those that it needs."""
    known = {kind.name: kind for kind in kinds}
    after = {name: sorted(known[name].after) for name in sorted(known)}
    return {name: known[name].role for name in TopologicalSorter(after).static_order()}
