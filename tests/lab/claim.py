"""A lab's name, held by a lock that dies with the process.

Labs of several checkouts, and several labs of one, exist side by side: each is `mvd-<checkout>-<number>`, with the
first free number.  So what carries a name that could be claimed is a leftover of a crash, and free to be
removed; except where the lab was kept on purpose, which its file says.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tests.lab.engine import RUN

KEPT = "kept"
CHECKOUT = Path(__file__).resolve().parents[2]


def is_kept(path: Path) -> bool:
    """Does a lab with this claim stay up, though nobody holds it any more?"""
    return path.read_text() == KEPT


class Claim:
    """The name of a lab, held until `release` or the end of the process."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self.path = Path(file.name)
        self.name = self.path.name

    def release(self, keep: bool = False) -> None:
        """Release the name.  With `keep` it stays taken, for a lab that is kept."""
        self._file.truncate(0)
        self._file.write(KEPT if keep else "")
        self._file.close()


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Labs open and close one at a time, so that none stops the engine that another is about to use."""
    with (_folder().parent / f"{_folder().name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def claim() -> Claim:
    """The first name of this checkout that is neither held nor kept."""
    for number in itertools.count():
        file = _lock(_folder() / f"{_prefix()}-{number}")
        if file and file.read() != KEPT:
            return Claim(file)
        if file:
            file.close()
    raise AssertionError("itertools.count never ends")


def abandoned() -> list[Claim]:
    """Every name of this checkout that no process holds, kept or crashed: claimed, to be removed."""
    locked = (_lock(path) for path in sorted(_folder().glob(f"{_prefix()}-*")))
    return [Claim(file) for file in locked if file]


def nobody_left() -> bool:
    """Is no lab of any checkout held or kept?"""
    for path in _folder().iterdir():
        file = _lock(path)
        if not file:
            return False
        with file:
            if file.read() == KEPT:
                return False
    return True


def _folder() -> Path:
    root = os.geteuid() == 0
    folder = RUN / "labs" if root else Path(tempfile.gettempdir()) / f"gitops-mvd-lab-{os.geteuid()}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _prefix() -> str:
    return f"mvd-{hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:6]}"


def _lock(path: Path) -> TextIO | None:
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.seek(0)
    return file
