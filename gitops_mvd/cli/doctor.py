"""`mvd doctor`: everything that a server needs, checked, with what to do about it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from gitops_mvd.api.client import LONG_ANSWER_SECONDS, NotNow
from gitops_mvd.api.views import CommandView
from gitops_mvd.cli.daemon_api import daemon_of
from gitops_mvd.cli.output import as_json, print_json, print_lines, screen
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.text import plain_line


@click.command(epilog="Example: mvd doctor")
@as_json
@click.pass_obj
def doctor(config: Path, machine: bool) -> int:
    """Check everything that this server needs, with what to do.

    Exit code 1: a check failed.
    """
    found = findings(config)
    if machine:
        print_json(found.answer)
    else:
        show(found)
    return found.exit_code


def show(found: CommandView) -> None:
    """Print what was found, a line each, and below it what to do."""
    paint = screen().paint
    for finding in found.answer:
        verdict, what, message, hint = (plain_line(finding[key]) for key in ("verdict", "what", "told", "hint"))
        print_lines(
            [f"{paint(verdict)}{' ' * (6 - len(verdict))}{what:<14} {message}", *([f"{'':<20} {hint}"] if hint else [])]
        )


def findings(config: Path) -> CommandView:
    """What the daemon finds; a daemon that cannot be asked is no reason to look at nothing."""
    with suppress(Unavailable, NotNow):
        if api := daemon_of(config):
            return api.ask("doctor", CommandView, timeout=LONG_ANSWER_SECONDS)
    from gitops_mvd.cli import look

    return look.doctor(config)
