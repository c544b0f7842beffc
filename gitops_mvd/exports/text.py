"""A document as YAML, its remarks as comments in front of what they are about.  Pure.

Kubernetes reads YAML by other rules than PyYAML writes it (`0o7` and `1_000` are numbers there): so a text stands in
quotes unless it is plainly a word.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping

from gitops_mvd.exports.remarks import Body, Remark

WIDTH = 110
_WORD = re.compile(r"[0-9]+(?:m|[KMGT]i)|[A-Za-z/][A-Za-z0-9_./-]*|[A-Za-z/][A-Za-z0-9_./:@-]*[A-Za-z0-9_./-]")
_OTHER = re.compile(r"(?i)true|false|yes|no|on|off|y|n|null|none")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def stream(documents: Iterable[Body], head: Iterable[str] = ()) -> str:
    """Documents one after another, the lines of `head` as a comment before the first."""
    comment = "".join(f"# {line}\n" if line else "#\n" for line in head)
    return comment + "".join(f"---\n{document(body)}" for body in documents)


def document(body: Body) -> str:
    return "\n".join(_mapping(body, 0)) + "\n"


def _mapping(body: Mapping[object, object], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in body.items():
        if isinstance(key, Remark):
            width = max(WIDTH - len(indent) - 2, 40)
            for line in textwrap.wrap(_one_line(key.text), width, break_long_words=False, break_on_hyphens=False):
                yield f"{indent}# {line}"
        else:
            yield from _entry(f"{indent}{_scalar(key)}:", value, depth)


def _entry(head: str, value: object, depth: int) -> Iterator[str]:
    """A key, or the dash of an item, and its value."""
    if isinstance(value, Mapping) and any(not isinstance(key, Remark) for key in value):
        yield head
        yield from _mapping(value, depth + 1)
    elif isinstance(value, Mapping):  # all that it has are remarks
        yield from _mapping(value, depth)
        yield f"{head} {{}}"
    elif isinstance(value, list) and value:
        yield head
        for item in value:
            yield from _item(item, depth)
    elif isinstance(value, list):
        yield f"{head} []"
    elif isinstance(value, str) and _is_block(value):
        end = "" if value.endswith("\n") and not value.endswith("\n\n") else "-" if not value.endswith("\n") else "+"
        yield f"{head} |{end}"
        for line in value.removesuffix("\n").split("\n"):
            yield f"{'  ' * (depth + 1)}{line}" if line else ""
    else:
        yield f"{head} {_scalar(value)}"


def _item(item: object, depth: int) -> Iterator[str]:
    """An item of a list; what is said of it first stands in front of its dash."""
    indent = "  " * depth
    if isinstance(item, list) and item:
        yield f"{indent}-"
        for inner in item:
            yield from _item(inner, depth + 1)
        return
    if not isinstance(item, Mapping):
        yield from _entry(f"{indent}-", item, depth)
        return
    keys = [*item]
    first = next((number for number, key in enumerate(keys) if not isinstance(key, Remark)), len(keys))
    yield from _mapping({key: item[key] for key in keys[:first]}, depth)
    if not keys[first:]:
        yield f"{indent}- {{}}"
    for number, line in enumerate(_mapping({key: item[key] for key in keys[first:]}, depth + 1)):
        yield line if number else f"{indent}- {line[len(indent) + 2 :]}"


def _is_block(text: str) -> bool:
    """Is it a text of several lines that may stand as it is?"""
    lines = text.split("\n")
    plain = all(char.isprintable() or char in "\n\t" for char in text)
    return len(lines) > 1 and plain and not lines[0].startswith((" ", "\t")) and lines[0] != "" and text.strip() != ""


def _scalar(value: object) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _WORD.fullmatch(value) and not _OTHER.fullmatch(value):
        return value
    return f'"{"".join(map(_quoted, value))}"'


def _quoted(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable() and char != "\ufeff":
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 1 << 8 else f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"


def _one_line(text: str) -> str:
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
