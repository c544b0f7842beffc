"""`mvd explain`: how an app is deployed, and why so."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mvd.api.client import LONG_ANSWER_SECONDS
from gitops_mvd.api.views import CommandView
from gitops_mvd.cli.completion import apps_and_services
from gitops_mvd.cli.daemon_api import daemon_of
from gitops_mvd.cli.output import as_json, print_json

NOTES = "notes"


@click.command(epilog="Example: mvd explain chatbot/web")
@click.argument("name", metavar="APP[/SERVICE]", default="", shell_complete=apps_and_services)
@as_json
@click.pass_obj
def explain(config: Path, name: str, machine: bool) -> int:
    """Show how an app or one of its services is deployed.

    In what order, past which gates, what a failure leads to, and why.
    """
    if api := daemon_of(config):
        found = api.ask("explain", CommandView, timeout=LONG_ANSWER_SECONDS, name=name)
    else:
        from gitops_mvd.cli.look import Server

        found = Server(config).explain(name)
    if machine:
        print_json(found.answer)
        return found.exit_code
    for app, services in found.answer.items():
        for service, about in services.items():
            click.echo(f"{app}/{service}")
            for what, why in about.items():
                if what != NOTES:
                    click.echo(f"  {what:<10}  {why}")
        for note in dict.fromkeys(note for about in services.values() for note in about.get(NOTES, ())):
            click.echo(f"{app}: note: {note}")  # those of the app are at each of its services
    return found.exit_code
