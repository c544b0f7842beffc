"""What an import asks of the disk that a Compose project lies on.  Pure: `disk` answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

FILE, FOLDER, MISSING = "a file", "a folder", "missing"


@dataclass(frozen=True, slots=True)
class Look:
    """What is at a path, links followed: `kind` is FILE, FOLDER, MISSING or the words for something else ("a socket").

    `real` is the path behind all links, `size` in bytes, `why` the reason if it cannot be read.
    """

    kind: str
    real: str
    size: int = 0
    executable: bool = False
    why: str = ""


class Source(Protocol):
    """The disk; paths are absolute."""

    home: str

    def look(self, path: str) -> Look:
        """What is there.  Never raises, and never opens it."""
        ...

    def read(self, path: str) -> bytes:
        """The content of a regular file.  Raises OSError."""
        ...

    def names(self, folder: str, most: int) -> Sequence[str]:
        """The first `most` entries of a folder, sorted.  Raises OSError."""
        ...
