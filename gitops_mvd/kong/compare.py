"""What was declared of an entity, told alike of what is wanted and of what Kong shows.  Pure.

Kong fills in every default, so what it shows is never what was declared.  Each entity of ours therefore carries the
names of its declared fields in its tags, and only those are compared.  That needs no memory and no schema, and a
default that changes with a new Kong is no difference.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from gitops_mvd.core.model import Json
from gitops_mvd.kong.entities import ADOPTED, OPEN, OUTSIDE, OWNED, Entity, as_json, as_kept, tagged
from gitops_mvd.manifest.references import is_vault_reference

SETS = {"methods", "hosts", "paths", "snis", "protocols", "http_statuses"}  # their order means nothing to Kong
MAPS = {"headers"}  # keys are the user's, so that one more is a difference

_TAG_LENGTH = 1000  # PostgreSQL indexes tags, and an entry ends at 2,700 bytes
_LISTS = "#"
HASHED_HERE = "adopted-password"  # the tag with a password's digest here and with our id of its consumer
# Tags that are ours, beside `OWNED`.
ABOUT = ("host:", "app:", "service:", "instance:", "fields:", "index:", f"{ADOPTED}:", f"{HASHED_HERE}:")
ABOUT_SHARED = ("shared:", "said:")  # so are these, on what is no host's own


def normal(entities: Iterable[Entity]) -> dict[str, dict[str, Json]]:
    """What was declared of these entities, in one vocabulary for both sides: type -> id -> dotted path -> value.

    Sets are sorted, and secrets, which are all texts in a plugin's `config` and in anything like a credential, are
    digests; but where all of it is a reference to a vault of Kong's, that is no secret, and tells more.
    """
    spec: dict[str, dict[str, Json]] = {}
    for entity in entities:
        kept = as_kept(entity)
        paths = {dotted: path for tag in entity.tags if tag.startswith("fields:") for dotted, path in _named(tag)}
        values = {dotted: _shown(entity, path, _at(kept.fields, path)) for dotted, path in sorted(paths.items())}
        there, _, here = tagged(entity.tags, HASHED_HERE).partition(" ")
        if there and values.get("password") == there:
            values["password"] = here
        shared = not tagged(entity.tags, "host")
        tags = sorted(tag for tag in entity.tags if not is_ours_to_say(tag, shared=shared))
        spec.setdefault(entity.type, {})[entity.id] = {**values, **({"tags": tags} if tags else {})}
    return spec


def same(entity: Entity, there: Entity | None) -> bool:
    """Is what is there all that was declared, under the same tags?"""
    return there is not None and set(entity.tags) == set(there.tags) and normal([entity]) == normal([there])


def declared_names(fields: Json) -> set[str]:
    """The names of the fields of which something was declared."""
    return {path[0] for tag in fields.get("tags") or () if tag.startswith("fields:") for _, path in _named(tag)}


def field_tags(fields: Json) -> list[str]:
    """The tags that name the fields of which something is declared here."""
    return [f"fields:{line}" for line in _chunks(sorted(map(_dotted, _paths(fields))))]


def is_ours_to_say(tag: str, *, shared: bool = False) -> bool:
    return tag == OWNED or tag.startswith(ABOUT + ABOUT_SHARED if shared else ABOUT)


def _paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all leaves; a list of mappings has its length as a leaf, so that one more is seen."""
    if isinstance(value, Mapping) and value and not (path and path[-1] in MAPS):
        for key, below in value.items():
            if path or key not in OUTSIDE:
                yield from _paths(below, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        yield (*path, _LISTS)
        for index, item in enumerate(value):
            yield from _paths(item, (*path, str(index)))
    else:
        yield path


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if isinstance(value, list):
            value = (
                len(value) if key == _LISTS else value[int(key)] if key.isdigit() and int(key) < len(value) else None
            )
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _shown(entity: Entity, path: Sequence[str], value: Any) -> Any:
    hidden = is_secret(entity.type, path)

    def shown(value: Any) -> Any:
        match value:
            case str():
                open = not hidden or is_vault_reference(value)
                return value if open else f"sha256:{_digest(f'{entity.id} {value}')}"
            case float():
                return int(value) if value.is_integer() else float(f"{value:.14g}")  # the digits that Kong keeps
            case Mapping():
                return {key: shown(below) for key, below in value.items()} or []  # Lua has one empty table for both
            case list():
                items = [shown(item) for item in value]
                return sorted(items, key=as_json) if path[-1] in SETS else items
        return value

    return shown(value)


def shown_password(entity: Entity, id: str) -> str:
    """How `normal` shows the password of a basic-auth credential that has that id."""
    named = Entity(entity.type, {**entity.fields, "id": id}, entity.kept)
    return str(_shown(named, ("password",), as_kept(named).fields["password"]))


def is_secret(type: str, path: Sequence[str]) -> bool:
    """May a text at that path be a secret?  A plugin's may lie anywhere in its config: in a URL, in a header."""
    if path[-1] == "id" or path[0] in {"name", "enabled", "protocols", "instance_name"}:
        return False
    return type not in OPEN or "headers" in path


def secrets(entities: Iterable[Entity]) -> set[str]:
    """Every text in these entities that must not be told."""
    found = set()
    for entity in entities:
        for path in _paths(entity.fields):
            if is_secret(entity.type, path):
                found |= set(_texts(_at(entity.fields, path)))
    return found


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str() if not is_vault_reference(value):
            yield value
        case Mapping():
            for below in value.values():
                yield from _texts(below)
        case list():
            for item in value:
                yield from _texts(item)


@functools.lru_cache(4096)
def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(quote(key, safe=_LISTS).replace(".", "%2E") for key in path)


@functools.lru_cache(4096)  # the tags of most entities are alike
def _named(tag: str) -> Sequence[tuple[str, tuple[str, ...]]]:
    """The paths that a `fields:` tag names, as written and taken apart."""
    return [(word, tuple(map(unquote, word.split(".")))) for word in tag.partition(":")[2].split()]


def _chunks(words: Iterable[str]) -> Iterator[str]:
    """The words in lines that are short enough for a tag."""
    line = ""
    for word in words:
        if line and len(line) + len(word) >= _TAG_LENGTH:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
