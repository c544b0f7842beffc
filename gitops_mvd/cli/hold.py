"""`mvd suspend`, `mvd resume` and `mvd retry`: what an operator holds back, and what is tried again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from gitops_mvd.cli.server import connect, read_settings


@click.command(epilog="Example: mvd retry chatbot")
@click.argument("app")
@click.pass_obj
def retry(config: Path, app: str) -> int:
    """Try the failed version of APP again.

    Exit code 1: no version of APP is marked failed.
    """
    if not connect(config).history.clear_failure(app):
        click.echo(f"{app}: no version is marked failed, so there is nothing to retry. See `mvd status`.", err=True)
        return 1
    click.echo(f"{app}: its failed version is tried again at the next sync. Now: mvd sync")
    return 0


@click.command(epilog="Example: mvd suspend the disk is being changed")
@click.argument("why", nargs=-1)
@click.pass_obj
def suspend(config: Path, why: Sequence[str]) -> int:
    """Pause all changes on this server.

    Nothing is deployed, repaired or removed until `mvd resume`; statuses show the reason, WHY.
    """
    from gitops_mvd.state.suspension import suspend as begin

    read_settings(config)
    begin(config, " ".join(why))
    click.echo("suspended: nothing is changed on this server until `mvd resume`")
    return 0


@click.command(epilog="Example: mvd resume")
@click.pass_obj
def resume(config: Path) -> int:
    """Allow changes on this server again.

    Exit code 1: the server was not suspended.
    """
    from gitops_mvd.state.suspension import resume as end

    read_settings(config)
    if not end(config):
        click.echo("this server is not suspended", err=True)
        return 1
    click.echo("resumed: the daemon syncs now; without it, run `mvd sync`")
    return 0
