"""Hand-overs: what passes from one app to another with a commit.  Such apps change together or not at all.  Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gitops_mvd.core.claims import DATA, Claim, of_app, of_service, passing
from gitops_mvd.core.compose import Mount
from gitops_mvd.core.decide import Candidate, Decision, admit, decide, held, recall
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Plan, Service
from gitops_mvd.core.ports import History, Host, Planner


@dataclass(frozen=True, slots=True)
class Handover:
    """What the app `taker` gets from `giver`: nothing but its place, if it is the giver under another name."""

    giver: str
    taker: str
    claims: tuple[Claim, ...] = ()
    is_rename: bool = False


@dataclass(frozen=True, slots=True)
class _Stake:
    """The claims of an app: those that its version in the commit `wants`, its good one `had`, and it `holds` now.

    One that is refused, as its manifest is broken, stays as it is, and goes on to share what it shares.
    """

    app: App
    good: App
    is_refused: bool
    wants: frozenset[Claim]
    had: frozenset[Claim]
    holds: frozenset[Claim]


def handovers(candidates: Sequence[Candidate], host: Host, history: History) -> list[Handover]:
    """What passes between the apps of a commit, on the way to it or, after a failure, back."""
    return _between([_stake(candidate, host, history) for candidate in candidates])


def _between(stakes: Sequence[_Stake]) -> list[Handover]:
    there = _passing(
        {it.app.name: _without(it.had | it.holds, it.wants) for it in stakes},
        {it.app.name: _without(it.wants, it.holds) for it in stakes},
    )
    back = _passing(
        {it.app.name: _without(it.wants | it.holds, it.had) for it in stakes},
        {it.app.name: _without(it.had, it.holds) for it in stakes},
    )
    renames = {Handover(*names, is_rename=True) for names in _renames(it for it in stakes if not it.is_refused)}
    return [*there, *back, *sorted(renames, key=lambda it: it.taker)]


def _stake(candidate: Candidate, host: Host, history: History) -> _Stake:
    app = candidate.app
    good, found = history.last_good(app.name) or App(app.name), host.found(app.name)
    had, wants = of_app(good).all, of_app(app).all
    if candidate.refused:
        wants = frozenset(claim for claim in had if claim.is_shared)
    return _Stake(app, good, bool(candidate.refused), wants, had, held(app, good, found, host.roles))


def _without(claims: frozenset[Claim], others: frozenset[Claim]) -> frozenset[Claim]:
    return frozenset() if claims <= others else claims.difference(passing(others, claims))


def _passing(given: Mapping[str, frozenset[Claim]], taken: Mapping[str, frozenset[Claim]]) -> list[Handover]:
    """The hand-overs between apps that give some claims, and apps that take some."""
    givers: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for app, claims in given.items():
        for key in {claim.key for claim in claims}:
            givers[key].append(app)
    pairs = {
        (giver, app)
        for app, claims in taken.items()
        for key in {claim.key for claim in claims}
        for giver in givers.get(key, ())
        if giver != app
    }
    passed = (Handover(giver, app, tuple(passing(given[giver], taken[app]))) for giver, app in sorted(pairs))
    return [handover for handover in passed if handover.claims]


def together(candidates: Iterable[Candidate], handed: Iterable[Handover]) -> list[list[Candidate]]:
    """The candidates in groups, each of apps between which something passes; most are alone in theirs."""
    by_app = {it.app.name: [it] for it in candidates}
    for handover in handed:
        one, other = by_app[handover.giver], by_app[handover.taker]
        if one is not other:
            one += other
            by_app |= {it.app.name: one for it in other}
    return list({id(group): group for group in by_app.values()}.values())


def foreseen(
    every: Sequence[Candidate], host: Host, history: History, planner: Planner, only: Collection[str] | None = None
) -> Iterator[tuple[Candidate, Decision | Unavailable, Plan]]:
    """What would be decided about the apps of a commit, or why that cannot be told now; nothing is done.

    Each comes with the plan of all apps that change together with it.  With `only`, about these apps and those that
    change together with them.
    """
    for group in together(every, handovers(every, host, history)):
        if only is not None and not any(candidate.app.name in only for candidate in group):
            continue
        try:
            admitted = [admit(candidate, host) for candidate in group]
            decisions, plan = decide([(it, recall(it.app, host, history)) for it in admitted], planner)
            yield from ((it, decision, plan) for it, decision in zip(admitted, decisions, strict=True))
        except Unavailable as error:
            yield from ((candidate, error, Plan()) for candidate in group)


# ---- remarks ---------------------------------------------------------------------------------------------------------


def remarks(candidates: Sequence[Candidate], host: Host, history: History) -> dict[str, list[str]]:
    """What to know of a commit beside its changes, by app: what passes to it, and which data it leaves behind."""
    stakes = {candidate.app.name: _stake(candidate, host, history) for candidate in candidates}
    told: defaultdict[str, list[str]] = defaultdict(list)
    for handover in _between([*stakes.values()]):
        giver, taker = stakes[handover.giver], stakes[handover.taker]
        if handover.is_rename:
            told[taker.app.name].append(f"takes the place of {giver.app.name}")
            told[giver.app.name].append(f"{taker.app.name} takes its place")
            told[taker.app.name] += _left_behind(giver.good, taker.app)
        elif claims := passing(_without(giver.had, giver.wants), handover.claims):
            told[taker.app.name].append(f"takes {', '.join(sorted(set(map(str, claims))))} from {giver.app.name}")
    used: frozenset[Claim] = frozenset().union(*(stake.wants for stake in stakes.values()))
    for stake in (it for it in stakes.values() if not it.is_refused):
        told[stake.app.name] += _renamed_services(stake.good, stake.app)
        data = sorted(str(claim) for claim in stake.had - used if claim.kind in DATA)
        if data and not stake.app.services:
            told[stake.app.name].append(f"its data stays on this host: {', '.join(data)}")
    return dict(told)


def _renamed_services(before: App, after: App) -> Iterator[str]:
    """`frontend takes the place of web`, with what it begins without."""
    theirs, ours = ({service.name: service for service in app.services} for app in (before, after))
    gone = [theirs[name] for name in theirs if name not in ours]
    for service in (ours[name] for name in ours if theirs and name not in theirs):
        claims = of_service(after.name, service)
        alike = (one for one in gone if _repository(one) == _repository(service))
        if old := next((it for it in alike if passing(of_service(before.name, it), claims) or len(gone) == 1), None):
            gone.remove(old)
            yield f"{service.name} takes the place of {old.name}"
            yield from _left_behind(App(before.name, (old,)), App(after.name, (replace(service, name=old.name),)))


def _left_behind(before: App, after: App) -> Iterator[str]:
    """The volumes that stay with the old name of something, where the new one begins with an empty one."""
    had = {(service.name, mount["target"]): mount for service, mount in _named_volumes(before)}
    for service, mount in _named_volumes(after):
        old = had.get((service.name, mount["target"]))
        if old and old["source"] != mount["source"] and (old["source"] not in _sources(after)):
            yield (
                f"volume {old['source']} stays, and {service.name} begins with an empty {mount['source']}: "
                f"write `name: {old['source']}` to keep it"
            )


def _named_volumes(app: App) -> Iterator[tuple[Service, Mount]]:
    for service in app.services:
        for mount in service.run.get("volumes", ()):
            if mount["type"] == "volume" and mount["source"]:
                yield service, mount


def _sources(app: App) -> set[str]:
    return {mount["source"] for _, mount in _named_volumes(app)}


# ---- renames ---------------------------------------------------------------------------------------------------------


def _renames(stakes: Iterable[_Stake]) -> Iterator[tuple[str, str]]:
    """The apps that are gone, each with the new one that is most like it."""
    changed = [it for it in stakes if bool(it.app.services) != bool(it.good.services)]
    gone = [it.good for it in changed if it.good.services]
    new = [it.app for it in changed if it.app.services]
    for good in gone:
        likeness = {app.name: _likeness(good, app) for app in new}
        best = max(likeness, key=lambda it: likeness[it], default="")
        if best and likeness[best] > 0.5:
            new = [app for app in new if app.name != best]
            yield good.name, best


def _likeness(one: App, other: App) -> float:
    """The share of the services that both have, 0 to 1: of the same name, and from the same repository of images."""
    theirs = {_alike(service) for service in one.services}
    ours = {_alike(service) for service in other.services}
    return len(theirs & ours) / max(1, len(theirs | ours))


def _alike(service: Service) -> tuple[str, str]:
    return service.name, _repository(service)


def _repository(service: Service) -> str:
    """The image of a service without its tag or digest."""
    head, slash, name = (service.tag or service.image).partition("@")[0].rpartition("/")
    return f"{head}{slash}{name.partition(':')[0]}"
