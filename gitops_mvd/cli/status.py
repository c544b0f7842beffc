"""`mvd status`, `mvd history` and `mvd logs`: how it is, how it came to that, what the apps printed."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mvd.cli.output import as_json, print_json, print_table, when
from gitops_mvd.cli.server import connect, restarted_threads, told, told_git

if TYPE_CHECKING:
    from gitops_mvd.state.history import Event


@click.command()
@as_json
@click.pass_obj
def status(config: Path, machine: bool) -> int:
    """Show each app: synced, healthy, and how its last deploy went.

    Exit code 1: an app is not synced or not healthy, its last deploy failed, or Git could not be asked for the newest
    commit.
    """
    from gitops_mvd.daemon.preview import preview
    from gitops_mvd.state.suspension import suspended

    wired = connect(config)
    previewed, host, threads = preview(wired, fetch=False, ask=True), suspended(config).host, restarted_threads(wired)
    git = wired.history.git_failure()
    if machine:
        apps = [app.as_json() for app in previewed.apps]
        print_json(
            {
                "revision": previewed.revision.commit,
                "git": git and git._asdict(),
                "suspended": host and host.as_json(),
                "apps": apps,
                "threads": [asdict(state) for state in threads],
            }
        )
    else:
        click.echo(f"{previewed.host} at {previewed.revision.short} {previewed.revision.subject}")
        if git:
            click.echo(told_git(git))
        if host:
            click.echo(f"{host.text} (`mvd resume` ends it)")
        for state in threads:
            click.echo(f"thread {state.name} {told(state)}")
        rows = [(app.name, app.sync, app.health, app.reason) for app in previewed.apps]
        print_table(("APP", "SYNC", "HEALTH", ""), rows)
    return 0 if all(app.is_green for app in previewed.apps) and not git else 1


@click.command()
@click.option("-n", "--lines", default=20, show_default=True, metavar="NUMBER", help="At most so many lines.")
@click.option("--app", default="", metavar="NAME", help="This app only.")
@as_json
@click.pass_obj
def history(config: Path, lines: int, app: str, machine: bool) -> int:
    """Show what was done on this server, newest first."""
    events = connect(config).history.events(lines, app or None)
    if machine:
        print_json([event.as_json() for event in events])
    else:
        rows = [(when(e.at), e.commit[:7], e.app, e.operation, e.health, _words(e)) for e in events]
        print_table(("WHEN", "COMMIT", "APP", "OPERATION", "HEALTH", ""), rows)
    return 0


def _words(event: Event) -> str:
    """Why an app came out so, and what had been changed in it."""
    from gitops_mvd.status.status_text import reason

    return "; ".join(filter(None, (reason(event.operation, event.why), event.changed)))


@click.command()
@click.argument("name", metavar="APP[/SERVICE]")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option("-n", "--lines", default=50, show_default=True, metavar="NUMBER", help="Begin with so many lines.")
def logs(name: str, follow: bool, lines: int) -> int:
    """Show what an app or one of its services printed.

    The output of all its versions that the journal has.
    """
    from gitops_mvd.systemd.programs import journal_command

    command = journal_command(name, lines, follow)
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise click.ClickException(f"cannot run {command[0]}: {error.strerror}") from None
