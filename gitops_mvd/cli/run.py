"""`mvd run` and `mvd sync`: the reconcile loop, and one pass of it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import click

from gitops_mvd.cli.output import OneLine, as_json, print_json, print_table
from gitops_mvd.cli.server import connect, daemon_format, log_to_stderr, told_git
from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.model import Outcome

log = logging.getLogger(__name__)


@click.command()
@click.pass_obj
def run(config: Path) -> int:
    """Run the reconcile loop (what the systemd unit starts)."""
    from gitops_mvd.daemon.loop import Daemon
    from gitops_mvd.state.lock import alone

    handler = log_to_stderr(daemon_format())
    wired = connect(config)
    handler.setFormatter(daemon_format(wired.settings))
    with alone(Path(wired.settings.state)):
        while Daemon(wired).run():
            try:
                changed = connect(config)
            except MvdError as error:
                log.error("settings rejected, the old ones stay in force error=%s", error)
            else:
                wired.close()
                wired = changed
                handler.setFormatter(daemon_format(wired.settings))
    return 0


@click.command()
@as_json
@click.pass_obj
def sync(config: Path, machine: bool) -> int:
    """Fetch the repository and reconcile now.

    If the daemon runs, it does so, and its result is shown.  Exit code 1: an app is not synced or not healthy, a
    deploy failed, or Git could not be asked for the newest commit.
    """
    from gitops_mvd.daemon.loop import Daemon
    from gitops_mvd.state.lock import Taken, alone
    from gitops_mvd.status import status_text

    log_to_stderr(OneLine("%(message)s"))
    wired = connect(config)
    try:
        with alone(Path(wired.settings.state)):
            report = Daemon(wired).once()  # logs its summary
    except Taken as daemon:
        report = daemon.sync(wired.history)
        click.echo(status_text.summary(report), err=True)
    if not report:  # the daemon's own log has just said why
        click.echo("mvd: nothing was changed", err=True)
        return 1
    if machine:
        print_json([_as_json(outcome) for outcome in report.outcomes])
    else:
        _print_outcomes(report.outcomes)
    if git := wired.history.git_failure():
        click.echo(f"mvd: {told_git(git)}", err=True)
    return 0 if report.is_green and not git else 1


def _as_json(outcome: Outcome) -> dict[str, str]:
    return {key: getattr(outcome, key) for key in ("app", "sync", "health", "operation", "why")}


def _print_outcomes(outcomes: Iterable[Outcome]) -> None:
    from gitops_mvd.status.status_text import reason

    rows = [(o.app, o.operation, o.sync, o.health, reason(o.operation, o.why) or o.changed) for o in outcomes]
    print_table(("APP", "OPERATION", "SYNC", "HEALTH", ""), rows)
