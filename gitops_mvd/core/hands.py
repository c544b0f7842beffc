"""Who lets go of what, and for whom, in a plan of one or several apps.  Pure.

What is let go of before its time is given back first, if it comes to that: containers stay until the clean-up, and a
unit is written anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from gitops_mvd.core.claims import Claim, of_network, of_service, passing
from gitops_mvd.core.model import Change, Resource, Service, Step
from gitops_mvd.core.rollout import Rollout
from gitops_mvd.core.specs import Joined, Made, Pools, Unnamed

if TYPE_CHECKING:
    from gitops_mvd.core.plan import Key, Part


@dataclass(frozen=True, slots=True)
class Leaving:
    """An old instance, and what it lets go of: None if nothing is known of it, which may be anything."""

    unit: Resource
    part: Part
    rollout: Rollout | None  # of its service, if that stays
    gives: frozenset[Claim] | None


class Hands:
    """`given` is what was deleted for others before its time: units with their timers, and networks."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.given: set[Key] = set()
        self._parts = parts
        self._leaving = [
            Leaving(unit, part, part.rollouts.get(unit.service), _gives(unit, part))
            for part in parts
            for unit in part.leaving
        ]

    def givers(self, units: Iterable[Resource], part: Part, taker: Rollout | None = None) -> list[Leaving]:
        """The old instances of other services that have what new `units` need."""
        others = [it for it in self._left() if taker is None or it.rollout is not taker]
        takes = [_claims(unit, part) for unit in units] if others else ()
        return [it for it in others if any(_meet(it.gives, claims) for claims in takes)]

    def let_go(self, givers: Iterable[Leaving], started: Set[int] = frozenset()) -> Iterator[Step]:
        """Delete instances before their time; their containers stay for the way back.

        Those of a service of which the new version has `started` lose their route first, and are drained.
        """
        for giver in givers:
            if giver.rollout and id(giver.rollout) in started:
                yield from giver.rollout.retire_rest() if giver in self._left() else ()
                continue
            leaving = [*(it for it in giver.part.timers if it.name == giver.unit.name), giver.unit]
            yield from self._delete(leaving)
            if giver.rollout:
                giver.rollout.removed |= {resource.key for resource in leaving}

    def turns(self) -> list[tuple[Part, Rollout]]:
        """The services of all apps: who gives something up before who takes it, unless they go round in a circle."""
        turns = [(part, rollout) for part in self._parts for rollout in part.rollouts.values()]
        places = {id(rollout): place for place, (_, rollout) in enumerate(turns)}
        names = {(id(part), rollout.service.name): place for place, (part, rollout) in enumerate(turns)}
        before: dict[int, set[int]] = {}
        has_givers = False
        for place, (part, rollout) in enumerate(turns):
            needed = {names[id(part), name] for name in rollout.service.depends_on if (id(part), name) in names}
            givers = {places[id(it.rollout)] for it in self.givers(rollout.new, part, rollout) if it.rollout}
            has_givers |= bool(givers)
            before[place] = needed | givers
        if has_givers:
            with suppress(CycleError):
                return [turns[place] for place in TopologicalSorter(before).static_order()]
        return turns

    def make_room(self, first: Sequence[Change]) -> tuple[list[Change], list[Step]]:
        """The first changes without those that need a network for which another one has to go, and then these.

        An engine gives out a subnet once, and a name: so the instances on the old network stop, before the new one can
        be made, and the containers on it.
        """
        old = {network.key: network for part in self._parts for network in part.deletions if _pools(network)}
        late = {
            change.resource.name
            for change in first
            if change.to and not change.was and any(_replaces(change.to, network) for network in old.values())
        }
        if not late:
            return list(first), []
        made = [change for change in first if change.to and _needs(change.to, late)]
        going = [it for it in old.values() if any(_replaces(change.to, it) for change in made if change.to)]
        return [change for change in first if change not in made], [*self._emptied(going), *made]

    def _emptied(self, networks: Sequence[Resource]) -> Iterator[Step]:
        names = {network.name for network in networks}
        on = {it.name for part in self._parts for it in part.have.values() if _is_on(it, names)}
        yield from self.let_go([it for it in self._left() if it.unit.name in on])
        yield from self._delete(networks)

    def _delete(self, resources: Sequence[Resource]) -> Iterator[Step]:
        yield from (Change(resource, None) for resource in resources)
        self.given |= {resource.key for resource in resources}

    def _left(self) -> list[Leaving]:
        """The old instances that are still there."""
        gone = self.given.union(*(it.rollout.removed for it in self._leaving if it.rollout))
        return [it for it in self._leaving if it.unit.key not in gone]


def _claims(unit: Resource, part: Part) -> frozenset[Claim] | None:
    """The claims of an instance; None if they are not known."""
    if isinstance(unit.payload, Service):
        return of_service(part.side.app.name, unit.payload)
    return part.side.claims.get(unit.name)


def _gives(unit: Resource, part: Part) -> frozenset[Claim] | None:
    """What an old instance lets go of: what its service does not go on to claim."""
    claims = part.side.claims.get(unit.name)
    kept = [of_service(part.side.app.name, it) for it in part.side.app.services if it.name == unit.service]
    return claims if claims is None or not kept else claims.difference(passing(kept[0], claims))


def _meet(gives: frozenset[Claim] | None, takes: frozenset[Claim] | None) -> bool:
    if gives is None or takes is None:
        return (gives is None and takes is None) or bool(gives or takes)
    return bool(passing(gives, takes))


# ---- networks --------------------------------------------------------------------------------------------------------


def _pools(network: Resource) -> frozenset[Claim] | None:
    """The subnets of a network; None for any other resource."""
    match network.payload:
        case Pools(claims=claims):
            return claims
        case Made(options=options):
            return frozenset(of_network(options))
    return None


def _replaces(network: Resource, old: Resource) -> bool:
    """Can a network be made only once an old one is gone?"""
    pools, others = _pools(network), _pools(old)
    if pools is None or others is None:
        return False
    return network.key == old.key or bool(passing(others, pools))


def _needs(resource: Resource, networks: Collection[str]) -> bool:
    """Is it one of these networks, or a container that joins one?"""
    payload = resource.payload.service if isinstance(resource.payload, Unnamed) else resource.payload
    if isinstance(payload, Service):
        return not payload.endpoints(resource.app).keys().isdisjoint(networks)
    return _pools(resource) is not None and resource.name in networks


def _is_on(resource: Resource, networks: Collection[str]) -> bool:
    return isinstance(resource.payload, Joined) and not resource.payload.networks.isdisjoint(networks)
