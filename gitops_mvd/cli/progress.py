"""The steps of an operation as they go: on a terminal those that run are drawn, elsewhere each is a line at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from gitops_mvd.api.views import FAILED, RUNNING, OperationView, StepView
from gitops_mvd.cli.host_text import step_text
from gitops_mvd.cli.output import has_colours
from gitops_mvd.core.text import plain_line

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

MOST_RUNNING = 8  # steps that are drawn at once


class Progress:
    """Prints each step once it has ended, and no step twice."""

    def __init__(self) -> None:
        self._told: set[tuple[int, int]] = set()

    def show(self, operation: OperationView | None) -> None:
        for place, step in enumerate(operation.steps if operation else ()):
            if operation and step.state != RUNNING and (operation.id, place) not in self._told:
                self._told.add((operation.id, place))
                self.ended(step)

    def ended(self, step: StepView) -> None:
        click.echo(ended_text(step), err=True)


class Drawn(Progress):
    """The same, and below it what runs at this moment."""

    def __init__(self, live: Live) -> None:
        super().__init__()
        self._live = live

    def show(self, operation: OperationView | None) -> None:
        super().show(operation)
        running = [step for step in operation.steps if step.state == RUNNING] if operation else []
        self._live.update(_running(running), refresh=True)

    def ended(self, step: StepView) -> None:
        from rich.text import Text

        style = "red" if step.state == FAILED else "green"
        self._live.console.print(Text.assemble(("✗ " if step.state == FAILED else "✓ ", style), ended_text(step)))


@contextmanager
def progress() -> Iterator[Progress]:
    """Inside, the progress is shown on the terminal of standard error, or printed there in lines."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    from rich.console import Console
    from rich.live import Live

    stream = getattr(sys.stderr, "stream", sys.stderr)
    console = Console(file=stream, color_system="standard" if has_colours() else None, highlight=False)
    with Live(console=console, transient=True, auto_refresh=False) as live:
        yield Drawn(live)


def ended_text(step: StepView) -> str:
    """`shop/web: wait unit until http /health succeeds (3.2 s)`, with the reason of a failure."""
    why = f": {step.state}: {step.why}" if step.why else ""
    return plain_line(f"{_place(step)}: {step_text(step)} ({step.seconds:.1f} s){why}")


def _place(step: StepView) -> str:
    return "/".join(filter(None, (step.app, step.service))) or step.name


def _running(steps: Sequence[StepView]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table, now = Table.grid(padding=(0, 1)), time.time()
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for step in steps[:MOST_RUNNING]:
        about = plain_line(f"{_place(step)}: {step_text(step)} {max(0.0, now - step.began):.0f} s")
        table.add_row(Text(f"… {about}", overflow="ellipsis", no_wrap=True))
    if len(steps) > MOST_RUNNING:
        table.add_row(Text(f"… {len(steps) - MOST_RUNNING} more"))
    return table
