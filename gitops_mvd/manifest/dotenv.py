"""Env files, in the format of Compose or taken literally.  Pure.

Compose's format: `KEY=value` lines, `#` comments, quotes, `export`, and variables in values that are not in single
quotes.  Stricter in two points: a value ends on its line, for `docker run --env-file` cuts it there without a word; and
a variable that is not set is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gitops_mvd.manifest.interpolate import Unresolved, substitute
from gitops_mvd.manifest.yamltree import MAX_BYTES, Sink, tell

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
MAX_LINE = 60_000  # bytes; docker refuses an env file with a line of 64 KiB

_LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[^=:\s]*)\s*(?:(?P<equals>[=:])\s*(?P<value>.*?))?\s*", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?')
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_ESCAPE = re.compile(r"\\(.)")
_COMMENT = re.compile(r"(?:^|\s)#.*")


def parse_env(file: str, data: bytes, variables: Mapping[str, str], sink: Sink, raw: bool = False) -> dict[str, str]:
    """The variables of an env file, a later one over an earlier one; mistakes go to `sink`.

    Values may use `variables` and what stands above them; a name alone takes its value from there.
    """
    found: dict[str, str] = {}
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES >> 20} MiB")
        lines = data.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        tell(sink, (), file, data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
        return found
    except ValueError as error:
        tell(sink, (), file, 1, str(error))
        return found
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, value = _line(line, {**found, **variables}, raw)
            check_variable(name, value)
        except ValueError as error:
            tell(sink, (), file, number, str(error))
        else:
            found[name] = value
    return found


def check_variable(name: str, value: str) -> None:
    """Raises ValueError for what no container can be given as an environment variable; never says the value."""
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} can not be the name of a variable: letters, digits, `_`, `.` and `-`")
    if re.search("[\r\n]", value):
        raise ValueError(f"{name} has a line break: put it into a secret or config file")
    if "\0" in value:
        raise ValueError(f"{name} has a NUL character")
    if len(f"{name}={value}".encode()) > MAX_LINE:
        raise ValueError(f"{name} is longer than {MAX_LINE} bytes: put it into a secret or config file")


def _line(line: str, variables: Mapping[str, str], raw: bool) -> tuple[str, str]:
    if raw:
        name, equals, value = line.lstrip().partition("=")
    else:
        parts = _LINE.fullmatch(line)
        assert parts, "the pattern matches any line"
        name, equals, value = parts["name"], parts["equals"] or "", parts["value"] or ""
    if not equals:
        if name in variables:
            return name, variables[name]
        raise ValueError(f"{name} has no value, here or among the host's variables: write {name}=value")
    return name, value if raw else _unquoted(name, value, variables)


def _unquoted(name: str, value: str, variables: Mapping[str, str]) -> str:
    if value.startswith("'"):
        if single := _SINGLE.fullmatch(value):
            return single[1]
        raise ValueError(f"{name} has a quote without its partner on the same line")
    if value.startswith('"'):
        if not (double := _DOUBLE.fullmatch(value)):
            raise ValueError(f"{name} has a quote without its partner on the same line")
        value = _ESCAPE.sub(lambda it: {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}.get(it[1], it[1]), double[1])
    else:
        value = _COMMENT.sub("", value)
    try:
        return substitute(value, variables)
    except Unresolved as error:
        raise ValueError(f"{name}: {error}") from None
