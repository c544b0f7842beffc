"""Wanted and found become a plan.  Pure.

A plan is plain diff order.  Because every instance is named after what it is, a new version is a new thing: it is
created and proven, the route is switched and proven, and only then the old thing is drained and deleted.  Containers
are created before anything stops, and deleted after all else: what is stopped can be started again until then.

What only one can have changes hands in between: the unit that has it stops before the one that takes it starts, also
if they are of two services, or of two apps that are planned together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from itertools import chain, zip_longest

from gitops_mvd.core.claims import Claim
from gitops_mvd.core.hands import Hands
from gitops_mvd.core.model import OUTDATED, App, Change, Json, Plan, Resource, Role, Roles, Service, Step
from gitops_mvd.core.ports import Kind
from gitops_mvd.core.rollout import Rollout, Share, drained, prove
from gitops_mvd.core.route import matched
from gitops_mvd.core.specs import Unnamed, service_of

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Side:
    """One app of a plan: what is wanted of it, and what was found.

    What is `ignored` is neither made nor deleted.  `claims` has those of its instances, by name, as far as they are
    known.  An app that is not `proven` passes every one of its gates, even where nothing changes: the daemon may have
    died between a switch and its gate.  `tried` are the instances of the version that last worked, and a version that
    `is_tried` has worked here before.  If the host shares its Kong, it `takes_turns` with the others at its canaries.
    """

    app: App
    wanted: Sequence[Resource]
    found: Sequence[Resource]
    proven: bool = False
    ignored: Set[Key] = frozenset()
    claims: Mapping[str, frozenset[Claim]] = field(default_factory=dict)
    tried: Set[str] = frozenset()
    is_tried: bool = False
    takes_turns: bool = False


def make_plan(sides: Sequence[Side], roles: Roles) -> Plan:
    """What it takes to bring some apps, of which each may take what another one lets go of, from found to wanted.

    `roles` has the kinds in order, each after those that it needs.  Creations and updates follow it, and inside a kind
    the `depends_on` of an app; deletions come last and run against it.  A gate stands right behind what it guards.
    Instances replace each other as `rollout.py` has it.
    """
    parts = [Part(side, roles) for side in sides]
    hands = Hands(parts)
    order = list(roles)
    first = sorted((change for part in parts for change in part.first), key=lambda it: order.index(it.resource.kind))
    possible, late = hands.make_room(first)
    change = [*possible, *late, *_loose(parts, hands), *_start(hands)]
    change += [*_finish(parts, roles, canaries=False), *_shares(parts), *_finish(parts, roles, canaries=True)]
    clean = chain.from_iterable(part.clean(hands.given) for part in parts)
    return Plan(tuple(change), tuple(clean))


class Part:
    """What is to be done about one app of a plan.

    `first` makes what its instances need, and `after` is what leads to them.  `loose` are instances of no service that
    is known, as on the way back to what was found.  `leaving` are the old instances, with their `timers`, and `moved`
    the routes that give way to those of others.
    """

    def __init__(self, side: Side, roles: Roles) -> None:
        want, have = ({r.key: r for r in some if r.key not in side.ignored} for some in (side.wanted, side.found))
        rank = {name: place for place, name in enumerate(startup_order(side.app.services))}
        order, instances = list(roles), list(roles.values()).index(Role.INSTANCE)

        def place_of(resource: Resource) -> tuple[int, int, str]:
            return order.index(resource.kind), rank.get(resource.service, len(rank)), resource.name

        services = {service.name: service for service in side.app.services}
        targets = (target for r in of_role(Role.ROUTE, have.values(), roles) for target in r.spec["targets"])
        self.side, self.have, self.roles = side, have, roles
        self.routed = {target["instance"] for target in targets}
        self.rollouts = {name: _rollout(services[name], want, have, roles, self.routed, side) for name in rank}
        by_rollout = {unit.key for it in self.rollouts.values() for unit in (*it.new, *it.outdated)}
        others = sorted((r for key, r in want.items() if have.get(key) != r and key not in by_rollout), key=place_of)
        self.loose = [Change(have.get(unit.key), unit) for unit in of_role(Role.INSTANCE, others, roles)]
        before = (r for r in others if order.index(r.kind) < instances)
        self.first = [Change(have.get(r.key), _named(r, self.rollouts, roles)) for r in before]
        self.after = sorted((r for r in want.values() if order.index(r.kind) > instances), key=place_of)
        self.deletions = sorted((r for key, r in have.items() if key not in want), key=place_of, reverse=True)
        self.leaving = of_role(Role.INSTANCE, self.deletions, roles)
        self.timers = of_role(Role.TIMER, self.deletions, roles)
        self.moved: list[Resource] = []

    def clean(self, given: Set[Key]) -> Iterator[Step]:
        """Delete what is no longer wanted, in reverse order; instances after they were drained."""
        gone = set(given).union(*(it.removed for it in self.rollouts.values()), (it.key for it in self.moved))
        deletions = [resource for resource in self.deletions if resource.key not in gone]
        named = {name for name, rollout in self.rollouts.items() if rollout.is_found_by_name}
        leaving = of_role(Role.INSTANCE, deletions, self.roles)
        emptied = {unit.service for unit in leaving}
        all_routes = of_role(Role.ROUTE, (*self.after, *deletions, *self.moved), self.roles)
        routes = [route for route in all_routes if route.service in emptied]
        first = deletions.index(leaving[0]) if leaving else 0
        yield from (Change(resource, None) for resource in deletions[:first])
        yield from drained(routes, leaving, named, self.routed)
        yield from (Change(resource, None) for resource in deletions[first:])


def _loose(parts: Iterable[Part], hands: Hands) -> Iterator[Step]:
    """Instances of no service that is known, after all that may have what they need has let go of it."""
    for part in parts:
        yield from hands.let_go(hands.givers((it.to for it in part.loose if it.to and not it.was), part))
        yield from part.loose


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
    side: Side,
) -> Rollout:
    def of_service(side: Mapping[Key, Resource], role: Role) -> list[Resource]:
        return [r for r in of_role(role, side.values(), roles) if r.service == service.name]

    wanted, found = of_service(want, Role.INSTANCE), of_service(have, Role.INSTANCE)
    outdated = [unit for unit in wanted if have.get(unit.key) == unit.with_spec(state=OUTDATED)]
    to = next(iter(of_service(want, Role.ROUTE)), None)
    return Rollout(
        service,
        new=[unit for unit in wanted if have.get(unit.key) != unit and unit not in outdated],
        current=[] if side.proven else [unit for unit in wanted if have.get(unit.key) == unit or unit in outdated],
        old=[unit for unit in found if unit.key not in want],
        have={unit.name: unit for unit in found},
        route=have.get(to.key) if to else None,
        to=to,
        routed=routed,
        all_in_one_batch=side.proven,
        outdated=outdated,
        timers=of_service(have, Role.TIMER),
        tried=side.tried,
        is_tried=side.is_tried or not side.tried.isdisjoint(service.instances(side.app.name)),
        takes_turns=side.takes_turns,
    )


def _start(hands: Hands) -> Iterator[Step]:
    """The instances of all services.

    What others depend on, or wait for to let go of something, is proven before these are made, all else together.
    """
    waiting: list[tuple[Rollout, Sequence[Resource]]] = []
    started: set[int] = set()
    for part, rollout in hands.turns():
        givers = hands.givers(rollout.new, part, rollout)
        waits = any(_waits_for(rollout.service, earlier.service) for earlier, _ in waiting)
        if waits or any(id(it.rollout) in started for it in givers):
            yield from prove(waiting)
            waiting = []
        yield from hands.let_go(givers, started)
        yield from rollout.steps()
        waiting.append((rollout, rollout.unproven()))
        started.add(id(rollout))
    yield from prove(waiting)


def _shares(parts: Sequence[Part]) -> Iterator[Step]:
    """The shares of all new versions that get their traffic by and by, side by side."""
    rollouts = (rollout for part in parts for rollout in part.rollouts.values())
    for together in zip_longest(*(rollout.shares() for rollout in rollouts), fillvalue=Share()):
        for steps in zip(*together, strict=True):
            yield from chain.from_iterable(steps)


def _finish(parts: Sequence[Part], roles: Roles, *, canaries: bool) -> Iterator[Step]:
    """What comes after the instances: all routes in one switch, each proven to lead to its own and to no others.

    Those of canaries are a switch of their own, after the others: who has no old instance left does not wait for them.
    """
    for kind in roles:
        changes, gates = [], []
        for part in parts:
            for resource in (it for it in part.after if it.kind == kind):
                rollout = part.rollouts.get(resource.service)
                rollout = rollout if rollout and rollout.to is resource else None
                if bool(rollout and rollout.is_canary) is not canaries:
                    continue
                was = rollout.route if rollout else part.have.get(resource.key)
                if was != resource:
                    changes.append(Change(was, resource))
                if rollout and (was != resource or not part.side.proven):
                    gates.append(rollout.switched(resource, rollout.remaining()))
        yield from changes
        if roles[kind] is Role.ROUTE:
            yield from _moved(changes, parts)
        yield from gates


def _moved(changes: Iterable[Change], parts: Iterable[Part]) -> Iterator[Step]:
    """Delete the routes that match what new ones match now: Kong would go on to use the older of two."""
    taken = {key for change in changes if change.to for key in matched(change.to)}
    for part in parts if taken else ():
        moved = [r for r in of_role(Role.ROUTE, part.deletions, part.roles) if not taken.isdisjoint(matched(r))]
        moved = [route for route in moved if route not in part.moved]
        part.moved += moved
        yield from (Change(route, None) for route in moved)


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
