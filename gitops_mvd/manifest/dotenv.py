"""Env files, in the format of Compose or taken literally.  Pure.

Compose's format: `KEY=value` lines, `#` comments, quotes, `export`, and variables in values that are not in single
quotes.  Stricter in two points: a value ends on its line, for `docker run --env-file` cuts it there without a word; and
a variable that is not set is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gitops_mvd.config.yamltree import MAX_BYTES, Sink, report
from gitops_mvd.manifest.interpolate import Unset, substitute

VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
MAX_LINE = 60_000  # bytes; docker refuses an env file with a line of 64 KiB

_SEPARATOR = re.compile(r"\s*[=:]\s*")
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
        report(sink, (), file, data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
        return found
    except ValueError as error:
        report(sink, (), file, 1, str(error))
        return found
    for number, line in enumerate(lines, 1):
        line = line.removesuffix("\r")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            name, value = _line(line, {**found, **variables}, raw)
            check_variable(name, value)
        except ValueError as error:
            report(sink, (), file, number, str(error), isinstance(error, Unset))
        else:
            found[name] = value
    return found


def check_variable(name: str, value: str) -> None:
    """Raise ValueError if no container can get that environment variable; the message never has the value."""
    if name != name.strip():
        raise ValueError("has a space before the `=`: write NAME=value")
    if not VARIABLE_NAME.fullmatch(name):
        raise ValueError("has an invalid name: use letters, digits, `_`, `.` and `-`, with a letter or `_` first")
    if re.search("[\r\n]", value):
        raise ValueError("has a line break: put it into a secret or config file")
    if "\0" in value:
        raise ValueError("has a NUL character")
    if len(f"{name}={value}".encode()) > MAX_LINE:
        raise ValueError(f"is longer than {MAX_LINE} bytes: put it into a secret or config file")


def _line(line: str, variables: Mapping[str, str], raw: bool) -> tuple[str, str]:
    if raw:
        name, *rest = line.lstrip().split("=", 1)
    else:
        name, *rest = _SEPARATOR.split(re.sub(r"^\s*export\s+", "", line).strip(), maxsplit=1)
    if not rest:
        if name in variables:
            return name, variables[name]
        raise Unset("has no `=`, and no variable of the host has that name: write NAME=value")
    return name, rest[0] if raw else _unquoted(rest[0], variables)


def _unquoted(value: str, variables: Mapping[str, str]) -> str:
    if value.startswith("'"):
        if single := _SINGLE.fullmatch(value):
            return single[1]
        raise ValueError("has a quote that is not closed on the same line")
    if value.startswith('"'):
        if not (double := _DOUBLE.fullmatch(value)):
            raise ValueError("has a quote that is not closed on the same line")
        value = _ESCAPE.sub(lambda it: {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}.get(it[1], it[1]), double[1])
    else:
        value = _COMMENT.sub("", value).rstrip()
    return substitute(value, variables)
