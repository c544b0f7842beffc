"""The commit that was followed last, in a file outside the mirror: a rewind is noticed even if the mirror is lost."""

from __future__ import annotations

import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from gitops_mvd.core.errors import MvdError
from gitops_mvd.state.files import Entry, write

log = logging.getLogger(__name__)

ANCHOR = re.compile(rb"([0-9a-f]{16}) ([0-9a-f]{40})\n?")


@dataclass
class Anchor:
    """The line for the branch `name` in the file at `path`, if there is one."""

    path: Path | None
    name: str  # 16 hexadecimal digits
    adrift: bool = False  # has it still to be written?
    _warned: set[str] = field(default_factory=set)

    def read(self) -> str:
        """The last commit followed, "" if the file has none of this branch."""
        if not self.path:
            return ""
        try:
            found = ANCHOR.fullmatch(self.path.read_bytes())
        except FileNotFoundError:
            return ""
        except OSError:
            found = None
        if not found:
            self._warn(f"cannot read {self.path}: a rewound branch is not noticed if the mirror is lost, too")
        return found[2].decode() if found and found[1].decode() == self.name else ""

    def drop(self, tip: str) -> None:
        """Write down the commit that is followed.  If that fails, nothing is held up, and the next sync tries again."""
        self.adrift = False
        if not self.path or self.read() == tip:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(self.path, Entry(f"{self.name} {tip}\n".encode(), 0o600, os.geteuid(), os.getegid()))
            self._warned.clear()
        except (MvdError, OSError) as error:
            self.adrift = True
            why = error.message if isinstance(error, MvdError) else f"cannot write {self.path}: {error.strerror}"
            self._warn(f"{why}; a branch rewound behind {tip[:7]} is not noticed if the mirror is lost")

    def _warn(self, warning: str) -> None:
        """Log a warning once."""
        if warning not in self._warned:
            log.warning("%s", warning)
        self._warned.add(warning)
