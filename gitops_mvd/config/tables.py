"""Tables of keys: each key's sentence, reader and JSON Schema; and the places in a file that readers read.  Pure.

A reader returns the value at a place in normal form, or fails and leaves the rest to be read: that is how a file with
ten mistakes reports ten.  The manual, the messages and the JSON Schemas for editors are all made of these tables.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, NamedTuple, NoReturn, ParamSpec, TypeVar, cast

from gitops_mvd.config.yamltree import Node, Path, Scalar, Sink, Value, dotted, report

Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Invalid(Exception):
    """A value that cannot be read, after its mistake was reported."""


class Place(NamedTuple):
    node: Node
    path: Path
    sink: Sink

    @property
    def key(self) -> str:
        return dotted(self.path)

    def report(self, message: str, by_host: bool = False) -> None:
        """Report a mistake and go on; `by_host` if it is a mistake only with the facts of this host."""
        report(self.sink, self.path, self.node.file, self.node.line, message, by_host)

    def note(self, message: str) -> None:
        """Tell what is done otherwise than one may think; it is no mistake."""
        report(self.sink, self.path, self.node.file, self.node.line, message, note=True)

    def fail(self, message: str, by_host: bool = False) -> NoReturn:
        """Report a mistake, and raise Invalid."""
        self.report(message, by_host)
        raise Invalid

    def attempt(self, read: Callable[Concatenate[Place, P], T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """The value that `read` returns, None if it failed."""
        try:
            return read(self, *args, **kwargs)
        except Invalid:
            return None

    @property
    def empty(self) -> bool:
        """Has the key no value?"""
        return self.node.value is None and not self.node.tag

    def value(self) -> Value:
        """The value.  Raises Invalid for a value whose mistake has been reported already."""
        if self.node.tag == "!broken":
            raise Invalid
        return self.node.value

    def scalar(self, wanted: str) -> Scalar:
        value = self.value()
        if isinstance(value, list | dict) or value is None:
            self.fail(f"must be {wanted}, not {self.kind}")
        return value

    @property
    def kind(self) -> str:
        """The type of the value, in words for a message."""
        value = self.node.value
        if value is None:
            return "empty"
        names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
        return names.get(type(value), "a mapping")

    def at(self, part: str | int, node: Node) -> Place:
        return Place(node, (*self.path, part), self.sink)

    def entries(self) -> dict[str, Place]:
        """The entries of a mapping, also those without a value."""
        value = self.value()
        if not isinstance(value, dict):
            self.fail(f"must be a mapping, not {self.kind}")
        return {name: self.at(name if node.item is None else node.item, node) for name, node in value.items()}

    def has(self, name: str) -> bool:
        """Has a mapping a value for `name`?"""
        value = self.node.value
        return isinstance(value, dict) and name in value and not self.at(name, value[name]).empty

    def items(self) -> list[Place]:
        """The items of a list."""
        value = self.value()
        if not isinstance(value, list):
            self.fail(f"must be a list, not {self.kind}")
        return [self.at(index, node) for index, node in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Reader(Generic[T_co]):
    """A function that reads the value at a place, with the JSON Schema of what it accepts.

    The schema accepts at least what the function accepts.
    """

    read: Callable[[Place], T_co]
    schema: Schema

    def __call__(self, place: Place) -> T_co:
        return self.read(place)


def accepts(schema: Schema) -> Callable[[Callable[[Place], T]], Reader[T]]:
    """A decorator: the function becomes a reader of what `schema` describes."""
    return lambda read: Reader(read, schema)


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is supported: what it does, how its value is read and, for the manual, its value if left out."""

    doc: str
    read: Reader[object]
    default: str = ""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A key that is checked and changes nothing, and why."""

    why: str
    read: Reader[object]


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A known key that is not supported, and what to do instead."""

    why: str


Table = Mapping[str, Key | Ignored | Unsupported]


def fields(place: Place, table: Table, required: Iterable[str] = (), otherwise: str = "") -> dict[str, Any]:
    """The entries of a mapping, each read as `table` says; without ignored keys, `x-` keys and keys without a value.

    `otherwise` is the hint for an unknown key that resembles none of the table.
    """
    values: dict[str, Any] = {}
    for name, at in place.entries().items():
        match table.get(name):
            case Unsupported(why):
                at.report(why)
            case Key(read=read) if not at.empty:
                if (value := at.attempt(read)) is not None:
                    values[name] = value
            case Ignored(read=read) if not at.empty:
                at.attempt(read)
            case None if not name.startswith("x-") or difflib.get_close_matches(name, _extensions(table), 1, 0.8):
                at.report(unknown(name, table, otherwise))
    for name in required:
        if not place.has(name):
            place.report(f"has no `{name}`")
    return values


def record(shape: type[T], table: Table, required: Iterable[str] = (), otherwise: str = "") -> Reader[T]:
    """A reader of mappings with the keys of `table`, as the TypedDict or the dict `shape`.

    Raises TypeError if a TypedDict does not have the keys that `table` supports.
    """
    if annotated := getattr(shape, "__annotations__", {}):
        supported = {name for name, key in table.items() if isinstance(key, Key)}
        if different := annotated.keys() ^ supported:
            raise TypeError(f"{shape.__name__} and its table do not match: {', '.join(sorted(different))}")

    def read(place: Place) -> T:
        return cast(T, fields(place, table, required, otherwise))

    return Reader(read, mapping_schema(table, required))


def mapping_schema(table: Table, required: Iterable[str] = ()) -> Schema:
    """The JSON Schema of mappings with the keys of `table`.

    An editor shows the sentence of each key, and why a refused one is refused (`errorMessage`, of VS Code).
    """
    properties: dict[str, Schema] = {}
    for name, key in table.items():
        match key:
            case Unsupported(why):
                properties[name] = {"not": {}, "errorMessage": f"`{name}` {why}", "doNotSuggest": True}
            case Ignored(why, read):
                properties[name] = or_empty({"description": f"Ignored: {why}", **read.schema})
            case Key(doc, read, default):
                shown = f"{doc} Default: {default}." if default else doc
                schema = {"description": shown, **read.schema} if shown else read.schema
                properties[name] = schema if name in required else or_empty(schema)
    closed = {"properties": properties, "patternProperties": {"^x-": {}}, "additionalProperties": False}
    return {"type": "object", **closed, **({"required": list(required)} if required else {})}


def or_empty(schema: Schema) -> Schema:
    """The schema of what `schema` describes, or of nothing behind the key."""
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    if "enum" in schema:
        return {**schema, "enum": [*schema["enum"], None]}
    if "type" in schema:
        kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
        return {**schema, "type": [*kinds, "null"]} if "null" not in kinds else schema
    return schema


def _extensions(table: Table) -> list[str]:
    """The extension keys of the table; a key that resembles one is a typo."""
    return [name for name in table if name.startswith("x-")]


def unknown(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The message about an unknown key."""
    return "unknown key" + (did_you_mean(name, known) or (otherwise and f": {otherwise}"))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the known name that resembles it most."""
    near = difflib.get_close_matches(name, known, 1)
    return f", did you mean `{near[0]}`?" if near else ""
