"""Which revision this host follows, by the waves of `fleet.yaml` and what other hosts have posted at the forge.

`Look` is what they have at each commit, and have posted to it, as `moves` wants to know it, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gitops_mvd.core.errors import ManifestError, StepFailed, Unavailable
from gitops_mvd.core.model import PostedStatus, Revision
from gitops_mvd.core.ports import Forge
from gitops_mvd.core.waves import SUPERSEDED, Choice, Contents, Held, Line, Question, pick
from gitops_mvd.daemon import gate_questions
from gitops_mvd.git.branch import Source
from gitops_mvd.manifest import read_fleet
from gitops_mvd.manifest.versions import Versions, VersionsAt
from gitops_mvd.net.clock import ahead_of
from gitops_mvd.status.status_text import context

MOST_BEHIND = 64  # commits of the branch that are looked at
DEADLINE_SECONDS = 20.0  # for all that is read of the repository in one pass
NO_FORGE = "the settings of this server have no `forge`, which would show it the hosts of earlier waves"


@dataclass
class Waves:
    """Picks the revision of this host at each pass; all that it remembers can be looked up again.

    Except for how long it has waited for a host that is silent: a restart begins that anew.
    """

    host: str
    source: Source
    forge: Forge | None
    forge_url: str
    ask: Callable[[Question], str] = gate_questions.ask
    now: Callable[[], float] = time.time
    clock_ahead: Callable[[str], float | None] = ahead_of
    monotonic: Callable[[], float] = time.monotonic
    _versions: Versions = field(default_factory=Versions)
    _at: dict[str, VersionsAt | str] = field(default_factory=dict)  # by commit; or why its fleet cannot be read
    _contents: dict[tuple[str, str], Contents] = field(default_factory=dict)  # by commit and host
    _trailers: dict[str, Mapping[str, str]] = field(default_factory=dict)  # by commit
    _waiting: dict[tuple[str, str], float] = field(default_factory=dict)  # commit and host -> since when

    def pick(self, tip: Revision, followed: Revision | None) -> Choice:
        """The revision to follow, up to the tip of the branch, from the one that is followed now."""
        try:
            fleet = read_fleet(self.source.tree(tip))
        except ManifestError:  # the pass says so
            return Choice(tip)
        if not fleet.rollouts or self.host not in fleet.hosts or tip == followed:
            self._waiting.clear()
            return Choice(tip)
        look = Look(self, self._waiting)
        try:
            line = self._line(tip, followed, look)
        except Unavailable as error:
            return Choice(followed, (Held(tip, f"cannot ask: {error}", True),))
        choice = pick(line, fleet.rollouts)
        self.forget_others(line)
        look.forget_ended()
        return choice

    def _line(self, tip: Revision, followed: Revision | None, look: Look) -> Line:
        revisions, is_whole = self.source.line(tip, MOST_BEHIND)
        commits = [it.commit for it in revisions]
        if followed and followed.commit in commits:
            return Line(revisions, commits.index(followed.commit), self.host, look)
        if followed and self._is_here(followed):  # it is far behind, came by a merge, or the branch was rewound
            newer = [it for it in revisions if self.source.builds_on(it, followed.commit)]
            return Line((followed, *(newer or [tip])), 0, self.host, look)
        base = next((it for it in reversed(range(len(revisions))) if look.has_ended(revisions[it])), None)
        return Line(revisions, (-1 if is_whole else 0) if base is None else base, self.host, look)

    def _is_here(self, revision: Revision) -> bool:
        try:
            self.source.tree(revision)
        except Unavailable:
            return False
        return True

    def forget_others(self, line: Line) -> None:
        """Keep only what the next pass may need: the commits of that line."""
        commits = {it.commit for it in line.revisions}
        self._at = {commit: it for commit, it in self._at.items() if commit in commits}
        self._trailers = {commit: it for commit, it in self._trailers.items() if commit in commits}
        self._contents = {key: it for key, it in self._contents.items() if key[0] in commits}


class Look:
    """The world at one pass, as core/waves.py and core/moves.py ask for it.

    `waiting` is the caller's: since when it has waited for which host to end with which commit.
    """

    def __init__(self, waves: Waves, waiting: dict[tuple[str, str], float]) -> None:
        self._waves = waves
        self._waiting = waiting
        self._deadline = waves.monotonic() + DEADLINE_SECONDS
        self._statuses: dict[str, Mapping[str, PostedStatus]] = {}
        self._down: Unavailable | None = None  # why the forge does not answer
        self._answers: dict[Question, str] = {}
        self._awaited: set[tuple[str, str]] = set()

    def contents(self, revision: Revision, host: str) -> Contents:
        waves, key = self._waves, (revision.commit, host)
        if key not in waves._contents:
            if waves.monotonic() > self._deadline:
                raise Unavailable("what the commits change on each host is not read to its end yet")
            waves._contents[key] = self._read(revision, host)
        return waves._contents[key]

    def _read(self, revision: Revision, host: str) -> Contents:
        at = self._at(revision)
        try:
            return {"": at} if isinstance(at, str) else at.of(host)
        except ManifestError as error:
            return {"": str(error)}

    def placed(self, revision: Revision) -> VersionsAt | None:
        """Where a commit has what; None if its fleet file cannot be read."""
        if self._waves.monotonic() > self._deadline:
            raise Unavailable("where the commits have what is not read to its end yet")
        at = self._at(revision)
        return None if isinstance(at, str) else at

    def _at(self, revision: Revision) -> VersionsAt | str:
        waves = self._waves
        if revision.commit not in waves._at:
            try:
                tree = waves.source.tree(revision)
                waves._at[revision.commit] = waves._versions.at(tree, read_fleet(tree))
            except ManifestError as error:
                waves._at[revision.commit] = str(error)
        return waves._at[revision.commit]

    def trailers(self, revision: Revision) -> Mapping[str, str]:
        known = self._waves._trailers
        if revision.commit not in known:
            known[revision.commit] = self._waves.source.trailers(revision)
        return known[revision.commit]

    def statuses(self, revision: Revision) -> Mapping[str, PostedStatus]:
        if revision.commit not in self._statuses:
            if self._down:  # it is asked once
                raise self._down
            try:
                self._statuses[revision.commit] = self._ask(revision)
            except (Unavailable, StepFailed) as error:
                self._down = Unavailable(error.message, error.hint)
                raise self._down from error
        return self._statuses[revision.commit]

    def _ask(self, revision: Revision) -> Mapping[str, PostedStatus]:
        if not self._waves.forge:
            raise Unavailable(NO_FORGE)
        start = context("")
        found = self._waves.forge.statuses(revision.commit)
        return {it.context.removeprefix(start): it for it in found if it.context.startswith(start)}

    def has_ended(self, revision: Revision) -> bool:
        """Has this host posted success or failure of its own to a commit?"""
        own = self.statuses(revision).get(self._waves.host)
        return own is not None and own.state != "pending" and not own.description.startswith(SUPERSEDED)

    def now(self) -> float:
        return self._waves.now()

    def forge_now(self) -> float:
        ahead = self._waves.clock_ahead(self._waves.forge_url)
        if ahead is None:
            raise Unavailable(f"{self._waves.forge_url} does not tell its time")
        return self._waves.now() - ahead

    def waited(self, revision: Revision, host: str) -> float:
        key, now = (revision.commit, host), self._waves.monotonic()
        self._awaited.add(key)
        return now - self._waiting.setdefault(key, now)

    def forget_ended(self) -> None:
        """Of what is waited for, keep what was asked about in this look."""
        for key in self._waiting.keys() - self._awaited:
            self._waiting.pop(key, None)  # a plan may look at the same time

    def answer(self, question: Question) -> str:
        if question not in self._answers:
            self._answers[question] = self._waves.ask(question)
        return self._answers[question]
