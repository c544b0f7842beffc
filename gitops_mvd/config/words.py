"""A command in one string → its words, as Compose splits it (github.com/mattn/go-shellwords).  Pure.

No shell reads a command: a backslash stands for the character behind it, quotes hold words together, and so do
backticks and `$(...)`, which stay as they are.  At an operator of a shell Compose drops the rest without a word; here
that is a mistake.
"""

from __future__ import annotations

import re

_SPACES = " \t\r\n"
_PLAIN = re.compile(f"[^{_SPACES}]+")
_SPECIAL = re.compile(r"[\\'\"`();&|<>]")
_OPERATOR = re.compile(r"[;&|<>]+")
_INSIDE = {"`": "\"'(", "(": "\"'`", '"': "'(", "'": '"('}
"""What holds words together, and in which of the others it is a character like any other."""


def split(text: str) -> list[str]:
    """The words of a command.  Raises ValueError with the reason why there are none."""
    if not _SPECIAL.search(text):
        return _PLAIN.findall(text)
    words: list[str] = []
    word: list[str] | None = None  # its letters, None between two words
    holding: set[str] = set()
    escaped = False
    for at, letter in enumerate(text):
        kind = "(" if letter == ")" else letter
        if escaped or (letter == "\\" and "'" in holding):
            word, escaped = _with(word, letter), False
        elif letter == "\\":
            escaped = True
        elif letter in _SPACES and not holding:
            words += [] if word is None else ["".join(word)]
            word = None
        elif operator := None if holding else _OPERATOR.match(text, at):
            raise ValueError(f"has `{operator[0]}`, but no shell runs it: write [sh, -c, ...]")
        elif kind in _INSIDE and holding.isdisjoint(_INSIDE[kind]):
            if letter == "(" and ("(" in holding or not word or word[-1] != "$"):
                raise ValueError("has a `(`, but no shell runs it: put it in quotes, or write [sh, -c, ...]")
            holding ^= {kind}
            if letter not in "\"'":
                word = _with(word, letter)
            elif letter not in holding:
                word = _with(word, "")
        else:
            word = _with(word, letter)
    if escaped or holding:
        raise ValueError("has a quote, a `(` or a backslash without its partner: close it, or write a list")
    return [*words, "".join(word)] if word is not None else words


def _with(word: list[str] | None, letter: str) -> list[str]:
    if word is None:
        return [letter]
    word.append(letter)
    return word
