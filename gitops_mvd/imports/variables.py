"""Which variables a text needs, and env files with the place of each value in them.  Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gitops_mvd.imports.document import Text
from gitops_mvd.manifest.dotenv import parse_env
from gitops_mvd.manifest.interpolate import Unresolved, Variables, substitute

_REFERENCE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(:?\?)?|([A-Za-z_][A-Za-z0-9_]*))")
_BARE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_ASSIGNMENT = re.compile(r"[ \t]*(?:export[ \t]+)?([^\s=:#'\"]+)[ \t]*(?:[=:][ \t]*|(?=\r?\n|$))")
_RAW = re.compile(r"[ \t]*([^\s=]+)(?:=|(?=\r?\n|$))")
_COMMENTED = re.compile(r"[ \t]*#[ \t#]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.]*)[ \t]*=[ \t]*(?=\S)")


class Value(NamedTuple):
    """A text with its variables put in, "" if that failed; `missing` are those without value and default."""

    text: str
    missing: frozenset[str] = frozenset()


def evaluate(text: str, variables: Mapping[str, str]) -> Value:
    """A text as Compose reads it, but that it tells which variables are missing."""
    if "$" not in text:
        return Value(text)
    missing: list[str] = []
    try:
        known = substitute(text, Variables(variables, unset_is_empty=True), missing)
    except Unresolved:
        required = {found[2] for found in _REFERENCE.finditer(text) if found[3] and not variables.get(found[2])}
        return Value("", frozenset(required.union(missing)))
    return Value(known, frozenset(missing))


def names_in(text: str) -> set[str]:
    """The variables that a text refers to."""
    return {found[2] or found[4] for found in _REFERENCE.finditer(text) if not found[1]}


def only_name(text: str) -> str:
    """The variable that is all of a text, also with a default; "" if there is more to it."""
    found = _REFERENCE.match(text)
    if not found or found[1]:
        return ""
    if found[2]:
        whole = text.endswith("}") and text.count("${") == 1 and text.count("}") == 1
        return found[2] if whole else ""
    return found[4] if found.end() == len(text) else ""


def reference_spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each `$NAME` or `${NAME...}` stands in a text, with what is nested in it."""
    at = 0
    while found := _REFERENCE.search(text, at):
        at = found.end()
        if found[2]:
            depth = 1
            while depth and at < len(text):
                depth += {"{": 1, "}": -1}.get(text[at], 0)
                at += 1
        if not found[1]:
            yield found.start(), at, found[2] or found[4]


def references(text: str, name: str) -> Iterator[tuple[int, int]]:
    """Where `$NAME` or `${NAME}` stands in a text, without operators."""
    for found in _BARE.finditer(text):
        if name in (found[2], found[3]):
            yield found.span()


class EnvLine(NamedTuple):
    """A variable of an env file: its value from `start` to before `end`, None for a name alone or a comment's."""

    name: str
    value: str | None
    line: int
    begin: int
    start: int
    end: int
    comment: bool = False
    written: str = ""


class EnvFile(Text):
    """An env file of the project: `path` on the disk, `target` in the app's folder; `lines` has its variables.

    `container`: are they given to containers, and not only filled in in Compose files?  `needed`: is it named by one?
    `raw`: is a value all that is behind the `=`, so that neither quotes nor variables are any?
    `labels`: are they labels of containers, which are no place for a secret?
    """

    def __init__(self, text: str, path: str, target: str, lines: tuple[EnvLine, ...], raw: bool = False) -> None:
        super().__init__(text)
        self.path = path
        self.target = target
        self.lines = lines
        self.raw = raw
        self.container = False
        self.labels = False
        self.needed = False

    @property
    def values(self) -> dict[str, str]:
        return {line.name: line.value for line in self.lines if line.value is not None}


def read_env(path: str, target: str, text: str, variables: Mapping[str, str], raw: bool = False) -> EnvFile:
    """An env file; what is wrong with it is for the manifest's own reader to say."""
    return EnvFile(text, path, target, tuple(_lines(text, variables, raw)), raw)


def as_env_value(value: str) -> str:
    """A value as it is written in an env file."""
    return value if re.fullmatch(r"[\w./:@%+,-]*", value) else '"' + re.sub(r'(["\\$])', r"\\\1", value) + '"'


def _lines(text: str, variables: Mapping[str, str], raw: bool) -> Iterator[EnvLine]:
    found = parse_env("", text.encode("utf-8", "surrogateescape"), variables, [], raw)
    spans = list(_spans(text, raw))
    counts = Counter(name for name, *_ in spans)
    for name, line, begin, start, end, comment in spans:
        written = text[start:end]
        value = None
        if not comment and text[begin:start].rstrip().endswith("=" if raw else ("=", ":")):
            value = found.get(name, "")
            if counts[name] > 1:
                above = {**found, **variables}
                value = parse_env("", text[begin:end].encode("utf-8", "surrogateescape"), above, [], raw).get(name, "")
        yield EnvLine(name, value, line, begin, start, end, comment, written)


def _spans(text: str, raw: bool) -> Iterator[tuple[str, int, int, int, int, bool]]:
    """Each assignment of a text: name, line, where it begins, where its value begins and ends, is it a comment?"""
    at, number = 0, 1
    while at < len(text):
        stop = text.find("\n", at)
        stop = len(text) if stop < 0 else stop
        if comment := _COMMENTED.match(text, at, stop):
            yield comment[1], number, at, comment.end(), at + len(text[at:stop].rstrip()), True
        elif not text[at:stop].lstrip().startswith("#") and (
            assigned := (_RAW if raw else _ASSIGNMENT).match(text, at, stop)
        ):
            start = assigned.end()
            stop = stop if raw else _value_stop(text, start, stop)
            yield assigned[1], number, at, start, stop - (text[start:stop].endswith("\r")), False
        number += text.count("\n", at, stop + 1)
        at = stop + 1


def _value_stop(text: str, start: int, stop: int) -> int:
    """The end of the line on which a value ends, which may be in quotes over several lines."""
    quote = text[start : start + 1]
    if quote in ("'", '"'):
        closing = re.compile(r"(?:[^\"\\]|\\.)*\"" if quote == '"' else r"[^']*'", re.DOTALL).match(text, start + 1)
        if closing and closing.end() > stop:
            found = text.find("\n", closing.end())
            return found if found >= 0 else len(text)
    return stop
