"""Env files, in the format of Compose or taken literally.  Pure.

Compose's format: `KEY=value` statements, `#` comments, quotes over several lines, `export`, and variables in values
that are not in single quotes.  Stricter where Compose takes something else than is meant: a comment in the place of a
value, a text behind a closing quote, and a variable that is not set.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gitops_mvd.config.yamltree import MAX_BYTES, Sink, report
from gitops_mvd.manifest.interpolate import TooMuch, Unset, Variables, note_empty, refuse_app, substitute

MAX_VARIABLE = 1 << 17  # bytes that the kernel takes of NAME=value and a NUL (MAX_ARG_STRLEN)

_BETWEEN = re.compile(r"(?:\s+|#[^\n]*)*")
_NAME = re.compile(r"(?:export[^\S\n]+)?([^=:\n]*)([=:]?)([^\S\n]*)")
_ALLOWED = re.compile(r"[\w.\[\]-]+")
_QUOTED = {
    '"': re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL),
    "'": re.compile(r"'((?:[^'\\]|\\.)*)'", re.DOTALL),
}
_ESCAPE = re.compile(r"\\(0[0-9]{0,3}|.)", re.DOTALL)
_ESCAPED = {**dict(zip("abfnrtv", "\a\b\f\n\r\t\v", strict=True)), '"': '"', "\\": "\\", "$": "$$"}
_COMMENT = re.compile(r"[^\S\n]*(?:#[^\n]*)?(?=\n|\Z)")
_ASSIGNED = re.compile(r"^[^\S\n]*(?:export[^\S\n]+)?([\w.-]+)[^\S\n]*=", re.MULTILINE)


class _Statement(NamedTuple):
    """One of an env file; `value` is None for a name alone, and `literal` if it has no variables."""

    line: int
    name: str
    value: str | None
    literal: bool = False
    mistake: str = ""


def parse_env(file: str, data: bytes, variables: Mapping[str, str], sink: Sink, raw: bool = False) -> dict[str, str]:
    """The variables of an env file, a later one over an earlier one; mistakes go to `sink`.

    Values may use `variables` and what stands above them.  A name alone takes its value from there, and is left out if
    it has none.  A name whose value is a mistake is empty.  Raises ManifestError if the variables that are put into all
    texts of the app are too long together.
    """
    found: dict[str, str] = {}
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES >> 20} MiB")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        report(sink, (), file, data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
        return found
    except ValueError as error:
        report(sink, (), file, 1, str(error))
        return found
    scope = variables.over({}) if isinstance(variables, Variables) else Variables(variables)
    for line, name, written, literal, mistake in _raw(text) if raw else _statements(text):
        left_empty: list[str] = []
        try:
            scope.take_line()
            if mistake:
                raise ValueError(mistake)
            value = scope.get(name) if written is None else written
            if value is None:
                continue
            if not literal:
                value = substitute(value, scope, left_empty)
            check_variable(name, value)
        except TooMuch as error:
            refuse_app(error, file, line)
        except ValueError as error:
            report(sink, (), file, line, str(error), isinstance(error, Unset))
            if not _ALLOWED.fullmatch(name):
                continue
            value = ""
        note_empty(left_empty, scope, (), file, line, sink)
        found[name] = value
        if name not in variables:
            scope[name] = value
    return found


def line_of(name: str, data: bytes) -> int:
    """The line of an env file in Compose's format with the last statement about a name; 1 if there is none."""
    lines = [it.line for it in _statements(data.decode("utf-8-sig", "replace")) if it.name == name]
    return lines[-1] if lines else 1


def check_variable(name: str, value: str) -> None:
    """Raise ValueError if no container can get that environment variable; the message never has the value."""
    if not name:
        raise ValueError("has no name before the `=`")
    if name != name.strip():
        raise ValueError("has a space around its name: write NAME=value")
    if any(letter in name for letter in "=\0\n\r"):
        raise ValueError("has a name with `=`, a line break or a NUL character")
    if "\0" in value:
        raise ValueError("has a NUL character")
    try:
        length = len(f"{name}={value}\0".encode())
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8 text") from None
    if length > MAX_VARIABLE:
        raise ValueError(
            f"is longer than {MAX_VARIABLE >> 10} KiB, the most that Linux passes: put it into a secret or config file"
        )


def _raw(text: str) -> Iterator[_Statement]:
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r").lstrip()
        if line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            mistake = "has a space in its name: write NAME=value" if re.search(r"\s", name) else ""
            yield _Statement(number, name, value if equals else None, True, mistake)


def _statements(text: str) -> Iterator[_Statement]:
    """The statements of a text in Compose's format, up to a quote that is not closed."""
    at, line, counted = 0, 1, 0
    while at < len(text):
        between = _BETWEEN.match(text, at)
        assert between
        at = between.end()
        if at == len(text):
            return
        line, counted = line + text.count("\n", counted, at), at
        named = _NAME.match(text, at)
        assert named
        name, separator, space = named[1].strip(), named[2], named[3]
        at = named.end()
        if not _ALLOWED.fullmatch(name):
            at = _end_of_line(text, at)
            yield _Statement(line, name, None, mistake=_why_not_a_name(name, separator))
        elif not separator:
            yield _Statement(line, name, None, True)
        elif quoted := _QUOTED.get(text[at : at + 1]):
            closed = quoted.match(text, at)
            if not closed:
                yield _Statement(line, name, "", mistake="has a quote that is not closed")
                for later in _ASSIGNED.finditer(text, at):  # so that they are not missing elsewhere
                    yield _Statement(line, later[1], "", True)
                return
            at = closed.end()
            if after := _COMMENT.match(text, at):
                yield _Statement(line, name, _unquoted(closed), text[closed.start()] == "'")
                at = after.end()
            else:
                at = _end_of_line(text, at)
                yield _Statement(line, name, "", mistake="has a text behind the closing quote: remove it, or quote all")
        else:
            value = text[at : (at := _end_of_line(text, at))]
            yield _Statement(line, name, value.split(" #")[0].rstrip(), mistake=_why_not_a_value(value, space))


def _end_of_line(text: str, at: int) -> int:
    end = text.find("\n", at)
    return end if end >= 0 else len(text)


def _unquoted(found: re.Match[str]) -> str:
    quote, text = found[0][0], found[1]
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_single if quote == "'" else _double, text)


def _single(found: re.Match[str]) -> str:
    return "'" if found[1] == "'" else found[0]


def _double(found: re.Match[str]) -> str:
    """What a backslash and what follows it stand for; Compose leaves those alone that it does not know."""
    if found[1][0] != "0":
        return _ESCAPED.get(found[1], found[0])
    digits = found[1][1:]
    number = int(digits, 8) if len(digits) == 3 and not set("89") & set(digits) else 256
    return chr(number) if number < 256 else f"\\{digits}"


def _why_not_a_name(name: str, separator: str) -> str:
    if not name:
        return "has no name before the `=`"
    if not separator:
        return "has no `=`: write NAME=value, in quotes if the value has several lines"
    if re.search(r"\s", name):
        return "has a space in its name: write NAME=value"
    return "has an invalid name: use letters, digits, `_`, `.` and `-`"


def _why_not_a_value(value: str, space: str) -> str:
    if value.startswith("#") and (space or value[1:2].isspace()):
        return (
            "has a comment in the place of its value, which Compose takes for the value: "
            "write it on a line of its own, or quote the value"
        )
    if re.search(r"[^\S ]#", value.split(" #")[0]):
        return "has a `#` behind a tab, which Compose takes for a part of the value: put a space in front of it"
    return ""
