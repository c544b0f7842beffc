"""`mvd history` and `mvd events`: what was done on this server, and what its daemon says of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from gitops_mvd.api.client import Api, NotNow, NotServed
from gitops_mvd.api.endpoints import LONGEST_WAIT_SECONDS
from gitops_mvd.api.views import ChangesView, EventsView, EventView, HistoryView
from gitops_mvd.cli.completion import apps
from gitops_mvd.cli.daemon_api import daemon_of
from gitops_mvd.cli.output import as_json, counted, print_json, print_table, when
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.text import reason

MOST_LINES = 1000
PAUSE_SECONDS = 0.1  # between two looks: lines come faster than anybody reads
AGAIN_SECONDS = 1.0  # between two tries to reach a daemon that is gone


@click.command(epilog="Example: mvd history --app chatbot -n 5")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1, MOST_LINES),
    default=20,
    show_default=True,
    metavar="NUMBER",
    help="At most so many lines.",
)
@click.option("--app", default="", metavar="NAME", shell_complete=apps, help="This app only.")
@as_json
@click.pass_obj
def history(config: Path, lines: int, app: str, machine: bool) -> int:
    """Show what was done on this server, newest first."""
    if api := daemon_of(config):
        events = api.ask("history", tuple[HistoryView, ...], limit=lines, app=app)
    else:
        from gitops_mvd.cli.look import Server

        events = Server(config).history(lines, app)
    if machine:
        print_json([_as_builtins(event) for event in events])
        return 0
    now = time.time()
    rows = [(when(e.at, now), e.commit[:7], e.app, e.operation, e.health, _words(e)) for e in events]
    print_table(("WHEN", "COMMIT", "APP", "OPERATION", "HEALTH", ""), rows)
    return 0


def _as_builtins(event: HistoryView) -> dict[str, Any]:
    """An event for programs; `changed` only if anything was, as it always was."""
    value: dict[str, Any] = msgspec.to_builtins(event)
    return {name: it for name, it in value.items() if name != "changed" or it}


def _words(event: HistoryView) -> str:
    """Why an app came out so, and what had been changed in it."""
    return "; ".join(filter(None, (reason(event.operation, event.why), event.changed)))


@click.command(epilog="Example: mvd events -f")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(1, MOST_LINES),
    default=50,
    show_default=True,
    metavar="NUMBER",
    help="Begin with so many lines.",
)
@as_json
@click.pass_obj
def events(config: Path, follow: bool, lines: int, machine: bool) -> int:
    """Show the latest lines of the daemon's own log.

    The journal has all of them: journalctl -u gitops-mvd.
    """
    api = daemon_of(config)
    if not api:
        raise NotServed("the daemon does not run here", "What it said before: journalctl -u gitops-mvd")
    for event in _events(api, lines, follow):
        click.echo(msgspec.json.encode(event).decode() if machine else _line(event))
    return 0


def _events(api: Api, lines: int, follow: bool) -> Iterator[EventView]:
    """The last lines and, to `follow`, what comes, also of the next daemon; how many came too fast is said."""
    number, found = 0, api.ask("events", EventsView, limit=lines)
    yield from found.events
    while follow:
        try:
            timeout = 2 * LONGEST_WAIT_SECONDS
            number = api.ask("changes", ChangesView, timeout=timeout, after=number, within=LONGEST_WAIT_SECONDS).number
            time.sleep(PAUSE_SECONDS)
            found = api.ask("events", EventsView, after=found.last, limit=MOST_LINES)
        except (Unavailable, NotNow):
            time.sleep(AGAIN_SECONDS)
            continue
        if found.missed:
            click.echo(f"mvd: {counted(found.missed, 'line')} more, see journalctl -u gitops-mvd", err=True)
        yield from found.events


def _line(event: EventView) -> str:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event.at))
    return f"{at} {event.level:<7} {event.text}"
