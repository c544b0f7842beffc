"""What commands find out for themselves where no daemon answers, in the views in which it answers."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace

from gitops_mvd import probes
from gitops_mvd.api.views import CommandView, HistoryView, HostView, LogLine
from gitops_mvd.cli.checks import examine
from gitops_mvd.cli.output import counted
from gitops_mvd.cli.server import connect
from gitops_mvd.core import plan_text
from gitops_mvd.core.errors import ManifestError, MvdError
from gitops_mvd.core.model import Operation, Sync
from gitops_mvd.daemon.answers import history_view
from gitops_mvd.daemon.host_view import AppState
from gitops_mvd.daemon.preview import AppPreview, Preview, desired, preview
from gitops_mvd.manifest.explain import explain as explained
from gitops_mvd.manifest.explain import notes_of
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.lock import daemon_runs
from gitops_mvd.state.suspension import suspended
from gitops_mvd.systemd.journal_lines import journal_lines

LATEST_EVENTS = 50
MOST_NAMES = 1000  # rows of the history in which names of apps are looked for
FAILED = {Operation.FAILED, Operation.ROLLED_BACK, Operation.ROLLBACK_FAILED}


class Server:
    """This server, as this process sees it."""

    def __init__(self, config: Path) -> None:
        """Raises Unavailable and ManifestError for settings that cannot be read."""
        self._config = config
        self._wired = connect(config)

    def status(self) -> HostView:
        """How it is now, each probe asked once.  Raises Unavailable before the first fetch, or without Docker."""
        wired = self._wired
        previewed = preview(wired, fetch=False, ask=True)
        view = wired.views.view(
            (_state(app, wired.history) for app in previewed.apps),
            at=time.time(),
            revision=previewed.revision,
            suspended=suspended(self._config),
        )
        return view if daemon_runs(Path(wired.settings.state)) else replace(view, threads=())

    def history(self, limit: int, app: str) -> tuple[HistoryView, ...]:
        return tuple(map(history_view, self._wired.history.events(limit, app or None)))

    def plan(self) -> CommandView:
        """What a pass would do."""
        previewed = preview(self._wired)
        apps, history = previewed.apps, self._wired.history
        answer = {
            "revision": previewed.revision.commit,
            "summary": _summary(previewed),
            "changes": {app.name: app.change.as_json() for app in apps if app.has_changes},
            "apps": {app.name: plan_text.as_json(app.plan, probes.summary) for app in apps},
            "held": {app.name: app.why for app in apps if app.why},
            "remarks": {app.name: _remark(app, history) for app in apps if app.why},
            "waits": {it.revision.commit: it.why for it in previewed.held},
            "notes": {app.name: [str(note) for note in app.notes] for app in apps if app.notes},
        }
        is_refused = any(app.is_refused for app in apps)
        return CommandView(answer, 1 if is_refused else 2 if any(app.has_changes for app in apps) else 0)

    def explain(self, name: str) -> CommandView:
        """How `APP`, `APP/SERVICE`, or every app is deployed.  Raises ManifestError for an app with mistakes."""
        wanted, _, service = name.partition("/")
        known = desired(self._wired)
        if wanted in known.broken:
            raise ManifestError(known.broken[wanted])
        apps = {app.name: explained(app) for app in known.apps if wanted in ("", app.name) and app.services}
        found = {
            app: {one: services[one] for one in services if service in ("", one)} for app, services in apps.items()
        }
        if not any(found.values()):
            has = ", ".join(app.name for app in known.apps) or "none"
            message = f"no such app or service on this host: {name}" if name else "no app on this host"
            raise MvdError(message, f"Apps: {has}")
        notes = {app.name: notes_of(app) for app in known.apps}
        answer = {app: {one: _with_notes(it, notes[app], one) for one, it in found[app].items()} for app in found}
        return CommandView(answer, 0)


def doctor(config: Path) -> CommandView:
    """What every check finds, with settings that cannot be read as well."""
    findings = list(examine(config))
    failed = any(finding.verdict == "fail" for finding in findings)
    return CommandView([finding.as_json() for finding in findings], 1 if failed else 0)


def log_lines(name: str, lines: int, follow: bool, since: float) -> Iterator[LogLine]:
    """What an app or a service printed, out of the journal.  Raises MvdError if that is nothing."""
    found = journal_lines(name, lines, follow=follow, since=since)
    return (line for line in found if line)


def names_in_history(config: Path) -> list[str]:
    """The apps that this server has had lately."""
    events = connect(config).history.events(MOST_NAMES)
    return sorted({event.app for event in events})


def _state(app: AppPreview, history: SqliteHistory) -> AppState:
    last = history.last_event(app.name)
    operation = Operation.SUCCEEDED if app.is_green or not last else last.operation
    return AppState(app.name, app.sync, app.health, operation, app.reason, suspended=app.suspended)


def _remark(app: AppPreview, history: SqliteHistory) -> str:
    """Why an app is not simply what its commit says, and which commit failed."""
    if app.sync is Sync.UNKNOWN:
        return f"{app.name}: cannot be planned now: {app.why}"
    if app.suspended:
        return f"{app.name}: {'nothing else is changed' if app.plan else 'left as it is'}: {app.why}"
    if app.is_overridden:
        return f"{app.name}: deployed, but {app.why}"
    events = history.events(LATEST_EVENTS, app.name)
    same = list(itertools.takewhile(lambda it: it.operation in FAILED and it.why == events[0].why, events))
    failed = f" (commit {same[-1].commit[:7]} failed)" if same else ""  # since then, it may have been repaired
    return f"{app.name}: {'deployed, but' if app.sync is Sync.SYNCED else 'not deployed:'} {app.why}{failed}"


def _summary(previewed: Preview) -> str:
    apps, commit = previewed.apps, previewed.revision.short
    changes = sum(1 for app in apps if app.has_changes)
    if changes:
        return f"{changes} of {counted(len(apps), 'app')} to change at {commit}."
    matching = sum(1 for app in apps if app.sync is Sync.SYNCED)
    of = "" if matching == len(apps) else f"{matching} of "
    return f"No changes. {of}{counted(len(apps), 'app')} {'matches' if matching == 1 else 'match'} {commit}."


def _with_notes(about: Mapping[str, str], notes: Mapping[str, Sequence[str]], service: str) -> Mapping[str, object]:
    """The explanation of a service, with its notes and those of its app if there are any."""
    found = [*notes.get(service, ()), *notes.get("", ())]
    return {**about, "notes": found} if found else about
