"""The host's own secrets, one file each in one folder, which a manifest names as `{file://NAME}`."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterable
from pathlib import Path

from gitops_mvd.core.errors import StepFailed

LARGEST_BYTES = 1 << 20

Stamp = tuple[int, ...]


class SecretFiles:
    """Reads each file once, and again only after `refresh` has found it changed.

    Nothing of them is kept anywhere but in memory.  May be used by several threads at once; `refresh` by one of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[
            str, tuple[Stamp | None, str | None]
        ] = {}  # name -> its stamp, and its text if it could be read
        self._lock = threading.Lock()
        self.version = 0  # another one after every refresh that found a change

    def refresh(self) -> None:
        """Forget each file that has changed since it was read: one stat each."""
        with self._lock:
            changed = [name for name, (stamp, _) in self._read.items() if stamp != _stamp(self._folder / name)]
            for name in changed:
                del self._read[name]
            self.version += bool(changed)

    def require(self, names: Iterable[str]) -> None:
        """Raise StepFailed for the first that cannot be read."""
        for name in sorted(names):
            self.read(name)

    def read(self, name: str) -> str:
        """The text in a file, without the line's end.  Raises StepFailed, with the name and never with the text."""
        with self._lock:
            _, text = self._read.get(name, (None, None))
            if text is None:
                stamp = _stamp(self._folder / name)
                self._read[name] = stamp, None  # so that a change is found even if it cannot be read
                text = self._text(name)
                self._read[name] = stamp, text
            return text

    def _text(self, name: str) -> str:
        path = self._folder / name
        hint = f"write it there, for root alone: install -m 600 /dev/stdin {path}"
        if "/" in name or name.startswith("."):
            raise StepFailed(f"{name!r} is not a name of a secret: it must not have a `/` or begin with a dot")
        try:
            known = path.stat()
            if not stat.S_ISREG(known.st_mode) or known.st_size > LARGEST_BYTES:
                raise StepFailed(f"the secret {path} is not a file, or larger than 1 MiB", hint)
            if known.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StepFailed(f"the secret {path} can be read by others than its owner", f"chmod 600 {path}")
            text = path.read_bytes().decode().removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise StepFailed(f"cannot read the secret {path}: {error.strerror}", hint) from error
        except UnicodeDecodeError as error:
            raise StepFailed(f"the secret {path} is not UTF-8 text", hint) from error
        if not text:
            raise StepFailed(f"the secret {path} is empty", hint)
        return text


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
