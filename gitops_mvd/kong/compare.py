"""The declared fields of entities, in one vocabulary for those that are wanted and those that Kong shows.  Pure.

Kong fills in every default, so what it shows is never what was declared.  Each managed entity therefore carries the
names of its declared fields in its tags, and only those are compared.  That needs no memory and no schema, and a
default that changes with a new Kong is no difference.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote, unquote

from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.entities import (
    ADOPTED,
    MANAGED_TAG,
    NOT_COMPARED,
    WITHOUT_SECRETS,
    Entity,
    Fields,
    as_json,
    as_stored,
    tag_value,
)
from gitops_mvd.manifest.references import is_vault_reference

SETS = {"methods", "hosts", "paths", "snis", "protocols", "http_statuses"}  # their order means nothing to Kong
MAPS = {"headers"}  # keys are the user's, so that one more is a difference

_TAG_LENGTH = 1000  # PostgreSQL indexes tags, and an entry ends at 2,700 bytes
_LENGTH = "#"  # the last part of the path of a list's length
# The tag with the digest of a password by the consumer's id in Kong, and by the id that gitops-mvd would give it.
ADOPTED_PASSWORD = "adopted-password"
# The tags that gitops-mvd writes beside `MANAGED_TAG`, and those that it writes on what several hosts share.
TAG_NAMES = ("host:", "app:", "service:", "instance:", "fields:", "index:", f"{ADOPTED}:", f"{ADOPTED_PASSWORD}:")
SHARED_TAG_NAMES = ("shared:", "said:")


def declared_fields(entities: Iterable[Entity]) -> dict[str, dict[str, dict[str, JsonValue]]]:
    """The declared fields of these entities: type -> id -> dotted path -> value.

    Sets are sorted.  Secrets, which are all texts in a plugin's `config` and in anything like a credential, are
    digests; but a text that is a reference to one of Kong's vaults is no secret.
    """
    spec: dict[str, dict[str, dict[str, JsonValue]]] = {}
    for entity in entities:
        stored = as_stored(entity)
        paths = {dotted: path for tag in entity.tags if tag.startswith("fields:") for dotted, path in _named(tag)}
        values = {dotted: _shown(entity, path, _at(stored.fields, path)) for dotted, path in sorted(paths.items())}
        in_kong, _, by_managed_id = tag_value(entity.tags, ADOPTED_PASSWORD).partition(" ")
        if in_kong and values.get("password") == in_kong:
            values["password"] = by_managed_id
        shared = not tag_value(entity.tags, "host")
        tags = sorted(tag for tag in entity.tags if not is_managed_tag(tag, shared=shared))
        spec.setdefault(entity.type, {})[entity.id] = values | ({"tags": tags} if tags else {})
    return spec


def is_same(entity: Entity, found: Entity | None) -> bool:
    """Was an entity found that has all declared fields, and the same tags?"""
    if found is None or set(entity.tags) != set(found.tags):
        return False
    return declared_fields([entity]) == declared_fields([found])


def declared_names(tags: Iterable[str]) -> set[str]:
    """The names of the declared fields of an entity with these tags."""
    return {path[0] for tag in tags if tag.startswith("fields:") for _, path in _named(tag)}


def field_tags(fields: Fields) -> list[str]:
    """The tags that name these declared fields."""
    return [f"fields:{line}" for line in _chunks(sorted(map(_dotted, _paths(fields))))]


def is_managed_tag(tag: str, *, shared: bool = False) -> bool:
    """Does gitops-mvd write this tag itself, on an entity of one host or on one that several hosts share?"""
    return tag == MANAGED_TAG or tag.startswith(TAG_NAMES + SHARED_TAG_NAMES if shared else TAG_NAMES)


def _paths(value: JsonValue, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all leaves; a list of mappings has its length as a leaf, so that one more is seen."""
    if isinstance(value, Mapping) and value and not (path and path[-1] in MAPS):
        for key, below in value.items():
            if path or key not in NOT_COMPARED:
                yield from _paths(below, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        yield (*path, _LENGTH)
        for index, item in enumerate(value):
            yield from _paths(item, (*path, str(index)))
    else:
        yield path


def _at(value: JsonValue, path: Sequence[str]) -> JsonValue:
    for key in path:
        if isinstance(value, list):
            value = (
                len(value) if key == _LENGTH else value[int(key)] if key.isdigit() and int(key) < len(value) else None
            )
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _shown(entity: Entity, path: Sequence[str], value: JsonValue) -> JsonValue:
    hidden = is_secret(entity.type, path)

    def shown(value: JsonValue) -> JsonValue:
        match value:
            case str():
                is_open = not hidden or is_vault_reference(value)
                return value if is_open else f"sha256:{_digest(f'{entity.id} {value}')}"
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
    """The password in `declared_fields` of a basic-auth credential that has that id."""
    named = entity.with_fields({**entity.fields, "id": id})
    return str(_shown(named, ("password",), as_stored(named).fields["password"]))


def is_secret(type: str, path: Sequence[str]) -> bool:
    """May a text at that path be a secret?  A plugin's may lie anywhere in its config: in a URL, in a header."""
    if path[-1] == "id" or path[0] in {"name", "enabled", "protocols", "instance_name"}:
        return False
    return type not in WITHOUT_SECRETS or "headers" in path


def secrets(entities: Iterable[Entity]) -> set[str]:
    """Every text in these entities that must not be shown."""
    found: set[str] = set()
    for entity in entities:
        for path in _paths(entity.fields):
            if is_secret(entity.type, path):
                found |= set(_texts(_at(entity.fields, path)))
    return found


def _texts(value: JsonValue) -> Iterator[str]:
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
    return ".".join(quote(key, safe=_LENGTH).replace(".", "%2E") for key in path)


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
