"""What Kong answers when it refuses: a status, and a body with its code, name, message and fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any


class Fault(Exception):
    """A refusal, as the Admin API words it."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(body.get("message", ""))
        self.status = status
        self.body = body


def not_found() -> Fault:
    return Fault(404, {"message": "Not found"})


def method_not_allowed() -> Fault:
    return Fault(405, {"message": "Method not allowed"})


def bad_request(message: str) -> Fault:
    return Fault(400, {"message": message})


def schema_violation(errors: Mapping[str, Any]) -> Fault:
    """`errors` is field → sentence, or → the same one level down; "@entity" holds those of the whole."""
    entity_errors = errors.get("@entity", [])
    sentences = list(entity_errors)
    for field in sorted(errors.keys() - {"@entity"}):
        found = errors[field]
        if isinstance(found, str):
            sentences.append(f"{field}: {found}")
        else:
            sentences += [
                f"{field}.{key}: {value if isinstance(value, str) else lua(value)}" for key, value in _entries(found)
            ]
    count = "schema violation" if len(sentences) == 1 else f"{len(sentences)} schema violations"
    message = f"{count} ({'; '.join(sentences)})"
    return Fault(400, {"code": 2, "name": "schema violation", "message": message, "fields": dict(errors)})


def primary_key_violation(id: str) -> Fault:
    key = {"id": id}
    message = f"primary key violation on key '{lua(key)}'"
    return Fault(400, {"code": 3, "name": "primary key violation", "message": message, "fields": key})


def missing_reference(field: str, key: Mapping[str, Any], kind: str) -> Fault:
    message = f"the foreign key '{lua(key)}' does not reference an existing '{kind}' entity."
    return Fault(400, {"code": 4, "name": "foreign key violation", "message": message, "fields": {field: dict(key)}})


def still_referenced(kind: str, by: str) -> Fault:
    message = f"an existing '{by}' entity references this '{kind}' entity"
    return Fault(
        400, {"code": 4, "name": "foreign key violation", "message": message, "fields": {"@referenced_by": by}}
    )


def unique_violation(fields: Mapping[str, Any]) -> Fault:
    message = f"UNIQUE violation detected on '{lua(fields)}'"
    return Fault(409, {"code": 5, "name": "unique constraint violation", "message": message, "fields": dict(fields)})


def invalid_offset(offset: str) -> Fault:
    message = f"'{offset}' is not a valid offset: bad base64 encoding"
    return Fault(400, {"code": 7, "name": "invalid offset", "message": message})


def invalid_size() -> Fault:
    message = "size must be an integer between 1 and 1000"
    return Fault(400, {"code": 9, "name": "invalid size", "message": message})


def read_only(verb: str, kind: str) -> Fault:
    message = f"cannot {verb} '{kind}' entities when not using a database"
    return Fault(405, {"code": 12, "name": "operation unsupported", "message": message})


def invalid_declaration(errors: Mapping[str, Any]) -> Fault:
    message = f"declarative config is invalid: {lua(errors)}"
    return Fault(
        400,
        {"code": 14, "name": "invalid declarative configuration", "message": message, "fields": dict(errors)},
    )


def _entries(found: Any) -> list[tuple[Any, Any]]:
    """Pairs of a dict by key, or of a list by position from 1, without the holes."""
    if isinstance(found, dict):
        return sorted(found.items())
    return [(position, value) for position, value in enumerate(found, 1) if value is not None]


def lua(value: Any) -> str:
    """A value as Lua writes it, which is how Kong quotes it in messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, list):
        if None not in value:
            return "{" + ",".join(lua(each) for each in value) + "}"
        return "{" + ",".join(f"[{position}]={lua(each)}" for position, each in _entries(value)) + "}"
    if isinstance(value, dict):
        return "{" + ",".join(f"{_key(key)}={lua(each)}" for key, each in sorted(value.items())) + "}"
    return str(value)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z_]\w*", key) else f'["{key}"]'
