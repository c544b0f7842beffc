"""Kong without a database: the whole configuration is one document, read and written as one."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar

import yaml

from gitops_mvd.errors import StepFailed, Unavailable
from gitops_mvd.kong.admin import Admin
from gitops_mvd.kong.compare import MAPS, declared_names, same
from gitops_mvd.kong.entities import REFERENCES, TYPES, Entity, as_kept, clash, is_ours, part_of, unique_key
from gitops_mvd.model import Json

Document = dict[str, list[dict[str, Any]]]  # type -> entities, flat and with references by id, as GET /config has them


class Store:
    """What a Kong without a database holds, known by the hash that it tells of its document.

    One change at a time: what is not ours, and what other apps have, is posted back as it was found.
    """

    def __init__(self, admin: Admin, written: MutableMapping[str, float]) -> None:
        self._admin = admin
        self._written = written  # `part_of` an entity -> when, by the monotonic clock
        self._lock = threading.Lock()
        self._seen: tuple[str, Document] = ("", {})
        self._ours: tuple[Document, list[Entity]] = ({}, [])
        self._posted = ""  # what we posted last, as it was

    def look(self, host: str) -> list[Entity]:
        """All entities of ours: the very same list, by one call, while the document stays the same."""
        with self._lock:
            document = self._read()
            if document is not self._ours[0]:
                self._ours = document, list(_ours(document, host))
            return self._ours[1]

    def bring(self, host: str, is_meant: Callable[[Entity], bool], entities: Sequence[Entity]) -> None:
        """Make ours that are meant be exactly `entities`, by one post, or none where they are."""
        with self._lock:
            there = self._read()
            before = [entity for entity in _ours(there, host) if is_meant(entity)]
            known = {(entity.type, entity.id): entity for entity in before}
            put = [entity for entity in entities if not same(entity, known.get((entity.type, entity.id)))]
            if not put and len(before) == len(entities):
                return
            for entity in put:
                self._admin.check(entity)
            gone = {(entity.type, entity.id) for entity in (*before, *entities)}
            document = {
                type: [_slim(fields, host) for fields in items if (type, fields["id"]) not in gone]
                for type, items in there.items()
            }
            for entity in entities:
                _refuse_clash(entity, document.get(entity.type, ()))
            for entity in entities:
                document.setdefault(entity.type, []).append(_flat(as_kept(entity).fields))
            self._write(document, entities)
            self._written.update(dict.fromkeys(map(part_of, (*before, *entities)), time.monotonic()))

    def all(self) -> list[Entity]:
        """Everything that this Kong has, whosever it is."""
        with self._lock:
            found = [
                Entity(type, _with_references(row), kept=True) for type, rows in self._read().items() for row in rows
            ]
            return sorted(found, key=lambda entity: entity.rank)

    def adopt(self, host: str, entities: Sequence[Entity]) -> None:
        """Change these fields of entities that are there, by one post, and nothing else of them."""
        with self._lock:
            there = self._read()
            for entity in entities:
                self._admin.check(entity)
            changed = {(entity.type, entity.id): _flat(as_kept(entity).fields) for entity in entities}
            document = {
                type: [merged(_slim(row, host), changed.pop((type, row["id"]), {})) for row in rows]
                for type, rows in there.items()
            }
            if changed:
                gone = next(entity for entity in entities if (entity.type, entity.id) in changed)
                raise StepFailed(f"{gone} is no longer in Kong", "try it again")
            self._write(document, entities)
            self._written.update(dict.fromkeys(map(part_of, entities), time.monotonic()))

    def has(self) -> str:
        """Kong's hash of all that it has, ours or not, as of the last look or change."""
        with self._lock:
            if not self._seen[0]:
                self._read()
            return self._seen[0]

    def text(self) -> str:
        """All of that as one text that Kong reads; where we posted it, to the byte."""
        with self._lock:
            return self._posted if _hash(self._posted) == self._seen[0] else _text(self._seen[1])

    def _read(self) -> Document:
        for _ in range(3):  # each round proves the one before: nobody posted while we read
            digest = self._digest()
            if digest == self._seen[0]:
                return self._seen[1]
            self._seen = digest, _parsed(self._admin.document())
        self._seen = "", {}
        raise Unavailable("Kong's document is changed while we read it")

    def _digest(self) -> str:
        return str((self._admin.get("/status") or {}).get("configuration_hash"))

    def _write(self, document: Document, sent: Iterable[Entity]) -> None:
        """Post it, and take what Kong answers, which is what it now has, for read: its hash is the MD5 of the text."""
        text = self._posted = _text(document)
        loaded = self._admin.load(text, sent)
        if loaded is not None:
            entities = {type: [_flat(fields) for fields in items.values()] for type, items in loaded.items() if items}
            self._seen = _hash(text), entities


def _text(document: Document) -> str:
    # Without _transform Kong would hash the passwords once more that it gave us hashed.
    return json.dumps({"_format_version": "3.0", "_transform": False, **{k: v for k, v in document.items() if v}})


def _hash(text: str) -> str:
    """As Kong makes it."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _ours(document: Document, host: str) -> Iterator[Entity]:
    for type in sorted(document, key=lambda type: TYPES.index(type) if type in TYPES else -1):
        for fields in document[type]:
            if is_ours(fields, host):
                yield Entity(type, _with_references(fields), kept=True)


def _slim(fields: dict[str, Any], host: str) -> dict[str, Any]:
    """An entity of ours without the bulk of what Kong fills in: Kong takes no more than 10 MB at once."""
    if not is_ours(fields, host):
        return fields
    names = declared_names(fields)
    return {
        key: value for key, value in fields.items() if key in names or (value is not None and key != "healthchecks")
    }


def merged(fields: Json, changed: Json) -> dict[str, Any]:
    """An entity with some fields changed, as a PATCH of Kong's would: records field by field, all else as a whole."""
    result = dict(fields)
    for key, value in changed.items():
        there = result.get(key)
        deeper = isinstance(value, Mapping) and isinstance(there, Mapping) and key not in MAPS
        result[key] = merged(there, value) if deeper else value  # type: ignore[arg-type]
    return result


def _refuse_clash(entity: Entity, others: Iterable[Json]) -> None:
    key = unique_key(entity.type, entity.fields)
    for fields in others:
        other = Entity(entity.type, _with_references(fields))
        if unique_key(entity.type, other.fields) == key:
            raise clash(entity, other)


def _with_references(fields: Json) -> dict[str, Any]:
    return {
        key: {"id": value} if key in REFERENCES and isinstance(value, str) else value for key, value in fields.items()
    }


def _flat(fields: Json) -> dict[str, Any]:
    return {
        key: value["id"] if key in REFERENCES and isinstance(value, Mapping) else value for key, value in fields.items()
    }


# ---- Kong's YAML -----------------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML as Kong's emitter (lyaml) means it: a plain `on`, `12:30` or `2001-01-01` is a text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^~$"), ["~"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), ["t", "f"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?[0-9]+$"), list("-0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?$"), list("-0123456789")
)


def _parsed(answer: Any) -> Document:
    try:
        document = yaml.load(answer["config"], _Loader)
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise Unavailable(f"Kong's document can not be read: {type(error).__name__}") from error
    return {key: value for key, value in document.items() if isinstance(value, list)}
