"""`mvd plan` and `mvd explain`: what a sync would do here, and how an app is deployed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mvd.cli.output import as_json, counted, print_json
from gitops_mvd.cli.server import connect
from gitops_mvd.core.errors import ManifestError, MvdError
from gitops_mvd.core.model import Operation, Sync

if TYPE_CHECKING:
    from gitops_mvd.daemon.preview import AppPreview, Preview
    from gitops_mvd.state.history import SqliteHistory

LATEST_EVENTS = 50
FAILED = {Operation.FAILED, Operation.ROLLED_BACK, Operation.ROLLBACK_FAILED}


@click.command()
@click.option("-v", "--verbose", is_flag=True, help="Also each step that would be taken.")
@as_json
@click.pass_obj
def plan(config: Path, machine: bool, verbose: bool) -> int:
    """Show what a sync would change, and what that costs; change nothing.

    Lines that begin with `# note:` tell what the files of an app say that is done otherwise than one may expect.

    Exit code 0: nothing to change, 2: something to change, 1: an error, or an app that cannot be deployed as it is.
    """
    from gitops_mvd import probes
    from gitops_mvd.core import plan_text
    from gitops_mvd.daemon.preview import preview

    wired = connect(config)
    previewed = preview(wired)
    apps, revision = previewed.apps, previewed.revision
    if machine:
        steps = {app.name: plan_text.as_json(app.plan, probes.summary) for app in apps}
        changes = {app.name: app.change.as_json() for app in apps if app.has_changes}
        held = {app.name: app.why for app in apps if app.why}
        notes = {app.name: [str(note) for note in app.notes] for app in apps if app.notes}
        print_json({"revision": revision.commit, "changes": changes, "apps": steps, "held": held, "notes": notes})
    else:
        for app in apps:
            if app.why:
                click.echo(f"# {_remark(app, wired.history)}")
            for note in app.notes if app.plan else ():
                click.echo(f"# note: {note}")
            for line in app.change.lines() if app.has_changes else ():
                click.echo(line)
            for line in plan_text.lines(plan_text.effective(app.plan), probes.summary) if verbose else ():
                click.echo(f"  {line}")
        click.echo(_summary(previewed), err=True)
    if any(app.is_refused for app in apps):
        return 1
    return 2 if any(app.has_changes for app in apps) else 0


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


@click.command()
@click.argument("name", metavar="APP[/SERVICE]", default="")
@as_json
@click.pass_obj
def explain(config: Path, name: str, machine: bool) -> int:
    """Show how an app or one of its services is deployed.

    In what order, past which gates, what a failure leads to, and why.
    """
    from gitops_mvd.daemon.preview import desired
    from gitops_mvd.manifest.explain import explain as explained
    from gitops_mvd.manifest.explain import notes_of

    wanted, _, service = name.partition("/")
    known = desired(connect(config))
    if wanted in known.broken:
        raise ManifestError(known.broken[wanted])
    apps = {app.name: explained(app) for app in known.apps if wanted in ("", app.name) and app.services}
    found = {app: {one: services[one] for one in services if service in ("", one)} for app, services in apps.items()}
    if not any(found.values()):
        has = ", ".join(app.name for app in known.apps) or "none"
        raise MvdError(
            f"no such app or service on this host: {name}" if name else "no app on this host", f"Apps: {has}"
        )
    notes = {app.name: notes_of(app) for app in known.apps}
    if machine:
        print_json({app: {one: _with_notes(it, notes[app], one) for one, it in found[app].items()} for app in found})
        return 0
    for app, services in found.items():
        for one, lines in services.items():
            click.echo(f"{app}/{one}")
            for what, why in [*lines.items(), *(("note", note) for note in notes[app].get(one, ()))]:
                click.echo(f"  {what:<10}  {why}")
        for note in notes[app].get("", ()):
            click.echo(f"{app}: note: {note}")
    return 0


def _with_notes(about: Mapping[str, str], notes: Mapping[str, Sequence[str]], service: str) -> Mapping[str, object]:
    """The explanation of a service, with its notes and those of its app if there are any."""
    found = [*notes.get(service, ()), *notes.get("", ())]
    return {**about, "notes": found} if found else about
