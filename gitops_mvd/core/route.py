"""What Kong has for one service, as the `spec` of a route resource.  Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from gitops_mvd.core.matches import MatchKey, combinations
from gitops_mvd.core.model import JsonValue, Resource

# Type of entity -> id -> dotted path of a declared field -> its value, secrets as digests.
EntityFields = Mapping[str, Mapping[str, Mapping[str, JsonValue]]]


class Target(TypedDict):
    """Where Kong sends the requests for one instance; `address` is "" until the instance has its port."""

    instance: str
    address: str


class RouteSpec(TypedDict):
    """The declared entities, and one target for each instance in service."""

    entities: EntityFields
    targets: Sequence[Target]


def matched(route: Resource) -> set[MatchKey]:
    """All that the routes of a service match."""
    routes = route.spec["entities"].get("routes", {})
    return {key for fields in routes.values() for _, key in combinations(fields)}
