"""Kong without a database: the whole configuration is one document, read and written as one."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

import yaml
from yaml.composer import Composer

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.admin import Admin
from gitops_mvd.kong.clashes import matched_by, refuse_ids_of_others, refuse_rivals, refuse_taken, taken_by
from gitops_mvd.kong.compare import MAPS, declared_names, is_same
from gitops_mvd.kong.entities import (
    REFERENCES,
    TYPES,
    Entity,
    Fields,
    Key,
    Owner,
    Owners,
    as_stored,
    holder_id,
    is_entity,
    is_managed,
    is_of_our_making,
    tag_value,
    tags_of,
)
from gitops_mvd.kong.together import Together

BATCH_WINDOW_SECONDS = 0.02  # in which another thread may come that the post before has let go on
Made = TypeVar("Made")
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
    """What one thread wants applied, and why it could not be."""

    host: str
    owners: Owners
    entities: Sequence[Entity]
    failure: Exception | None = None

    def change(self, managed: _Managed) -> _Change | None:
        """None if everything is as wanted."""
        before = managed.of(self.owners)
        found = {entity.key: entity for entity in before}
        put = [entity for entity in self.entities if not is_same(entity, found.get(entity.key))]
        return _Change(self.host, before, self.entities, put) if put or len(before) != len(self.entities) else None


class _Managed:
    """The managed entities of a host in a document."""

    def __init__(self, document: Document, host: str) -> None:
        self.entities = list(_managed(document, host))

    @cached_property
    def _by_owner(self) -> Mapping[Owner, Sequence[Entity]]:
        found: defaultdict[Owner, list[Entity]] = defaultdict(list)
        for entity in self.entities:
            found[entity.owner].append(entity)
        return found

    def of(self, owners: Owners) -> Sequence[Entity]:
        if owners is None:
            return self.entities
        return [entity for owner in owners for entity in self._by_owner.get(owner, ())]


class _Clashes:
    """What entities in a document have that no other may have."""

    def __init__(self, document: Document, host: str) -> None:
        there = list(_entities(document))
        self._by_key = {entity.key: entity for entity in there}
        self._taken = taken_by(there)
        self._matched = matched_by(it for it in there if it.type == "routes" and not is_managed(it.fields, host))

    def refuse(self, change: _Change, replaced: Container[Key]) -> None:
        """Raise NotNow for an id and a name that are taken, and for a route that matches the requests of another.

        Kong would refuse only the name.
        """
        before = {entity.key for entity in change.before}
        refuse_ids_of_others((one for one in change.put if one.key not in before), self._by_key)
        refuse_taken(change.put, self._taken, replaced)
        refuse_rivals((one for one in change.put if one.type == "routes"), self._matched, replaced)


class Store:
    """What a Kong without a database holds, known by the hash that Kong makes of its document.

    One change at a time: what is not managed, and what other apps have, is posted back as it was found.
    """

    def __init__(self, admin: Admin, written: MutableMapping[str, float]) -> None:
        self._admin = admin
        self._written = written  # `holder_id` of an entity -> when, by the monotonic clock
        self._lock = threading.Lock()
        self._found: tuple[str, Document] = ("", {})  # Kong's hash, and its document
        self._made: dict[tuple[object, str], tuple[Document, object]] = {}  # of a document, for a host
        self._post_together = Together[_Task, None](BATCH_WINDOW_SECONDS)
        self._posted = ""  # the text of the last post

    def observe(self, host: str) -> list[Entity]:
        """All managed entities: the very same list, by one call, while the document stays the same."""
        with self._lock:
            found = self._read()
            self._made.pop((_Clashes, host), None)  # as large as the document, and only needed for changes
            return self._of(_Managed, found, host).entities

    def apply(self, host: str, owners: Owners, entities: Sequence[Entity]) -> None:
        """Make the managed entities of these owners exactly `entities`, by one post, or none if they are.

        Kong checks the whole document before it takes any of it, so no entity is validated beforehand.
        A thread that comes while another posts waits for that, and then one post is for all that waited.
        """
        task = _Task(host, owners, entities)
        self._post_together(task, self._post)
        if task.failure:
            raise task.failure

    def prepare(self, host: str, owners: Owners, entities: Sequence[Entity]) -> None:
        """Raise what `apply` would, without a change.  The targets are not looked at: they are of our own making."""
        with self._lock:
            found = self._read()
            change = _Task(host, owners, entities).change(self._of(_Managed, found, host))
            if not change:
                return
            clashes = self._of(_Clashes, found, host)
        for entity in change.put:
            if entity.type != "targets" and not is_of_our_making(entity):
                self._admin.check(entity)
        clashes.refuse(change, {entity.key for entity in (*change.before, *change.after)})

    def _post(self, tasks: Sequence[_Task]) -> None:
        with self._lock:
            self._carry_out(tasks)

    def _carry_out(self, tasks: Sequence[_Task]) -> None:
        """All tasks by one post; if it is rejected, each half by its own, until the one that Kong rejects is alone."""
        try:
            self._apply(tasks)
        except StepFailed as failure:
            half = len(tasks) // 2
            if not half:
                tasks[0].failure = failure
                return
            self._carry_out(tasks[:half])
            self._carry_out(tasks[half:])
        except Exception as failure:
            for task in tasks:
                task.failure = failure

    def _apply(self, tasks: Sequence[_Task]) -> None:
        found = self._read()
        by_task = [(task, task.change(self._of(_Managed, found, task.host))) for task in tasks]
        changes = self._without_clashes(found, [(task, change) for task, change in by_task if change])
        if not changes:
            return
        replaced = {entity.key for change in changes for entity in (*change.before, *change.after)}
        document = {
            type: [_slim(fields) for fields in items if (type, fields["id"]) not in replaced]
            for type, items in found.items()
        }
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

    def _without_clashes(self, found: Document, changes: Sequence[tuple[_Task, _Change]]) -> list[_Change]:
        """Those that clash with nothing that stays; the tasks of the others have failed."""
        replaced = {entity.key for _, change in changes for entity in (*change.before, *change.after)}
        good = []
        for task, change in changes:
            try:
                self._of(_Clashes, found, change.host).refuse(change, replaced)
                good.append(change)
            except StepFailed as failure:
                task.failure = failure
        return good

    def _of(self, make: Callable[[Document, str], Made], document: Document, host: str) -> Made:
        """What is made of a document for a host, once while that stays the same."""
        known, made = self._made.get((make, host), (None, None))
        if known is not document:
            made = make(document, host)
            self._made[make, host] = document, made
        return cast(Made, made)

    def all(self) -> list[Entity]:
        """All entities in this Kong, managed or not."""
        with self._lock:
            return sorted(_entities(self._read()), key=lambda entity: entity.rank)

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


def _entities(document: Document) -> Iterator[Entity]:
    for type, rows in document.items():
        for fields in rows:
            yield Entity(type, _with_references(fields), from_admin_api=True)


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
