"""How much of the repository may be read and made, by one app and by all, counted meanwhile.  Pure.

A few small Git objects can name billions of files, one blob can be mounted a hundred times, and one line can stand for
sixty thousand ports.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import add
from typing import NamedTuple, NoReturn

from gitops_mvd.config.tables import Place
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import Problem
from gitops_mvd.core.ports import Tree

MOST_DEEP = 64  # folders that a path leads through


class Amount(NamedTuple):
    """What was read, or may be: names in folders, the size of files in bytes, and looks at folders and files.

    A folder counts once however often an app looks into it; a file that is read twice counts twice.  `instances` are
    those on this host, and `values` the variables and published ports of their services.
    """

    names: int = 0
    size: int = 0
    looks: int = 0
    instances: int = 0
    values: int = 0


NOTHING = Amount()
OF_AN_APP = Amount(names=10_000, size=8 << 20, looks=100_000, instances=5_000, values=100_000)
OF_ALL = Amount(names=100_000, size=32 << 20, looks=1_000_000, instances=10_000, values=100_000)  # apps of one host
MOST_APPS = 2_000
MOST_PORTS = 65_536  # that an app publishes on all hosts: a range counts as what it stands for

_SMALLER = "put what is large into the image or a volume"


class Budgeted:
    """A Tree for one app, or for `all` of the repository, which reads each folder once.

    Raises ManifestError once too much was read.
    """

    def __init__(self, tree: Tree, *, all: bool = False) -> None:
        self._tree = tree
        self._all = all
        self._most = OF_ALL if all else OF_AN_APP
        self._folders: dict[str, Sequence[str]] = {}
        self.read_so_far = NOTHING

    def read(self, path: str) -> bytes:
        self._look(path)
        content = self._tree.read(path)
        self.count(path, Amount(size=len(content)))
        return content

    def names(self, folder: str) -> Sequence[str]:
        self._look(folder)
        if folder not in self._folders:
            self._folders[folder] = self._tree.names(folder)
            self.count(folder, Amount(names=len(self._folders[folder])))
        return self._folders[folder]

    def oid(self, path: str) -> str:
        return self._tree.oid(path)

    def kind(self, path: str) -> str:
        return self._tree.kind(path)

    def count(self, path: str, more: Amount) -> None:
        """Count what was read at a path."""
        self.read_so_far = so_far = Amount(*map(add, self.read_so_far, more))
        most = self._most
        if so_far.names > most.names:
            self._refuse(path, f"read more than {most.names:,} names of the repository: {_SMALLER}")
        if so_far.size > most.size:
            self._refuse(path, f"read more than {most.size >> 20} MiB of the repository: {_SMALLER}")
        if so_far.looks > most.looks:
            self._refuse(path, f"read more than {most.looks:,} times in the repository: {_SMALLER}")
        if so_far.instances > most.instances:
            self._refuse(path, f"have more than {most.instances:,} instances on this host")
        if so_far.values > most.values:
            self._refuse(path, f"have more than {most.values:,} variables and ports on this host")

    def _look(self, path: str) -> None:
        self.count(path, Amount(looks=1))
        if path.count("/") > MOST_DEEP:
            raise ManifestError([Problem(path, 1, "", f"lies more than {MOST_DEEP} folders deep")])

    def _refuse(self, path: str, what: str) -> NoReturn:
        if self._all:
            why = f"with this all apps together {what}"
        else:
            why = f"with this the app {what.replace('have', 'has', 1).replace('read', 'reads', 1)}"
        raise ManifestError([Problem(path, 1, "", why)])


def refuse_many(place: Place, count: int, most: int, what: str) -> None:
    """Raise ManifestError if an app has more than `most` of something: nothing more of it is read."""
    if count > most:
        why = f"with this the app has more than {most:,} {what}"
        raise ManifestError([Problem(place.node.file, place.node.line, place.key, why)])
