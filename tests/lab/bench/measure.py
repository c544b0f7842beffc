"""All that is measured, one after the other, on the terminal and as JSON.

Nothing is asserted on time: a figure beside its yardstick says the same on a slow machine as on a fast one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from rich.console import Console

from tests.lab.bench import PARTS, api, chaos, fleet, hang, kong, noop, outage, server, statuses, traffic, waves
from tests.lab.bench.figure import Figure, save, show


def bench(json_path: Path, only: Iterable[str] = ()) -> None:
    """Measure all of it, or `only` some parts, print it, and write it to `json_path`.

    Raises LabUnavailable, CommandFailed or NotTrue.
    """
    console = Console()
    figures: list[Figure] = []
    wanted = set(only) or set(PARTS)
    for part, measured in _parts(console).items():
        if part in wanted:
            figures += measured()
            save(json_path, figures)


def _parts(console: Console) -> dict[str, Callable[[], list[Figure]]]:
    def shown(title: str, measured: Callable[[], Iterator[Figure]]) -> list[Figure]:
        with console.status(f"{title} ..."):
            found = list(measured())
        show(console, title, found)
        return found

    return {
        "noop": lambda: shown("Looking, at a server that was recorded", noop.figures),
        "api": lambda: shown("The local API and metrics, at a server that was recorded", api.figures),
        "fleet": lambda: shown("A large fleet", fleet.figures),
        "waves": lambda: shown("A rollout over a large fleet, simulated", waves.figures),
        "hang": lambda: shown("Services that hang", hang.figures),
        "kong": lambda: shown("Routes, in a stand-in for Kong", kong.figures),
        "server": lambda: shown("A real server", lambda: server.figures(console.print)),
        "statuses": lambda: shown("A burst of commits", lambda: statuses.figures(console.print)),
        "traffic": lambda: list(traffic.figures(console)),
        "outage": lambda: shown("Outages, promised and measured", lambda: outage.figures(console.print)),
        "chaos": lambda: shown("Random commits and faults", lambda: chaos.figures(console.print)),
    }
