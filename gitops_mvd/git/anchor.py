"""The commit that was taken last, in a file that outlives the mirror: so that a rewind is noticed without one."""

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
    """The file at `path`, if one is wanted, as far as it is about the branch `name`."""

    path: Path | None
    name: str  # 16 hexadecimal digits
    adrift: bool = False  # is it still to be written?
    _warned: set[str] = field(default_factory=set)

    def read(self) -> str:
        """The last tip taken; "" where the file says nothing of this branch."""
        if not self.path:
            return ""
        try:
            found = ANCHOR.fullmatch(self.path.read_bytes())
        except FileNotFoundError:
            return ""
        except OSError:
            found = None
        if not found:
            self._warn(f"{self.path} can not be read, so no rewind is noticed where the mirror is lost as well")
        return found[2].decode() if found and found[1].decode() == self.name else ""

    def drop(self, tip: str) -> None:
        """Write down what was taken, where the folder with the mirror may be lost and this one may not.

        It holds up nothing where it can not be done, and is tried again at the next look.
        """
        self.adrift = False
        if not self.path or self.read() == tip:
            return
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write(self.path, Entry(f"{self.name} {tip}\n".encode(), 0o600, os.geteuid(), os.getegid()))
            self._warned.clear()
        except (MvdError, OSError) as error:
            self.adrift = True
            unwritten = f"{self.path} could not be written"
            why = error.message if isinstance(error, MvdError) else f"{unwritten}: {error.strerror}"
            self._warn(f"{why}; so no rewind behind {tip[:7]} is noticed where the mirror is lost")

    def _warn(self, warning: str) -> None:
        """Once."""
        if warning not in self._warned:
            log.warning("%s", warning)
        self._warned.add(warning)
