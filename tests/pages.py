"""What a page has its reader do: the blocks between its fences, each with the place that it is for as its first line.

# on your computer               commands, in the config repository
# on the server, as root         commands, on the server
# apps/hello/compose.yaml        a file of the config repository
# /etc/gitops-mvd/config.yaml    a file of the server

A block of `text` is what a command prints, or a drawing: nobody types it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
README = CHECKOUT / "README.md"
GUIDE = CHECKOUT / "gitops_mvd" / "docs" / "guide"
COMPUTER = "on your computer"
SERVER = "on the server, as root"
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One of them; `place` is COMPUTER, SERVER, or the path of the file that it is."""

    place: str
    text: str

    @property
    def is_commands(self) -> bool:
        return self.place in (COMPUTER, SERVER)

    @property
    def is_of_repository(self) -> bool:
        return not self.is_commands and not self.place.startswith(("/", "~"))


def blocks(page: Path) -> list[Block]:
    """What is typed and written, in the order of the page.  Raises ValueError for a block without a place."""
    found = []
    for language, text in _FENCED.findall(page.read_text()):
        if language == "text":
            continue
        place = text.partition("\n")[0].removeprefix("# ")
        if not text.startswith("# ") or (language == "sh") != (place in (COMPUTER, SERVER)):
            raise ValueError(f"{page.name}: whose is this block?\n{text}")
        found.append(Block(place, text))
    return found
