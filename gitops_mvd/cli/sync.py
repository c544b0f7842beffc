"""`mvd sync`: one pass of the reconcile loop, now, and how each app came out of it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from gitops_mvd.api.client import Api, BrokenOff, NotServed
from gitops_mvd.api.views import ChangesView, DoneView, HostView, OperationView, ResultView
from gitops_mvd.cli.daemon_api import daemon_of, person
from gitops_mvd.cli.host_text import git_text, held_text, suspension_text
from gitops_mvd.cli.output import as_json, print_json, print_table
from gitops_mvd.cli.progress import progress
from gitops_mvd.cli.status import seen_by
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.text import reason

WAIT_SECONDS = 5.0  # for something else to be seen
PAUSE_SECONDS = 0.1  # between two looks: steps come faster than anybody reads
START_SECONDS = 10.0  # that a daemon takes at most from its lock to its first answer
SILENT_SECONDS = 900.0  # in which there was nothing else to be seen, so that nobody waits any longer
LATEST_OPERATIONS = 5
SUPERSEDED = "Superseded"


@click.command(epilog="Example: mvd sync")
@as_json
@click.pass_obj
def sync(config: Path, machine: bool) -> int:
    """Fetch the repository and reconcile now.

    If the daemon runs, it does so, and its progress and result are shown.  Exit code 1: an app is not synced or not
    healthy, a deploy failed, or Git could not be asked for the newest commit.
    """
    results, git = _reconciled(config)
    if results is None:  # it has been told why
        click.echo("mvd: nothing was changed", err=True)
        return 1
    if machine:
        names = ("app", "sync", "health", "operation", "why")
        print_json([{name: getattr(result, name) for name in names} for result in results])
    else:
        rows = [(r.app, r.operation, r.sync, r.health, reason(r.operation, r.why) or r.changed) for r in results]
        print_table(("APP", "OPERATION", "SYNC", "HEALTH", ""), rows)
    if git:
        click.echo(f"mvd: {git}", err=True)
    is_well = all((r.sync, r.health, r.operation) == ("Synced", "Healthy", "Succeeded") for r in results)
    return 0 if is_well and not git else 1


def _reconciled(config: Path) -> tuple[list[ResultView] | None, str]:
    """The results of a pass, by the daemon or by this process; a daemon that starts, or starts anew, is waited for."""
    gives_up = 0.0
    while True:
        try:
            api = daemon_of(config)
            return _by_daemon(api) if api else _here(config)
        except (NotServed, BrokenOff):
            gives_up = gives_up or time.monotonic() + START_SECONDS
            if time.monotonic() > gives_up:
                raise
            time.sleep(PAUSE_SECONDS)


def _here(config: Path) -> tuple[list[ResultView] | None, str]:
    """By this process.  Raises NotServed while a daemon that does not answer yet has the server's lock."""
    from gitops_mvd.cli.run import reconcile_here
    from gitops_mvd.state.lock import Taken

    try:
        return reconcile_here(config)
    except Taken as error:
        raise NotServed(error.message, error.hint) from error


def _by_daemon(api: Api) -> tuple[list[ResultView] | None, str]:
    """How each app came out of a pass of the daemon, None if it came to nothing; and why Git has no newer commit."""
    view = _followed(api)
    why = suspension_text(view.suspended) if view.suspended else view.error
    if why:
        click.echo(f"mvd: {view.host}: {why}", err=True)
        return None, ""
    results = [ResultView(it.name, it.sync, it.health, it.operation, it.why, it.changed) for it in view.apps]
    if view.held:
        click.echo(f"mvd: {held_text(view.held)}", err=True)
    return results, git_text(view.git, time.time()) if view.git else ""


def _followed(api: Api) -> HostView:
    """The server after a pass of its daemon that begins now.  Raises Unavailable if it does not end."""
    asked = time.time()
    api.ask("sync", DoneView, by=person())
    number, heard = 0, time.monotonic()
    with progress() as shown:
        while True:
            view, operation = seen_by(api)
            shown.show(operation)
            if view.asked_git >= asked and not view.deploying and all(it.operation != SUPERSEDED for it in view.apps):
                break
            told = api.ask("changes", ChangesView, timeout=2 * WAIT_SECONDS, after=number, within=WAIT_SECONDS)
            if told.number != number:
                number, heard = told.number, time.monotonic()
            if time.monotonic() > heard + SILENT_SECONDS:
                raise Unavailable("the daemon does not end its pass", "journalctl -u gitops-mvd")
            time.sleep(PAUSE_SECONDS)
        for ended in reversed(api.ask("operations", tuple[OperationView, ...], limit=LATEST_OPERATIONS)):
            if ended.began >= asked:  # its last steps, and all of one that was over before anybody looked
                shown.show(api.ask("operation", OperationView, id=ended.id))
    return view
