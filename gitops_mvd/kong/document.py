"""Kong without a database: the whole configuration is one document, read and written as one."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, TypeAlias

import yaml
from yaml.composer import Composer

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.admin import Admin
from gitops_mvd.kong.clashes import refuse_rivals, refuse_taken
from gitops_mvd.kong.compare import MAPS, declared_names, is_same
from gitops_mvd.kong.entities import (
    REFERENCES,
    TYPES,
    Entity,
    Fields,
    as_stored,
    holder_id,
    is_entity,
    is_managed,
    tag_value,
    tags_of,
)

BATCH_WINDOW_SECONDS = 0.02  # that a post waits for the threads that the one before has let go on
# Type -> entities, flat and with references by id, as GET /config has them.
Document: TypeAlias = Mapping[str, Sequence[Fields]]


@dataclass(frozen=True)
class _Change:
    """`put` are the entities of `after` that are not the same in `before`."""

    host: str
    before: Sequence[Entity]
    after: Sequence[Entity]
    put: Sequence[Entity]


@dataclass
class _Task:
    """What one thread wants applied and waits for, and how it ended."""

    host: str
    selects: Callable[[Entity], bool]
    entities: Sequence[Entity]
    is_done: bool = False
    failure: Exception | None = None

    def change(self, managed: Iterable[Entity]) -> _Change | None:
        """None if everything is as wanted."""
        before = [entity for entity in managed if self.selects(entity)]
        found = {entity.key: entity for entity in before}
        put = [entity for entity in self.entities if not is_same(entity, found.get(entity.key))]
        return _Change(self.host, before, self.entities, put) if put or len(before) != len(self.entities) else None


class Store:
    """What a Kong without a database holds, known by the hash that Kong makes of its document.

    One change at a time: what is not managed, and what other apps have, is posted back as it was found.
    """

    def __init__(self, admin: Admin, written: MutableMapping[str, float]) -> None:
        self._admin = admin
        self._written = written  # `holder_id` of an entity -> when, by the monotonic clock
        self._lock = threading.Lock()
        self._post_lock = threading.Lock()
        self._found: tuple[str, Document] = ("", {})  # Kong's hash, and its document
        self._managed: tuple[Document, str, list[Entity]] = ({}, "", [])  # the entities of a document, by host
        self._tasks: deque[_Task] = deque()
        self._posted = ""  # the text of the last post

    def observe(self, host: str) -> list[Entity]:
        """All managed entities: the very same list, by one call, while the document stays the same."""
        with self._lock:
            return self._managed_in(self._read(), host)

    def apply(self, host: str, selects: Callable[[Entity], bool], entities: Sequence[Entity]) -> None:
        """Make the managed entities that are selected exactly `entities`, by one post, or none if they are.

        Kong checks the whole document before it takes any of it, so no entity is validated beforehand.
        A thread that comes while another posts waits for that, and then posts together with all that waited.
        """
        task = _Task(host, selects, entities)
        self._tasks.append(task)
        is_behind_another = self._post_lock.locked()
        while not task.is_done:
            if self._post_lock.acquire(timeout=BATCH_WINDOW_SECONDS / 2):
                try:
                    self._post_batch(task, is_behind_another)
                finally:
                    self._post_lock.release()
        if task.failure:
            raise task.failure

    def prepare(self, host: str, selects: Callable[[Entity], bool], entities: Sequence[Entity]) -> None:
        """Raise what `apply` would, without a change.  The targets are not looked at: they are of our own making."""
        task = _Task(host, selects, entities)
        with self._lock:
            found = self._read()
            change = task.change(self._managed_in(found, host))
            if not change:
                return
            replaced = {entity.key for entity in (*change.before, *change.after)}
            others = {type: [row for row in rows if (type, row["id"]) not in replaced] for type, rows in found.items()}
        for entity in change.put:
            if entity.type != "targets":
                self._admin.check(entity)
        _refuse_clashes(change, others)

    def _post_batch(self, task: _Task, is_behind_another: bool) -> None:
        if task.is_done:
            return
        if is_behind_another:
            time.sleep(BATCH_WINDOW_SECONDS)
        waiting = [self._tasks.popleft() for _ in range(len(self._tasks))]
        with self._lock:
            self._carry_out([task, *(other for other in waiting if other is not task)])

    def _carry_out(self, tasks: Sequence[_Task]) -> None:
        """All tasks by one post; if it is rejected, each by its own, so that it holds up no other."""
        try:
            self._apply(tasks)
        except StepFailed as failure:
            if len(tasks) == 1:
                tasks[0].failure = failure
            else:
                for task in tasks:
                    self._carry_out([task])
        except Exception as failure:
            for task in tasks:
                task.failure = failure
        for task in tasks:
            task.is_done = True

    def _apply(self, tasks: Sequence[_Task]) -> None:
        found = self._read()
        changes = [change for task in tasks if (change := task.change(self._managed_in(found, task.host)))]
        if not changes:
            return
        replaced = {entity.key for change in changes for entity in (*change.before, *change.after)}
        document = {
            type: [_slim(fields) for fields in items if (type, fields["id"]) not in replaced]
            for type, items in found.items()
        }
        for change in changes:
            _refuse_clashes(change, document)
        for entity in (entity for change in changes for entity in change.after):
            document.setdefault(entity.type, []).append(_flat(as_stored(entity).fields))
        try:
            self._write(document)
        except StepFailed:
            for entity in changes[0].put if len(changes) == 1 else ():
                self._admin.check(entity)  # Kong named a place in the document, which nobody can look up
            raise
        touched = (holder_id(entity) for change in changes for entity in (*change.before, *change.after))
        self._written.update(dict.fromkeys(touched, time.monotonic()))

    def _managed_in(self, document: Document, host: str) -> list[Entity]:
        if document is not self._managed[0] or host != self._managed[1]:
            self._managed = document, host, list(_managed(document, host))
        return self._managed[2]

    def all(self) -> list[Entity]:
        """All entities in this Kong, managed or not."""
        with self._lock:
            found = [
                Entity(type, _with_references(row), from_admin_api=True)
                for type, rows in self._read().items()
                for row in rows
            ]
            return sorted(found, key=lambda entity: entity.rank)

    def adopt(self, host: str, entities: Sequence[Entity]) -> None:
        """Change these fields of entities that are in Kong, by one post, and nothing else of them."""
        with self._lock:
            found = self._read()
            for entity in entities:
                self._admin.check(entity)
            changed = {entity.key: _flat(as_stored(entity).fields) for entity in entities}
            document = {
                type: [merged(_slim(row), changed.pop((type, str(row["id"])), {})) for row in rows]
                for type, rows in found.items()
            }
            if changed:
                missing = next(entity for entity in entities if entity.key in changed)
                raise StepFailed(f"{missing} is no longer in Kong", "try again")
            self._write(document)
            self._written.update(dict.fromkeys(map(holder_id, entities), time.monotonic()))

    def digest(self) -> str:
        """Kong's hash of all that it has, as of the last `observe` or change."""
        with self._lock:
            if not self._found[0]:
                self._read()
            return self._found[0]

    def text(self) -> str:
        """All that Kong has, as one text that it reads; if gitops-mvd posted it, the same to the byte."""
        with self._lock:
            return self._posted if _hash(self._posted) == self._found[0] else _text(self._found[1])

    def _read(self) -> Document:
        for _ in range(3):  # each round proves the one before: nobody posted while it was read
            digest = str((self._admin.get("/status") or {}).get("configuration_hash"))
            if digest == self._found[0]:
                return self._found[1]
            self._found = digest, _parsed(self._admin.document())
        self._found = "", {}
        raise Unavailable("Kong's document is changed by somebody else while it is read")

    def _write(self, document: Document) -> None:
        """Post it.  Kong's answer is what it now has, and the hash of that is the MD5 of the text."""
        text = self._posted = _text(document)
        sent = (Entity(type, fields, from_admin_api=True) for type, items in document.items() for fields in items)
        loaded = self._admin.load(text, sent)
        if loaded is not None:
            self._found = _hash(text), {type: rows for type, items in loaded.items() if (rows := _rows(items))}


def _rows(items: JsonValue) -> list[Fields]:
    """The entities of one type in Kong's answer to a post, where they are by id."""
    return [_flat(item) for item in items.values() if isinstance(item, Mapping)] if isinstance(items, Mapping) else []


def _text(document: Document) -> str:
    # Without _transform Kong would hash passwords that are hashed already.
    filled = {type: items for type, items in document.items() if items}
    return json.dumps({"_format_version": "3.0", "_transform": False, **filled})


def _hash(text: str) -> str:
    """As Kong makes it."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _managed(document: Document, host: str) -> Iterator[Entity]:
    for type in sorted(document, key=lambda type: TYPES.index(type) if type in TYPES else -1):
        for fields in document[type]:
            if is_managed(fields, host):
                yield Entity(type, _with_references(fields), from_admin_api=True)


def _slim(fields: Fields) -> Fields:
    """A managed entity without the bulk of what Kong fills in: Kong takes no more than 10 MB at once."""
    tags = tags_of(fields)
    if not is_managed(fields, tag_value(tags, "host")):
        return fields
    names = declared_names(tags)
    return {
        key: value for key, value in fields.items() if key in names or (value is not None and key != "healthchecks")
    }


def merged(fields: Fields, changed: Fields) -> dict[str, JsonValue]:
    """An entity with some fields changed, as by Kong's PATCH: records field by field, all else as a whole."""
    result = dict(fields)
    for key, value in changed.items():
        before = result.get(key)
        is_record = isinstance(value, Mapping) and isinstance(before, Mapping) and key not in MAPS
        result[key] = merged(before, value) if is_record else value  # type: ignore[arg-type]
    return result


def _refuse_clashes(change: _Change, others: Document) -> None:
    """Kong would refuse a name that is taken, but not a route that matches the requests of another."""
    types = {entity.type for entity in change.put}
    there = [
        Entity(type, _with_references(fields), from_admin_api=True)
        for type, items in others.items()
        if type in types
        for fields in items
    ]
    refuse_taken(change.put, there)
    routes = [entity for entity in change.put if entity.type == "routes"]
    refuse_rivals(routes, (one for one in there if one.type == "routes" and not is_managed(one.fields, change.host)))


def _with_references(fields: Fields) -> Fields:
    return {
        key: {"id": value} if key in REFERENCES and isinstance(value, str) else value for key, value in fields.items()
    }


def _flat(fields: Fields) -> Fields:
    return {
        key: value["id"] if key in REFERENCES and isinstance(value, Mapping) else value for key, value in fields.items()
    }


# ---- Kong's YAML -----------------------------------------------------------------------------------------------------


class _ByEntry(Composer, getattr(yaml, "CSafeLoader", object)):  # type: ignore[misc]
    """The parser of libyaml, read entry by entry: as a whole, the nodes of 800 entities would be 20 MB that stay."""

    def __init__(self, text: str) -> None:
        super(Composer, self).__init__(text)
        Composer.__init__(self)


class _Loader(_ByEntry if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]
    """YAML as Kong's emitter (lyaml) writes it: a plain `on`, `12:30` or `2001-01-01` is a text."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}


_Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^~$"), ["~"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$"), ["t", "f"])
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^-?[0-9]+$"), list("-0123456789"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^-?[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?$"), list("-0123456789")
)


def _parsed(answer: Fields) -> Document:
    try:
        found = _lists(_Loader(str(answer.get("config") or "")))
    except yaml.YAMLError as error:
        raise Unavailable("cannot read Kong's document: GET /config answers with text that is not YAML") from error
    if not all(map(is_entity, chain(*found.values()))):
        raise Unavailable("cannot read Kong's document: GET /config answers with entries that are no entities")
    return found


def _lists(loader: _Loader) -> Document:
    """The lists of a document, by name.  Raises YAMLError, and Unavailable for one that has no names."""
    for began in (yaml.StreamStartEvent, yaml.DocumentStartEvent, yaml.MappingStartEvent):
        if not loader.check_event(began):
            raise Unavailable("cannot read Kong's document: GET /config answers without one")
        loader.get_event()
    found: dict[str, list[Any]] = {}
    while not loader.check_event(yaml.MappingEndEvent):
        key = _next(loader)
        if not (isinstance(key, str) and loader.check_event(yaml.SequenceStartEvent)):
            _next(loader)
            continue
        loader.get_event()
        entries = found[key] = []
        while not loader.check_event(yaml.SequenceEndEvent):
            entries.append(_with_shared_names(_next(loader)))
        loader.get_event()
    return found


def _next(loader: _Loader) -> Any:
    return loader.construct_document(loader.compose_node(None, 0))


def _with_shared_names(value: Any) -> Any:
    """The same with each name of a field only once in memory, of however many entities."""
    if isinstance(value, dict):
        return {sys.intern(k) if type(k) is str else k: _with_shared_names(it) for k, it in value.items()}
    return value
