"""Claims: what only one service of a host can have, a port of the host or a route of Kong.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gitops_mvd.config.tables import Place
from gitops_mvd.core.compose import Port
from gitops_mvd.core.model import Problem
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.manifest.matches import MatchKey, combinations
from gitops_mvd.manifest.network import fixed

EVERYWHERE = ("", "0.0.0.0", "::")  # addresses that stand for all of the host

_PORT_ADVICE = "choose another port, or use `x-kong`"
_ROUTE_ADVICE = "give one of them another path, host or method"


@dataclass(frozen=True, slots=True)
class Claim:
    """A port or route that a service needs; equal keys clash.  `host_ip` of a port is its address, "" for all."""

    what: str
    key: MatchKey
    owner: str  # <app>.<service>
    at: Place
    advice: str
    host_ip: str = ""

    def against(self, other: Claim) -> str:
        """The message about a clash with another claim."""
        theirs = other.at.node
        return f"{self.what} is used by {other.owner} too, in {theirs.file}:{theirs.line}: {self.advice}"

    def problem(self, other: Claim) -> Problem:
        return Problem(self.at.node.file, self.at.node.line, self.at.key, self.against(other))


@dataclass(frozen=True, slots=True)
class Register:
    """The claims of one host."""

    _taken: dict[MatchKey, dict[str, Claim]] = field(default_factory=dict)

    def take(self, claims: Iterable[Claim]) -> None:
        for claim in claims:
            self._taken.setdefault(claim.key, {}).setdefault(claim.host_ip, claim)

    def rivals(self, claims: Iterable[Claim]) -> Iterator[tuple[Claim, Claim]]:
        """Each claim that is taken already, with the claim that has it."""
        for claim in claims:
            if there := self._taken.get(claim.key):
                anybody = None if claim.host_ip else next(iter(there.values()))
                rival = there.get(claim.host_ip) or there.get("") or anybody
                if rival and rival.at is not claim.at:
                    yield claim, rival


def of_ports(owner: str, ports: Iterable[tuple[Place, Port]]) -> Iterator[Claim]:
    for at, port in ports:
        if fixed(port):
            key = ("port", port["published"], port["protocol"])
            host_ip = "" if port["host_ip"] in EVERYWHERE else port["host_ip"]
            yield Claim(f"the port {port['published']} of the host", key, owner, at, _PORT_ADVICE, host_ip)


def of_routes(owner: str, routes: Iterable[tuple[Place, Declaration]]) -> Iterator[Claim]:
    """Every combination that a route matches: of two equal ones, Kong would choose the older."""
    for at, route in routes:
        for what, key in combinations(route):
            yield Claim(what, key, owner, at, _ROUTE_ADVICE)
