"""`mvd plan`: what a sync would do here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from gitops_mvd.api.client import LONG_ANSWER_SECONDS
from gitops_mvd.api.views import CommandView
from gitops_mvd.cli.daemon_api import daemon_of
from gitops_mvd.cli.output import as_json, print_json

SIGNS = {"create": "+", "update": "~", "delete": "-"}
WAIT = "wait"
Step = Mapping[str, str]


@click.command(epilog="Example: mvd plan --verbose")
@click.option("-v", "--verbose", is_flag=True, help="Also each step that would be taken.")
@as_json
@click.pass_obj
def plan(config: Path, machine: bool, verbose: bool) -> int:
    """Show what a sync would change, and what that costs; change nothing.

    Lines that begin with `# note:` tell what the files of an app say that is done otherwise than one may expect.

    Exit code 0: nothing to change, 2: something to change, 1: an error, or an app that cannot be deployed as it is.
    """
    if api := daemon_of(config):
        found = api.ask("plan", CommandView, timeout=LONG_ANSWER_SECONDS)
    else:
        from gitops_mvd.cli.look import Server

        found = Server(config).plan()
    if machine:
        print_json(found.answer)
    else:
        for line in _lines(found.answer, verbose):
            click.echo(line)
        click.echo(found.answer["summary"], err=True)
        for commit, why in found.answer.get("waits", {}).items():
            click.echo(f"{commit[:7]} waits: {why}", err=True)
    return found.exit_code


def _lines(answer: Mapping[str, Any], verbose: bool) -> Iterator[str]:
    for app, steps in answer["apps"].items():
        if remark := answer["remarks"].get(app):
            yield f"# {remark}"
        if steps:
            yield from (f"# note: {note}" for note in answer["notes"].get(app, ()))
        yield from answer["changes"].get(app, {}).get("lines", ())
        if verbose:
            yield from (f"  {line}" for line in step_lines(steps))


def step_lines(steps: Sequence[Step]) -> Iterator[str]:
    """A line for each step that does something: a wait for what is not changed is none of them."""
    changed = {(step["kind"], step["name"]) for step in steps if step["do"] != WAIT}
    for step in steps:
        if (step["kind"], step["name"]) in changed:
            sign, kind = ("?", WAIT) if step["do"] == WAIT else (SIGNS[step["do"]], step["kind"])
            yield f"{sign} {kind:<8} {step['name']:<40} {step['what']}".rstrip()
