"""Claims: what only one app or service of a host can have: ports, routes, subnets, addresses and names.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from gitops_mvd.config.tables import Place
from gitops_mvd.core import claims
from gitops_mvd.core.compose import Network, Port
from gitops_mvd.core.matches import MatchKey, combinations
from gitops_mvd.core.model import Problem, Service
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.manifest.subnets import Subnet, Subnets, is_within

MOST_OTHERS = 10  # that are reported of one subnet

_PORT_ADVICE = "choose another port, or use `x-kong`"
_SUBNET_ADVICE = "choose another"
_NAME_ADVICE = "give one of them another `name`, or declare it `external: true` in one of the two"
_ENTRY_ADVICE = "give one of them another `name`, or use one entry for both"
_ROUTE_ADVICE = "give one of them another path, host or method"


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that a service or an app needs; equal keys clash.  `host_ip` of a port is its address, "" for all.

    `pool` is a subnet and the part of it that addresses are given out from: two clash if those parts overlap.  What is
    `derived` follows from the names of an app and of an entry of its file: an app that has written such a name down
    itself gives way to the app that it follows from.
    """

    what: str
    key: MatchKey
    owner: str  # <app>.<service>, <app>, or the entry of a file
    at: Place
    advice: str
    host_ip: str = ""
    pool: tuple[Subnet, Subnet] | None = None
    derived: bool = False

    def against(self, other: Claim) -> str:
        """The message about a clash with another claim."""
        theirs = other.at.node
        if self.pool and other.pool and self.pool[0] != other.pool[0]:
            clash = f"overlaps with {other.pool[0]} of {other.owner}"
        else:
            clash = f"is used by {other.owner} too"
        return f"{self.what} {clash}, in {theirs.file}:{theirs.line}: {self.advice}"

    def problem(self, other: Claim) -> Problem:
        return Problem(self.at.node.file, self.at.node.line, self.at.key, self.against(other))


@dataclass(frozen=True, slots=True)
class Register:
    """The claims of one host."""

    _taken: dict[MatchKey, dict[str, Claim]] = field(default_factory=dict)
    _pools: Subnets[Claim] = field(default_factory=Subnets)

    def take(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            if claim.pool:
                self._pools.add(claim.pool[1], claim.key, claim)
            else:
                self._taken.setdefault(claim.key, {}).setdefault(claim.host_ip, claim)

    def rivals(self, claims: Iterable[Claim]) -> Iterator[tuple[Claim, Claim]]:
        """Each claim that is taken already, with the claim that has it; a subnet, with the first ten that overlap."""
        for claim in claims:
            if claim.pool:
                others = (other for other in self._pools.overlapping(claim.pool[1]) if other.key != claim.key)
                yield from ((claim, other) for other in islice(others, MOST_OTHERS))
            elif there := self._taken.get(claim.key):
                anybody = None if claim.host_ip else next(iter(there.values()))
                rival = there.get(claim.host_ip) or there.get("") or anybody
                if rival and rival.at is not claim.at and not _are_told_apart(claim, rival):
                    yield claim, rival


def of_ports(owner: str, ports: Iterable[tuple[Place, Port]]) -> Iterator[Claim]:
    for at, port in ports:
        if claims.is_fixed(port):
            claim = claims.of_port(port)
            what = f"the port {port['published']} of the host"
            yield Claim(what, (claim.kind, claim.name), owner, at, _PORT_ADVICE, claim.address)


def of_whole_service(app: str, service: Service, place: Place) -> Iterator[Claim]:
    """What a service claims that is no entry of its `ports`: ports of the host's own network, and MAC addresses."""
    entries, owner = place.entries(), f"{app}.{service.name}"
    for claim in sorted(claims.of_service(app, service)):
        if claim.kind == claims.PORT and service.run.get("network_mode") == "host":
            what = f"the port {claim.name.partition('/')[0]} of the host"
            yield Claim(what, (claim.kind, claim.name), owner, entries.get("network_mode", place), _PORT_ADVICE)
        elif claim.kind == claims.MAC:
            at = entries.get("mac_address") or entries.get("networks", place)
            yield Claim(f"the MAC address {claim.name}", (claim.kind, claim.name), owner, at, "choose another")


def of_routes(owner: str, routes: Iterable[tuple[Place, Declaration]]) -> Iterator[Claim]:
    """Every combination that a route matches: of two equal ones, Kong would choose the older."""
    for at, route in routes:
        for what, key in combinations(route):
            yield Claim(what, key, owner, at, _ROUTE_ADVICE)


def of_subnets(app: str, real: str, network: Network, at: Place) -> Iterator[Claim]:
    """The subnets of a network, which an engine gives out once; other drivers of address management have their own."""
    ipam = network.get("ipam", {})
    for pool in ipam.get("config", ()) if ipam.get("driver", "default") == "default" else ():
        if "subnet" in pool:
            subnet = ipaddress.ip_network(pool["subnet"], strict=False)
            part = ipaddress.ip_network(pool.get("ip_range", pool["subnet"]), strict=False)
            key = ("subnet", real, str(subnet))
            if is_within(part, subnet):  # else that is told at the pool
                yield Claim(f"the subnet {subnet}", key, app, at, _SUBNET_ADVICE, pool=(subnet, part))


def of_name(app: str, kind: str, real: str, at: Place, *, derived: bool) -> Claim:
    """The name that a network or volume has on the host, for an app that makes it."""
    return Claim(f"the {kind} {real}", (kind, real), app, at, _NAME_ADVICE, derived=derived)


def _are_told_apart(claim: Claim, other: Claim) -> bool:
    """Are both names of networks that follow from those of their apps?  Then one of them gets another name."""
    return claim.derived and other.derived and claim.key[0] == "network"


def of_entry(app: str, kind: str, name: str, real: str, at: Place) -> Claim:
    """The name on the host of a network or volume, for the entry `name` of a file: one app makes it from one entry."""
    return Claim(f"the {kind} {real}", ("entry", app, kind, real), f"the {kind} {name}", at, _ENTRY_ADVICE)


def of_address(owner: str, network: str, address: str, at: Place) -> Claim:
    """A fixed address on a network."""
    return Claim(f"the address {address} on {network}", ("address", network, address), owner, at, "choose another")


def of_container_name(owner: str, network: str, name: str, at: Place) -> Claim:
    """A `container_name` on a network that several apps may be on."""
    return Claim(f"the name {name} on {network}", ("name", network, name), owner, at, "choose another")
