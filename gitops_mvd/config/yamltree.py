"""YAML text → marked values: each one knows its file and its line.  Pure.

The types are those of YAML 1.2 as compose-go reads them: only `true` and `false` are booleans (`on`, `yes` and `no` are
strings), and `0440` is octal.  Built from parser events, so that no input can make it recurse, grow or loop for long.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import yaml

from gitops_mvd.config.scalars import printed
from gitops_mvd.core.model import Problem

MAX_BYTES = 1 << 20  # of one file
MAX_NODES = 100_000  # of one file, every alias counted as what it stands for
MAX_DEPTH = 64

Scalar = None | bool | int | float | str
Path = tuple[str | int, ...]

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAMED: dict[str, Scalar] = dict.fromkeys(("", "~", "null", "Null", "NULL")) | {
    word: word.lower() == "true" for word in ("true", "True", "TRUE", "false", "False", "FALSE")
}
_NUMBER_LIKE = re.compile(r"[-+.0-9]")
_INTEGER = re.compile(r"([-+]?)(?:0o?([0-7]+)|0x([0-9a-fA-F]+)|0b([01]+)|(0|[1-9][0-9]*))")
_FLOAT = re.compile(r"[-+]?(?:[0-9]*\.[0-9]+|[0-9]+\.|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?")
_UNPRINTABLE = re.compile("[\0\ud800-\udfff]")
_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # between two lines of YAML
_CONFLICT = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
_CORE = "tag:yaml.org,2002:"
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "float": (float,),
    "bool": (bool,),
    "null": (type(None),),
    "map": (),
    "seq": (),
}
_TAGS = {_CORE + name: types for name, types in _TYPES.items()}
_VALUES = (yaml.ScalarEvent, yaml.CollectionStartEvent)
_COLLECTIONS = {yaml.SequenceStartEvent: _CORE + "seq", yaml.MappingStartEvent: _CORE + "map"}
_MERGE = _CORE + "merge"  # what some programs write in front of `<<`
_MERGING = ("!reset", "!override")
_FREE = ("x-kong", "x-mvd")  # not read by Compose


Value: TypeAlias = "Scalar | list[Node] | dict[str, Node]"


class Node(NamedTuple):
    """A value with its file and line; an entry of a mapping has the line of its key.

    `text` is an unquoted scalar as written, if it is no string or if, in a Compose file, it is none for Compose
    (`2024-06-01`, `08`) or may be none once its variables are filled in.  `tag` is `!reset` or `!override` as in the
    file, or `!broken` for a value whose mistake has been reported already.  `item` is the index of an entry in the list
    that it was in, before a merge made that a mapping.
    """

    value: Value
    file: str
    line: int
    text: str = ""
    tag: str = ""
    item: int | None = None


class Found(NamedTuple):
    """A problem and the path that it was found at.

    `by_host`: it is a problem only with the facts of this host.  `note`: it is no mistake; it tells what is done
    otherwise than one may think.
    """

    path: Path
    problem: Problem
    by_host: bool = False
    note: bool = False


Sink = list[Found]


def mistakes(found: Iterable[Found]) -> list[Found]:
    """What was found, without the notes."""
    return [it for it in found if not it.note]


def dotted(path: Path) -> str:
    """`services.web.ports[0]`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def report(
    sink: Sink, path: Path, file: str, line: int, message: str, by_host: bool = False, note: bool = False
) -> None:
    sink.append(Found(path, Problem(file, line, dotted(path), message), by_host, note))


def resolve(text: str) -> Scalar:
    """The value of an unquoted scalar."""
    if text in _NAMED:
        return _NAMED[text]
    if not _NUMBER_LIKE.match(text) or len(text) > 40:
        return text
    if found := _INTEGER.fullmatch(text):
        sign, octal, hexadecimal, binary, decimal = found.groups()
        digits, base = next((d, b) for d, b in ((octal, 8), (hexadecimal, 16), (binary, 2), (decimal, 10)) if d)
        return int(sign + digits, base)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text


class _Stop(Exception):
    """Raised when the rest of the file cannot be read, after the reason was reported."""


def parse(file: str, data: bytes, sink: Sink, compose: bool = False) -> Node | None:
    """The one document of a file, None if it cannot be read or is empty; mistakes go to `sink`.

    In a file of Compose, unquoted scalars that Compose does not read as strings are marked by their `text`.
    """
    text = ""
    try:
        if len(data) > MAX_BYTES:
            raise ValueError(f"is larger than {MAX_BYTES >> 20} MiB")
        text = data.decode("utf-8-sig")
        if conflict := _CONFLICT.search(text):
            line = text.count("\n", 0, conflict.start()) + 1
            report(sink, (), file, line, "is left over from a merge conflict: resolve it, and remove this line")
            return None
        return _Builder(file, text, sink, compose).document()
    except _Stop:
        return None
    except UnicodeDecodeError as error:
        report(sink, (), file, data.count(b"\n", 0, error.start) + 1, "is not UTF-8 text")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line if mark else 0
        hint = ""
        if "mapping values" in str(error.problem):  # `key: a: b`, or `key` with `b: c` indented below
            twice = _BREAK.split(text)[line].count(":") > 1
            hint = ": a value with `: ` in it needs quotes" if twice else ": is there a `:` missing in a line before?"
        report(sink, (), file, line + 1, f"is not valid YAML: {error.problem}{hint}")
    except yaml.YAMLError:
        report(sink, (), file, 1, "is not valid YAML: it has a character that YAML does not allow")
    except ValueError as error:
        report(sink, (), file, 1, str(error))
    return None


class _Builder:
    def __init__(self, file: str, text: str, sink: Sink, compose: bool) -> None:
        self.file = file
        self.sink = sink
        self.compose = compose
        self.events: Iterator[yaml.Event] = yaml.parse(text, Loader=_Loader)
        self.anchors: dict[str, tuple[Node, int, int]] = {}  # with the count of its nodes and its depth
        self.count = 0
        self.deepest = 0

    def document(self) -> Node | None:
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            return None
        root = self.node(next(self.events), (), 0)
        next(self.events)  # the end of the document
        following = next(self.events)
        if not isinstance(following, yaml.StreamEndEvent):
            self.report((), following, "a second YAML document: put it into a file of its own")
        return root

    def report(self, path: Path, event: yaml.Event, message: str) -> None:
        report(self.sink, path, self.file, _line(event), message)

    def node(self, event: yaml.Event, path: Path, depth: int) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, path, depth)
        assert isinstance(event, _VALUES)
        before, outer = self.count, self.deepest
        self.grow(event, path, 1, depth)
        self.deepest = depth
        line = _line(event)
        tag = self.tag(event, path) if event.tag else ""
        if isinstance(event, yaml.ScalarEvent):
            node = self.scalar(event, path, line, tag)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = Node(list(self.sequence(path, depth + 1)), self.file, line, tag=tag)
        else:
            node = Node(self.mapping(path, depth + 1), self.file, line, tag=tag)
        if tag == "!broken":
            node = Node(None, self.file, line, tag=tag)
        if event.anchor:
            self.anchors[event.anchor] = node, self.count - before, self.deepest - depth
        if outer > self.deepest:
            self.deepest = outer
        return node

    def alias(self, event: yaml.AliasEvent, path: Path, depth: int) -> Node:
        if event.anchor not in self.anchors:
            self.report(path, event, f"unknown alias *{event.anchor}: there is no &{event.anchor} before it")
            raise _Stop
        node, count, height = self.anchors[event.anchor]
        self.grow(event, path, count, depth + height)
        self.deepest = max(self.deepest, depth + height)
        return node

    def grow(self, event: yaml.Event, path: Path, count: int, depth: int) -> None:
        self.count += count
        if self.count > MAX_NODES:
            self.report(path[:2], event, f"the file has more than {MAX_NODES} values, its aliases written out")
            raise _Stop
        if depth > MAX_DEPTH:
            self.report(path[:2], event, f"is nested more than {MAX_DEPTH} levels deep")
            raise _Stop

    def tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent, path: Path) -> str:
        """`!reset`, `!override`, "" for YAML's own, or `!broken` for a tag that cannot stand here."""
        tag: str = event.tag or "!"
        if tag in _MERGING:
            return tag
        if tag in ("!", _MERGE, *_TAGS):
            if isinstance(event, yaml.ScalarEvent) or tag in ("!", _COLLECTIONS[type(event)]):
                return ""
            self.report(path, event, f"the tag {_short(tag)} does not fit what follows it")
        else:
            self.report(path, event, f"unknown tag {_short(tag)}: only !reset and !override are allowed")
        return "!broken"

    def scalar(self, event: yaml.ScalarEvent, path: Path, line: int, tag: str) -> Node:
        text: str = event.value
        if event.style == '"' and _UNPRINTABLE.search(text):  # what only an escape can make
            self.report(path, event, "has a character that no value can have (NUL or half a surrogate pair)")
            return Node(None, self.file, line, tag="!broken")
        if event.implicit[0]:
            value = resolve(text)
            kept = not isinstance(value, str) or (self.compose and self.ambiguous(text, path))
            return Node(value, self.file, line, text if kept else "", tag)
        if event.implicit[1] or event.tag in ("!", _CORE + "str"):
            return Node(text, self.file, line)
        value = resolve(text)
        if event.tag not in _TAGS:
            return Node(text if self.compose and value is not None else value, self.file, line, tag=tag)
        if event.tag == _CORE + "float" and type(value) is int:
            value = float(value)
        if type(value) not in _TAGS[event.tag]:
            self.report(path, event, f"the tag {_short(event.tag)} does not fit what follows it")
            return Node(None, self.file, line, tag="!broken")
        return Node(value, self.file, line, text, tag)

    def ambiguous(self, text: str, path: Path) -> bool:
        """May an unquoted string be something else for Compose, or with its variables filled in?"""
        return "$" in text or (text[0] in "+-.0123456789" and not set(_FREE) & set(path) and printed(text) != text)

    def sequence(self, path: Path, depth: int) -> Iterator[Node]:
        index = 0
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            yield self.node(event, (*path, index), depth)
            index += 1

    def mapping(self, path: Path, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        merged: Sequence[Node] = ()
        lines: dict[str, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            line = _line(event)
            key = self.node(event, path, depth)
            name = key.text or key.value
            here = (*path, name) if isinstance(name, str) else path
            value = self.node(next(self.events), here, depth)
            if not isinstance(name, str):
                self.report(path, event, "a key must be a string")
            elif name in lines:
                self.report(here, event, f"is a duplicate key: first in line {lines[name]}")
            elif name == "<<" and isinstance(event, yaml.ScalarEvent) and (event.implicit[0] or event.tag == _MERGE):
                lines[name] = line
                merged = self.merged(value, here, event)
            else:
                lines[name] = line
                entries[name] = value if value.line == line else value._replace(line=line)
        for mapping in merged:
            assert isinstance(mapping.value, dict)
            entries = {**mapping.value, **entries}
        return entries

    def merged(self, value: Node, path: Path, event: yaml.Event) -> Sequence[Node]:
        mappings = value.value if isinstance(value.value, list) else [value]
        if all(isinstance(node.value, dict) for node in mappings):
            return mappings
        self.report(path, event, "a merge key takes a mapping or a list of mappings, as in `<<: *defaults`")
        return ()


def _short(tag: str) -> str:
    """A tag as it is written."""
    return tag.replace(_CORE, "!!")


def _line(event: yaml.Event) -> int:
    """The line of the file that an event of the parser is from."""
    return event.start_mark.line + 1 if event.start_mark else 1
