"""Comments of a document, each among the keys of the mapping that it is about.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

Body: TypeAlias = dict[Any, Any]
"""A mapping of a document: texts are its keys, and beside them a Remark may stand, whose value means nothing."""

R = TypeVar("R", bound="Remark")


@dataclass(frozen=True, slots=True)
class Remark:
    """A comment: what somebody should know, and has nothing to do about."""

    text: str


@dataclass(frozen=True, slots=True)
class Lost(Remark):
    """What the manifest says, and Kubernetes does not do."""


@dataclass(frozen=True, slots=True)
class Needs(Remark):
    """A Secret that must be there: `name` and `key`, `source` for where its value is now, `labels` that it needs.

    Its value is `quoted`, as JSON has a text, if Kong's controller reads it so.
    """

    name: str = ""
    key: str = ""
    source: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    quoted: bool = False


def remark(text: str) -> Body:
    return {Remark(text): None}


def lost(what: str, why: str) -> Body:
    """Says that the key `what` is not carried over, and what to do."""
    return {Lost(f"{what}: {why}"): None}


def needs(name: str, key: str, source: str, labels: Mapping[str, str] | None = None, quoted: bool = False) -> Body:
    """Says which Secret must be there."""
    quotes = ", in quotes, as JSON has a text" if quoted else ""
    text = f"Secret {name}, key {key}: {source}{quotes}"
    return {Needs(text, name, key, source, tuple(sorted((labels or {}).items())), quoted): None}


def found(value: object, kind: type[R]) -> Iterator[R]:
    """Every remark of that kind in a document, in order."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if isinstance(key, kind):
                yield key
            yield from found(inner, kind)
    elif isinstance(value, list):
        for item in value:
            yield from found(item, kind)


def plain(value: Any) -> Any:
    """The document without its remarks: what Kubernetes is given."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items() if not isinstance(key, Remark)}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value


def without_empty(body: Body) -> Body:
    """The mapping without the keys that have nothing in them; one that has a remark has something."""
    return {key: value for key, value in body.items() if isinstance(key, Remark) or value not in (None, {}, [], "")}
