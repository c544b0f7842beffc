"""A place in a manifest: a value, its dotted key, and where its mistakes are told.  Pure.

Readers are functions of a place that return the value in normal form, or `fail` and leave the rest to be read: that is
how a manifest with ten mistakes reports ten.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Concatenate, NamedTuple, NoReturn, ParamSpec, TypeVar

from gitops_mvd.config.yamltree import Node, Path, Scalar, Sink, dotted, tell

P = ParamSpec("P")
T = TypeVar("T")


class Invalid(Exception):
    """This value can not be read, and why has been told."""


class Place(NamedTuple):
    node: Node
    path: Path
    sink: Sink

    @property
    def key(self) -> str:
        return dotted(self.path)

    def complain(self, message: str, by_host: bool = False) -> None:
        """Tell a mistake, and go on; `by_host` if it is none where other facts of the host hold."""
        tell(self.sink, self.path, self.node.file, self.node.line, message, by_host)

    def fail(self, message: str, by_host: bool = False) -> NoReturn:
        """Tell a mistake that makes this value worthless."""
        self.complain(message, by_host)
        raise Invalid

    def attempt(self, read: Callable[Concatenate[Place, P], T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What `read` makes of it, None where it failed."""
        try:
            return read(self, *args, **kwargs)
        except Invalid:
            return None

    @property
    def empty(self) -> bool:
        """Is there nothing behind the key?"""
        return self.node.value is None and not self.node.tag

    def value(self) -> Any:
        if self.node.tag == "!broken":
            raise Invalid
        return self.node.value

    def scalar(self, wanted: str) -> Scalar:
        value = self.value()
        if isinstance(value, list | dict) or value is None:
            self.fail(f"must be {wanted}, not {self.kind}")
        scalar: Scalar = value
        return scalar

    @property
    def kind(self) -> str:
        """What it is, in words."""
        value = self.node.value
        if value is None:
            return "empty"
        names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list"}
        return names.get(type(value), "a mapping")

    def at(self, part: str | int, node: Node) -> Place:
        return Place(node, (*self.path, part), self.sink)

    def entries(self) -> dict[str, Place]:
        """The entries of a mapping, empty ones too."""
        value = self.value()
        if not isinstance(value, dict):
            self.fail(f"must be a mapping, not {self.kind}")
        return {name: self.at(name if node.item is None else node.item, node) for name, node in value.items()}

    def has(self, name: str) -> bool:
        """Does a mapping say something of `name`?"""
        value = self.node.value
        return isinstance(value, dict) and name in value and not self.at(name, value[name]).empty

    def items(self) -> list[Place]:
        """The items of a list."""
        value = self.value()
        if not isinstance(value, list):
            self.fail(f"must be a list, not {self.kind}")
        return [self.at(index, node) for index, node in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is honoured: what it does, in one sentence for the reference page, and how to read it."""

    doc: str
    read: Callable[[Place], Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """A key of the Compose Specification that is not honoured, and what to do instead."""

    why: str


Table = Mapping[str, Key | Refused]


def fields(place: Place, table: Table, required: Iterable[str] = (), otherwise: str = "") -> dict[str, Any]:
    """The entries of a mapping, each read as `table` says; an empty one is an absent one, `x-` is for others.

    `otherwise` says where a key belongs that is like none of the table.
    """
    values: dict[str, Any] = {}
    for name, at in place.entries().items():
        match table.get(name):
            case Refused(why):
                at.complain(why)
            case Key(read=read) if not at.empty:
                if (value := at.attempt(read)) is not None:
                    values[name] = value
            case None if not name.startswith("x-") or difflib.get_close_matches(name, _extensions(table), 1, 0.8):
                at.complain(unknown(name, table, otherwise))
    for name in required:
        if not place.has(name):
            place.complain(f"has no `{name}`")
    return values


def record(table: Table, required: Iterable[str] = ()) -> Callable[[Place], dict[str, Any]]:
    """A reader of mappings with the keys of `table`."""
    return lambda place: fields(place, table, required)


def _extensions(table: Table) -> list[str]:
    """Our own extensions: what looks like a misspelt one is not for others."""
    return [name for name in table if name.startswith("x-")]


def unknown(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """What to say of a key that nobody knows."""
    return "is not a key that can stand here" + (did_you_mean(name, known) or (otherwise and f": {otherwise}"))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that nobody knows."""
    near = difflib.get_close_matches(name, known, 1)
    return f": did you mean `{near[0]}`?" if near else ""
