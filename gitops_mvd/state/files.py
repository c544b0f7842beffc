"""Files on the host, written so that a crash or a full disk leaves the old ones or the new ones, never half of each."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gitops_mvd.core.errors import NotNow, StepFailed, Unavailable

HINTS = {
    errno.ENOSPC: "the disk is full: make room, the next pass goes on",
    errno.EDQUOT: "the quota is used up: make room, the next pass goes on",
    errno.EROFS: "the file system is read-only: see dmesg for why",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to be: its bytes, permission bits and owner."""

    content: bytes
    mode: int
    uid: int = 0
    gid: int = 0


def write(path: Path, entry: Entry) -> None:
    """Write a file in one stroke: whoever looks sees the old one or the new one.  Raises Unavailable or StepFailed."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        new = _beside(path)
        try:
            _write(new, entry)
            new.rename(path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        _sync(path.parent)


def write_link(path: Path, target: Path) -> None:
    """Have a link to a target; what is in its place already stays.  Raises Unavailable or StepFailed."""
    with _writing(path):
        if os.path.lexists(path):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
        _sync(path.parent)


def write_tree(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Make a folder of exactly these files, by relative path, in one stroke; only root gets into it.

    One that is there already may be mounted in a container, file by file, and so each file that differs is written in
    place.  Raises Unavailable or StepFailed.
    """
    with _writing(folder):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = _beside(folder)
        shutil.rmtree(new, ignore_errors=True)
        try:
            _write_tree(new, entries)
            if folder.is_symlink() or not folder.is_dir():
                folder.unlink(missing_ok=True)
                new.rename(folder)
            else:
                _mend(folder, new, entries)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        _sync(folder.parent)


def remove_tree(folder: Path, last: str) -> None:
    """Remove a folder; the file `last` goes last, so that half a folder still has it.  Raises Unavailable."""
    with _writing(folder):
        if not folder.exists():
            return
        for path in folder.iterdir():
            if path.name != last:
                _remove(path)
        _remove(folder / last)
        folder.rmdir()
        _sync(folder.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there.  Raises Unavailable."""
    with _writing(path):
        if os.path.lexists(path):
            path.unlink()
            _sync(path.parent)


def _write_tree(folder: Path, entries: Mapping[str, Entry]) -> None:
    folder.mkdir(mode=0o700)
    for name, entry in entries.items():
        _make_parents(folder, name)
        _write(folder / name, entry)
    for inner, _, _ in os.walk(folder):
        _sync(Path(inner))


def _mend(folder: Path, new: Path, entries: Mapping[str, Entry]) -> None:
    for inner, folders, names in os.walk(folder, topdown=False):
        for path in [Path(inner, name) for name in (*folders, *names)]:
            if not _belongs(path, new / path.relative_to(folder)):
                _remove(path)
    for name, entry in entries.items():
        path = folder / name
        _make_parents(folder, name)
        if not path.exists() or path.read_bytes() != entry.content or _owned(path) != _owned(new / name):
            if path.exists():
                os.chown(path, os.geteuid(), os.getegid())
                path.chmod(0o600)
            _write(path, entry)


def _make_parents(folder: Path, name: str) -> None:
    """The folders between: open to all, as the one above them is not, and a container sees only what is mounted."""
    for parent in reversed(Path(name).parents[:-1]):
        (folder / parent).mkdir(exist_ok=True)
        (folder / parent).chmod(0o755)


def _belongs(path: Path, there: Path) -> bool:
    """Is it of the same make as its pattern, so that it can be mended?"""
    if path.is_symlink() or not there.exists():
        return False
    return path.is_dir() == there.is_dir() and (path.is_dir() or path.is_file())


def _owned(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_mode, found.st_uid, found.st_gid


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, entry: Entry) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(entry.content)
        file.truncate()
        os.fchmod(file.fileno(), entry.mode)  # before it is somebody else's: CAP_CHOWN is all that the daemon has
        if (os.geteuid(), os.getegid()) != (entry.uid, entry.gid):
            os.fchown(file.fileno(), entry.uid, entry.gid)
        file.flush()
        os.fsync(file.fileno())


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.new")


def _sync(folder: Path) -> None:
    """A name is on the disk when its folder is."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what reading raises into Unavailable; `path` is named if the system names none."""
    try:
        yield
    except OSError as error:
        raise Unavailable(f"cannot read {error.filename or path}: {error.strerror}") from error


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"cannot write {path}: {error.strerror or error}"
        if error.errno in (errno.EPERM, errno.ENAMETOOLONG):
            raise StepFailed(message) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NotNow(message, HINTS[error.errno]) from error
        raise Unavailable(message, HINTS.get(error.errno or 0, "")) from error
