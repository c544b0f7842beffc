"""What `Resource.spec` of the kinds says: the vocabulary in which wanted and found are compared.  Pure.

That of a route is in `route.py`.  The keys are stored in reports: none is ever renamed.
"""

from __future__ import annotations

from typing import TypedDict, cast

from gitops_mvd.core.model import Resource, Service


class UnitSpec(TypedDict):
    """An instance: the digest of its service, its port on the host or 0, its state, the seconds it gets to stop."""

    digest: str
    port: int
    state: str
    grace: float


class TimerSpec(TypedDict):
    schedule: str
    state: str


class DigestSpec(TypedDict):
    """A config, network or volume: the digest of what it is made of."""

    digest: str


def unit_spec(unit: Resource) -> UnitSpec:
    return cast(UnitSpec, unit.spec)


def timer_spec(timer: Resource) -> TimerSpec:
    return cast(TimerSpec, timer.spec)


def digest_spec(resource: Resource) -> DigestSpec:
    return cast(DigestSpec, resource.spec)


def service_of(wanted: Resource) -> Service:
    """The service in the payload of a wanted instance or of its files.  Raises TypeError for one that was found."""
    if not isinstance(wanted.payload, Service):
        raise TypeError(f"{wanted.kind} {wanted.name} has no service in its payload")
    return wanted.payload
