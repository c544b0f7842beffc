"""Which revision this host follows, by the waves of `fleet.yaml` and what other hosts have posted at the forge.

`Look` is what they have at each commit, and have posted to it, as `moves` wants to know it, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import InitVar, dataclass, field

from gitops_mvd.core.errors import ManifestError, StepFailed, Unavailable
from gitops_mvd.core.model import PostedStatus, Revision
from gitops_mvd.core.ports import Forge
from gitops_mvd.core.waves import SUPERSEDED, Choice, Contents, Held, Line, Peers, Question, pick
from gitops_mvd.daemon import gate_questions
from gitops_mvd.daemon.awaited import Awaited
from gitops_mvd.git.branch import Source
from gitops_mvd.manifest import read_fleet
from gitops_mvd.manifest.versions import Versions, VersionsAt
from gitops_mvd.net.clock import ahead_of
from gitops_mvd.status.status_text import context

MOST_BEHIND = 64  # commits of the branch that are looked at
DEADLINE_SECONDS = 20.0  # for all that is read of the repository in one pass
MOST_ROUNDS = 2  # choices in one pass, where webhooks tell of another status while the forge is asked
NO_FORGE = "the settings of this server have no `forge`, which would show it the hosts of earlier waves"


class Readings:
    """What commits say: what each host runs at them, and their trailers.  Each is read once, as long as it is kept."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._versions = Versions()
        self._at: dict[str, VersionsAt | str] = {}  # by commit; or why its fleet cannot be read
        self._contents: dict[tuple[str, str], Contents] = {}  # by commit and host
        self._trailers: dict[str, Mapping[str, str]] = {}  # by commit

    def known(self, revision: Revision, host: str) -> Contents | None:
        """What a host runs at a commit, if that was read."""
        return self._contents.get((revision.commit, host))

    def read(self, revision: Revision, host: str) -> Contents:
        """The same, read from the repository."""
        at = self.at(revision)
        try:
            contents = {"": at} if isinstance(at, str) else at.of(host)
        except ManifestError as error:
            contents = {"": str(error)}
        return self._contents.setdefault((revision.commit, host), contents)

    def at(self, revision: Revision) -> VersionsAt | str:
        """What a commit has where; or why its fleet cannot be read."""
        if revision.commit not in self._at:
            if len(self._at) > 2 * MOST_BEHIND:
                self.keep({*[*self._at][-MOST_BEHIND:]})
            try:
                tree = self._source.tree(revision)
                self._at[revision.commit] = self._versions.at(tree, read_fleet(tree))
            except ManifestError as error:
                self._at[revision.commit] = str(error)
        return self._at[revision.commit]

    def trailers(self, revision: Revision) -> Mapping[str, str]:
        """The trailers of a commit that count."""
        if revision.commit not in self._trailers:
            self._trailers[revision.commit] = self._source.trailers(revision)
        return self._trailers[revision.commit]

    def keep(self, commits: Collection[str]) -> None:
        """Forget all other commits."""
        self._at = {commit: it for commit, it in self._at.items() if commit in commits}
        self._trailers = {commit: it for commit, it in self._trailers.items() if commit in commits}
        self._contents = {key: it for key, it in self._contents.items() if key[0] in commits}


class Patience:
    """Since when this host has been waiting for others to end with a commit; what is asked no more is forgotten."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}  # commit and host -> when
        self._asked: set[tuple[str, str]] = set()

    def waited(self, revision: Revision, host: str, now: float) -> float:
        """For how many seconds."""
        key = revision.commit, host
        self._asked.add(key)
        return now - self._since.setdefault(key, now)

    def end_pass(self) -> None:
        """Forget what this pass has not asked for."""
        self._since = {key: since for key, since in self._since.items() if key in self._asked}
        self._asked = set()


@dataclass
class Waves:
    """Picks the revision of this host at each pass; all that it remembers can be looked up again.

    Except for how long it has waited for a host that is silent: a restart begins that anew.  `awaited` are the statuses
    that are worth another look as soon as a webhook tells of them.
    """

    host: str
    source: Source
    forge: Forge | None
    forge_url: str
    ask: Callable[[Question], str] = gate_questions.ask
    now: Callable[[], float] = time.time
    clock_ahead: Callable[[str], float | None] = ahead_of
    monotonic: Callable[[], float] = time.monotonic
    shared: InitVar[Readings | None] = None  # what others read, too; its own if left out
    awaited: Awaited = field(default_factory=Awaited)
    readings: Readings = field(init=False)
    _patience: Patience = field(default_factory=Patience)

    def __post_init__(self, shared: Readings | None) -> None:
        self.readings = shared or Readings(self.source)

    def pick(self, tip: Revision, followed: Revision | None) -> Choice:
        """The revision to follow, up to the tip of the branch, from the one that is followed now."""
        for _ in range(MOST_ROUNDS):
            self.awaited.listen()
            choice = self._pick(tip, followed)
            sets = (frozenset((commit, context(host)) for commit, host in it.awaits) for it in choice.held)
            if not self.awaited.expect(sets):
                break
        self._patience.end_pass()
        return choice

    def peers(self, commit: str) -> Peers | None:
        """The hosts with which this one has a status of their wave at a commit, None if the fleet wants none there."""
        revision = Revision(commit, "")
        try:
            rollouts = read_fleet(self.source.tree(revision)).rollouts
            if not (rollouts.wave_statuses and rollouts.usual):
                return None
            line, is_whole = self.source.line(revision, 2)
            if len(line) < 2 and not is_whole:
                return None
            at = Line(line, -1, self.host, self.look(self._patience))
            number = rollouts.usual.place_of(self.host)
            hosts = tuple(it for it in sorted(rollouts.usual.waves[number].hosts) if at.changed(len(line) - 1, it))
            return Peers(number + 1, hosts) if self.host in hosts else None
        except (ManifestError, Unavailable):
            return None

    def _pick(self, tip: Revision, followed: Revision | None) -> Choice:
        try:
            fleet = read_fleet(self.source.tree(tip))
        except ManifestError:  # the pass says so
            return Choice(tip)
        if not fleet.rollouts or self.host not in fleet.hosts or tip == followed:
            return Choice(tip)
        look = self.look(self._patience)
        try:
            line = self._line(tip, followed, look)
        except Unavailable as error:
            return Choice(followed, (Held(tip, f"cannot ask: {error}", True),))
        choice = pick(line, fleet.rollouts)
        self.readings.keep({it.commit for it in line.revisions})
        return choice

    def look(self, patience: Patience) -> Look:
        """The world from now on, for one pass."""
        return Look(self.forge, self.readings, patience, self.ask, self.now, self._forge_now, self.monotonic)

    def _forge_now(self) -> float:
        ahead = self.clock_ahead(self.forge_url)
        if ahead is None:
            raise Unavailable(f"{self.forge_url} does not tell its time")
        return self.now() - ahead

    def _line(self, tip: Revision, followed: Revision | None, look: Look) -> Line:
        revisions, is_whole = self.source.line(tip, MOST_BEHIND)
        commits = [it.commit for it in revisions]
        if followed and followed.commit in commits:
            return Line(revisions, commits.index(followed.commit), self.host, look)
        if followed and self._is_here(followed):  # it is far behind, came by a merge, or the branch was rewound
            newer = [it for it in revisions if self.source.builds_on(it, followed.commit)]
            return Line((followed, *(newer or [tip])), 0, self.host, look)
        ended = (place for place in reversed(range(len(revisions))) if look.has_ended(revisions[place], self.host))
        return Line(revisions, next(ended, -1 if is_whole else 0), self.host, look)

    def _is_here(self, revision: Revision) -> bool:
        try:
            self.source.tree(revision)
        except Unavailable:
            return False
        return True


@dataclass
class Look:
    """The world at one pass, as core/waves.py and core/moves.py ask for it: each question is asked once."""

    forge: Forge | None
    readings: Readings
    patience: Patience
    ask: Callable[[Question], str]
    now: Callable[[], float]
    forge_now: Callable[[], float]
    monotonic: Callable[[], float]

    def __post_init__(self) -> None:
        self._deadline = self.monotonic() + DEADLINE_SECONDS
        self._statuses: dict[str, Mapping[str, PostedStatus]] = {}
        self._down: Unavailable | None = None  # why the forge does not answer
        self._answers: dict[Question, str] = {}

    def contents(self, revision: Revision, host: str) -> Contents:
        known = self.readings.known(revision, host)
        if known is None:
            if self.monotonic() > self._deadline:
                raise Unavailable("what the commits change on each host is not read to its end yet")
            known = self.readings.read(revision, host)
        return known

    def placed(self, revision: Revision) -> VersionsAt | None:
        """What a commit has where; None if its fleet cannot be read."""
        if self.monotonic() > self._deadline:
            raise Unavailable("where the commits have what is not read to its end yet")
        at = self.readings.at(revision)
        return None if isinstance(at, str) else at

    def trailers(self, revision: Revision) -> Mapping[str, str]:
        return self.readings.trailers(revision)

    def statuses(self, revision: Revision) -> Mapping[str, PostedStatus]:
        if revision.commit not in self._statuses:
            if self._down:  # it is asked once
                raise self._down
            try:
                self._statuses[revision.commit] = self._ask_forge(revision)
            except (Unavailable, StepFailed) as error:
                self._down = Unavailable(error.message, error.hint)
                raise self._down from error
        return self._statuses[revision.commit]

    def _ask_forge(self, revision: Revision) -> Mapping[str, PostedStatus]:
        if not self.forge:
            raise Unavailable(NO_FORGE)
        start = context("")
        found = self.forge.statuses(revision.commit)
        return {it.context.removeprefix(start): it for it in found if it.context.startswith(start)}

    def has_ended(self, revision: Revision, host: str) -> bool:
        """Has a host posted success or failure of its own to a commit?"""
        own = self.statuses(revision).get(host)
        return own is not None and own.state != "pending" and not own.description.startswith(SUPERSEDED)

    def waited(self, revision: Revision, host: str) -> float:
        return self.patience.waited(revision, host, self.monotonic())

    def answer(self, question: Question) -> str:
        if question not in self._answers:
            self._answers[question] = self.ask(question)
        return self._answers[question]
