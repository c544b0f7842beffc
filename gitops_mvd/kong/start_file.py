"""Kong's declarative start file (`kong.boot_file`), so that a Kong without a database has its routes once it starts.

A Kong with such a file starts from it and from nothing else: an old one would bring old routes back.  So the file has
all that Kong has, managed or not.  If gitops-mvd posted that, the file is the same to the byte: then Kong has the same
hash of it after its start, and nothing need be read again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from pathlib import Path

from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.kong import document
from gitops_mvd.state.files import Entry, readable, write

NO_WRITE_ACCESS = {errno.EROFS, errno.EACCES, errno.EPERM}
# JSON escapes a character in two halves, YAML as a whole; a backslash escapes the next character.
ESCAPES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\.")


class StartFile:
    """The file at `path`, compared with what Kong has by `store`.  Its methods raise Unavailable or StepFailed."""

    def __init__(self, path: Path, store: document.Store) -> None:
        self._path = path
        self._store = store
        self._found: tuple[object, str] = (None, "")  # inode, size and times of the file as it was read, and its digest
        self._wanted: tuple[str, bytes] = ("", b"")  # Kong's digest of what it has, and the content of a file with that

    def fault(self) -> str:
        """Why Kong would start with something else than it has now; "" if it would not."""
        in_kong, found = self._store.digest(), self._digest_of_file()
        if found and (found == in_kong or found == _digest(self._content(in_kong))):
            return ""
        return f"{self._path} {'differs from what Kong has now' if found else 'is missing'}"

    def write(self) -> None:
        """Write what Kong has, unless the file has that; its owner, group and mode stay.

        A new one is for root and the group of its folder.
        """
        if not self.fault():
            return
        folder = self._path.parent
        if not folder.is_dir():
            raise Unavailable(f"cannot write {self._path}: the folder {folder} is missing")
        with readable(self._path):
            try:
                there = self._path.stat()
                mode, uid, gid = there.st_mode & 0o777, there.st_uid, there.st_gid
            except FileNotFoundError:
                mode, uid, gid = 0o640, os.geteuid(), folder.stat().st_gid
        try:
            write(self._path, Entry(self._content(self._store.digest()), mode, uid, gid))
        except MvdError as error:
            if getattr(error.__cause__, "errno", None) in NO_WRITE_ACCESS:
                hint = "`mvd install` gives the daemon access to a folder of root's"
                raise Unavailable(error.message, hint) from error
            raise

    def _digest_of_file(self) -> str:
        """The digest of the file's content, "" for a missing one."""
        with readable(self._path):
            try:
                there = self._path.stat()
                read_as = there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns
                if read_as != self._found[0]:
                    self._found = read_as, _digest(self._path.read_bytes())
            except FileNotFoundError:
                return ""
        return self._found[1]

    def _content(self, digest: str) -> bytes:
        """The content of a file with what Kong has, whose digest that is."""
        if digest != self._wanted[0]:
            text = self._store.text()
            self._wanted = digest, (text if self._path.suffix == ".json" else as_yaml(text)).encode()
        return self._wanted[1]


def as_yaml(text: str) -> str:
    """A JSON text as YAML, which differs in how characters beyond the first 65,536 are escaped."""

    def whole(found: re.Match[str]) -> str:
        if not found[1]:
            return found[0]
        return f"\\U{0x10000 + ((int(found[1], 16) & 0x3FF) << 10) + (int(found[2], 16) & 0x3FF):08x}"

    return ESCAPES.sub(whole, text)


def _digest(content: bytes) -> str:
    """As Kong makes it of its document."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
