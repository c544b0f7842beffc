"""What `--watch` shows: the same thing again and again, on a terminal in place of itself."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from gitops_mvd.api.client import NotNow
from gitops_mvd.cli.output import has_colours, is_terminal, print_json, print_lines
from gitops_mvd.core.errors import Unavailable

POLL_SECONDS = 2.0  # between two looks where nobody tells of changes

Seen = TypeVar("Seen")


def watch(
    states: Iterable[tuple[Seen, str]],
    machine: bool,
    value: Callable[[Seen], Any],
    lines: Callable[[Seen], Iterable[str]],
) -> None:
    """Show each state with its fault, if it has one, until Ctrl-C; in a pipe only those that differ, as `value`s."""
    if machine or not is_terminal():
        last: object = None
        for seen, _ in states:
            shown = value(seen)
            if shown != last and machine:
                print_json(shown)
            elif shown != last:
                print_lines(lines(seen))
            last = shown
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    stream = getattr(sys.stdout, "stream", sys.stdout)
    console = Console(file=stream, color_system="standard" if has_colours() else None)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        for seen, fault in states:
            text = Text.from_ansi("\n".join([*lines(seen), *(["", fault] if fault else [])]))
            live.update(text, refresh=True)


def states(seen: Seen, look: Callable[[], Seen], wait: Callable[[], None]) -> Iterator[tuple[Seen, str]]:
    """What is seen, time after time; while nothing can be, the last of it, and why."""
    fault = ""
    while True:
        yield seen, fault
        try:
            wait()
            seen, fault = look(), ""
        except (Unavailable, NotNow) as error:
            if fault:
                time.sleep(POLL_SECONDS)
            fault = f"cannot be asked now: {error.message}"
