"""Kong without a database: the whole configuration is one document, read and written as one."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import yaml

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Json
from gitops_mvd.kong.admin import Admin
from gitops_mvd.kong.clashes import refuse_rivals, refuse_taken
from gitops_mvd.kong.compare import MAPS, declared_names, same
from gitops_mvd.kong.entities import REFERENCES, TYPES, Entity, as_kept, is_ours, part_of, tagged

TOGETHER = 0.02  # s that the next post waits for those whom the last one has let go on
Document = dict[str, list[dict[str, Any]]]  # type -> entities, flat and with references by id, as GET /config has them


@dataclass(frozen=True)
class _Change:
    """`put` are those of `after` that are not the same before."""

    host: str
    before: Sequence[Entity]
    after: Sequence[Entity]
    put: Sequence[Entity]


@dataclass
class _Wish:
    """What somebody waits for, and how it ended."""

    host: str
    is_meant: Callable[[Entity], bool]
    entities: Sequence[Entity]
    done: bool = False
    failure: Exception | None = None

    def change(self, ours: Iterable[Entity]) -> _Change | None:
        """None where everything is as it should be."""
        before = [entity for entity in ours if self.is_meant(entity)]
        known = {(entity.type, entity.id): entity for entity in before}
        put = [entity for entity in self.entities if not same(entity, known.get((entity.type, entity.id)))]
        return _Change(self.host, before, self.entities, put) if put or len(before) != len(self.entities) else None


class Store:
    """What a Kong without a database holds, known by the hash that it tells of its document.

    One change at a time: what is not ours, and what other apps have, is posted back as it was found.
    """

    def __init__(self, admin: Admin, written: MutableMapping[str, float]) -> None:
        self._admin = admin
        self._written = written  # `part_of` an entity -> when, by the monotonic clock
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # to post
        self._seen: tuple[str, Document] = ("", {})
        self._ours: tuple[Document, str, list[Entity]] = ({}, "", [])
        self._wishes: deque[_Wish] = deque()
        self._posted = ""  # what we posted last, as it was

    def look(self, host: str) -> list[Entity]:
        """All entities of ours: the very same list, by one call, while the document stays the same."""
        with self._lock:
            return self._ours_in(self._read(), host)

    def bring(self, host: str, is_meant: Callable[[Entity], bool], entities: Sequence[Entity]) -> None:
        """Make ours that are meant be exactly `entities`, by one post, or none where they are.

        Kong checks the whole document before it takes any of it, so nothing is asked about each entity beforehand.
        Whoever comes while another post is under way waits for it, and then goes along with all who waited.
        """
        wish = _Wish(host, is_meant, entities)
        self._wishes.append(wish)
        came_late = self._turn.locked()
        while not wish.done:
            if self._turn.acquire(timeout=TOGETHER / 2):
                try:
                    self._take_turn(wish, came_late)
                finally:
                    self._turn.release()
        if wish.failure:
            raise wish.failure

    def _take_turn(self, wish: _Wish, came_late: bool) -> None:
        if wish.done:
            return
        if came_late:
            time.sleep(TOGETHER)
        waiting = [self._wishes.popleft() for _ in range(len(self._wishes))]
        with self._lock:
            self._fulfil([wish, *(other for other in waiting if other is not wish)])

    def _fulfil(self, wishes: Sequence[_Wish]) -> None:
        """All of them by one post; where one is refused, each by its own, so that it holds up no other."""
        try:
            self._bring(wishes)
        except StepFailed as failure:
            if len(wishes) == 1:
                wishes[0].failure = failure
            else:
                for wish in wishes:
                    self._fulfil([wish])
        except Exception as failure:
            for wish in wishes:
                wish.failure = failure
        for wish in wishes:
            wish.done = True

    def _bring(self, wishes: Sequence[_Wish]) -> None:
        there = self._read()
        changes = [change for wish in wishes if (change := wish.change(self._ours_in(there, wish.host)))]
        if not changes:
            return
        gone = {(entity.type, entity.id) for change in changes for entity in (*change.before, *change.after)}
        document = {
            type: [_slim(fields) for fields in items if (type, fields["id"]) not in gone]
            for type, items in there.items()
        }
        for change in changes:
            _refuse_clashes(change, document)
        for entity in (entity for change in changes for entity in change.after):
            document.setdefault(entity.type, []).append(_flat(as_kept(entity).fields))
        try:
            self._write(document)
        except StepFailed:
            for entity in changes[0].put if len(changes) == 1 else ():
                self._admin.check(entity)  # Kong told a place in the document, of which nobody knows
            raise
        touched = (part_of(entity) for change in changes for entity in (*change.before, *change.after))
        self._written.update(dict.fromkeys(touched, time.monotonic()))

    def _ours_in(self, document: Document, host: str) -> list[Entity]:
        if document is not self._ours[0] or host != self._ours[1]:
            self._ours = document, host, list(_ours(document, host))
        return self._ours[2]

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
                type: [merged(_slim(row), changed.pop((type, row["id"]), {})) for row in rows]
                for type, rows in there.items()
            }
            if changed:
                gone = next(entity for entity in entities if (entity.type, entity.id) in changed)
                raise StepFailed(f"{gone} is no longer in Kong", "try it again")
            self._write(document)
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

    def _write(self, document: Document) -> None:
        """Post it, and take what Kong answers, which is what it now has, for read: its hash is the MD5 of the text."""
        text = self._posted = _text(document)
        sent = (Entity(type, fields, kept=True) for type, items in document.items() for fields in items)
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


def _slim(fields: dict[str, Any]) -> dict[str, Any]:
    """An entity of ours without the bulk of what Kong fills in: Kong takes no more than 10 MB at once."""
    if not is_ours(fields, tagged(fields.get("tags") or (), "host")):
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


def _refuse_clashes(change: _Change, others: Document) -> None:
    """Kong would refuse a name that is taken, but not a route that takes the requests of another."""
    types = {entity.type for entity in change.put}
    there = [
        Entity(type, _with_references(fields), kept=True)
        for type, items in others.items()
        if type in types
        for fields in items
    ]
    refuse_taken(change.put, there)
    routes = [entity for entity in change.put if entity.type == "routes"]
    refuse_rivals(routes, (one for one in there if one.type == "routes" and not is_ours(one.fields, change.host)))


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
