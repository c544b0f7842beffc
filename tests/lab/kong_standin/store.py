"""The entities of the gateway: kept in memory to be read, and in one SQLite file to survive a restart."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from sqlite3 import Connection, connect
from typing import Any, NamedTuple

from tests.lab.kong_standin import faults
from tests.lab.kong_standin.checks import CERTIFICATE
from tests.lab.kong_standin.rules import Record, is_uuid
from tests.lab.kong_standin.schema import KINDS, Kind, complete

EMPTY_HASH = "0" * 32


class TargetChanges(NamedTuple):
    """How often the targets of an upstream were changed, and when last, by the monotonic clock."""

    number: int
    at: float


class Store:
    """What Kong would keep in its database, or in DB-less mode in memory.

    `version` grows with every change, so that whoever derives something from the entities knows when to do it again.
    """

    def __init__(self, prefix: Path, database: bool) -> None:
        self.database = database
        self.version = 0
        self.updated_upstreams: set[str] = set()  # their ids: written again, after they were made
        self._target_changes: dict[str, TargetChanges] = {}
        self._tables: dict[str, dict[str, Record]] = {kind: {} for kind in KINDS}
        self._unique: dict[tuple[str, tuple[str, ...]], dict[str, str]] = {
            (kind.name, fields): {} for kind in KINDS.values() for fields in _unique_fields(kind)
        }
        prefix.mkdir(parents=True, exist_ok=True)
        self._file = _open(prefix / ("postgres.db" if database else "off.db"))
        for kind, body in self._file.execute("SELECT kind, body FROM entities"):
            self._keep(KINDS[kind], json.loads(body))

    def close(self) -> None:
        self._file.close()

    @property
    def configuration_hash(self) -> str:
        """The MD5 of the last declarative document, as `/status` tells it in DB-less mode."""
        row = self._file.execute("SELECT value FROM facts WHERE name = 'hash'").fetchone()
        return str(row[0]) if row else EMPTY_HASH

    def target_changes(self, upstream: str) -> TargetChanges:
        """The changes of an upstream's targets; a whole new configuration counts as one."""
        if not self.database:
            return TargetChanges(self.version, 0.0)
        return self._target_changes.get(upstream, TargetChanges(0, 0.0))

    def all(self, kind: str) -> Iterator[Record]:
        """Every entity of a kind, by id, which is the order of Kong's pages."""
        table = self._tables[kind]
        return (table[id] for id in sorted(table))

    def find(self, kind: str, key: str) -> Record | None:
        """One entity by its id, or by the field that stands for it."""
        if is_uuid(key):
            return self._tables[kind].get(key.lower())
        if not KINDS[kind].key:
            return None
        return self.by(kind, **{KINDS[kind].key: key})

    def get(self, kind: str, key: str) -> Record:
        """As `find`; raises Fault where there is none."""
        entity = self.find(kind, key)
        if entity is None:
            raise faults.not_found()
        return entity

    def by(self, kind: str, **values: Any) -> Record | None:
        """One entity by what is unique about it."""
        id = self._unique.get((kind, tuple(values)), {}).get(_key(values.values()))
        return self._tables[kind].get(id) if id else None

    def insert(self, kind: str, given: Mapping[str, Any]) -> Record:
        """A new entity; raises Fault where it is wrong or already there."""
        record = self._complete(kind, given)
        if record["id"] in self._tables[kind]:
            raise faults.primary_key_violation(record["id"])
        return self._write(kind, record, None)

    def upsert(self, kind: str, key: str, given: Mapping[str, Any]) -> Record:
        """The entity under that key, new or replaced whole: what is not given goes back to its default."""
        old = self.find(kind, key)
        named = {} if is_uuid(key) else {KINDS[kind].key: key}
        id = old["id"] if old else key.lower() if is_uuid(key) else str(uuid.uuid4())
        record = self._complete(kind, {**given, **named, "id": id})
        return self._write(kind, record, old)

    def update(self, kind: str, key: str, given: Mapping[str, Any]) -> Record:
        """The entity with some of its fields changed."""
        old = self.get(kind, key)
        kept = {name: value for name, value in old.items() if name in KINDS[kind].fields}
        changed = _merged(kept, given)
        if kind == "plugins" and isinstance(given.get("config"), dict):
            changed["config"] = _without_stale_names(changed["config"], given["config"])
        return self._write(kind, self._complete(kind, {**changed, "id": old["id"]}), old)

    def delete(self, kind: str, key: str) -> None:
        """Remove an entity and what hangs on it; raises Fault where something else still needs it."""
        entity = self.find(kind, key)
        if entity is None:
            return
        doomed = list(self._referring(kind, entity["id"]))
        for other, field, _ in doomed:
            if KINDS[other].fields[field].get("on_delete") != "cascade":
                raise faults.still_referenced(kind, other)
        for other, _, record in doomed:
            self.delete(other, record["id"])
        self._forget(KINDS[kind], entity)
        self._file.execute("DELETE FROM entities WHERE id = ? AND kind = ?", (entity["id"], kind))
        self._note(kind, entity, None)

    def replace(self, entities: Mapping[str, Iterable[Record]], hash: str) -> None:
        """Everything at once: the whole configuration of DB-less mode."""
        for kind in KINDS.values():
            for old in list(self._tables[kind.name].values()):
                self._forget(kind, old)
        rows = []
        for kind_name, records in entities.items():
            for record in records:
                self._keep(KINDS[kind_name], record)
                rows.append((kind_name, record["id"], json.dumps(record)))
        self._file.execute("BEGIN")
        self._file.execute("DELETE FROM entities")
        self._file.executemany("INSERT INTO entities VALUES (?, ?, ?)", rows)
        self._file.execute("REPLACE INTO facts VALUES ('hash', ?)", (hash,))
        self._file.execute("COMMIT")
        self.version += 1

    def page(
        self, kind: str, size: int, offset: str, wanted: Callable[[Record], bool]
    ) -> tuple[list[Record], str | None]:
        """Up to `size` entities after `offset`, and the offset of the next page if there is one."""
        after = _decode_offset(offset) if offset else ""
        found: list[Record] = []
        for entity in self.all(kind):
            if entity["id"] <= after or not wanted(entity):
                continue
            if len(found) == size:
                return found, _encode_offset(found[-1]["id"])
            found.append(entity)
        return found, None

    def _complete(self, kind: str, given: Mapping[str, Any]) -> Record:
        """A record that is whole, right, and points only to what exists."""
        known = {name: value for name, value in given.items() if name != "ttl" or not KINDS[kind].ttl}
        record = complete(KINDS[kind], known)
        for field, other in KINDS[kind].references().items():
            if record[field] is not None:
                record[field] = {"id": self._resolve(field, other, record[field])}
        if KINDS[kind].ttl and self.database:
            record["ttl"] = given.get("ttl")
        return record

    def _resolve(self, field: str, kind: str, reference: Mapping[str, Any]) -> str:
        key = reference.get("id") or reference.get(KINDS[kind].key)
        entity = self.find(kind, key) if isinstance(key, str) else None
        if entity is None:
            raise faults.missing_reference(field, reference, kind)
        return str(entity["id"])

    def _write(self, kind: str, record: Record, old: Record | None) -> Record:
        for fields in _unique_fields(KINDS[kind]):
            values = {field: record[field] for field in fields}
            taken = self.by(kind, **values) if _counts(values) else None
            if taken and taken["id"] != record["id"]:
                raise faults.unique_violation(values)
        derive(kind, record, old)
        stamp(kind, record, old["created_at"] if old else None)
        if old:
            self._forget(KINDS[kind], old)
        self._keep(KINDS[kind], record)
        self._file.execute("REPLACE INTO entities VALUES (?, ?, ?)", (kind, record["id"], json.dumps(record)))
        self._note(kind, record, old)
        return record

    def _note(self, kind: str, record: Record, old: Record | None) -> None:
        """Count the change."""
        self.version += 1
        if kind == "targets":
            upstream = record["upstream"]["id"]
            self._target_changes[upstream] = TargetChanges(self.target_changes(upstream).number + 1, time.monotonic())
        elif kind == "upstreams" and old:
            self.updated_upstreams.add(record["id"])

    def _keep(self, kind: Kind, record: Record) -> None:
        self._tables[kind.name][record["id"]] = record
        for fields in _unique_fields(kind):
            values = [record[field] for field in fields]
            self._unique[kind.name, fields][_key(values)] = record["id"]

    def _forget(self, kind: Kind, record: Record) -> None:
        del self._tables[kind.name][record["id"]]
        for fields in _unique_fields(kind):
            self._unique[kind.name, fields].pop(_key(record[field] for field in fields), None)

    def _referring(self, kind: str, id: str) -> Iterator[tuple[str, str, Record]]:
        for other in KINDS.values():
            for field, target in other.references().items():
                if target == kind:
                    for record in self._tables[other.name].values():
                        if record[field] is not None and record[field]["id"] == id:
                            yield other.name, field, record


def _open(path: Path) -> Connection:
    file = connect(path, isolation_level=None, check_same_thread=False)
    file.execute("PRAGMA journal_mode = WAL")
    file.execute("PRAGMA synchronous = OFF")  # it has to outlive the process, not the machine
    file.execute("CREATE TABLE IF NOT EXISTS entities (kind TEXT, id TEXT, body TEXT, PRIMARY KEY (kind, id))")
    file.execute("CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT)")
    return file


def derive(kind: str, record: Record, old: Record | None) -> None:
    """What Kong computes from what was given: hashed passwords, the digest of a certificate."""
    if kind == "basicauth_credentials" and (old is None or record["password"] != old["password"]):
        record["password"] = hash_password(record["password"], record["consumer"]["id"])
    if kind == "ca_certificates" and (found := CERTIFICATE.search(record["cert"])):
        record["cert_digest"] = hashlib.sha256(base64.b64decode(found[1])).hexdigest()


def hash_password(password: str, consumer: str) -> str:
    """Kong's own hash of a basic-auth password: SHA-1, salted with the consumer's id."""
    return hashlib.sha1((password + consumer).encode()).hexdigest()


def stamp(kind: str, record: Record, created: float | None = None) -> None:
    """When the record was made and last changed: seconds, and for targets milliseconds, since the epoch."""
    fields = KINDS[kind].fields
    now = round(time.time(), 3) if fields["created_at"]["type"] == "number" else int(time.time())
    record["created_at"] = now if created is None else created
    if "updated_at" in fields:
        record["updated_at"] = now


def _unique_fields(kind: Kind) -> list[tuple[str, ...]]:
    single = [(name,) for name, spec in kind.fields.items() if spec.get("unique")]
    return single + ([kind.unique] if kind.unique else [])


def _counts(values: Mapping[str, Any]) -> bool:
    """One field that is empty clashes with nothing; of several, some may be empty."""
    return len(values) > 1 or None not in values.values()


def _key(values: Iterable[Any]) -> str:
    return json.dumps(list(values), sort_keys=True)


def _merged(old: Any, given: Mapping[str, Any]) -> Record:
    """Fields given replace the old ones; records are merged field by field."""
    merged = dict(old)
    for name, value in given.items():
        nested = isinstance(value, dict) and isinstance(old.get(name), dict) and "id" not in old[name]
        merged[name] = _merged(old[name], value) if nested else value
    return merged


def _without_stale_names(config: Record, given: Mapping[str, Any]) -> Record:
    """A plugin's config without the flat copies of nested fields, unless it was these that were given."""
    flat = {f"{name}_{inner}" for name, value in config.items() if isinstance(value, dict) for inner in value}
    return {name: value for name, value in config.items() if name in given or name not in flat}


def _encode_offset(id: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([id]).encode()).decode().rstrip("=")


def _decode_offset(offset: str) -> str:
    try:
        return str(json.loads(base64.urlsafe_b64decode(offset + "=" * (-len(offset) % 4)))[0])
    except (binascii.Error, ValueError, LookupError) as error:
        raise faults.invalid_offset(offset) from error
