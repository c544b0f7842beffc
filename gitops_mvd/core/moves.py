"""An app that a commit moves from this host to others: it is kept here until they have it.  Pure.

The new hosts never wait, so that a dead one can be replaced.  The old one reads the statuses of the new ones at the
forge, as a rollout does between two waves, and remembers nothing: the same commits and statuses, and what is found on
this host, make the same decision at every pass and after every restart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from gitops_mvd.core.claims import DATA, of_service
from gitops_mvd.core.decide import Candidate
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.handover import handovers
from gitops_mvd.core.model import KEEP, App, Failure, Revision, Role, Service
from gitops_mvd.core.plan import of_role
from gitops_mvd.core.ports import History, Host
from gitops_mvd.core.waves import ALL, MOST_RETURNS, ROLLOUT, Line, Rollout, Rollouts, Silent, Wave, standing

KEPT = "kept until"  # begins why an app is kept
OF_A_WIRE = ("macvlan", "ipvlan")  # drivers of networks whose addresses are those of all hosts on one wire
FIXED = ("ipv4_address", "ipv6_address", "mac_address")
NOTHING: frozenset[str] = frozenset()
NEVER = Silent(after=math.inf)


class Placed(Protocol):
    """Where a commit has the services of apps."""

    def hosts(self) -> Mapping[str, bool]:
        """The hosts of the fleet, and whether each is drained; none if every host is one."""
        ...

    def services(self, app: str, host: str) -> frozenset[str] | None:
        """What a host runs of an app; None if the app is broken there, and so stays as it was."""
        ...


@dataclass(frozen=True, slots=True)
class Branch:
    """The commits up to the one that this host follows, and where each has what: None if its fleet cannot be read."""

    line: Line
    placed: Callable[[Revision], Placed | None]
    rollouts: Rollouts

    def now(self) -> Placed | None:
        return self.placed(self.line.revisions[-1])

    def last(self, is_so: Callable[[Placed], bool]) -> int:
        """The place of the last commit before that of which something is so, 0 if that is too long ago."""
        places = reversed(range(len(self.line.revisions) - 1))
        found = ((place, self.placed(self.line.revisions[place])) for place in places)
        return next((place for place, placed in found if placed and is_so(placed)), 0)

    def last_with(self, app: str, services: frozenset[str]) -> int:
        """The place of the last commit before that has these services of an app on this host."""
        return self.last(lambda it: services <= (it.services(app, self.line.host) or NOTHING))

    def last_without(self, app: str, services: frozenset[str], host: str) -> int:
        """The place of the last commit before that has none of these services on a host."""
        return self.last(lambda it: not services & (it.services(app, host) or NOTHING))


def takers(before: Placed | None, after: Placed, app: str, services: frozenset[str], host: str) -> list[str]:
    """The other hosts that get some of these services of an app; one on which the app is broken may be one of them."""

    def gets(other: str) -> bool:
        has = after.services(app, other)
        had = before.services(app, other) if before else None
        return bool((services if has is None else services & has) - (had or NOTHING))

    return [other for other in sorted(after.hosts()) if other != host and gets(other)]


def is_at_once(app: str, rollouts: Rollouts) -> bool:
    """Does its rollout say that an app is to be everywhere at once?"""
    return app in rollouts.apps and rollouts.of(app) is None


# ---- what is kept ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Leaving:
    """The services that worked on this host last, and that the commit no longer has on it.

    Of these, it `lets_go` at once of those that must not run twice.
    """

    app: str
    services: frozenset[str]
    lets_go: frozenset[str]


def keep(
    candidates: Sequence[Candidate], host: Host, history: History, branch: Callable[[], Branch]
) -> Sequence[Candidate]:
    """The candidates, of which those that other hosts do not have yet are kept as they are.

    The `branch` is asked for only if something leaves this host.
    """
    if not (leaving := {it.app: it for it in _all_leaving(candidates, host, history)}):
        return candidates
    for handover in handovers(candidates, host, history):
        if handover.claims:  # else what takes them would wait, too, maybe in a circle
            leaving.pop(handover.giver, None)
    kept = {app: (it, why) for app, it in leaving.items() if (why := _why_kept(it, branch))}
    return [_kept(it, *kept[it.app.name]) if it.app.name in kept else it for it in candidates]


def _kept(candidate: Candidate, leaving: _Leaving, why: str) -> Candidate:
    return replace(candidate, refused=Failure(why, KEEP), lets_go=leaving.lets_go)


def _all_leaving(candidates: Iterable[Candidate], host: Host, history: History) -> Iterator[_Leaving]:
    for candidate in candidates:
        name, wanted = candidate.app.name, _names(candidate.app)
        if candidate.refused or candidate.suspended:
            continue
        good = history.last_good(name)
        worked = _names(good) if good else _running(name, host)
        # What begins here may be what another host waits for, so an app of which something does is never kept.
        if (services := worked - wanted) and wanted <= worked:
            alone = {it.name for it in good.services if _is_alone(good, it)} if good else NOTHING
            yield _Leaving(name, services, services & alone)


def _running(app: str, host: Host) -> frozenset[str]:
    return frozenset(it.service for it in of_role(Role.INSTANCE, host.found(app), host.roles))


def _names(app: App) -> frozenset[str]:
    return frozenset(service.name for service in app.services)


def _is_alone(app: App, service: Service) -> bool:
    """Must it not run on two hosts at once: by a schedule, or as it has an address on a wire that both share?"""
    endpoints = service.endpoints(app.name)
    wired = [name for name in endpoints if app.networks.get(name, {}).get("driver") in OF_A_WIRE]
    return bool(service.schedule) or any(key in endpoints[name] for name in wired for key in FIXED)


def _why_kept(leaving: _Leaving, branch: Callable[[], Branch]) -> str:
    """Why services stay on this host for now; "" if they need not."""
    if not (services := leaving.services - leaving.lets_go):
        return ""
    try:
        return _why(branch(), leaving.app, services)
    except Unavailable as error:
        return f"{KEPT} other hosts have it: cannot ask: {error}"


def _why(branch: Branch, app: str, services: frozenset[str]) -> str:
    line, after = branch.line, branch.now()
    if not after or is_at_once(app, branch.rollouts):
        return ""
    base = branch.last_with(app, services)
    new = takers(branch.placed(line.revisions[base]), after, app, services, line.host)
    got = dict.fromkeys(new, base + 1) or _unproven(branch, after, app, services)
    if not got:
        return ""
    if any(line.world.trailers(it).get(ROLLOUT, "").lower() == ALL for it in line.revisions[base + 1 :]):
        return ""
    drained = after.hosts()
    serving = [it for it in got if not drained[it]]
    rollout = branch.rollouts.of(app) or Rollout((Wave("*", frozenset()),))
    pending = ""
    for host in serving:
        is_later = rollout.place_of(host) > rollout.place_of(line.host)  # it waits for this one, and is not silent
        silent = NEVER if is_later else rollout.silent
        last = next(_changes(line, host, got[host]), None)
        told = standing(line, last, host, silent) if last is not None else None
        if told and told.state == "red":
            return f"{KEPT} {host} has it: {told.why}"
        if told and told.state == "pending":
            pending = pending or f"{KEPT} {host} has it: {told.why or f'{host} is not green yet'}"
    return pending if serving else f"{KEPT} {next(iter(got))} has it: {next(iter(got))} is drained"


def _unproven(branch: Branch, after: Placed, app: str, services: frozenset[str]) -> Mapping[str, int]:
    """The other hosts with some of these services, and the place since when; none if one was green since then.

    They got them by an earlier commit, which they may not have seen yet.
    """
    line, found = branch.line, dict[str, int]()
    for host, is_drained in sorted(after.hosts().items()):
        if host == line.host or not services & (after.services(app, host) or NOTHING):
            continue
        without = branch.last_without(app, services, host)
        placed, changes = branch.placed(line.revisions[without]), [*_changes(line, host, without + 1)][:MOST_RETURNS]
        is_old = placed and services & (placed.services(app, host) or NOTHING)  # no commit of the branch brought them
        if not is_drained and (is_old or any(standing(line, it, host, NEVER).state == "green" for it in changes)):
            return {}
        found[host] = without + 1
    return found


def _changes(line: Line, host: str, since: int) -> Iterator[int]:
    """The places of the line since then at which something changes on a host, the last one first."""
    return (it for it in reversed(range(since, len(line.revisions))) if line.changed(it, host))


# ---- remarks ---------------------------------------------------------------------------------------------------------


def remarks_at(branch: Branch, app: App, good: App) -> Iterator[str]:
    """What to know of an app at the last commit of a branch, as `remarks` has it."""
    if not (after := branch.now()) or _names(app) == _names(good):
        return
    leaving, coming = _names(good) - _names(app), _names(app) - _names(good)
    place = branch.last_with(app.name, leaving) if leaving else branch.last_without(app.name, coming, branch.line.host)
    if before := branch.placed(branch.line.revisions[place]):
        yield from remarks(app, good, before, after, branch.line.host, branch.rollouts)


def remarks(app: App, good: App, before: Placed, after: Placed, host: str, rollouts: Rollouts) -> Iterator[str]:
    """What to know of an app that moves between this host and others, and of its data, which does not move along.

    `good` is its version that last worked here; `before` and `after` are where it is now and will be.
    """
    waits = not is_at_once(app.name, rollouts)
    leaving, coming = _names(good) - _names(app), _names(app) - _names(good)
    if leaving and (found := takers(before, after, app.name, leaving, host)):
        order = ": it is kept here until it is green there" if waits else ""
        yield f"{_which(leaving, app)}moves to {', '.join(found)}{order}"
        yield from _data(good, leaving, "this host")
    givers = [it for it in sorted(before.hosts()) if it != host and _gives(before, after, app.name, coming, it)]
    if givers:
        order = ", where it is kept until it is green here" if waits else ""
        yield f"{_which(coming, good)}comes from {', '.join(givers)}{order}"
        yield from _data(app, coming, ", ".join(givers))


def _which(services: frozenset[str], other: App) -> str:
    """The names of some services, if the app has others that stay; "" for all of it."""
    return f"{', '.join(sorted(services))} " if other.services else ""


def _gives(before: Placed, after: Placed, app: str, services: frozenset[str], host: str) -> bool:
    has = after.services(app, host) if host in after.hosts() else NOTHING
    return has is not None and bool(services & (before.services(app, host) or NOTHING) - has)


def _data(app: App, services: frozenset[str], where: str) -> Iterator[str]:
    claims = (claim for it in app.services if it.name in services for claim in of_service(app.name, it))
    if data := sorted({str(claim) for claim in claims if claim.kind in DATA}):
        yield f"its data stays on {where}: {', '.join(data)}"


def merged(some: Mapping[str, Sequence[str]], others: Mapping[str, Sequence[str]]) -> Mapping[str, Sequence[str]]:
    """Remarks by app, of which each is said once."""
    return {app: [*dict.fromkeys((*some.get(app, ()), *others.get(app, ())))] for app in some.keys() | others.keys()}
