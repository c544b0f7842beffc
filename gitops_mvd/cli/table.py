"""Tables that fit a terminal: long cells are cut, the last one wraps, and no row breaks.  Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from gitops_mvd.core.text import LONGEST_TEXT, plain_line

GAP = "  "
SHORTEST_CELL = 5  # characters that a cell is not cut below
SHORTEST_WORDS = 24  # characters of a line of the last column; with less it gets lines of its own
INDENT = "    "  # of these
MOST_LINES = 4  # of the last column
CUT_AT_ITS_BEGINNING = frozenset({"IMAGE", "INSTANCE"})  # columns of which the end tells more

Paint = Callable[[str], str]


def plainly(text: str) -> str:
    return text


def table(head: Sequence[str], rows: Sequence[Sequence[str]], most: int = 0, paint: Paint = plainly) -> list[str]:
    """The lines of a table whose last column has words; at most so many characters wide, 0 for as wide as it is.

    `paint` gives a cell its colour, which takes no room.
    """
    rows = [[plain_line(cell, LONGEST_TEXT) for cell in row] for row in rows]
    *head, last_head = head
    if not any(row[-1] for row in rows):
        last_head = ""
    widths = [max(_width(row[at]) for row in (head, *rows)) for at in range(len(head))]
    gaps = len(GAP) * len(widths)
    longest = max((_width(row[-1]) for row in rows), default=0)
    room = most - sum(widths) - gaps  # for the words
    is_apart = bool(most) and room < min(longest, SHORTEST_WORDS)
    if most:
        widths = _narrowed(widths, head, most - gaps)
    lines = [_row(head, "" if is_apart else last_head, widths, head, plainly)]
    for *cells, words in rows:
        if is_apart:
            lines.append(_row(cells, "", widths, head, paint))
            lines += [f"{INDENT}{line}" for line in wrapped(words, most - len(INDENT))] if words else []
            continue
        first, *others = wrapped(words, room) if most and words else [words]
        lines.append(_row(cells, first, widths, head, paint))
        lines += [f"{' ' * (sum(widths) + gaps)}{line}" for line in others]
    return lines


def _row(cells: Sequence[str], words: str, widths: Sequence[int], head: Sequence[str], paint: Paint) -> str:
    cut = [shortened(cell, width, name in CUT_AT_ITS_BEGINNING) for cell, width, name in _zip(cells, widths, head)]
    padded = [f"{paint(cell)}{' ' * (width - _width(cell))}" for cell, width in zip(cut, widths, strict=True)]
    return GAP.join([*padded, words]).rstrip()


def _zip(cells: Sequence[str], widths: Sequence[int], head: Sequence[str]) -> zip[tuple[str, int, str]]:
    return zip(cells, widths, head, strict=True)


def _narrowed(widths: Sequence[int], head: Sequence[str], most: int) -> list[int]:
    """The widths, the widest of them cut until all take at most so much, as far as their heads and cells allow."""
    narrow = list(widths)
    while sum(narrow) > most:
        able = [at for at, width in enumerate(narrow) if width > max(SHORTEST_CELL, len(head[at]))]
        if not able:
            break
        widest = max(able, key=lambda at: narrow[at])
        narrow[widest] -= 1
    return narrow


def shortened(text: str, most: int, at_its_beginning: bool = False) -> str:
    """`text` in at most so many characters, `…` for what is left out."""
    if _width(text) <= most:
        return text
    letters = reversed(text) if at_its_beginning else iter(text)
    kept, room = "", most - 1
    for letter in letters:
        room -= _width(letter)
        if room < 0:
            break
        kept += letter
    return f"…{kept[::-1]}" if at_its_beginning else f"{kept}…"


def wrapped(text: str, most: int, lines: int = MOST_LINES) -> list[str]:
    """`text` in lines of at most so many characters, broken between words where that is possible."""
    found, line, most = [], "", max(most, SHORTEST_CELL)
    for word in re.findall(r"\S+\s*", text):
        if line and _width(line + word.rstrip()) > most:
            found.append(line.rstrip())
            line = ""
        while _width(word.rstrip()) > most:
            part = shortened(word, most + 1)[:-1]
            found.append(part)
            word = word[len(part) :]
        line += word
    found.append(line.rstrip())
    found = [line for line in found if line]
    if len(found) > lines:
        found = [*found[: lines - 1], shortened(f"{found[lines - 1]} …", most)]
    return found or [""]


def _width(text: str) -> int:
    """The columns that a plain line takes on a terminal."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1
