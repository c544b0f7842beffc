"""What `Resource.spec` of the kinds says: the vocabulary in which wanted and found are compared.  Pure.

That of a route is in `route.py`.  The keys are stored in reports: none is ever renamed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NotRequired, TypedDict, cast

from gitops_mvd.core.claims import Claim, of_app
from gitops_mvd.core.compose import Network
from gitops_mvd.core.model import App, Resource, Service
from gitops_mvd.core.secrets import names_in

OVERRIDDEN = "overridden"  # key of a spec: what somebody has laid over a resource, which is not ours to undo


class UnitSpec(TypedDict):
    """An instance: the digest of its service, its port on the host or 0, its state, the seconds it gets to stop."""

    digest: str
    port: int
    state: str
    grace: float
    overridden: NotRequired[str]


class ContainerSpec(TypedDict):
    """What an instance runs in: the digest of its service, its port on the host or 0, and its state."""

    digest: str
    port: int
    state: str
    overridden: NotRequired[str]


@dataclass(frozen=True, slots=True)
class Unnamed:
    """The payload of a container that is made without the aliases of its service, which another one still has."""

    service: Service


@dataclass(frozen=True, slots=True)
class Joined:
    """The payload of a container that was found: the networks that it is on, also while it does not run, and its id.

    `claims` has what it has of the host, as far as the engine shows it.
    """

    networks: frozenset[str]
    id: str = ""
    claims: frozenset[Claim] = frozenset()


@dataclass(frozen=True, slots=True)
class Made:
    """The payload of a wanted network: its options."""

    options: Network


@dataclass(frozen=True, slots=True)
class WithContainer(Made):
    """The payload of a network that is made with the first container that joins it.

    Containers of older versions may be on none: a network for each of their apps would only use up addresses.
    """


@dataclass(frozen=True, slots=True)
class Pools:
    """The payload of a network that was found: the claims on its subnets."""

    claims: frozenset[Claim]


class TimerSpec(TypedDict):
    schedule: str
    state: str
    overridden: NotRequired[str]


class DigestSpec(TypedDict):
    """A config, network or volume: the digest of what it is made of."""

    digest: str


def unit_spec(unit: Resource) -> UnitSpec:
    return cast(UnitSpec, unit.spec)


def container_spec(container: Resource) -> ContainerSpec:
    return cast(ContainerSpec, container.spec)


def timer_spec(timer: Resource) -> TimerSpec:
    return cast(TimerSpec, timer.spec)


def digest_spec(resource: Resource) -> DigestSpec:
    return cast(DigestSpec, resource.spec)


def service_of(wanted: Resource) -> Service:
    """The service in the payload of a wanted instance, its container or files.  Raises TypeError for a found one."""
    payload = wanted.payload.service if isinstance(wanted.payload, Unnamed) else wanted.payload
    if not isinstance(payload, Service):
        raise TypeError(f"{wanted.kind} {wanted.name} has no service in its payload")
    return payload


def claims_by_instance(
    names: Collection[str], versions: Iterable[App | None], found: Iterable[Resource]
) -> dict[str, frozenset[Claim]]:
    """The claims of some instances: by the versions that may have them, else as far as they can be seen.

    The result lacks an instance of which nothing is known.
    """
    claims: dict[str, frozenset[Claim]] = {}
    for resource in found:
        if isinstance(resource.payload, Joined) and resource.name in names:
            claims[resource.name] = resource.payload.claims
    for known in [of_app(version).by_instance for version in versions if version]:
        claims |= {name: known[name] for name in names if name in known}
    return claims


def secrets_of_environment(service: Service) -> list[str]:
    """The names of the secrets that the environment of a service refers to, sorted.

    In a version that older ones of gitops-mvd made, what looks like a reference is a text.
    """
    named = {name for value in service.environment.values() for name in names_in(value)}
    return sorted(named & service.secrets.keys())
