"""Prints the rooms of the package: how large each is, which others it imports, and every import that goes up.

A room is a package with all that is in it, or a module that lies beside the packages.  What imports what is read from
the code, by the library of import-linter, and what is up is what its layers say, or what closes a circle.  With a
report of `coverage json`, the share of each room's statements that ran is shown, too.

    python -m tests.map [coverage.json]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from importlib.resources import files
from pathlib import Path

import grimp
from importlinter.api import read_configuration

PACKAGE = "gitops_mvd"
ROOT = Path(str(files(PACKAGE)))


@dataclass
class Room:
    """One room: the files of its modules, and the names of the rooms that these import."""

    files: list[Path] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)

    @property
    def lines(self) -> int:
        return sum(len(file.read_text().splitlines()) for file in self.files)


def file_of(module: str) -> Path:
    """The file of a module by its full name."""
    place = ROOT.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def room_of(module: str) -> str:
    """The room of a module, named without the package: "kong" for gitops_mvd.kong.shared.store."""
    return module.split(".")[1]


def rooms() -> dict[str, Room]:
    """All rooms by name, as the code has them now."""
    graph = grimp.build_graph(PACKAGE)
    found: dict[str, Room] = {}
    for module in sorted(graph.modules - {PACKAGE}):
        room = found.setdefault(room_of(module), Room())
        room.files.append(file_of(module))
        room.imports |= {room_of(other) for other in graph.find_modules_directly_imported_by(module) - {PACKAGE}}
    for name, room in found.items():
        room.imports.discard(name)
    return found


def layers() -> dict[str, int]:
    """The layer of each room that has one, counted from below."""
    contracts = read_configuration()["contracts_options"]
    listed = next(one["layers"] for one in contracts if one["type"] == "layers" and one.get("containers") == [PACKAGE])
    heights = {}
    for height, layer in enumerate(reversed(listed)):
        heights |= {name.strip(" ()"): height for name in layer.replace(":", "|").split("|")}
    return heights


def arrows_up(found: Mapping[str, Room], heights: Mapping[str, int]) -> list[str]:
    """Every arrow that leads to a room of a higher layer; rooms without a layer are not judged."""

    def height(room: str, otherwise: int) -> int:
        return heights.get(room, otherwise)

    arrows = ((name, other) for name, room in sorted(found.items()) for other in sorted(room.imports))
    return [f"{one} -> {other}" for one, other in arrows if height(one, sys.maxsize) < height(other, -1)]


def floors(found: Mapping[str, Room]) -> dict[str, int]:
    """How many rooms lie below each, one under the other.  Raises CycleError where rooms import each other."""
    heights: dict[str, int] = {}
    for name in TopologicalSorter({name: room.imports for name, room in found.items()}).static_order():
        heights[name] = max((heights[other] + 1 for other in found[name].imports), default=0)
    return heights


def covered(report: Path) -> dict[Path, tuple[int, int]]:
    """Of each file in a report of `coverage json`: how many of its statements ran, and how many it has."""
    measured = json.loads(report.read_text())["files"].items()
    return {
        Path(name).resolve(): (file["summary"]["covered_lines"], file["summary"]["num_statements"])
        for name, file in measured
    }


def share(counts: Iterable[tuple[int, int]]) -> str:
    ran, there = (sum(column) for column in zip(*counts, strict=True))
    return f"{ran / there:.0%}" if there else ""


def drawn(found: Mapping[str, Room], measured: Mapping[Path, tuple[int, int]]) -> Iterator[str]:
    """The lines that are printed."""
    circle = ""
    try:
        heights = floors(found)
    except CycleError as error:
        heights, circle = {}, " -> ".join(reversed(error.args[1]))
    width = max(map(len, found))
    yield f"{'floor':>5}  {'room':<{width}}  {'modules':>7}  {'lines':>6}  {'ran  ' if measured else ''}imports"
    for name in sorted(found, key=lambda name: (-heights.get(name, 0), name)):
        room = found[name]
        counts = [measured.get(file, (0, 0)) for file in room.files]
        ran = f"{share(counts):>4} " if measured else ""
        row = f"{heights.get(name, '?'):>5}  {name:<{width}}  {len(room.files):>7}  {room.lines:>6,}  {ran}"
        yield f"{row}{' '.join(sorted(room.imports))}".rstrip()
    up = arrows_up(found, layers())
    yield ""
    yield from (f"up: {arrow}" for arrow in up)
    yield from ([f"circle: {circle}"] if circle else [])
    modules, lines = sum(len(room.files) for room in found.values()), sum(room.lines for room in found.values())
    arrows = sum(len(room.imports) for room in found.values())
    total = f", {share(measured.values())} of the statements ran" if measured else ""
    storeys = f" on {len(set(heights.values()))} floors" if heights else ""
    yield f"{len(found)} rooms{storeys}, {modules} modules, {lines:,} lines, {arrows} arrows, {len(up)} up{total}"


if __name__ == "__main__":
    print("\n".join(drawn(rooms(), covered(Path(sys.argv[1])) if sys.argv[1:] else {})))
