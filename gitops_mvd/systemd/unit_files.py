"""The files of managed units on this host, and the links that start them at boot."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from operator import attrgetter
from pathlib import Path
from stat import S_ISREG
from typing import NamedTuple

from gitops_mvd.core.errors import NotNow
from gitops_mvd.core.redact import known
from gitops_mvd.state.files import Entry, readable, remove, write, write_link
from gitops_mvd.systemd.unit import ENDED_FOLDER, TARGET, Header, parse

_stamp = attrgetter("st_mode", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")


class UnitFile(NamedTuple):
    """A unit file that says whose it is; its `stamp` changes whenever the file does."""

    stamp: tuple[int, ...]
    text: str
    header: Header
    has_secret: bool = False  # in the command that its comment shows, as older versions wrote it

    @property
    def changed(self) -> int:
        """When it was changed, in whole seconds since 1970; no program can set this time back."""
        return self.stamp[-1] // 10**9


class UnitFiles:
    """The unit files in a folder, by the names of their instances.  Raises Unavailable or StepFailed."""

    def __init__(self, folder: Path, ended: Path = Path(ENDED_FOLDER)) -> None:
        self._folder = folder
        self._ended = ended
        self._known: Mapping[str, UnitFile] = {}

    def read(self) -> Mapping[str, UnitFile]:
        """All of them; only those that changed since the last time are read."""
        with readable(self._folder):
            names = [name for name in os.listdir(self._folder) if _is_unit(name)]
            files = {_instance(name): self._read(name) for name in names}
        self._known = {name: file for name, file in files.items() if file}
        return self._known

    def names(self) -> list[str]:
        """The instances that have a unit file, whatever is in it."""
        with readable(self._folder):
            return [_instance(name) for name in os.listdir(self._folder) if _is_unit(name)]

    def _read(self, name: str) -> UnitFile | None:
        path = os.path.join(self._folder, name)
        try:
            found = os.lstat(path)
            stamp = _stamp(found)
            known = self._known.get(_instance(name))
            if known and known.stamp == stamp:
                return known
            text = Path(path).read_text("utf-8", "surrogateescape") if S_ISREG(found.st_mode) else ""
        except FileNotFoundError:  # another app was changed meanwhile
            return None
        header = parse(text)
        return UnitFile(stamp, text, header, has_secret(text)) if header else None

    def at_boot(self) -> set[str]:
        """The instances that start when the server does."""
        wants = self._folder / f"{TARGET}.wants"
        with readable(wants):
            return {_instance(name) for name in os.listdir(wants)} if wants.is_dir() else set()

    def ended(self) -> set[str]:
        """The instances that may end, and whose containers have ended by themselves since the boot."""
        with readable(self._ended):
            return set(os.listdir(self._ended)) if self._ended.is_dir() else set()

    def require_managed(self, instances: Iterable[str]) -> None:
        """Raise NotNow for a file in the place of one of theirs that somebody else has written."""
        for instance in instances:
            require_managed(self._folder / f"{instance}.service")

    def write(self, instance: str, text: str) -> None:
        write_unit(self._folder, instance, text)

    def remove(self, instance: str) -> None:
        remove(self._folder / f"{instance}.service")

    def enable(self, instance: str) -> None:
        link(self._folder, f"{instance}.service", TARGET)

    def disable(self, instance: str) -> None:
        """Remove the link; systemd's own way to disable a unit refuses one whose file is gone."""
        remove(self._folder / f"{TARGET}.wants" / f"{instance}.service")


def link(folder: Path, unit: str, target: str) -> None:
    """Have a unit started at boot, as its [Install] says; of a link there, systemd reads the name alone.

    By systemd's own way, all units count as changed until they are read again, since version 254.
    """
    write_link(folder / f"{target}.wants" / unit, folder / unit)


def has_secret(text: str) -> bool:
    """Has the command in the comment of a unit, which everybody may read, a secret in it that this process knows?"""
    comment = "\n".join(line for line in text.splitlines() if line.startswith("# docker "))
    return known.out_of(comment) != comment


def write_unit(folder: Path, instance: str, text: str) -> Path:
    """Write a unit file into a folder, and return its path."""
    path = folder / f"{instance}.service"
    write(path, Entry(text.encode("utf-8", "surrogateescape"), 0o644))
    return path


def require_managed(path: Path) -> None:
    """Raise NotNow if somebody else has written the file in the place of a managed one.

    One that was edited or emptied is managed still, and so is one that was replaced by a link.
    """
    with readable(path.parent):
        text = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    if text.strip() and b"gitops-mvd" not in text:
        hint = f"see what it is (systemctl cat {path.name}), then rename or remove it"
        raise NotNow(f"{path} is there, and gitops-mvd did not write it", hint)


def _is_unit(name: str) -> bool:
    return name.startswith("mvd-") and name.endswith(".service")


def _instance(unit: str) -> str:
    return unit.removesuffix(".service")
