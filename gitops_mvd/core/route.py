"""What Kong has for one service, as the `spec` of a route resource.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from gitops_mvd.core.matches import MatchKey, combinations
from gitops_mvd.core.model import JsonValue, Resource

# Type of entity -> id -> dotted path of a declared field -> its value, secrets as digests.
EntityFields = Mapping[str, Mapping[str, Mapping[str, JsonValue]]]


class Target(TypedDict):
    """Where Kong sends the requests for one instance; `address` is "" until the instance has its port.

    A `weight` is that of a target that gets more or less than the usual share.
    """

    instance: str
    address: str
    weight: NotRequired[int]


class Counted(TypedDict, total=False):
    """The share that is judged, in percent, and the seconds until it is; empty if another process is told."""

    share: int
    lasts: float


class RouteSpec(TypedDict):
    """The declared entities, and one target for each instance in service.

    If it is `counted`, Kong tells of each request where it went and what became of it.
    """

    entities: EntityFields
    targets: Sequence[Target]
    counted: NotRequired[Counted]


USUAL_WEIGHT = 100
INSTANCE_PORTS = range(20000, 30000)  # of the host; outside of the ephemeral range, which starts at 32768


def weight(target: Target) -> int:
    return target.get("weight", USUAL_WEIGHT)


def weighing(target: Target, weight: int) -> Target:
    return {**target, "weight": weight}


def drained(route: Resource) -> Resource:
    """The route with no share of the requests for any of its targets."""
    return route.with_spec(targets=[weighing(target, 0) for target in route.spec["targets"]])


def is_drained(route: Resource) -> bool:
    """Does none of its targets, of which it has some, get a request?"""
    return bool(route.spec["targets"]) and not any(map(weight, route.spec["targets"]))


def matched(route: Resource) -> set[MatchKey]:
    """All that the routes of a service match."""
    routes = route.spec["entities"].get("routes", {})
    return {key for fields in routes.values() for _, key in combinations(fields)}
