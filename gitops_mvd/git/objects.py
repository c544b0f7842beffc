"""The objects of a repository on this disk, by one `git cat-file` that stays as long as its reader."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import subprocess
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.git.child import CHUNK, Limits, Started, kill, start_git
from gitops_mvd.git.tree import LARGEST, refuse_large

MOST_OF_A_COMMIT = 64 << 10  # bytes: its headers and its subject
HEADER = 200  # bytes, at most, before the content of an object


@dataclass
class Objects:
    """Returns an object by its id, kind and, for errors, path: of a commit or a tag at most the first 64 KiB.

    Any thread may call it.  One git reads many objects; if it has died or hangs, or does not find one, another git is
    asked before anything is said of the repository.  Raises LookupError for an object that is not there, or not whole,
    ManifestError for a file or folder that is too large, and Unavailable if git cannot be run or does not answer.
    """

    words: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    limits: Limits
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _end: Callable[[], object] = field(default=lambda: None, init=False, repr=False)  # called if this is forgotten, too
    _git: Started | None = field(default=None, init=False, repr=False)
    _read: bytes = field(default=b"", init=False, repr=False)  # of the output, and not used yet
    _deadline: float = field(default=0.0, init=False, repr=False)

    def __call__(self, oid: bytes, kind: str, path: str) -> bytes:
        with self._lock:
            if self._git:
                with contextlib.suppress(LookupError, Unavailable):
                    return self._within_time(oid, kind, path)
            return self._within_time(oid, kind, path)

    def close(self) -> None:
        """End git; the next object starts it again."""
        with self._lock:
            self._stop()

    def _within_time(self, oid: bytes, kind: str, path: str) -> bytes:
        self._deadline = time.monotonic() + self.limits.seconds
        try:
            return self._load(oid, kind, path)
        except (OSError, ValueError) as error:  # it died, or says something else
            self._stop()
            raise LookupError(path) from error
        except BaseException:
            self._stop()
            raise

    def _load(self, oid: bytes, kind: str, path: str) -> bytes:
        child = self._started()
        assert child.stdin
        child.stdin.write(oid.hex().encode() + b"\n")
        child.stdin.flush()
        _, found, length = self._line(child).split()
        size = int(length)
        if found.decode() != kind:
            raise ValueError(f"{path} is a {found.decode()}")
        if kind in LARGEST:
            refuse_large(path, size, kind)
        digest = hashlib.sha1(b"%s %d\0" % (found, size))
        kept = bytearray()
        left = size
        while left:
            part = self._take(child, left)
            digest.update(part)
            left -= len(part)
            kept += part if kind in LARGEST else part[: MOST_OF_A_COMMIT - len(kept)]
        if self._take(child, 1) != b"\n" or digest.digest() != oid:
            raise ValueError(f"{path} is damaged")
        return bytes(kept)

    def _line(self, child: subprocess.Popen[bytes]) -> bytes:
        while b"\n" not in self._read:
            if len(self._read) > HEADER:
                raise ValueError("no header")
            self._read += self._more(child, HEADER)
        line, _, self._read = self._read.partition(b"\n")
        return line

    def _take(self, child: subprocess.Popen[bytes], most: int) -> bytes:
        """The next bytes of the output, at least one and at most so many."""
        found = self._read or self._more(child, min(most, CHUNK))
        found, self._read = found[:most], found[most:]
        return found

    def _more(self, child: subprocess.Popen[bytes], most: int) -> bytes:
        assert child.stdout
        ready = select.poll()
        ready.register(child.stdout, select.POLLIN)
        if not ready.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            raise Unavailable(f"git did not read an object in {self.limits.seconds:g} s", "is the disk very slow?")
        found = os.read(child.stdout.fileno(), most)
        if not found:
            raise ValueError("git ended")
        return found

    def _started(self) -> subprocess.Popen[bytes]:
        if self._git is None:
            limits = self.limits._replace(seconds=1e9)  # each object has a deadline
            self._git, self._read = start_git(self.words, self.environment, limits, subprocess.PIPE), b""
            self._end = weakref.finalize(self, _end, self._git)
        assert self._git.proc
        return self._git.proc

    def _stop(self) -> None:
        """End git, whatever it does; the next object is read by another one."""
        self._end()
        self._git = None


def _end(git: Started) -> None:
    if git.proc:
        kill(git.proc)
        for end in (git.proc.stdin, git.proc.stdout, git.proc.stderr):
            with contextlib.suppress(OSError):  # what was not sent yet is sent to nobody
                if end:
                    end.close()
