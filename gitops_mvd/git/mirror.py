"""A bare repository on this disk that mirrors refs of the server: fetched, locked, checked, read, rebuilt."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.git.command import Command, Load
from gitops_mvd.git.objects import Objects

log = logging.getLogger(__name__)

DEPTHS = (32, 1024)  # commits of history, tried in turn until it shows how two of them lie to each other
EVERYTHING = 2**31 - 1  # the depth that git takes for all of it
GC = ("gc", "--quiet", "--prune=now")
NEAR = 32  # commits back along the first parents, in which another one is looked for first
ID = re.compile(rb"([0-9a-f]{40})\n")  # of a ref
PARENT = re.compile(rb"^parent ([0-9a-f]{40})$", re.MULTILINE)  # in the headers of a commit, the first one
MOST_LOOSE = 256  # files with objects that are not packed yet: those of some 50 commits


@dataclass
class Mirror:
    """The repository in the folder `place`, which nobody else may write to.

    `on_damage` is called when an object in it cannot be read.
    """

    place: Path
    git: Command
    on_damage: Callable[[], None] = lambda: None
    sound: bool = False  # is every object known to be whole?
    unpackable: int = 0  # files with objects, when they could not be packed last
    _objects: Objects | None = field(default=None, init=False, repr=False)
    _read_from: tuple[int, int] = field(default=(0, 0), init=False, repr=False)  # the folder that they are read from

    @contextlib.contextmanager
    def alone(self, wait: bool = True) -> Iterator[None]:
        """Lock it against other processes, so that any lock file of git inside is left over from one that died.

        Raises Unavailable if another one keeps it for too long, or at all if we do not `wait`.
        """
        try:
            self.place.parent.mkdir(parents=True, exist_ok=True)
            lock = self._beside("lock").open("w")
        except OSError as error:
            raise self._unwritable(error) from error
        with lock:
            deadline = time.monotonic() + (self.git.timeout if wait else 0)
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise Unavailable(f"another mvd is busy with the mirror {self.place}") from None
                    time.sleep(0.05)
            try:
                yield
            except OSError as error:
                raise self._unwritable(error) from error

    @contextlib.contextmanager
    def anew(self) -> Iterator[Mirror]:
        """A new mirror, made beside this one and put into its place once it is complete."""
        new, old = (Mirror(self._beside(end), self.git) for end in ("new", "old"))
        new.remove()
        old.remove()
        try:
            new._begin()
            yield new
            if os.path.lexists(self.place):  # a link, too, wherever it leads
                self.place.rename(old.place)
            new.place.rename(self.place)
        finally:
            new.remove()
            old.remove()

    def remove(self) -> None:
        if self.place.is_dir() and not self.place.is_symlink():
            shutil.rmtree(self.place, ignore_errors=True)
        else:
            self.place.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the lock and temporary files of a git that was killed; the caller holds the lock."""
        for pattern in ("*.lock", "refs/**/*.lock", "objects/*/tmp_*", "objects/tmp_*"):
            for left in self.place.glob(pattern):
                left.unlink(missing_ok=True)

    def whole(self) -> bool:
        """Can every object be read?  Checked once, and again after an error."""
        if not self.sound:
            status, _, _ = self.run("fsck", "--no-dangling", "--no-progress", "--no-reflogs", patient=True)
            self.sound = status == 0
        return self.sound

    def fetch(self, depth: int, refspecs: Sequence[str], patient: bool = True) -> None:
        """Fetch refs with so many commits of history; 0 is as many as there are here already."""
        if not self.place.exists():
            self.remove()  # a link that leads nowhere
            self._begin()
        self.say(
            *("fetch", "--quiet", "--force", "--no-tags", "--no-write-fetch-head"),
            *(() if depth == 0 else (f"--depth={depth}",)),
            *("--", self.git.url, *refspecs),
            login=True,
            patient=patient,
        )

    def pack(self, is_awaited: Callable[[], bool]) -> None:
        """Put all objects into one pack, and forget those that nothing needs, unless `is_awaited`.

        Only if there are many files with objects, and as long as nobody else is busy with it: next time will do, too.
        """
        loose = self._loose()
        if is_awaited() or loose <= max(MOST_LOOSE, 2 * self.unpackable):
            return
        with contextlib.suppress(Unavailable), self.alone(wait=False):
            self.sweep()
            status, _, why = self.git(f"--git-dir={self.place}", *GC, patient=True, is_awaited=is_awaited)
            self.close()  # or it keeps on the disk what was packed anew
            self.unpackable = loose if status and not is_awaited() else 0
            if self.unpackable:  # it is tried again once there are twice as many
                log.warning("cannot pack the mirror path=%s: %s", self.place, why.strip().rpartition("\n")[2])

    def _loose(self) -> int:
        """The number of files with objects."""
        return sum(len(files) for _, _, files in os.walk(self.place / "objects"))

    def commit_at(self, ref: str) -> str:
        """The commit at a ref, "" if it is unknown."""
        if known := self._loose_ref(ref):
            return known
        if not self.place.is_dir():
            return ""
        status, said, _ = self.run("rev-parse", "--verify", "--quiet", ref)
        return said if status == 0 else ""

    def fetched(self, ref: str) -> str:
        """The commit at a ref that was fetched.  Raises Unavailable if it is something else."""
        with contextlib.suppress(LookupError):
            if oid := self._loose_ref(ref):
                self._current()(bytes.fromhex(oid), "commit", ref)
                return oid
        return self.say("rev-parse", "--verify", f"{ref}^{{commit}}")

    def descends(self, commit: str, known: str) -> bool:
        """Does the commit build on the known one, as far as the history here goes?"""
        return known in self.line(commit, NEAR) or self.run("merge-base", "--is-ancestor", known, commit)[0] == 0

    def line(self, commit: str, most: int) -> Iterator[str]:
        """The commit and its first parents, newest first: at most so many, and as far as they were fetched."""
        cut, read = self.cut(), self._current()
        for _ in range(most):
            yield commit
            if commit in cut:
                return
            try:
                found = PARENT.search(read(bytes.fromhex(commit), "commit", commit).partition(b"\n\n")[0])
            except (LookupError, Unavailable):
                return
            if not found:
                return
            commit = found[1].decode()

    def cut(self) -> set[str]:
        """The commits whose parents were not fetched."""
        try:
            return set((self.place / "shallow").read_text().split())
        except FileNotFoundError:
            return set()

    def reader(self) -> Load:
        """A reader of objects.  A damaged one raises Unavailable, and has the mirror checked again."""
        read = self._current()

        def load(oid: bytes, kind: str, path: str) -> bytes:
            try:
                return read(oid, kind, path)
            except LookupError as error:
                self.sound = False
                self.on_damage()
                message = f"the mirror {self.place} is damaged at {path}"
                raise Unavailable(message, "the next sync rebuilds it") from error

        return load

    def close(self) -> None:
        """End the git that reads objects; the next one starts it again."""
        if self._objects:
            self._objects.close()

    def _current(self) -> Objects:
        """What reads objects from this folder; begun anew if another folder was put into its place."""
        try:
            found = self.place.stat()
            place = found.st_dev, found.st_ino
        except OSError:
            place = 0, 0
        if not self._objects or place != self._read_from:
            self.close()
            self._objects, self._read_from = self.git.reader(self.place), place
        return self._objects

    def _loose_ref(self, ref: str) -> str:
        """The id at a ref, as the file of its own has it; "" if it has none."""
        try:
            found = ID.fullmatch((self.place / ref).read_bytes())
        except OSError:
            return ""
        return found[1].decode() if found else ""

    def say(self, *words: str, login: bool = False, patient: bool = False) -> str:
        """As `Command.say`, in this repository."""
        return self.git.say(f"--git-dir={self.place}", *words, login=login, patient=patient)

    def run(self, *words: str, patient: bool = False) -> tuple[int, str, str]:
        """As a `Command`, in this repository."""
        return self.git(f"--git-dir={self.place}", *words, patient=patient)

    def _begin(self) -> None:
        self.place.mkdir(mode=0o700)
        self.say("init", "--quiet", "--bare", "--template=")

    def _beside(self, end: str) -> Path:
        return self.place.with_name(f"{self.place.name}.{end}")

    def _unwritable(self, error: OSError) -> Unavailable:
        return Unavailable(f"cannot write the mirror {self.place}: {error.strerror}")
