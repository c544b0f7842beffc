"""What systemd reads of a managed unit beside its file: drop-ins, and files of the same name that come before it.

They are somebody else's, such as of `systemctl edit` and `set-property`, so they are reported and never removed.
Drop-ins for every service of a server (`service.d`) are no change of a managed unit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gitops_mvd.systemd.client import Loaded, Systemd

# Where systemd looks for units, beside the folder of managed ones: `systemd-analyze unit-paths`.
SEARCHED = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/run/systemd/generator.late",
)
PREFIX = "mvd-"
DROP_INS = ".d"
STALE = "changed since systemd has read it"  # state of a unit

_Stamp = tuple[object, ...]


class Override(NamedTuple):
    """`by` is the file that changes a unit, "" for none; `is_stale` says that systemd has to read the unit again."""

    by: str = ""
    is_stale: bool = False


class Overrides:
    """The overrides of the units in a folder.  systemd is asked about a unit only if a file of it has changed."""

    def __init__(self, systemd: Systemd, folder: Path) -> None:
        self._systemd = systemd
        self._folder = folder
        self._known: Mapping[str, tuple[_Stamp, Override]] = {}

    def of(self, units: Iterable[str]) -> dict[str, Override]:
        """The override of each of these units, by name.  Raises Unavailable."""
        beside = list(self._beside())
        stamps = {unit: (_stamp(os.path.join(self._folder, unit)), *_concerning(unit, beside)) for unit in units}
        changed = [unit for unit, stamp in stamps.items() if unit not in self._known or self._known[unit][0] != stamp]
        asked = self._systemd.loaded(changed) if changed else {}
        known = {unit: self._known[unit] for unit in stamps.keys() - asked.keys()}
        known |= {unit: (stamps[unit], self._override(unit, loaded)) for unit, loaded in asked.items()}
        # What is to be read again changes without its files: it is asked about until it was.
        self._known = {unit: it for unit, it in known.items() if not it[1].is_stale}
        return {unit: override for unit, (_, override) in known.items()}

    def _override(self, unit: str, loaded: Loaded) -> Override:
        own = str(self._folder / unit)
        if loaded.fragment not in ("", own):
            return Override(loaded.fragment, loaded.is_stale)
        ours = [path for path in loaded.drop_ins if Path(path).parent.name.startswith(PREFIX)]
        return Override(ours[0] if ours else "", loaded.is_stale)

    def _beside(self) -> Iterator[tuple[str, _Stamp]]:
        """The drop-in folders, and the files in other folders than that of managed units: name and stamp."""
        for folder in (str(self._folder), *SEARCHED):
            with suppress(OSError):
                for name in os.listdir(folder):
                    is_drop_in = name.endswith(DROP_INS)
                    if name.startswith(PREFIX) and (is_drop_in or folder != str(self._folder)):
                        path = os.path.join(folder, name)
                        inside = sorted(os.listdir(path)) if is_drop_in else ()
                        yield name, (path, *map(_stamp, (path, *(os.path.join(path, one) for one in inside))))


def _concerning(unit: str, beside: Iterable[tuple[str, _Stamp]]) -> Iterator[_Stamp]:
    """Those of a unit; `a-.service.d` is for every service whose name begins with `a-`."""
    name, _, suffix = unit.rpartition(".")
    for other, stamp in beside:
        begins, _, kind = other.removesuffix(DROP_INS).rpartition(".")
        if kind == suffix and (begins == name or (begins.endswith("-") and name.startswith(begins))):
            yield stamp


def _stamp(path: str) -> tuple[str, int, int]:
    with suppress(OSError):
        found = os.stat(path)
        return path, found.st_mtime_ns, found.st_size
    return path, 0, 0
