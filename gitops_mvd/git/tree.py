"""The files of the config repository: at a commit, or in a plain folder that answers as a commit of it would.

Both implement `ports.Tree`.  Links are not followed, so nothing outside is ever reached, and `..` leads nowhere.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Callable, Sequence, Set
from dataclasses import InitVar, dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import Problem

SMALL, MOST_SMALL = 1 << 10, 2_000  # bytes of a file that is read once for all paths to it, and the number of those
LARGEST = {"blob": 4 << 20, "tree": 1 << 20}  # bytes of a file, and of the list of a folder

Entries = dict[str, tuple[bytes, int]]  # the id and the mode of every name in a folder
SUBMODULE = re.compile(r"^\s*path\s*=\s*(.+?)\s*$", re.MULTILINE)  # in .gitmodules
KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link", 0o160000: "submodule"}
KIND_NAMES = {"blob": "file", "tree": "folder"}
ENTRY = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)  # of a tree object: mode, name, id


@dataclass(frozen=True)
class GitTree:
    """The files at one commit.  `load` returns a Git object by its id, kind and, for its errors, path.

    `before` is the tree of another commit, from which folders are taken that are the same.
    """

    root: bytes
    load: Callable[[bytes, str, str], bytes]
    before: InitVar[GitTree | None] = None
    _known: dict[bytes, Entries] = field(default_factory=dict, init=False, repr=False)  # folders of `before`
    _folders: dict[bytes, Entries] = field(default_factory=dict, init=False, repr=False)
    _small: dict[bytes, bytes] = field(default_factory=dict, init=False, repr=False)  # files, by id

    def __post_init__(self, before: GitTree | None) -> None:
        if before:
            self._known.update(before._folders)

    def read(self, path: str) -> bytes:
        oid, mode = self._find(path)
        if not stat.S_ISREG(mode):
            raise FileNotFoundError(path)
        content = self._small.get(oid)
        if content is None:
            content = self.load(oid, "blob", path)
            if len(content) <= SMALL and len(self._small) < MOST_SMALL:
                self._small[oid] = content
        return content

    def names(self, folder: str) -> Sequence[str]:
        try:
            oid, mode = self._find(folder)
        except FileNotFoundError:
            return ()
        entries = self._folder(oid, folder) if stat.S_ISDIR(mode) else {}
        return sorted(name + "/" if stat.S_ISDIR(mode) else name for name, (_, mode) in entries.items())

    def oid(self, path: str) -> str:
        try:
            return self._find(path)[0].hex()
        except FileNotFoundError:
            return ""

    def kind(self, path: str) -> str:
        try:
            return KINDS.get(stat.S_IFMT(self._find(path)[1]), "")
        except FileNotFoundError:
            return ""

    def _find(self, path: str) -> tuple[bytes, int]:
        oid, mode = self.root, stat.S_IFDIR
        for name in _names(path):
            entries = self._folder(oid, path) if stat.S_ISDIR(mode) else {}
            if name not in entries:
                raise FileNotFoundError(path)
            oid, mode = entries[name]
        return oid, mode

    def _folder(self, oid: bytes, path: str) -> Entries:
        if oid in self._known:
            self._folders[oid] = self._known.pop(oid)
        if oid not in self._folders:
            entries = ENTRY.findall(self.load(oid, "tree", path))
            self._folders[oid] = {os.fsdecode(name): (entry, int(mode, 8)) for mode, name, entry in entries}
        return self._folders[oid]


@dataclass(frozen=True)
class FolderTree:
    """The files of a plain folder, `.git` excepted."""

    root: Path

    def read(self, path: str) -> bytes:
        place, status = self._find(path)
        if not stat.S_ISREG(status.st_mode):
            raise FileNotFoundError(path)
        refuse_large(path, status.st_size)
        return _content(place)

    def names(self, folder: str) -> Sequence[str]:
        try:
            place, status = self._find(folder)
        except FileNotFoundError:
            return ()
        if not stat.S_ISDIR(status.st_mode) or self._is_submodule(place):
            return ()
        with os.scandir(place) as entries:
            return sorted(entry.name + "/" * self._is_folder(entry) for entry in entries if entry.name != ".git")

    def oid(self, path: str) -> str:
        try:
            place, status = self._find(path)
        except FileNotFoundError:
            return ""
        content = hashlib.sha256(b"%o\0" % (status.st_mode & ~0o066))  # as Git does: of the mode, the x alone counts
        if stat.S_ISDIR(status.st_mode):
            for name in self.names(path):
                content.update(os.fsencode(f"{name}\0{self.oid(posixpath.join(path, name))}\0"))
        elif stat.S_ISLNK(status.st_mode):
            content.update(os.fsencode(os.readlink(place)))
        elif stat.S_ISREG(status.st_mode):
            content.update(_content(place))
        return content.hexdigest()

    def kind(self, path: str) -> str:
        try:
            place, status = self._find(path)
        except FileNotFoundError:
            return ""
        return "submodule" if self._is_submodule(place) else KINDS.get(stat.S_IFMT(status.st_mode), "")

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_dir(follow_symlinks=False) and not self._is_submodule(entry.path)

    def _is_submodule(self, place: str) -> bool:
        """Would a commit have that folder as a submodule?  It is listed as one, or is a repository of its own."""
        return place in self._listed or (place != self._root and os.path.exists(f"{place}/.git"))

    @cached_property
    def _root(self) -> str:
        return os.fspath(self.root)

    @cached_property
    def _listed(self) -> Set[str]:
        """The submodules that `.gitmodules` has, fetched or not."""
        listed = self.root / ".gitmodules"
        if not listed.is_file():
            return frozenset()
        paths = SUBMODULE.findall(listed.read_text("utf-8", "replace"))
        return frozenset(os.fspath(self.root / path) for path in paths)

    def _find(self, path: str) -> tuple[str, os.stat_result]:
        place, status = self._root, os.stat(self._root)
        for name in _names(path):
            if not stat.S_ISDIR(status.st_mode) or self._is_submodule(place):
                raise FileNotFoundError(path)
            place = os.path.join(place, name)
            try:
                status = os.lstat(place)
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:  # so nothing can have that name
                    raise FileNotFoundError(path) from None
                raise
        return place, status


def _content(place: str) -> bytes:
    with open(place, "rb") as file:
        return file.read()


@lru_cache(maxsize=1 << 14)
def _names(path: str) -> Sequence[str]:
    """The names on the way to a path.  Raises FileNotFoundError for what leads out of the repository."""
    names = [name for name in posixpath.normpath(path).split("/") if name != "."]
    if path.startswith("/") or ".." in names or "\0" in path:
        raise FileNotFoundError(path)
    return names


def refuse_large(path: str, size: int, kind: str = "blob") -> None:
    """Raises ManifestError for a file or folder that would not do a small server good to hold in memory."""
    if size > LARGEST[kind]:
        limit = f"a {KIND_NAMES[kind]} of the repository may have {LARGEST[kind] >> 20} MiB"
        raise ManifestError([Problem(path, 1, "", f"has {size:,} bytes; {limit}")])
