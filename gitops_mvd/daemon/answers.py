"""What the daemon answers to each question of the local API, by the name of its endpoint."""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gitops_mvd.api import endpoints
from gitops_mvd.api.description import openapi
from gitops_mvd.api.views import (
    ChangesView,
    CommandView,
    DoneView,
    EventsView,
    HistoryView,
    HostView,
    LogLine,
    OperationView,
)
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.model import Outcome, Report, Revision
from gitops_mvd.core.redact import told_line
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.daemon.changes import Changes
from gitops_mvd.daemon.events import Events
from gitops_mvd.daemon.host_view import VERSION, AppState, HostViews
from gitops_mvd.daemon.metrics import registry_of
from gitops_mvd.daemon.operations import Operations
from gitops_mvd.daemon.planning import SYSTEMDS
from gitops_mvd.daemon.triggers import SYNC
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.git.child import Limits, run
from gitops_mvd.host.monitor import Verdict
from gitops_mvd.state import suspension
from gitops_mvd.state.history import Event
from gitops_mvd.systemd.journal_lines import journal_lines

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger(__name__)

COMMAND_LIMITS = Limits(seconds=110.0, file=64 << 20, output=32 << 20)
COMMANDS_AT_ONCE = 2
NEW_FOR_SECONDS = 2.0  # that a view of the server is given out again, while nothing changes
IsOver = Callable[[], bool]


class NotFound(MvdError):
    """What was asked for does not exist."""


class Busy(MvdError):
    """Too many ask for the same thing at once."""


@dataclass
class Last:
    """How the last pass ended: the last report, None before the first, and why the pass came to nothing.

    `at` is when a pass has looked at this server last, 0 before the first, and `asked_git` when Git was asked for what
    it is about.
    """

    report: Report | None = None
    revision: Revision | None = None
    at: float = 0.0
    error: str = ""
    asked_git: float = 0.0


class Answers:
    """The answers of one daemon.  Any thread may ask; the loop tells how each pass ended."""

    def __init__(
        self, wired: Wired, operations: Operations, views: HostViews, events: Events, changes: Changes
    ) -> None:
        self._wired = wired
        self._operations = operations
        self._views = views
        self._events = events
        self._changes = changes
        self.last = Last()
        self._shown: tuple[int, float, HostView] | None = None  # at which number of changes, and when
        self._guard = threading.Lock()
        self._asking = threading.Lock()
        self._commands = threading.Semaphore(COMMANDS_AT_ONCE)
        self.is_alive: Callable[[], bool] = lambda: True  # does the loop go on?
        self.rejected = ""  # why newer settings are not in force

    # ---- told by the loop --------------------------------------------------------------------------------------------

    def passed(self, report: Report | None, revision: Revision | None, error: str, asked_git: float) -> None:
        """A pass is over; the report before it stays the last one if there is none."""
        failed = "" if report else error
        at = self.last.at if failed else time.time()
        self.last = Last(report or self.last.report, revision, at, failed, asked_git)
        self._changes.note()

    # ---- what is read ------------------------------------------------------------------------------------------------

    def status(self, ask: bool) -> HostView:
        if ask:  # one after the other: every probe of the server is asked
            if not self._asking.acquire(timeout=endpoints.LONGEST_WAIT_SECONDS):
                raise Busy("the probes are being asked already", "try again")
            try:
                return self._status(self._wired.monitor.ask_now())
            finally:
                self._asking.release()
        with self._guard:
            number, now = self._changes.number, time.monotonic()
            if self._shown and (self._shown[0] == number and now - self._shown[1] < NEW_FOR_SECONDS):
                return self._shown[2]
            shown = self._status()
            self._shown = number, now, shown
            return shown

    def _status(self, asked: Mapping[str, Verdict] | None = None) -> HostView:
        last, running = self.last, self._operations.running()
        report = self._last_report()
        return self._views.view(
            map(_state, _still_here(report)),
            at=last.at,
            revision=last.revision or (report.revision if report else None),
            error=last.error,
            rejected=self.rejected,
            suspended=suspension.suspended(self._wired.settings_path),
            deploying=running.id if running else 0,
            asked_git=last.asked_git,
            asked=asked,
        )

    def changes(self, after: int, within: float) -> ChangesView:
        return ChangesView(self._changes.wait(after, within))

    def operations(self, limit: int, commit: str, app: str) -> tuple[OperationView, ...]:
        return tuple(self._operations.newest(limit, commit=commit, app=app))

    def operation(self, id: int) -> OperationView:
        if found := self._operations.one(id):
            return found
        raise NotFound(f"there is no operation {id}", "only the newest are kept")

    def history(self, limit: int, app: str) -> tuple[HistoryView, ...]:
        return tuple(map(history_view, self._wired.history.events(limit, app or None)))

    def events(self, after: int, limit: int) -> EventsView:
        return self._events.behind(after, limit)

    def logs(
        self, name: str, lines: int, follow: bool, after: str, since: float, is_over: IsOver
    ) -> Iterator[LogLine | None]:
        app, slash, service = name.partition("/")
        if not app or app.startswith("-") or "/" in service or (slash and not service):
            raise NotFound(f"no such app or service: {name}")
        return journal_lines(name, lines, follow=follow, after=after, since=since, is_over=is_over)

    def plan(self) -> CommandView:
        return self._command("plan", "--json")

    def explain(self, name: str) -> CommandView:
        return self._command("explain", "--json", "--", *([name] if name else []))

    def doctor(self) -> CommandView:
        return self._command("doctor", "--json")

    def _command(self, *words: str) -> CommandView:
        """What a command says, run in a process of its own: it reads whole commits, which may be large."""
        if not self._commands.acquire(timeout=endpoints.LONGEST_WAIT_SECONDS):
            raise Busy("too many plans and checks are being made now", "try again")
        try:
            words = (sys.executable, "-m", "gitops_mvd", "--config", str(self._wired.settings_path), *words)
            environment = {name: value for name, value in os.environ.items() if name not in SYSTEMDS}
            ended = run(words, {**environment, endpoints.ALONE: "1"}, COMMAND_LIMITS)
        finally:
            self._commands.release()
        try:
            return CommandView(json.loads(ended.output), ended.status)
        except ValueError:
            first, *others = ended.complaint.strip().splitlines() or [f"ended with status {ended.status}"]
            hint = others[0].strip() if others else ""
            raise Unavailable(told_line(first.removeprefix("mvd: ")), told_line(hint)) from None

    def metrics(self) -> str:
        from prometheus_client import generate_latest

        return generate_latest(self.registry).decode()

    @functools.cached_property
    def registry(self) -> CollectorRegistry:
        """All metrics, which are collected whenever somebody asks for them."""
        return registry_of(self._wired, lambda: self.status(ask=False))

    def openapi(self) -> dict[str, Any]:
        return openapi(VERSION)

    def health(self) -> DoneView:
        if not self.is_alive():
            raise Unavailable("the loop does not go on", "journalctl -u gitops-mvd")
        return DoneView("the loop is at work")

    def ready(self) -> DoneView:
        if not self.last.at:
            raise Unavailable(self.last.error or "there was no pass yet")
        if git := self._wired.history.git_failure():
            raise Unavailable(told_line(git.why))
        return DoneView("Git answers, and there was a pass")

    # ---- what acts ---------------------------------------------------------------------------------------------------

    def sync(self, by: str) -> DoneView:
        log.info("sync asked by=%s", _who(by))
        self._wired.mailbox.post(SYNC)
        return DoneView("the daemon fetches and reconciles now")

    def retry(self, app: str, by: str) -> DoneView:
        if not self._wired.history.clear_failure(app):
            raise NotFound(f"{app}: no version is marked failed, so there is nothing to retry")
        log.info("retry asked app=%s by=%s", told_line(app), _who(by))
        self._wired.mailbox.post(SYNC)
        return DoneView(f"{app}: its failed version is tried again now")

    def suspend(self, app: str, by: str, why: str, until: float, stop: bool) -> DoneView:
        now = suspension.now()
        try:
            end = datetime.fromtimestamp(until, UTC).astimezone(now.tzinfo) if until else None
        except (ValueError, OverflowError, OSError):
            raise MvdError(f"not a time: {until:g}") from None
        if end and end <= now:
            raise MvdError("the end of a suspension must be to come")
        if app:
            self._known(app)
        elif stop:
            raise MvdError("a whole server is not stopped, only an app")
        begun = Suspension(_who(by), why, now, end, stop)
        suspension.suspend(self._wired.settings_path, begun, app)
        log.info("suspended app=%s by=%s: %s", app or "all", begun.by, begun.why or "no reason given")
        self._wired.mailbox.post(SYNC)
        self._changes.note()
        return DoneView(f"{app or 'this server'}: {begun.text}")

    def resume(self, app: str, by: str) -> DoneView:
        if not suspension.resume(self._wired.settings_path, app):
            raise NotFound(f"{app or 'this server'} is not suspended here")
        log.info("resumed app=%s by=%s", app or "all", _who(by))
        self._wired.mailbox.post(SYNC)
        self._changes.note()
        return DoneView(f"{app or 'this server'}: resumed")

    def _known(self, app: str) -> None:
        names = sorted(outcome.app for outcome in _still_here(self._last_report()))
        if names and app not in names:
            raise NotFound(f"no such app on this host: {told_line(app)}", f"Apps: {', '.join(names)}")

    def _last_report(self) -> Report | None:
        """That of the last pass, be it of the daemon before."""
        return self.last.report or self._wired.history.last_report()


def _still_here(report: Report | None) -> list[Outcome]:
    return [outcome for outcome in report.outcomes if not outcome.removed] if report else []


def _state(o: Outcome) -> AppState:
    """How an app came out of a pass; the remark on one that is well is no reason of anything."""
    why, changed = ("", o.changed or o.why) if o.is_green else (o.why, o.changed)
    return AppState(o.app, o.sync, o.health, o.operation, why, changed, o.suspended)


def history_view(e: Event) -> HistoryView:
    """An event as it is shown."""
    return HistoryView(e.at, e.commit, e.app, e.sync, e.health, e.operation, told_line(e.why), e.changed, e.did)


def _who(by: str) -> str:
    return told_line(by, 80).strip() or "somebody"


Question = Callable[..., Any]


def questions(answers: Answers) -> Mapping[str, Question]:
    """The method that answers each endpoint, by its name."""
    return {endpoint.name: getattr(answers, endpoint.name) for endpoint in endpoints.ENDPOINTS}
