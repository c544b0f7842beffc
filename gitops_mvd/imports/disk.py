"""The disk: looks at a Compose project, and writes the folder of an app in one stroke."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from gitops_mvd.core.errors import MvdError
from gitops_mvd.imports.draft import Brought
from gitops_mvd.imports.source import FILE, FOLDER, MISSING, Look

_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFSOCK: "a socket",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class Disk:
    """The disk of this machine, as the user sees it."""

    def __init__(self) -> None:
        self.home = os.path.expanduser("~")

    def look(self, path: str) -> Look:
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            kind = "a link to nothing" if os.path.islink(path) else MISSING
            return Look(kind, os.path.realpath(path))
        except ValueError as error:  # a NUL
            return Look(MISSING, path, why=str(error))
        except OSError as error:
            return Look("not readable", path, why=error.strerror or str(error))
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "something else")
        readable = os.access(path, os.R_OK | (os.X_OK if kind == FOLDER else 0))
        return Look(
            kind,
            os.path.realpath(path),
            found.st_size,
            executable=bool(found.st_mode & stat.S_IXUSR),
            why="" if readable else "permission denied",
        )

    def read(self, path: str) -> bytes:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, "is not a regular file", path)
            return file.read()

    def names(self, folder: str, most: int) -> Sequence[str]:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, most))


def write_app(folder: Path, files: Mapping[str, Brought]) -> None:
    """Make a folder of these files, by relative path: all of them or none.  Raises MvdError, also if it is there."""
    made = not folder.parent.exists()
    new = None
    try:
        folder.parent.mkdir(exist_ok=True)
        if os.path.lexists(folder):
            raise MvdError(
                f"{folder} exists already", "an import never overwrites: choose another name with --app NAME"
            )
        new = Path(tempfile.mkdtemp(prefix=".import-", dir=folder.parent))
        for name, file in files.items():
            path = new / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
            path.chmod(0o755 if file.executable else 0o644)
        new.chmod(0o755)
        new.rename(folder)
        new = None
    except OSError as error:
        raise MvdError(f"cannot write {folder}: {error.strerror or error}. Nothing was written") from error
    finally:
        if new:
            shutil.rmtree(new, ignore_errors=True)
            if made:
                folder.parent.rmdir()
