"""Which commit a host follows while a rollout goes from wave to wave, and why not a newer one.  Pure.

No host is told by another one: each reads the statuses of the earlier waves at the forge and decides for itself.  It
takes the newest commit of which nothing hinders it, so a revert overtakes the commit that it mends.  Nothing is
remembered: the same commits and statuses make the same choice, at every pass and after every restart.

Only hosts that a commit changes are asked for.  What changes nothing here needs no gate, and what goes back to what has
been green here needs none either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import PostedState, PostedStatus, Revision
from gitops_mvd.core.windows import Windows

ROLLOUT = "rollout"  # the trailer that passes every gate, with this value:
ALL = "all"
WAVES = "waves"  # in the contexts of the statuses of waves
SUPERSEDED = "superseded by"  # the beginning of the status of a commit that a newer one has overtaken
KEEPS = "keeps "  # the same where a host has done all else, and keeps what moves to others until they have it
MOST_CANDIDATES = 20  # commits that are looked at, the newest first
MOST_RETURNS = 3  # earlier commits with the same content whose status is asked for

Contents = Mapping[str, str]
"""App -> the digest of what a host runs of it at a commit."""


@dataclass(frozen=True, slots=True)
class Wave:
    """Hosts that begin together; `title` is how `fleet.yaml` names them."""

    title: str
    hosts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked at an address before each wave but the first: a Prometheus, if there is a `query`."""

    url: str
    query: str = ""


@dataclass(frozen=True, slots=True)
class Silent:
    """What a host counts as that has not ended for so many seconds: `red` or `green`."""

    after: float = 1800.0
    counts_as: str = "red"


@dataclass(frozen=True, slots=True)
class Rollout:
    """The waves, and what must hold before each but the first; `windows` hold for the first one, too.

    `bake` is for how many seconds the waves before must have been green, `approval` the name of the trailer that a
    commit must have.
    """

    waves: tuple[Wave, ...]
    bake: float = 0.0
    approval: str = ""
    questions: tuple[Question, ...] = ()
    windows: Windows = field(default_factory=Windows)
    silent: Silent = field(default_factory=Silent)

    def place_of(self, host: str) -> int:
        """The place of a host's wave, 0 for the first; the last one's for a host that is in none."""
        return next((place for place, wave in enumerate(self.waves) if host in wave.hosts), len(self.waves) - 1)


@dataclass(frozen=True, slots=True)
class Rollouts:
    """The rollout of all apps, and of those that have one of their own; None goes everywhere at once."""

    usual: Rollout | None = None
    apps: Mapping[str, Rollout | None] = field(default_factory=dict)
    wave_statuses: bool = False  # has each wave of the usual one a status of its own?

    def __bool__(self) -> bool:
        return self.usual is not None or any(self.apps.values())

    def of(self, app: str) -> Rollout | None:
        """The rollout of an app; None if it goes everywhere at once."""
        return self.apps.get(app, self.usual)


@dataclass(frozen=True, slots=True)
class Peers:
    """The hosts of one wave that a commit changes, sorted, and the number of the wave, from 1."""

    wave: int
    hosts: tuple[str, ...]


def wave_context(number: int) -> str:
    """The context of the status of a wave, by its number from 1."""
    return f"mvd/{WAVES}/{number}"


class World(Protocol):
    """What a choice is made of; each answer is looked up when it is needed.  Any may raise Unavailable."""

    def contents(self, revision: Revision, host: str) -> Contents:
        """What a host should run at a commit."""
        ...

    def trailers(self, revision: Revision) -> Mapping[str, str]:
        """The trailers of a commit's message that count, by their names in lower case."""
        ...

    def statuses(self, revision: Revision) -> Mapping[str, PostedStatus]:
        """What hosts have posted to a commit, by their names."""
        ...

    def now(self) -> float:
        """The Unix time by this server's clock."""
        ...

    def forge_now(self) -> float:
        """The Unix time by the forge's clock, which also says when a status was posted."""
        ...

    def waited(self, revision: Revision, host: str) -> float:
        """For how many seconds this host has been waiting for that one to end with a commit."""
        ...

    def answer(self, question: Question) -> str:
        """Why a question is not answered as it must be; "" if it is."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """A commit that this host does not follow yet, and why; `changes` says if it changes this host at all.

    `posted` is what its status says, "" for the same.  It waits until each of `awaits`, a commit and a host, is green;
    if that is empty, it waits for something else.
    """

    revision: Revision
    why: str
    changes: bool
    posted: str = ""
    awaits: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a host may not follow a commit, which is false if it may.

    While the waves before its own go on and bake, `posted` stays the same, as each post counts where many hosts wait.
    `awaits` are the commits and hosts that must become green before it is worth to look again.
    """

    why: str = ""
    posted: str = ""
    awaits: frozenset[tuple[str, str]] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.why)


NONE = Hindrance()


@dataclass(frozen=True, slots=True)
class Choice:
    """The commit to follow, None if none may be yet, and the newer ones that are held, the newest first."""

    revision: Revision | None
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """The branch up to its tip, oldest first, and the place of what this host follows now.

    -1 is before the first commit of all, where a host has nothing.
    """

    revisions: Sequence[Revision]
    base: int
    host: str
    world: World

    def at(self, place: int, host: str) -> Contents:
        return self.world.contents(self.revisions[place], host) if place >= 0 else {}

    def changed(self, place: int, host: str) -> frozenset[str]:
        """The apps that one commit changes on a host."""
        return difference(self.at(place - 1, host), self.at(place, host))


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a host is with a commit, and why it is red or not to be waited for here.

    `at` is since when it is green, by the forge's clock; None if it only counts as green.
    """

    state: PostedState
    why: str = ""
    at: float | None = None


def named(host: str, why: str) -> str:
    """Why a host is red, with its name in front unless that is told already."""
    return why if re.search(rf"\b{re.escape(host)}\b", why) else f"{host}: {why}"


def standing(line: Line, place: int, host: str, silent: Silent) -> Standing:
    """How far a host is with the commit at a place of the line, as its status tells.  Raises Unavailable."""
    revision = line.revisions[place]
    posted = line.world.statuses(revision).get(host)
    if posted and posted.description.startswith(SUPERSEDED):
        return Standing("pending", f"{host} went on to a newer commit")
    if posted and (posted.state == "green" or (posted.state == "pending" and posted.description.startswith(KEEPS))):
        return Standing("green", at=posted.at)
    if posted and posted.state == "red":
        return Standing("red", named(host, posted.description))
    if line.world.waited(revision, host) >= silent.after:
        why = f"{host} has not ended for {_duration(silent.after)}"
        return Standing("green" if silent.counts_as == "green" else "red", why)
    return Standing("pending")


def difference(before: Contents, after: Contents) -> frozenset[str]:
    """The apps that differ."""
    if before is after:
        return frozenset()
    return frozenset(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def pick(line: Line, rollouts: Rollouts) -> Choice:
    """The newest commit that nothing hinders this host to follow, and why it does not follow those after it."""
    held: list[Held] = []
    for place in range(len(line.revisions) - 1, line.base, -1)[:MOST_CANDIDATES]:
        revision = line.revisions[place]
        try:
            changes = bool(line.changed(place, line.host))
            why = _hindrance(line, place, rollouts)
        except Unavailable as error:
            changes, why = True, Hindrance(f"cannot ask: {error}")
        if not why:
            return Choice(revision, tuple(held))
        held.append(Held(revision, why.why, changes, why.posted, why.awaits))
    return Choice(line.revisions[line.base] if line.base >= 0 else None, tuple(held))


def _hindrance(line: Line, place: int, rollouts: Rollouts) -> Hindrance:
    """Why this host may not follow a commit now."""
    changed = difference(line.at(line.base, line.host), line.at(place, line.host))
    if not changed or line.world.trailers(line.revisions[place]).get(ROLLOUT, "").lower() == ALL:
        return NONE
    gates = dict.fromkeys(rollout for app in sorted(changed) if (rollout := rollouts.of(app)))
    asking = [it for it in gates if it.place_of(line.host) > 0 or it.windows != Windows()]
    if not asking or _goes_back(line, place):
        return NONE
    return next(filter(None, (_Gates(line, place, rollouts, it).hindrance() for it in asking)), NONE)


def _goes_back(line: Line, place: int) -> bool:
    """Has this host been green with all that it has at that commit, at an earlier one?"""
    wanted, asked = line.at(place, line.host), 0
    for earlier in range(line.base, -1, -1):
        if line.changed(earlier, line.host) and not difference(wanted, line.at(earlier, line.host)):
            posted = line.world.statuses(line.revisions[earlier]).get(line.host)
            asked += 1
            if (posted and posted.state == "green") or asked == MOST_RETURNS:
                return posted is not None and posted.state == "green"
    return False


@dataclass(frozen=True, slots=True)
class _Gates:
    """What stands between a commit and a host, by one rollout, for the apps that go by it."""

    line: Line
    place: int
    rollouts: Rollouts
    rollout: Rollout

    def hindrance(self) -> Hindrance:
        """Why the host may not begin."""
        own = self.rollout.place_of(self.line.host)
        if why := self.rollout.windows.closed(self.line.world.now()):
            return Hindrance(why)
        greens: list[float] = []  # when the hosts of the waves so far became green
        for number, wave in enumerate(self.rollout.waves[: own + 1]):
            if number and (why := self._baking(number - 1, greens)):
                return Hindrance(why, self._not_baked(own - 1))
            if number and (why := self._closed()):
                return Hindrance(why)
            if number < own and (unfinished := self._unfinished(number, wave, greens)):
                is_going_on = unfinished.why == self._not_green(number)
                return replace(unfinished, posted=self._not_baked(own - 1) if is_going_on else "")
        return NONE

    def _baking(self, number: int, greens: Sequence[float]) -> str:
        """Until when a wave bakes; "" once it has."""
        ends = max(greens, default=0.0) + self.rollout.bake
        if not (greens and self.rollout.bake and self.line.world.forge_now() < ends):
            return ""
        return f"{self._name(number)} bakes until {datetime.fromtimestamp(ends, UTC):%H:%M:%S} UTC"

    def _closed(self) -> str:
        """What keeps the next wave from beginning though all before have ended well."""
        if self.rollout.approval and not self._is_approved():
            return f"no commit has the trailer {self.rollout.approval} yet"
        return next(filter(None, map(self.line.world.answer, self.rollout.questions)), "")

    def _is_approved(self) -> bool:
        """Has it, or a later commit, the trailer?"""
        name = self.rollout.approval.lower()
        return any(self.line.world.trailers(it).get(name) for it in self.line.revisions[self.place :])

    def _unfinished(self, number: int, wave: Wave, greens: list[float]) -> Hindrance:
        """Why a wave is not done; adds when its hosts became green."""
        red = unfinished = ""
        awaits: set[tuple[str, str]] = set()
        for host, last in self._affected(wave):
            told = standing(self.line, last, host, self.rollout.silent)
            if told.state == "green":
                greens += [told.at] if told.at is not None else []
                continue
            if told.state == "red" or not told.why:  # else it never ends with this commit
                awaits.add((self.line.revisions[last].commit, host))
            if told.state == "red":
                red = red or f"{self._name(number)} is red: {told.why}"
            else:
                why = f"{self._name(number)}: {told.why}" if told.why else self._not_green(number)
                unfinished = unfinished or why
        return Hindrance(red or unfinished, awaits=frozenset(awaits))

    def _affected(self, wave: Wave) -> Iterator[tuple[str, int]]:
        """The hosts of a wave on which something changes that goes by this rollout, with their last change."""
        line = self.line
        for host in sorted(wave.hosts):
            places = [it for it in range(line.base + 1, self.place + 1) if line.changed(it, host)]
            if any(self.rollouts.of(app) == self.rollout for it in places for app in line.changed(it, host)):
                yield host, places[-1]

    def _not_green(self, number: int) -> str:
        return f"{self._name(number)} is not green yet"

    def _not_baked(self, number: int) -> str:
        if not self.rollout.bake:
            return self._not_green(number)
        return f"{self._name(number)} has not been green for {_duration(self.rollout.bake)} yet"

    def _name(self, number: int) -> str:
        return f"wave {number + 1} ({self.rollout.waves[number].title})"


def _duration(seconds: float) -> str:
    """`90 s`, `30 min`, `2 h`."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"
