"""The host's own secrets, one file each in one folder, which only root reads."""

from __future__ import annotations

import stat
from pathlib import Path

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.secrets.providers import LARGEST_BYTES


class Files:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def stamp(self, path: str) -> object:
        try:
            found = (self._folder / path).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode

    def read(self, path: str) -> bytes:
        if "/" in path or path.startswith("."):
            raise StepFailed(f"{path!r} is not a name of a secret: it must not have a `/` or begin with a dot")
        file = self._folder / path
        hint = f"install -m 600 /dev/stdin {file}"  # short, as a status is cut
        try:
            known = file.stat()
            if not stat.S_ISREG(known.st_mode) or known.st_size > LARGEST_BYTES:
                raise StepFailed(f"the secret {file} is not a file, or larger than {LARGEST_BYTES >> 20} MiB", hint)
            if known.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StepFailed(f"the secret {file} can be read by others than its owner", f"chmod 600 {file}")
            content = file.read_bytes()
        except FileNotFoundError as error:
            raise StepFailed(f"the secret {path} is missing on this host", hint) from error
        except OSError as error:
            raise StepFailed(f"cannot read the secret {file}: {error.strerror}", hint) from error
        if not content.strip():
            raise StepFailed(f"the secret {file} is empty", hint)
        return content
