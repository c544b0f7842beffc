"""What `Resource.spec` of each kind says: the vocabulary in which wanted and found are compared.  Pure.

These keys are stored in reports, so none is ever renamed.
"""

from __future__ import annotations

from typing import TypedDict, cast

from gitops_mvd.core.model import Json, Resource


class UnitSpec(TypedDict):
    """An instance: the digest of its service, its port on the host or 0, its state, the seconds it gets to stop."""

    digest: str
    port: int
    state: str
    grace: float


class TimerSpec(TypedDict):
    schedule: str
    state: str


class Target(TypedDict):
    """What a route leads to: an instance, and its host and port."""

    instance: str
    address: str


class RouteSpec(TypedDict):
    entities: Json
    targets: list[Target]


class DigestSpec(TypedDict):
    """A config, network or volume: the digest of what it is made of."""

    digest: str


def unit_spec(unit: Resource) -> UnitSpec:
    return cast(UnitSpec, unit.spec)


def timer_spec(timer: Resource) -> TimerSpec:
    return cast(TimerSpec, timer.spec)


def route_spec(route: Resource) -> RouteSpec:
    return cast(RouteSpec, route.spec)


def digest_spec(resource: Resource) -> DigestSpec:
    return cast(DigestSpec, resource.spec)
