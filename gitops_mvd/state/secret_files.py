"""The host's own secrets, one file each in one folder, which a manifest names as `{file://NAME}`."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterable
from pathlib import Path

from gitops_mvd.core.errors import StepFailed

LARGEST = 1 << 20  # bytes

Stamp = tuple[int, ...]


class SecretFiles:
    """Reads each file once, and again only after a look has found it changed.

    Nothing of them is kept anywhere but in memory.  May be used by several threads at once; `look` by one of them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, tuple[Stamp | None, str | None]] = {}  # name -> how it looked, and its text if readable
        self._lock = threading.Lock()
        self.version = 0  # another one after every look that found a change

    def look(self) -> None:
        """Look whether a file that was asked for has changed: one stat each."""
        with self._lock:
            changed = [name for name, (stamp, _) in self._read.items() if stamp != _stamp(self._folder / name)]
            for name in changed:
                del self._read[name]
            self.version += bool(changed)

    def require(self, names: Iterable[str]) -> None:
        """Raise StepFailed for the first that can not be read."""
        for name in sorted(names):
            self.read(name)

    def read(self, name: str) -> str:
        """The text in a file, without the line's end.  Raises StepFailed, with the name and never with the text."""
        with self._lock:
            _, text = self._read.get(name, (None, None))
            if text is None:
                stamp = _stamp(self._folder / name)
                self._read[name] = stamp, None  # so that it is looked at again even if it can not be read
                text = self._text(name)
                self._read[name] = stamp, text
            return text

    def _text(self, name: str) -> str:
        path = self._folder / name
        hint = f"write it there, for root alone: install -m 600 /dev/stdin {path}"
        if "/" in name or name.startswith("."):
            raise StepFailed(f"{name!r} is no name of a secret")
        try:
            known = path.stat()
            if not stat.S_ISREG(known.st_mode) or known.st_size > LARGEST:
                raise StepFailed(f"the secret {path} is no file, or a large one", hint)
            if known.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise StepFailed(f"the secret {path} is not for its owner alone", f"chmod 600 {path}")
            text = path.read_bytes().decode().removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise StepFailed(f"the secret {path} can not be read: {error.strerror}", hint) from error
        except UnicodeDecodeError as error:
            raise StepFailed(f"the secret {path} is no text", hint) from error
        if not text:
            raise StepFailed(f"the secret {path} is empty", hint)
        return text


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode
