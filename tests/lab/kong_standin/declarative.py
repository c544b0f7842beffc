"""The one document of DB-less mode: read into entities, every mistake told at its place, and written out again."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any

import yaml

from tests.lab.kong_standin import faults
from tests.lab.kong_standin.rules import Record
from tests.lab.kong_standin.schema import KINDS, Kind, complete
from tests.lab.kong_standin.store import Store, derive, stamp

HEADER = {"_format_version", "_transform", "_comment", "_info"}
VERSIONS = ["1.1", "2.1", "3.0"]
# The namespace from which Kong derives the ids of entities that were given none: the same document, the same ids.
NAMESPACE = uuid.UUID("fd02801f-0957-4a15-a55a-c8d9606f30b5")


@dataclass
class Item:
    """One entity of the document, and where it stands: `errors` is the list of its siblings' errors."""

    kind: Kind
    given: Record
    position: int
    errors: list[Any]
    record: Record = field(default_factory=dict)

    def refuse(self, error: Any) -> None:
        self.errors.extend([None] * (self.position + 1 - len(self.errors)))
        if isinstance(self.errors[self.position], dict) and isinstance(error, dict):
            self.errors[self.position] |= error
        else:
            self.errors[self.position] = error


def parse(text: str, *, yaml_only: bool = False) -> Record:
    """The document as it was sent, JSON, or else YAML; raises Fault.

    What is no JSON escape in YAML, such as the two halves of an emoji, is none in a file that ends in .yaml.
    """
    with contextlib.suppress(ValueError):
        document = None if yaml_only else json.loads(text)
        if isinstance(document, dict):
            return document
    try:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        line, column = _last_place(text)
        message = f"failed parsing declarative configuration: {line}:{column}: {error.problem}"
        raise faults.invalid_declaration({"error": message}) from error
    if not isinstance(document, dict):
        message = "failed parsing declarative configuration: expected an object"
        raise faults.invalid_declaration({"error": message})
    return document


def _last_place(text: str) -> tuple[int, int]:
    """Line and column, from 1, of the last thing that a broken document says well: that is what Kong tells."""
    place = (1, 1)
    with contextlib.suppress(yaml.YAMLError):
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if event.start_mark:
                place = (event.start_mark.line + 1, event.start_mark.column + 1)
    return place


def read(document: Mapping[str, Any]) -> dict[str, dict[str, Record]]:
    """Kind → id → entity; raises Fault with every mistake at its place in the document."""
    errors: Record = {}
    if "_format_version" not in document:
        errors["_format_version"] = "required field missing"
    elif str(document["_format_version"]) not in VERSIONS:
        errors["_format_version"] = f"expected one of: {', '.join(VERSIONS)}"
    for name in document.keys() - HEADER - KINDS.keys():
        errors[name] = "unknown field"
    items = list(_items(document, errors, None))
    _check_uniqueness(items)
    _link(items)
    errors = _pruned(errors)
    if errors:
        raise faults.invalid_declaration(errors)
    found: dict[str, dict[str, Record]] = {}
    for item in items:
        if document.get("_transform") is not False:  # it is what Kong itself wrote out, with passwords hashed already
            derive(item.kind.name, item.record, None)
        stamp(item.kind.name, item.record, item.given.get("created_at"))
        found.setdefault(item.kind.name, {})[item.record["id"]] = item.record
    return found


def load(store: Store, text: str, *, yaml_only: bool = False) -> dict[str, dict[str, Record]]:
    """Have a document, and nothing else, be what there is; raises Fault."""
    found = read(parse(text, yaml_only=yaml_only))
    hash = md5(text.encode()).hexdigest()
    store.replace({kind: rows.values() for kind, rows in found.items()}, hash)
    return found


def write(store: Store) -> str:
    """Every entity as one document in Kong's own format."""
    document: Record = {"_format_version": "3.0", "_transform": False}
    for kind in KINDS.values():
        rows = [_flat(kind, entity) for entity in store.all(kind.name)]
        if rows:
            document[kind.name] = rows
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _items(document: Mapping[str, Any], errors: Record, parent: Item | None) -> Iterator[Item]:
    """The entities of a document or, with a parent, those nested in it: parents before children."""
    for kind in KINDS.values():
        link = _link_to(kind, parent.kind.name) if parent else ""
        rows = document.get(kind.name)
        if rows is None or (parent and not link):
            continue
        if not isinstance(rows, list):
            errors[kind.name] = "expected an array"
            continue
        siblings: list[Any] = errors.setdefault(kind.name, [])
        for position, row in enumerate(rows):
            yield from _item(kind, row, position, siblings, parent, link)


def _item(kind: Kind, row: Any, position: int, siblings: list[Any], parent: Item | None, link: str) -> Iterator[Item]:
    if not isinstance(row, dict):
        Item(kind, {}, position, siblings).refuse("expected a record")
        return
    children = {name for name in row if name in KINDS and _link_to(KINDS[name], kind.name)}
    given = {name: value for name, value in row.items() if name not in children}
    for name in kind.references():
        if isinstance(given.get(name), str):
            given[name] = {"id": given[name]}
    if parent:
        given[link] = {"id": parent.record.get("id", "")}
    item = Item(kind, given, position, siblings)
    if "id" not in given and (id := _stable_id(kind, given)):
        given["id"] = id
    try:
        item.record = complete(kind, given)
    except faults.Fault as fault:
        item.refuse(fault.body["fields"])
    yield item
    if children:
        item.refuse({})
        yield from _items({name: row[name] for name in children}, siblings[position], item)


def _link_to(kind: Kind, parent: str) -> str:
    """The field by which one kind hangs on another."""
    return next((name for name, other in kind.references().items() if other == parent), "")


def _stable_id(kind: Kind, given: Mapping[str, Any]) -> str | None:
    """The id that Kong derives from what is unique about an entity; None where it would be a random one."""
    if kind.unique:
        scoped = [given.get(name) for name in kind.unique]
        words = [value.get("id", "") if isinstance(value, dict) else str(value or "") for value in scoped]
        name = ":".join([kind.name, "*", *words])
    elif kind.key and not kind.fields[kind.key].get("auto") and isinstance(given.get(kind.key), str):
        name = given[kind.key]
    else:
        return None
    return str(uuid.uuid5(uuid.uuid5(NAMESPACE, kind.name), name))


def _check_uniqueness(items: list[Item]) -> None:
    seen: set[tuple[str, str, str]] = set()
    for item in items:
        single = [name for name, spec in item.kind.fields.items() if spec.get("unique")]
        for name in [*single, "id"]:  # a name taken twice also makes the same id twice: the name is the better word
            value = item.given.get(name)
            if not isinstance(value, str):
                continue
            if (item.kind.name, name, value) in seen:
                item.refuse(
                    f"uniqueness violation: '{item.kind.name}' entity with {name} set to '{value}' already declared"
                )
                break
            seen.add((item.kind.name, name, value))


def _link(items: list[Item]) -> None:
    """References by name become references by id."""
    ids: dict[tuple[str, str], str] = {}
    for item in items:
        if item.record:
            ids[item.kind.name, item.record["id"]] = item.record["id"]
            if item.kind.key:
                ids[item.kind.name, item.record[item.kind.key]] = item.record["id"]
    for item in items:
        for name, kind in item.kind.references().items():
            reference = item.record.get(name)
            if not reference:
                continue
            key = reference.get("id") or reference.get(KINDS[kind].key) or ""
            if id := ids.get((kind, key)):
                item.record[name] = {"id": id}
            elif key:
                item.refuse([f"invalid reference '{name}: {key}' (no such entry in '{kind}')"])


def _pruned(errors: Any) -> Any:
    """Errors without the places where there are none; holes in a list keep the positions of the rest."""
    if isinstance(errors, dict):
        return {name: pruned for name, error in errors.items() if (pruned := _pruned(error))}
    if isinstance(errors, list):
        rows = [_pruned(error) or None for error in errors]
        return rows[: max((position for position, row in enumerate(rows, 1) if row), default=0)]
    return errors


def _flat(kind: Kind, entity: Record) -> Record:
    """An entity with its references as plain ids."""
    references = kind.references()
    return {
        name: value["id"] if name in references and value else value
        for name, value in entity.items()
        if not (kind.ttl and name == "ttl")
    }


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """YAML as Kong writes it: no value is `~`, and nothing is shared by anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: Any, text: str) -> Any:
    """Kong's emitter puts quotes around whatever Lua would take for a number, such as 1e3."""
    with contextlib.suppress(ValueError):
        float(text)
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="'")
    return dumper.represent_str(text)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(type(None), lambda dumper, _: dumper.represent_scalar("tag:yaml.org,2002:null", "~"))
