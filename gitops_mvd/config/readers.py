"""Readers of single values and of lists and mappings of them: strings, numbers, sizes, durations, pairs.  Pure.

Each accepts a number or boolean in quotes too, for that is what becomes of a variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from gitops_mvd.config.scalars import printed
from gitops_mvd.config.tables import Invalid, Place, Reader, Schema, accepts, or_empty
from gitops_mvd.config.words import split
from gitops_mvd.config.yamltree import Node

T = TypeVar("T")

STRING = {"type": "string"}
FILLED = {"type": "string", "minLength": 1}
WORD = {"type": ["string", "number", "boolean"]}

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?) ?([kmgtp]?)i?b?", re.IGNORECASE)
_ANY_CASE_SIZE = "^[0-9]{1,18}(\\.[0-9]{1,18})? ?[kKmMgGtTpP]?[iI]?[bB]?$"  # JSON Schema has no flag for ignoring case
_DURATION = re.compile(r"(?:(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})(?:w|d|h|ms|m|s|us|µs|μs|ns))+")
_PART = re.compile(r"([0-9.]+)(w|d|h|ms|m|s|us|µs|μs|ns)")
_SECONDS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SECONDS |= dict.fromkeys(("µs", "μs"), 1e-6)  # the micro sign, and the Greek letter
_MOST_SECONDS = (1 << 63) / 1e9  # what Go's nanoseconds can hold
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}


@accepts(STRING)
def text(place: Place) -> str:
    """A string; a number or a date without quotes is a mistake, as `docker compose` reads it as that."""
    value = place.scalar("a string")
    if not isinstance(value, str) or (place.node.text and printed(place.node.text) != value):
        place.fail(f'must be a string: put it in quotes, "{place.node.text}"')
    return value


@accepts(FILLED)
def filled(place: Place) -> str:
    """A string that is not empty."""
    value = text(place)
    return value if value else place.fail("must not be empty")


@accepts(WORD)
def word(place: Place) -> str:
    """A string, or a number or boolean that Compose does not rewrite (`1.10` would become 1.1, and `2.0` 2)."""
    value = place.scalar("a string or a number")
    written = printed(place.node.text) if place.node.text else str(value)
    if place.node.text and written != place.node.text:
        place.fail(f'YAML reads {place.node.text} as {written}: put it in quotes, "{place.node.text}"')
    return written


@accepts(WORD)
def own_word(place: Place) -> str:
    """A string, or a number or boolean that YAML does not rewrite, in a file that Compose does not read."""
    value = place.scalar("a string or a number")
    if isinstance(value, str):
        return value
    written = str(value).lower() if isinstance(value, bool) else repr(value)
    if written != place.node.text:
        place.fail(f'YAML reads {place.node.text} as {written}: put it in quotes, "{place.node.text}"')
    return written


@accepts({"type": ["boolean", "string"], "pattern": "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee])$"})
def boolean(place: Place) -> bool:
    value = place.scalar("true or false")
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return value if isinstance(value, bool) else place.fail(f"must be true or false, not {value!r}")


def integer(least: int | None = None, most: int | None = None) -> Reader[int]:
    """A reader of whole numbers within limits."""
    limits = {"minimum": least, "maximum": most}
    known = {name: limit for name, limit in limits.items() if limit is not None}

    @accepts({"type": ["integer", "string"], **known, "pattern": f"^{_INTEGER.pattern}$"})
    def read(place: Place) -> int:
        value = place.scalar("a whole number")
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            place.fail(f"must be a whole number, not {value!r}")
        if (least is not None and value < least) or (most is not None and value > most):
            place.fail(f"must be {f'at least {least}' if most is None else f'from {least} to {most}'}, not {value}")
        return value

    return read


port_number = integer(1, 65535)


@accepts({"type": ["number", "string"], "minimum": 0, "pattern": "^[0-9.]{1,30}$"})
def number(place: Place) -> float:
    """A number, 0 or more."""
    value = place.scalar("a number")
    try:
        parsed = float(value) if isinstance(value, str) and re.fullmatch(r"[0-9.]{1,30}", value) else value
    except ValueError:
        parsed = value
    if isinstance(parsed, bool) or not isinstance(parsed, int | float) or parsed < 0:
        place.fail(f"must be a number, not {value!r}")
    return float(parsed)


@accepts({"type": ["integer", "string"], "minimum": 0, "pattern": _ANY_CASE_SIZE})
def size(place: Place) -> int:
    """Bytes, from a number or from `512m`, `1.5gb`, `64KiB`: all in powers of 1024, as Docker has it."""
    value = place.scalar("a size such as 512m")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    found = _SIZE.fullmatch(value) if isinstance(value, str) and not place.node.text else None  # 08 is no size to YAML
    if not found:
        place.fail(f"must be a size such as 512m or 1.5gb, not {value!r}")
    return int(float(found[1]) * 1024 ** _POWER[found[2].lower()])


@accepts({"type": ["integer", "string"], "minimum": -1, "pattern": f"^-1$|{_ANY_CASE_SIZE}"})
def size_or_unlimited(place: Place) -> int:
    """Bytes, or -1 for no limit."""
    return -1 if place.node.value in (-1, "-1") else size(place)


@accepts({"type": ["string", "integer"], "minimum": 0, "maximum": 0, "pattern": f"^0$|^{_DURATION.pattern}$"})
def duration(place: Place) -> float:
    """Seconds, from `1m30s`, `500ms`, `1d` (24 hours), `2w`."""
    value = place.scalar("a duration such as 10s")
    if value in (0, "0") and not isinstance(value, bool):
        return 0.0
    seconds = seconds_of(value) if isinstance(value, str) else None
    if seconds is None:
        place.fail(f"must be a duration such as 10s or 1m30s, not {value!r}")
    return round(seconds, 9) if seconds < _MOST_SECONDS else place.fail(f"must be less than 292 years, not {value}")


def seconds_of(written: str) -> float | None:
    """The seconds of a duration such as `1m30s`; None for what is none."""
    if not _DURATION.fullmatch(written):
        return None
    return sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(written))


@accepts({"type": ["string", "integer"], "minimum": 0, "pattern": f"^{_INTEGER.pattern}$|^{_DURATION.pattern}$"})
def microseconds(place: Place) -> int:
    """Microseconds, from a number of them or from a duration such as `50ms`."""
    value = place.scalar("a duration such as 50ms, or a number of microseconds")
    if isinstance(value, str) and not _INTEGER.fullmatch(value):
        return round(duration(place) * 1e6)
    return integer(0)(place)


def one_of(*choices: str) -> Reader[str]:
    """A reader of one of a few words."""

    @accepts({"enum": list(choices)})
    def read(place: Place) -> str:
        value = text(place)
        return value if value in choices else place.fail(f"must be one of {', '.join(choices)}, not {value!r}")

    return read


def each(place: Place, read: Callable[[Place], T]) -> list[tuple[Place, T]]:
    """The items of a list with their places; a bad item does not hide the next one."""
    values = [(item, item.attempt(read)) for item in place.items()]
    return [(item, value) for item, value in values if value is not None]


def placed(read: Reader[T]) -> Reader[list[tuple[Place, T]]]:
    """A reader of lists that keeps the place of each item."""
    return Reader(lambda place: each(place, read), {"type": "array", "items": read.schema})


def list_of(read: Reader[T]) -> Reader[list[T]]:
    """A reader of lists."""
    return Reader(lambda place: [value for _, value in each(place, read)], {"type": "array", "items": read.schema})


def tuple_of(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """A reader of lists, as tuples."""
    several = list_of(read)
    return Reader(lambda place: tuple(several(place)), several.schema)


def either(*schemas: Schema) -> Schema:
    """The schema of what any of these describes."""
    return {"anyOf": [inner for schema in schemas for inner in schema.get("anyOf", [schema])]}


def one_or_more(read: Reader[T]) -> Reader[list[T]]:
    """A reader of one value or a list of them."""
    several = list_of(read)
    return Reader(
        lambda place: several(place) if isinstance(place.value(), list) else [read(place)],
        either(read.schema, several.schema),
    )


strings = list_of(text)
words = list_of(word)
own_words = list_of(own_word)
string_or_strings = one_or_more(filled)


def formed(kind: type[list[object]] | type[dict[str, object]], form: str, read: Reader[T]) -> Reader[T]:
    """`read`, which shows the right form if the value is not a list, or not a mapping."""

    @accepts(read.schema)
    def checked(place: Place) -> T:
        if not isinstance(place.value(), kind):
            place.fail(f"must be a {'list' if kind is list else 'mapping'}, not {place.kind}: write {form}")
        return read(place)

    return checked


def mapping_of(read: Reader[T]) -> Reader[dict[str, T]]:
    """A reader of mappings whose keys are anybody's names."""

    @accepts({"type": "object", "additionalProperties": read.schema})
    def all_of(place: Place) -> dict[str, T]:
        values = {name: at.attempt(read) for name, at in place.entries().items()}
        return {name: value for name, value in values.items() if value is not None}

    return all_of


PAIRS = either(
    {"type": "object", "additionalProperties": or_empty(WORD)},
    {"type": "array", "items": STRING},
)


@accepts(PAIRS)
def pairs(place: Place) -> list[tuple[Place, str, str | None]]:
    """`{KEY: value}` or `[KEY=value]`, with their places; None if only the key is given."""
    if isinstance(place.value(), list):
        lines = [(at, *line.partition("=")) for at, line in each(place, text)]
        return [(at, name, value if equals else None) for at, name, equals, value in lines]
    found: list[tuple[Place, str, str | None]] = []
    for name, at in place.entries().items():
        empty = at.node.value is None and not at.node.tag
        value = None if empty else at.attempt(word)
        if empty or value is not None:
            found.append((at, name, value))
    return found


@accepts(PAIRS)
def string_map(place: Place) -> dict[str, str]:
    """`{key: value}` or `[key=value]`; a key alone has an empty value."""
    return {name: value or "" for _, name, value in pairs(place)}


@accepts(either(STRING, strings.schema))
def command(place: Place) -> list[str]:
    """A list of words, or one string that is split as Compose does it (and no shell runs it)."""
    if isinstance(place.value(), list):
        return strings(place)
    try:
        return split(text(place))
    except ValueError as error:
        place.fail(str(error))


@accepts({})
def json(place: Place) -> Any:
    """Any value, as it is; its schema belongs to another program."""
    return _plain(place.node)


def _plain(node: Node) -> Any:
    if node.tag == "!broken":
        raise Invalid
    if isinstance(node.value, list):
        return [_plain(item) for item in node.value]
    if isinstance(node.value, dict):
        return {name: _plain(child) for name, child in node.value.items()}
    return node.value


@accepts({"type": "string", "pattern": "^/"})
def absolute(place: Place) -> str:
    """A path inside the container or on the host, from its root."""
    value = filled(place)
    if not value.startswith("/") or ".." in value.split("/"):
        place.fail(f"must be an absolute path without `..`, not {value!r}")
    return value
