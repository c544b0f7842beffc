"""What was measured, beside its yardstick: a row of the table, and an entry of the JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """`value` in `unit`; `beside` is the yardstick in the same unit, None where there is none, `target` the budget."""

    what: str
    value: float
    unit: str
    yardstick: str = ""
    beside: float | None = None
    target: str = ""

    @property
    def ratio(self) -> float | None:
        return self.value / self.beside if self.beside else None


@dataclass(frozen=True)
class Took:
    """Seconds by the clock on the wall, and of CPU in this process."""

    wall: float
    cpu: float


def median(runs: int, do: Callable[[], object]) -> Took:
    """The medians of several runs."""
    walls, cpus = [], []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        do()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Took(statistics.median(walls), statistics.median(cpus))


def show(console: Console, title: str, figures: Iterable[Figure]) -> None:
    """A table of them."""
    table = Table("what", "measured", "beside", "is", "target", title=title, title_justify="left")
    for column in (table.columns[1], table.columns[3]):
        column.justify = "right"
    for figure in figures:
        beside = f"{_told(figure.beside, figure.unit)} {figure.yardstick}" if figure.beside is not None else ""
        ratio = f"{figure.ratio:.2f} ×" if figure.ratio is not None else ""
        table.add_row(figure.what, _told(figure.value, figure.unit), beside, ratio, figure.target)
    console.print(table)


def save(path: Path, figures: Iterable[Figure]) -> None:
    """All of them as JSON, with the machine that they were measured on."""
    machine = {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": os.getloadavg()[0],
    }
    entries = [{**asdict(figure), "ratio": figure.ratio} for figure in figures]
    path.write_text(json.dumps({"machine": machine, "figures": entries}, indent=2) + "\n")


def _told(value: float, unit: str) -> str:
    number = f"{value:.0f}" if value == round(value) or value >= 100 else f"{value:.3g}"
    return f"{number} {unit}"
