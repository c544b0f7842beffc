"""The file that a Kong without a database starts from, so that it serves before anybody looks.

Where Kong is told of such a file, it starts from that and from nothing else: one that is old would bring old routes
back.  So it has what the gateway has, of whomever, and where we posted that it is the same to the byte, by which Kong
has the same hash of it afterwards and nothing need be read again.
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

NOT_OURS = {errno.EROFS, errno.EACCES, errno.EPERM}
# What JSON has in two halves, YAML wants in one; a backslash takes the next character along.
ESCAPES = re.compile(r"\\u(d[89ab][0-9a-f]{2})\\u(d[c-f][0-9a-f]{2})|\\.")


class BootFile:
    """The file at `path`, held against what `store` says that Kong has.  Raises Unavailable or StepFailed."""

    def __init__(self, path: Path, store: document.Store) -> None:
        self._path = path
        self._store = store
        self._known: tuple[object, str] = (None, "")  # by what the file is known not to have changed, and its digest
        self._meant: tuple[str, bytes] = ("", b"")  # Kong's digest of what it has, and what the file is to have then

    def fault(self) -> str:
        """Why Kong would not come back with what it has now, "" where it would."""
        has, found = self._store.has(), self._found()
        if found and (found == has or found == _digest(self._content(has))):
            return ""
        return f"{self._path} {'is not what Kong has now' if found else 'is not there'}"

    def keep(self) -> None:
        """Have it be what Kong has; whose it is, and who may read it, stays.

        A new one is for root and the group of its folder.
        """
        if not self.fault():
            return
        folder = self._path.parent
        if not folder.is_dir():
            raise Unavailable(f"{folder} is not there, for {self._path.name} to be written to")
        with readable(self._path):
            try:
                there = self._path.stat()
                mode, uid, gid = there.st_mode & 0o777, there.st_uid, there.st_gid
            except FileNotFoundError:
                mode, uid, gid = 0o640, os.geteuid(), folder.stat().st_gid
        try:
            write(self._path, Entry(self._content(self._store.has()), mode, uid, gid))
        except MvdError as error:
            if getattr(error.__cause__, "errno", None) in NOT_OURS:
                hint = "`mvd install` opens a folder of root's to the daemon"
                raise Unavailable(error.message, hint) from error
            raise

    def _found(self) -> str:
        """The digest of what it has, "" where it is not there."""
        with readable(self._path):
            try:
                there = self._path.stat()
                mark = there.st_ino, there.st_size, there.st_mtime_ns, there.st_ctime_ns
                if mark != self._known[0]:
                    self._known = mark, _digest(self._path.read_bytes())
            except FileNotFoundError:
                return ""
        return self._known[1]

    def _content(self, has: str) -> bytes:
        if has != self._meant[0]:
            text = self._store.text()
            self._meant = has, (text if self._path.suffix == ".json" else as_yaml(text)).encode()
        return self._meant[1]


def as_yaml(text: str) -> str:
    """JSON is YAML, but for how characters beyond the first 65,536 are escaped."""

    def whole(found: re.Match[str]) -> str:
        if not found[1]:
            return found[0]
        return f"\\U{0x10000 + ((int(found[1], 16) & 0x3FF) << 10) + (int(found[2], 16) & 0x3FF):08x}"

    return ESCAPES.sub(whole, text)


def _digest(content: bytes) -> str:
    """As Kong tells of its document."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
