"""What systemd reads of a managed unit beside its file: drop-ins, and files of the same name that come before it.

They are somebody else's, such as of `systemctl edit` and `set-property`, so they are reported and never removed.
Drop-ins for every service of a server (`service.d`) are no change of a managed unit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from gitops_mvd.systemd.client import Loaded, Systemd

# Where systemd looks for units, beside the folder of managed ones: `systemd-analyze unit-paths`.
BEFORE = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
)
AFTER = (
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


class Override(NamedTuple):
    """`by` is the file that changes a unit, "" for none; `is_stale` says that systemd has to read the unit again."""

    by: str = ""
    is_stale: bool = False


class Overrides:
    """The overrides of the units in a folder.  systemd is asked about a unit only if it may have read another text."""

    def __init__(self, systemd: Systemd, folder: Path) -> None:
        self._systemd = systemd
        self._folder = folder
        self._clean: Mapping[str, object] = {}  # units without an override -> the stamp of their file

    def of(self, units: Iterable[str]) -> dict[str, Override]:
        """The override of each of these units, by name.  Raises Unavailable."""
        beside = list(self._beside())
        files = {unit: sorted(path for name, path in beside if _is_of(name, unit)) for unit in units}
        stamps = {unit: _stamp(os.path.join(self._folder, unit)) for unit in files}
        # What lies beside a unit may be read at any time, and what is stale is so until it was: these are always asked.
        asked = [unit for unit in files if files[unit] or self._clean.get(unit) != stamps[unit]]
        loaded = self._systemd.loaded(asked) if asked else {}
        found = {unit: self._override(unit, loaded[unit], files[unit]) for unit in asked}
        every = {unit: found.get(unit, Override()) for unit in files}
        self._clean = {unit: stamps[unit] for unit, override in every.items() if override == Override()}
        return every

    def _override(self, unit: str, loaded: Loaded, files: Sequence[str]) -> Override:
        if loaded.fragment not in ("", str(self._folder / unit)):
            return Override(loaded.fragment, loaded.is_stale)
        ours = (path for path in map(Path, loaded.drop_ins) if path.parent.name.startswith(PREFIX))
        read = [str(path) for path in ours if path.exists()]  # else it is to be read again
        return Override(next(iter((*read, *files)), ""), loaded.is_stale)

    def _beside(self) -> Iterator[tuple[str, str]]:
        """The files that change managed units: the name of the units, and the path of the file."""
        for folder in (*BEFORE, str(self._folder), *AFTER):
            for name in filter(_is_managed, _names(folder)):
                path, whose = os.path.join(folder, name), name.removesuffix(DROP_INS)
                if name != whose:
                    yield from ((whose, os.path.join(path, one)) for one in _names(path) if one.endswith(".conf"))
                elif folder in BEFORE:
                    yield name, path


def _is_of(name: str, unit: str) -> bool:
    """Is a drop-in for that unit?  Those for `a-.service` are for every service whose name begins with `a-`."""
    (begins, _, kind), (whole, _, suffix) = name.rpartition("."), unit.rpartition(".")
    return kind == suffix and (begins == whole or (begins.endswith("-") and whole.startswith(begins)))


def _is_managed(name: str) -> bool:
    return name.startswith(PREFIX)


def _names(folder: str) -> list[str]:
    with suppress(OSError):
        return os.listdir(folder)
    return []


def _stamp(path: str) -> object:
    with suppress(OSError):
        found = os.stat(path)
        return found.st_ino, found.st_ctime_ns, found.st_size  # no program can set this time back
    return None
