"""All that is measured, one after the other, on the terminal and as JSON.

Nothing is asserted on time: a figure beside its yardstick says the same on a slow machine as on a fast one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from gitops_mvd.lab.bench import noop, server
from gitops_mvd.lab.bench.figure import Figure, save, show


def bench(json_path: Path) -> None:
    """Measure all of it, print it, and write it to `json_path`.  Raises LabUnavailable, CommandFailed or NotTrue."""
    console = Console()
    figures: list[Figure] = []
    parts: dict[str, Callable[[], Iterator[Figure]]] = {
        "Looking, at a server that was recorded": noop.figures,
        "A real server": lambda: server.figures(console.print),
    }
    for title, measured in parts.items():
        with console.status(f"{title} ..."):
            found = list(measured())
        show(console, title, found)
        figures += found
        save(json_path, figures)
