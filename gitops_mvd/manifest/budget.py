"""How much of the repository one app may read, counted while it is read.  Pure.

A few small Git objects can name billions of files, and one blob can be mounted a hundred times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import Problem
from gitops_mvd.core.ports import Tree

MOST_NAMES = 10_000  # in all folders that an app reads, however often it looks into one
MOST_BYTES = 64 << 20  # in all files that it reads, one that is read twice counted twice
MOST_LOOKS = 100_000  # at files and folders, likewise


class Budgeted:
    """A Tree for one app, which reads each folder once.  Raises ManifestError once that app has read too much."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._folders: dict[str, Sequence[str]] = {}
        self._names = 0
        self._bytes = 0
        self._looks = 0

    def read(self, path: str) -> bytes:
        self._count_look(path)
        content = self._tree.read(path)
        self._bytes += len(content)
        if self._bytes > MOST_BYTES:
            _refuse(path, f"{MOST_BYTES >> 20} MiB of the repository")
        return content

    def names(self, folder: str) -> Sequence[str]:
        self._count_look(folder)
        if folder not in self._folders:
            self._folders[folder] = self._tree.names(folder)
            self._names += len(self._folders[folder])
            if self._names > MOST_NAMES:
                _refuse(folder, f"{MOST_NAMES:,} names of the repository")
        return self._folders[folder]

    def oid(self, path: str) -> str:
        return self._tree.oid(path)

    def kind(self, path: str) -> str:
        return self._tree.kind(path)

    def _count_look(self, path: str) -> None:
        self._looks += 1
        if self._looks > MOST_LOOKS:
            _refuse(path, f"{MOST_LOOKS:,} times in the repository")


def _refuse(path: str, limit: str) -> NoReturn:
    why = f"with this the app reads more than {limit}: put what is large into the image or a volume"
    raise ManifestError([Problem(path, 1, "", why)])
