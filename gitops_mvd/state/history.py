"""What was done on this server, in SQLite: good and failed versions, events, and the outbox of commit statuses.

All of it may be lost: it is then begun anew, and what runs is read from the host.  So a damaged file, table or row is
begun anew by itself, and never stops anything.  No secret is in it: of versions it has the digests, and what they are
made of lies in files beside it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import math
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.decide import PASSING
from gitops_mvd.core.model import (
    App,
    Change,
    CommitStatus,
    Failure,
    Health,
    Json,
    Operation,
    Outcome,
    Report,
    Revision,
    Sync,
    ThreadState,
)
from gitops_mvd.core.redact import told_line, told_text
from gitops_mvd.core.text import plain_line
from gitops_mvd.state.database import Database, Schema
from gitops_mvd.state.reports import from_json, to_json, vocabularies
from gitops_mvd.state.versions import Versions, app_of

log = logging.getLogger(__name__)

T = TypeVar("T")

MOST_EVENTS = 1000
MOST_STATUSES = 1000
MOST_FAILED_VERSIONS = 20  # versions of one app
MOST_RAN = 50  # versions of one app
MOST_JOBS = 1000
RETRY = Backoff(5.0, 300.0)  # of what waits, in seconds
UNDONE = {Operation.ROLLED_BACK, Operation.FAILED, Operation.ROLLBACK_FAILED, Operation.SUPERSEDED}

# Texts are JSON in ASCII throughout, so that any string of Python's can be stored.  `good` has the versions of apps, in
# which version 1 had the apps themselves, with their secrets.
SCHEMA = Schema(
    version=2,
    readable_by=1,
    tables="""
CREATE TABLE IF NOT EXISTS good (
    app TEXT PRIMARY KEY, version TEXT NOT NULL, json TEXT NOT NULL, previous TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS condemned (
    app TEXT, version TEXT, why TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (app, version)
) STRICT;
CREATE TABLE IF NOT EXISTS ran (
    app TEXT, version TEXT, commit_id TEXT NOT NULL, recalled TEXT NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (app, version)
) STRICT;
CREATE TABLE IF NOT EXISTS job (
    name TEXT PRIMARY KEY, at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS event (
    id INTEGER PRIMARY KEY, app TEXT NOT NULL, json TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS event_by_app ON event (app, id);
CREATE TABLE IF NOT EXISTS value (
    name TEXT PRIMARY KEY, json TEXT NOT NULL, at REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS status (
    id INTEGER PRIMARY KEY, commit_id TEXT NOT NULL, context TEXT NOT NULL, wanted TEXT NOT NULL, posted TEXT,
    refused TEXT, tries INTEGER NOT NULL DEFAULT 0, retry_at REAL NOT NULL DEFAULT 0, UNIQUE (commit_id, context)
) STRICT;
CREATE TABLE IF NOT EXISTS proposal (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, comment TEXT NOT NULL, said TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS delivery (
    forge TEXT, outcome TEXT, times INTEGER NOT NULL, PRIMARY KEY (forge, outcome)
) STRICT;
""",
)
NOTHING = '""'  # the reference to an app without anything, of which no file is kept
SCRUBBED = "scrubbed"  # the name of a value: no secret is left in what the file has deleted
UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, RecursionError)  # of a row that is garbage
UNSENT = "wanted IS NOT posted AND wanted IS NOT refused"


@dataclass(frozen=True, slots=True)
class Event:
    """How one app came out of one pass, `at` in seconds since 1970; `changed` is what a person had changed.

    `suspended` says that it was left as it is, or stopped, by whom and why.
    """

    at: float
    commit: str
    app: str
    sync: Sync
    health: Health
    operation: Operation
    why: str
    did: tuple[str, ...] = ()  # `create unit mvd-web-3f9c2a1b`
    changed: str = ""
    suspended: str = ""

    def __post_init__(self) -> None:
        for name in ("commit", "app"):
            object.__setattr__(self, name, plain_line(getattr(self, name)))
        object.__setattr__(self, "at", float(self.at))
        object.__setattr__(self, "why", told_text(self.why))
        object.__setattr__(self, "did", tuple(map(plain_line, self.did)))
        object.__setattr__(self, "changed", told_line(self.changed))
        object.__setattr__(self, "suspended", told_line(self.suspended))

    def as_json(self) -> dict[str, Any]:
        """As JSON; `changed` and `suspended` only if there is any, as rows of older versions have none."""
        later = ("changed", "suspended")
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in later or value}

    def after(self, last: Event | None) -> Event:
        """The event with what has ended since the last one of the app."""
        if not (last and last.suspended) or self.suspended:
            return self
        return dataclasses.replace(self, changed="; ".join(filter(None, (f"no longer {last.suspended}", self.changed))))

    def is_news(self, last: Event | None) -> bool:
        """Is there anything in it that the last event of the app has not told?"""
        if not last or last.result() != self.result():
            return True
        return bool(self.did) and (self.operation is Operation.SUCCEEDED or self.commit != last.commit)

    def result(self) -> tuple[str, ...]:
        return self.sync, self.health, self.operation, self.why

    @classmethod
    def of(cls, at: float, commit: str, o: Outcome) -> Event:
        did = tuple(f"{c.verb} {c.resource.kind} {c.resource.name}" for c in o.did if isinstance(c, Change))
        suspended = o.suspended.text if o.suspended else ""
        return cls(at, commit, o.app, o.sync, o.health, o.operation, o.why, did, o.changed, suspended)

    @classmethod
    def from_json(cls, value: Json) -> Event:
        return cls(**{**value, **vocabularies(value), "did": tuple(value["did"])})


@dataclass(frozen=True, slots=True)
class CommitWork:
    """What the commits that a host is about have to do with its apps.

    `apps` are those that the last one changes, None if that is unknown.  `by` has the commit that changed each app
    last, and `done` what that commit has changed in it, in words.
    """

    apps: frozenset[str] | None = None
    done: dict[str, str] = field(default_factory=dict)
    by: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Entry:
    """A status that waits to be posted; `tries` counts the attempts that failed."""

    commit: str
    status: CommitStatus
    tries: int


@dataclass(frozen=True, slots=True)
class PullRequestPlan:
    """The plan last shown on a pull request: `at` which commits, in which `comment`, and that text's digest."""

    at: str = ""
    comment: str = ""
    digest: str = ""


class GitFailure(NamedTuple):
    """Why the newest commit is not known here or, if it `is_refused`, not followed; `since` when, in Unix time."""

    since: float
    why: str
    is_refused: bool


class Hold(NamedTuple):
    """A newer commit that this host does not follow yet, and what it waits for."""

    revision: Revision
    why: str


class FleetEntry(NamedTuple):
    """What `fleet.yaml` says of this host at the commit that it follows.

    `wave` is the number of its wave, from 1, 0 without a rollout; `since` the commit that drained it, None if that is
    unknown.
    """

    wave: int = 0
    is_drained: bool = False
    since: Revision | None = None


class SqliteHistory:
    """The history in a file; implements `ports.History`.  Any thread may use it, and several processes at once.

    Every method raises Unavailable where the file cannot be written, as on a full disk.
    """

    def __init__(self, path: Path) -> None:
        self._versions = Versions(path.with_name("versions"))
        self._file = Database("history", path, SCHEMA, functools.partial(_upgrade, path, self._versions))
        self._ask, self.transaction = self._file.ask, self._file.transaction
        self._recalled: dict[
            str, tuple[str, str, str]
        ] = {}  # app -> version, commit, and the commit that was reverted to

    def close(self) -> None:
        self._file.close()

    def _read(self, table: str, what: str, parse: Callable[..., T], where: str, *values: str | float) -> list[T]:
        """What is in the columns `what` of some rows.  A row of garbage is removed, which is logged."""
        read = []
        for row, *cells in self._ask(f"SELECT rowid, {what} FROM {table} {where}", *values):
            try:
                read.append(parse(*cells))
            except UNREADABLE:
                log.warning("a row of the history cannot be read, and is removed table=%s row=%s", table, row)
                self._ask(f"DELETE FROM {table} WHERE rowid = ?", row)
        return read

    # ---- what may run and what may not -------------------------------------------------------------------------------

    def last_good(self, app: str) -> App | None:
        return next(iter(self._read("good", "app, json", self._app, "WHERE app = ?", app)), None)

    def good_before(self, app: App) -> App | None:
        rows = self._ask("SELECT version, json, previous FROM good WHERE app = ?", app.name)
        texts = [previous if version == app.version else good for version, good, previous in rows]
        try:
            return self._app(app.name, texts[0]) if texts and texts[0] else None
        except ValueError:  # `last_good` sees to the other one
            self._ask("UPDATE good SET previous = NULL WHERE app = ? AND version = ?", app.name, app.version)
            return None

    def _app(self, name: str, reference: str) -> App:
        """Raises ValueError for a reference that leads nowhere."""
        if reference == NOTHING:
            return App(name)
        app = self._versions.read(str(json.loads(reference)))
        if not app:
            raise ValueError("no such version")
        return app

    def approve(self, app: App, commit: str) -> None:
        if self.failure_of(app):  # also one that is due
            self._ask("DELETE FROM condemned WHERE app = ? AND version = ?", app.name, app.version)
        if self._ask("SELECT 1 FROM good WHERE app = ? AND version = ?", app.name, app.version) and (
            self.last_good(app.name) is not None
        ):
            return  # as at nearly every pass
        is_empty = app == App(app.name)
        with self.transaction():
            if not is_empty:
                self._versions.write(app.version, json.dumps(app.to_json()))
            self._ask(
                """INSERT INTO good (app, version, json) VALUES (?, ?, ?)
                ON CONFLICT (app) DO UPDATE SET previous = json, version = excluded.version, json = excluded.json""",
                *(app.name, app.version, NOTHING if is_empty else _reference(app.version)),
            )
            if is_empty:  # it was removed, and with it goes what it was made of
                self._ask("UPDATE good SET previous = NULL WHERE app = ?", app.name)
            self._ask(
                """INSERT INTO ran (app, version, commit_id, recalled, at) VALUES (?, ?, ?, '', ?)
                ON CONFLICT (app, version) DO UPDATE SET recalled = commit_id, commit_id = excluded.commit_id,
                at = excluded.at""",
                *(app.name, app.version, commit, time.time()),
            )
            self._ask(
                """DELETE FROM ran WHERE app = ? AND version NOT IN
                (SELECT version FROM ran WHERE app = ? ORDER BY at DESC LIMIT ?)""",
                *(app.name, app.name, MOST_RAN),
            )
        self._forget_versions()
        self._recalled.pop(app.name, None)

    def _forget_versions(self) -> None:
        """Remove the contents of versions that nothing refers to any more; none may be written meanwhile."""
        with self.transaction():
            rows = self._ask("SELECT json, previous FROM good")
            self._versions.keep_only({text.strip('"') for row in rows for text in row if text})

    def runs_since(self, app: str) -> tuple[str, float] | None:
        """The commit with which the good version of an app came, and when; None if that is not known."""
        rows = self._ask("SELECT commit_id, ran.at FROM ran JOIN good USING (app, version) WHERE app = ?", app)
        return (str(rows[0][0]), float(rows[0][1])) if rows else None

    def has_worked(self, app: App) -> bool:
        return bool(self._ask("SELECT 1 FROM ran WHERE app = ? AND version = ?", app.name, app.version))

    def reverted_to(self, app: App, commit: str) -> str:
        version, at, reverted_to = self._recalled.get(app.name, ("", "", ""))
        if (version, at) != (app.version, commit):
            reverted_to = self._look_up_recalled(app, commit)
            self._recalled[app.name] = app.version, commit, reverted_to
        return reverted_to

    def _look_up_recalled(self, app: App, commit: str) -> str:
        """It came back with this commit, or what was tried in between was undone without ever having been good."""
        rows = self._ask("SELECT commit_id, recalled FROM ran WHERE app = ? AND version = ?", app.name, app.version)
        if not rows:
            return ""
        [(ran, recalled)] = rows
        if ran == commit:
            return str(recalled) if recalled != commit else ""
        between = next((event for event in self.events(50, app.name) if event.commit != commit), None)
        return str(ran) if between and between.operation in UNDONE else ""

    def failure_of(self, app: App) -> Failure | None:
        where = "WHERE app = ? AND version = ?"
        return next(iter(self._read("condemned", "why", _failure, where, app.name, app.version)), None)

    def mark_failed(self, app: App, failure: Failure) -> None:
        stored: dict[str, Any] = {"why": failure.why, "action": failure.action}
        if failure.action in PASSING:
            tries = self._tries(app) + 1
            stored |= {"tries": tries, "due": time.time() + RETRY.pause(tries - 1)}
        text = json.dumps(stored)
        self._ask("INSERT OR REPLACE INTO condemned VALUES (?, ?, ?, ?)", app.name, app.version, text, time.time())
        self._ask(
            """DELETE FROM condemned WHERE app = ? AND version NOT IN
            (SELECT version FROM condemned WHERE app = ? ORDER BY at DESC LIMIT ?)""",
            *(app.name, app.name, MOST_FAILED_VERSIONS),
        )

    def _tries(self, app: App) -> int:
        """How often in a row a version that waits was tried."""
        where = "WHERE app = ? AND version = ?"
        rows = self._read("condemned", "why", _waiting, where, app.name, app.version)
        return int(rows[0].get("tries", 0)) if rows else 0

    def forget(self, app: str) -> None:
        self._ask("DELETE FROM good WHERE app = ?", app)
        self._forget_versions()

    def forget_good(self) -> None:
        """Forget the versions of all apps that worked."""
        self._ask("DELETE FROM good")
        self._forget_versions()

    def clear_failure(self, app: str) -> bool:
        """Let every failed version of an app be tried again; False if there was none."""
        return bool(self._ask("DELETE FROM condemned WHERE app = ? RETURNING 1", app))

    def is_job_done(self, job: str) -> bool:
        return bool(self._ask("SELECT 1 FROM job WHERE name = ?", job))

    def mark_job_done(self, job: str) -> None:
        self._ask("INSERT OR REPLACE INTO job VALUES (?, ?)", job, time.time())
        self._ask(
            "DELETE FROM job WHERE name NOT IN (SELECT name FROM job ORDER BY at DESC LIMIT ?)",
            MOST_JOBS,
        )

    def adopted(self) -> dict[tuple[str, str], str]:
        return self._value("adopted", lambda value: {(kind, name): app for kind, name, app in value["existing"]}) or {}

    def adopt(self, kind: str, name: str, app: str) -> None:
        """Give a network or volume that is on this host to an app, as it is."""
        adopted = self.adopted() | {(kind, name): app}
        self._keep("adopted", {"existing": [[*key, app] for key, app in adopted.items()]})

    # ---- what was done -----------------------------------------------------------------------------------------------

    def save_attempt(self, revision: Revision) -> None:
        """This revision is about to be applied."""
        self._keep("attempted", revision.to_json())

    def revisions(self) -> dict[str, Revision]:
        """The revisions last `attempted`, last `applied` to every app, and last seen `healthy` in every app."""
        where = "WHERE name IN ('attempted', 'applied', 'healthy')"
        return dict(self._read("value", "name, json", lambda name, text: (name, _revision(json.loads(text))), where))

    def record_report(self, report: Report) -> list[Event]:
        """Keep and return an event for every app that was changed, or whose result differs from the last one.

        What fails again at the same commit, for the same reason, is no news, however often it is tried.
        """
        where = "WHERE id IN (SELECT max(id) FROM event GROUP BY app)"
        last = {event.app: event for event in self._read("event", "json", _event, where)}
        at = time.time()
        events = [Event.of(at, report.revision.commit, outcome) for outcome in report.outcomes]
        news = [event.after(last.get(event.app)) for event in events if event.is_news(last.get(event.app))]
        with self.transaction():
            for event in news:
                self._recalled.pop(event.app, None)
                self._ask("INSERT INTO event (app, json) VALUES (?, ?)", event.app, json.dumps(event.as_json()))
            self._ask(
                """DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?
                AND id NOT IN (SELECT max(id) FROM event GROUP BY app)""",
                MOST_EVENTS,
            )
            if all((o.sync, o.operation) == (Sync.SYNCED, Operation.SUCCEEDED) for o in report.outcomes):
                self._keep("applied", report.revision.to_json())
            if report.is_green:
                self._keep("healthy", report.revision.to_json())
        return news

    def events(self, limit: int, app: str | None = None) -> list[Event]:
        """The last events, the newest first, of one app or of all."""
        return self._read("event", "json", _event, "WHERE ? IN (app, '') ORDER BY id DESC LIMIT ?", app or "", limit)

    def last_event(self, app: str) -> Event | None:
        """The last event of an app."""
        return next(iter(self.events(1, app)), None)

    def save_report(self, report: Report, asked_git: float, *, awaited: bool = True) -> None:
        """Keep the report for who asks while no daemon runs; its revision was fetched at that time.

        If nobody has `awaited` it, it keeps the time at which it was first the same, and nothing is written.
        """
        self._keep("report", to_json(report), asked_git, renew=awaited)

    def last_report(self, since: float = 0.0) -> Report | None:
        """The report saved last, if it was awaited or is new, and Git was asked after `since` (seconds since 1970)."""
        return self._value("report", from_json, since)

    def save_last_error(self, why: str, *, awaited: bool = True) -> None:
        """Keep why a pass ended without a report; what is known already is written again only if it is `awaited`."""
        self._keep("excuse", {"why": why}, renew=awaited)

    def last_error(self, since: float) -> str:
        """Why the last pass ended without a report, if that was after `since` (seconds since 1970); else ""."""
        return self._value("excuse", lambda value: str(value["why"]), since) or ""

    def save_git_failure(self, why: str, *, is_refused: bool) -> None:
        """Keep why Git has not led to the newest commit; since when stays as it is until Git does so again."""
        known = self.git_failure()
        if not known or (known.why, known.is_refused) != (why, is_refused):
            value = {"since": known.since if known else time.time(), "why": why, "is_refused": is_refused}
            self._keep("git", value)

    def clear_git_failure(self) -> None:
        """Git has led to the newest commit."""
        if self.git_failure():
            self._ask("DELETE FROM value WHERE name = 'git'")

    def git_failure(self) -> GitFailure | None:
        """Why the newest commit is not known or not followed; None if Git answered when it was asked last."""
        return self._value(
            "git", lambda value: GitFailure(float(value["since"]), str(value["why"]), value["is_refused"])
        )

    def save_hold(self, hold: Hold | None) -> None:
        """Keep which newer commit this host does not follow yet, and why."""
        if hold:
            self._keep("hold", {"revision": hold.revision.to_json(), "why": hold.why})
        elif self.hold():
            self._ask("DELETE FROM value WHERE name = 'hold'")

    def hold(self) -> Hold | None:
        """The newest commit that changes this host and is not followed yet; None if there is none."""
        return self._value("hold", lambda value: Hold(_revision(value["revision"]), str(value["why"])))

    def save_fleet_entry(self, entry: FleetEntry) -> None:
        """Keep what the fleet file says of this host."""
        since = entry.since.to_json() if entry.since else None
        self._keep("fleet", {"wave": entry.wave, "is_drained": entry.is_drained, "since": since})

    def fleet_entry(self) -> FleetEntry:
        """What the fleet file said of this host at the last pass; nothing before the first."""
        return self._value("fleet", _fleet_entry) or FleetEntry()

    def _value(self, name: str, parse: Callable[[Any], T], since: float = 0.0) -> T | None:
        where = "WHERE name = ? AND at > ?"
        return next(iter(self._read("value", "json", lambda text: parse(json.loads(text)), where, name, since)), None)

    def save_threads(self, states: Iterable[ThreadState]) -> None:
        """Keep the threads of the daemon that have ended since it was started."""
        self._keep("threads", {state.name: dataclasses.asdict(state) for state in states})

    def threads(self) -> list[ThreadState]:
        """The threads that the last daemon had to start again, with what ended them."""
        return self._value("threads", lambda value: [ThreadState(**state) for state in value.values()]) or []

    def _keep(self, name: str, value: Json, at: float | None = None, *, renew: bool = False) -> None:
        """Keep a value; the same one is not written again, unless to `renew` its time."""
        self._ask(
            """INSERT INTO value VALUES (?, ?, ?)
            ON CONFLICT (name) DO UPDATE SET json = excluded.json, at = excluded.at
            WHERE json IS NOT excluded.json OR ?""",
            *(name, json.dumps(value), at or time.time(), renew),
        )

    # ---- the outbox --------------------------------------------------------------------------------------------------

    def post(self, commit: str, status: CommitStatus, delay: float = 0.0) -> None:
        """Queue a status, instead of any that still waits for that commit and context.

        It is sent after so many seconds, if it is still wanted then.  What was sent last, or rejected last, is not sent
        again.
        """
        self._ask(
            """INSERT INTO status (commit_id, context, wanted, retry_at) VALUES (?, ?, ?, ?)
            ON CONFLICT (commit_id, context) DO UPDATE SET wanted = excluded.wanted,
            retry_at = CASE tries WHEN 0 THEN excluded.retry_at ELSE retry_at END
            WHERE wanted IS NOT excluded.wanted""",
            *(commit, channel(status), _status_to_text(status), time.time() + delay if delay else 0.0),
        )
        self._ask(
            f"DELETE FROM status WHERE id <= (SELECT max(id) FROM status) - ? AND NOT ({UNSENT})",
            MOST_STATUSES,
        )

    def last_status(self, commit: str, like: CommitStatus) -> CommitStatus | None:
        """The status that was queued last for that commit and the context of `like`."""
        where = "WHERE commit_id = ? AND context = ?"
        return next(iter(self._read("status", "wanted", _status_from_text, where, commit, channel(like))), None)

    def due(self, now: float) -> list[Entry]:
        """The statuses to send now (seconds since 1970): what never failed first, and of that the oldest."""
        where = f"WHERE {UNSENT} AND retry_at <= ? ORDER BY tries, id"
        return self._read("status", "commit_id, wanted, tries", _entry, where, now)

    def next_due(self, now: float) -> float | None:
        """Seconds until something is due, None where nothing waits."""
        [(at,)] = self._ask(f"SELECT min(retry_at) FROM status WHERE {UNSENT}")
        return None if at is None else max(0.0, at - now)

    def count_waiting(self) -> int:
        """The number of statuses that are not delivered yet."""
        [(count,)] = self._ask(f"SELECT count(*) FROM status WHERE {UNSENT}")
        return int(count)

    def mark_sent(self, entry: Entry) -> None:
        """The forge has accepted it."""
        self._settle(entry, "posted = ?, refused = NULL, tries = 0, retry_at = 0", _status_to_text(entry.status))

    def put_off(self, entry: Entry, retry_at: float) -> None:
        """The forge did not answer: send it again at that time (seconds since 1970)."""
        self._settle(entry, "tries = tries + 1, retry_at = ?", retry_at)

    def mark_rejected(self, entry: Entry) -> None:
        """The forge will never accept it."""
        self._settle(entry, "refused = ?, tries = 0, retry_at = 0", _status_to_text(entry.status))

    def retry_now(self) -> None:
        """The forge answers again: what was put off is due now."""
        self._ask("UPDATE status SET retry_at = 0 WHERE retry_at > 0")

    def requeue_rejected(self) -> None:
        """Queue again what was rejected: its cause may be repaired by now."""
        self._ask("UPDATE status SET refused = NULL, tries = 0, retry_at = 0 WHERE refused IS NOT NULL")

    def count_delivery(self, forge: str, outcome: str) -> None:
        """Count one more delivery to that forge with that outcome."""
        self._ask(
            """INSERT INTO delivery VALUES (?, ?, 1)
            ON CONFLICT (forge, outcome) DO UPDATE SET times = times + 1""",
            *(forge, outcome),
        )

    def deliveries(self) -> dict[tuple[str, str], int]:
        """The number of deliveries by forge and outcome (posted, failed, limited, refused)."""
        rows = self._ask("SELECT forge, outcome, times FROM delivery ORDER BY forge, outcome")
        return {(forge, outcome): times for forge, outcome, times in rows}

    def _settle(self, entry: Entry, change: str, value: str | float) -> None:
        self._ask(
            f"UPDATE status SET {change} WHERE commit_id = ? AND context = ?",
            *(value, entry.commit, channel(entry.status)),
        )

    def pending_commits(self, like: CommitStatus) -> list[str]:
        """The commits whose last status in the context of `like` is not an end, the oldest first."""
        where = "WHERE context = ? ORDER BY id"
        entries = self._read("status", "commit_id, wanted, tries", _entry, where, channel(like))
        return [entry.commit for entry in entries if entry.status.operation is Operation.RUNNING]

    # ---- the commit that each context is about -----------------------------------------------------------------------

    def subjects(self) -> dict[str, Revision]:
        """The commit that each context is about now: the last one that changed what it stands for."""
        return self._value("subjects", lambda value: {name: _revision(it) for name, it in value.items()}) or {}

    def save_subjects(self, subjects: Mapping[str, Revision]) -> None:
        self._keep("subjects", {name: revision.to_json() for name, revision in subjects.items()})

    def work(self) -> CommitWork:
        """What the commit that the host is about changes here, and what of it is done."""
        return self._value("work", _work) or CommitWork()

    def save_work(self, work: CommitWork) -> None:
        apps = None if work.apps is None else sorted(work.apps)
        self._keep("work", {**dataclasses.asdict(work), "apps": apps})

    # ---- the open pull requests --------------------------------------------------------------------------------------

    def pull_request_plan(self, number: int) -> PullRequestPlan:
        """The plan last shown on the pull request of that number; empty if there was none."""
        rows = self._ask("SELECT at, comment, said FROM proposal WHERE number = ?", number)
        return PullRequestPlan(*rows[0]) if rows else PullRequestPlan()

    def save_pull_request_plan(self, number: int, plan: PullRequestPlan) -> None:
        self._ask("INSERT OR REPLACE INTO proposal VALUES (?, ?, ?, ?)", number, plan.at, plan.comment, plan.digest)

    def forget_other_pull_requests(self, numbers: Collection[int]) -> None:
        """Forget the plans of all pull requests but these."""
        for (number,) in self._ask("SELECT number FROM proposal"):
            if number not in numbers:
                self._ask("DELETE FROM proposal WHERE number = ?", number)


def _upgrade(path: Path, versions: Versions, database: sqlite3.Connection) -> None:
    """Take the apps that version 1 has written into it out of the file, with all that is left of old ones."""
    rows = database.execute("SELECT app, json, previous FROM good WHERE json LIKE '{%' OR previous LIKE '{%'")
    if found := rows.fetchall():
        with database:
            database.execute("BEGIN IMMEDIATE")
            for name, good, previous in found:
                texts = [_taken_out(versions, good), _taken_out(versions, previous)]
                database.execute("UPDATE good SET json = ?, previous = ? WHERE app = ?", [*texts, name])
            database.execute("DELETE FROM value WHERE name = ?", [SCRUBBED])
        path.with_name(f"{path.name}.damaged").unlink(missing_ok=True)  # they may be in it, too
    if not database.execute("SELECT 1 FROM value WHERE name = ?", [SCRUBBED]).fetchone():
        for (text,) in database.execute("SELECT json FROM value WHERE name = 'report'").fetchall():
            database.execute("UPDATE value SET json = ? WHERE name = 'report'", [_without_headers(text)])
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("INSERT OR REPLACE INTO value VALUES (?, '{}', ?)", [SCRUBBED, time.time()])


def _taken_out(versions: Versions, text: str | None) -> str | None:
    """The reference to an app instead of its JSON; what cannot be read refers to nothing."""
    if not (text and text.startswith("{")):
        return text
    try:
        version = app_of(text).version
    except ValueError:
        return "null"
    versions.write(version, text)
    return _reference(version)


def channel(status: CommitStatus) -> str:
    """The key of a status at a forge: its context, and apart from that its deployments to an environment."""
    return f"{status.context} in {status.environment}" if status.environment else status.context


def _without_headers(report: str) -> str:
    """A report of version 1 without the secrets in what probes are given."""
    try:
        return json.dumps(to_json(from_json(json.loads(report))))
    except UNREADABLE:
        return "null"


def _reference(version: str) -> str:
    return json.dumps(version)


def _failure(text: str) -> Failure:
    stored = _waiting(text)
    return Failure(stored["why"], stored["action"], is_due=stored.get("due", math.inf) <= time.time())


def _waiting(text: str) -> Json:
    """A failure as it is stored; one that waits is `due` at a Unix time, and had so many `tries`."""
    stored = json.loads(text)  # older versions of gitops-mvd stored the reason alone
    return stored if isinstance(stored, dict) else {"why": stored, "action": "rollback"}


def _revision(value: Any) -> Revision:
    return Revision(**value)


def _fleet_entry(value: Any) -> FleetEntry:
    return FleetEntry(value["wave"], value["is_drained"], _revision(value["since"]) if value["since"] else None)


def _work(value: Any) -> CommitWork:
    apps = value["apps"]
    return CommitWork(None if apps is None else frozenset(apps), dict(value["done"]), dict(value["by"]))


def _event(text: str) -> Event:
    return Event.from_json(json.loads(text))


def _entry(commit: str, text: str, tries: int) -> Entry:
    return Entry(commit, _status_from_text(text), tries)


def _status_to_text(status: CommitStatus) -> str:
    value = dataclasses.asdict(status)
    if not status.peers:  # as it always was
        del value["wave"], value["peers"]
    return json.dumps(value)


def _status_from_text(text: str) -> CommitStatus:
    value = json.loads(text)
    words = {"operation": Operation(value["operation"]), "health": Health(value["health"])}
    return CommitStatus(**{**value, **words, "peers": tuple(value.get("peers", ()))})
