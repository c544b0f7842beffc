"""What of a pass is news for people: each trouble once, when it has lasted, and once when it is over.  Pure.

A *matter* is one kind of trouble of one app, or of the server as a whole.  What is remembered of it decides whether it
is told: not again in the next pass, and not after a restart.  All times are Unix time in seconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from gitops_mvd.core.model import Health, Json, Operation, Outcome, Report, Revision
from gitops_mvd.core.notice import Notice, What
from gitops_mvd.status import status_text
from gitops_mvd.status.debounce import DEBOUNCE_SECONDS
from gitops_mvd.status.statuses import CommitChange

LONG_SECONDS = 300.0  # that something is waited for, before it is worth a notice
NOT_IN_PLACE = {Operation.FAILED, Operation.ROLLED_BACK, Operation.ROLLBACK_FAILED}
SERVER = ""  # the app of what is about the server as a whole
ONE_APP = (What.FAILED, What.DEGRADED, What.WAITING)  # the matters of an app


class Seen(NamedTuple):
    """How a matter is now: is there trouble?  None if that cannot be told.

    It counts once it has lasted for `patience` seconds, from its first bad moment on.  A cause that has another `key`
    than the one told is told, too.
    """

    is_bad: bool | None
    why: str = ""
    key: str = ""
    patience: float = DEBOUNCE_SECONDS


UNCLEAR = Seen(None)


@dataclass(frozen=True, slots=True)
class Matter:
    """A trouble that is remembered: since when, why, how long it has to last, and whether anybody was told."""

    what: What
    since: float
    why: str
    key: str
    patience: float
    is_told: bool = False
    well_since: float | None = None

    def due_in(self, now: float) -> float | None:
        """Seconds until it is to be looked at again, None if nothing of it is pending."""
        if self.well_since is not None:
            return self.well_since + self.patience - now
        return None if self.is_told else self.since + self.patience - now


@dataclass
class News:
    """What is remembered of a host, by which is decided what is new.

    `proven` has for each app the commit at which it was last seen synced and healthy, `by` the one that changed it
    last, as far as that is known; `base` is that of all others, None if nothing is known.
    """

    matters: dict[tuple[str, str], Matter] = field(default_factory=dict)
    proven: dict[str, str] = field(default_factory=dict)
    by: dict[str, Revision] = field(default_factory=dict)
    base: Revision | None = None

    def add_commits(self, changes: Sequence[CommitChange]) -> None:
        """Note which of the new commits, the oldest first, changes which app."""
        for change in changes:
            if change.changed is None:
                self.by, self.base = {}, change.revision
            else:
                self.by |= dict.fromkeys(change.changed, change.revision)

    def report(self, report: Report, done: Mapping[str, str], now: float) -> list[Notice]:
        """What is new in a pass.  `done` is what the last commits have changed in apps, in words."""
        found: list[Notice] = []
        for outcome in report.outcomes:
            found += self._of_app(outcome, report.revision, done.get(outcome.app, ""), now)
        here = {outcome.app for outcome in report.outcomes if not outcome.removed} | {SERVER}
        for app, name in [key for key in self.matters if key[0] not in here]:  # a commit took it away
            found += self.see(app, name, Seen(False, status_text.REMOVED, patience=0), now, self._revision(app))
        self.proven = {app: commit for app, commit in self.proven.items() if app in here}
        self.by = {app: revision for app, revision in self.by.items() if app in here}
        return found

    def _of_app(self, outcome: Outcome, tip: Revision, done: str, now: float) -> Iterator[Notice]:
        app, known = outcome.app, self._revision(outcome.app)
        commit, revision = known.commit if known else "", known or tip
        is_new = self.proven.get(app) != commit
        if outcome.removed:
            yield Notice(now, app, What.DEPLOYED, status_text.REMOVED, revision)
            return
        for what, seen in zip(ONE_APP, _seen(outcome, commit, is_new), strict=True):
            yield from self.see(app, what, seen, now, revision)
        left = outcome.suspended
        seen = Seen(left is not None, left.text if left else "", patience=0)
        yield from self.see(app, What.SUSPENDED, seen, now, revision)
        if outcome.is_green and is_new:
            self.proven[app] = commit
            if app in self.by or outcome.did:
                changed = (outcome.changed or done).removeprefix(f"{app}: ")
                yield Notice(now, app, What.DEPLOYED, outcome.why or changed, revision)

    def _revision(self, app: str) -> Revision | None:
        return self.by.get(app, self.base)

    def see(
        self, app: str, name: str, seen: Seen, now: float, revision: Revision | None = None, what: What | None = None
    ) -> list[Notice]:
        """What is new of one matter.  `what` it is says its `name` by default."""
        known = self.matters.get((app, name))
        if seen.is_bad:
            began = Matter(what or What(name), now, seen.why, seen.key, seen.patience)
            return self._bad((app, name), replace(known or began, well_since=None), seen, now, revision)
        if known and seen.is_bad is None:
            self.matters[app, name] = replace(known, well_since=None)
        elif known:
            since = now if known.well_since is None else known.well_since
            if now - since < seen.patience:
                self.matters[app, name] = replace(known, well_since=since, patience=seen.patience)
            else:
                return self._over((app, name), known, seen, now, revision)
        return []

    def _bad(
        self, key: tuple[str, str], known: Matter, seen: Seen, now: float, revision: Revision | None
    ) -> list[Notice]:
        is_news = seen.key != known.key if known.is_told else now - known.since >= seen.patience
        self.matters[key] = replace(
            known, why=seen.why, key=seen.key, patience=seen.patience, is_told=known.is_told or is_news
        )
        return [_notice(now, key, known.what, seen.why, revision)] if is_news else []

    def _over(
        self, key: tuple[str, str], known: Matter, seen: Seen, now: float, revision: Revision | None
    ) -> list[Notice]:
        del self.matters[key]
        what = What.SUSPENDED if known.what is What.SUSPENDED else What.RECOVERED
        why = seen.why or f"no longer: {known.why}"
        return [_notice(now, key, what, why, revision, over=known.what)] if known.is_told else []

    def next_check_in(self, now: float) -> float | None:
        """Seconds until something may have lasted long enough, None if nothing is pending."""
        left = [seconds for matter in self.matters.values() if (seconds := matter.due_in(now)) is not None]
        return max(0.0, min(left)) if left else None

    def copy(self) -> News:
        return News(dict(self.matters), dict(self.proven), dict(self.by), self.base)

    def to_json(self) -> Json:
        return {
            "matters": [[*key, dataclasses.asdict(matter)] for key, matter in sorted(self.matters.items())],
            "proven": self.proven,
            "by": {app: dataclasses.asdict(revision) for app, revision in self.by.items()},
            "base": dataclasses.asdict(self.base) if self.base else None,
        }

    @classmethod
    def from_json(cls, value: Json) -> News:
        """Raises ValueError, TypeError or KeyError for what is no memory of any version."""
        return cls(
            {(app, name): Matter(**{**it, "what": What(it["what"])}) for app, name, it in value["matters"]},
            dict(value["proven"]),
            {app: Revision(**it) for app, it in value["by"].items()},
            Revision(**value["base"]) if value["base"] else None,
        )


def _notice(
    now: float, key: tuple[str, str], what: What, why: str, revision: Revision | None, over: What | None = None
) -> Notice:
    app, name = key
    return Notice(now, app, what, why, revision, over, about=name if app == SERVER else "")


def _seen(outcome: Outcome, commit: str, is_new: bool) -> tuple[Seen, Seen, Seen]:
    """How the three matters of an app are, in the order of ONE_APP.

    What fails at a commit at which it was well before may be over in a moment; what a new one brings is final.
    """
    why, operation, health = status_text.in_words(outcome), outcome.operation, outcome.health
    if operation is Operation.SUPERSEDED:
        return UNCLEAR, UNCLEAR, UNCLEAR
    remark = outcome.why if outcome.is_green else ""
    at_once = 0.0 if is_new or outcome.did else DEBOUNCE_SECONDS
    failed = waiting = UNCLEAR
    if operation in NOT_IN_PLACE:
        failed = Seen(True, why, f"{operation} {commit}", 0.0 if is_new else DEBOUNCE_SECONDS)
        waiting = Seen(False, patience=0)
    elif operation is Operation.RUNNING:  # what is on its way waits for nothing
        waiting = UNCLEAR if outcome.is_on_its_way else Seen(True, why, patience=LONG_SECONDS)
    else:
        failed = Seen(False, remark, patience=at_once) if health is Health.HEALTHY else UNCLEAR
        waiting = Seen(False, remark, patience=0)
    return failed, _seen_health(outcome, why, remark), waiting


def _seen_health(outcome: Outcome, why: str, remark: str) -> Seen:
    """Is it unhealthy, and not just for the reason for which its deploy failed?

    Of a suspended app that is not told: somebody is at work on it.
    """
    if outcome.suspended:
        return UNCLEAR
    match outcome.operation, outcome.health:
        case Operation.SUCCEEDED, Health.HEALTHY:
            return Seen(False, remark, patience=0.0 if outcome.did else DEBOUNCE_SECONDS)
        case _, Health.HEALTHY:
            return Seen(False, "what runs is healthy again; it is not what Git says")
        case Operation.SUCCEEDED, (Health.DEGRADED | Health.SUSPENDED | Health.MISSING):
            return Seen(True, why)
        case ((Operation.ROLLED_BACK | Operation.RUNNING), (Health.DEGRADED | Health.SUSPENDED)):
            return Seen(True, f"what runs is unhealthy; and {why}")
    return UNCLEAR
