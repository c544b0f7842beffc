"""`mvd logs`: what apps printed, across versions and replicas."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import msgspec

from gitops_mvd.api.client import Api, NotNow
from gitops_mvd.api.endpoints import MOST_LINES
from gitops_mvd.api.views import LogLine
from gitops_mvd.cli.completion import apps_and_services
from gitops_mvd.cli.daemon_api import daemon_of
from gitops_mvd.cli.output import has_colours, print_lines
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.text import LONGEST_TEXT, plain_line

LINES = 50
SILENT_SECONDS = 30.0  # after which the daemon is gone: it sends something every few seconds
AGAIN_SECONDS = 1.0  # between two tries to reach a daemon that is gone
COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


def _time(context: click.Context, parameter: click.Parameter, value: str) -> float:
    """A time in seconds since 1970, 0 for none, from a duration until now, or a date with or without a time."""
    if not value:
        return 0.0
    from gitops_mvd.config.readers import seconds_of  # not loaded unless it is needed

    if (seconds := seconds_of(value)) is not None:
        return time.time() - seconds
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError):
        raise click.BadParameter(f"not a time: {value}. Write 10m, 2h, 1d, or 2026-12-24T18:00") from None


@click.command(epilog="Example: mvd logs chatbot/web -f")
@click.argument("name", metavar="APP[/SERVICE]", shell_complete=apps_and_services)
@click.option("-f", "--follow", is_flag=True, help="Go on printing what comes.")
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(0, MOST_LINES),
    metavar="NUMBER",
    help=f"Begin with so many lines.  [default: {LINES}, or all with --since]",
)
@click.option(
    "--since",
    default="",
    metavar="TIME",
    callback=_time,
    help="Begin with the lines since then: 10m, 2h, 2026-12-24T18:00.",
)
@click.option("--json", "machine", is_flag=True, help="Print a line of JSON for each, for programs.")
@click.pass_obj
def logs(config: Path, name: str, follow: bool, lines: int | None, since: float, machine: bool) -> int:
    """Show what an app or one of its services printed.

    The output of all its versions and replicas that the journal has, the oldest first, as plain text.
    """
    lines = lines if lines is not None else MOST_LINES if since else LINES
    if api := daemon_of(config):
        printed = _asked(api, name, lines, follow, since)
    else:
        from gitops_mvd.cli.look import log_lines

        printed = log_lines(name, lines, follow, since)
    if machine:
        for line in printed:
            click.echo(msgspec.json.encode(line).decode())
        return 0
    printer = Prefixes(coloured=has_colours())
    for line in printed:
        print_lines([printer.text(line)])
    return 0


def _asked(api: Api, name: str, lines: int, follow: bool, since: float) -> Iterator[LogLine]:
    """The lines as the daemon sends them; when it is gone while they are followed, what comes once it is back, too."""
    after, told = "", ""
    while True:
        why = "the daemon has ended"
        try:
            asked: dict[str, Any] = {"name": name, "lines": lines, "follow": follow, "after": after, "since": since}
            for line in api.stream("logs", LogLine, timeout=SILENT_SECONDS, **asked):
                after, told = line.cursor, ""
                yield line
        except (Unavailable, NotNow) as error:
            if not follow:
                raise
            why = error.message
        if not follow:
            return
        if not told:
            click.echo(f"mvd: {why}; going on once it answers", err=True)
        told = why
        time.sleep(AGAIN_SECONDS)


class Prefixes:
    """Gives each line its time and its replica, in the colour of that replica."""

    def __init__(self, coloured: bool) -> None:
        self._coloured = coloured
        self._colours: dict[str, str] = {}
        self._next = itertools.cycle(COLOURS)
        self._width = 0

    def text(self, line: LogLine) -> str:
        """`2026-12-24 18:00:00 web-3f9c2a1b-2 | listening`."""
        replica = plain_line(line.instance.removeprefix(f"mvd-{line.app}-") or line.service)
        self._width = max(self._width, len(replica))
        prefix = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(line.at))} {replica:<{self._width}} |"
        if self._coloured:
            if replica not in self._colours:
                self._colours[replica] = next(self._next)
            prefix = click.style(prefix, fg=self._colours[replica])
        return f"{prefix} {plain_line(line.text, LONGEST_TEXT)}"
