"""The unmanaged entities of a Kong, for people: written as files, and shown before they are adopted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.entities import Entity
from gitops_mvd.kong.migrate.adopt import Adoption, Adoptions
from gitops_mvd.kong.migrate.dump import Dump, dump_all, x_kong
from gitops_mvd.kong.schema import Schemas
from gitops_mvd.state import files
from gitops_mvd.state.files import Entry

ONE_FILE = "kong.yaml"


def dump(kong: Kong, service: str = "", *, clear: bool = False, one_file: bool = False) -> Dump:
    """All unmanaged entities of a Kong, or one `service` of it as `x-kong`.  Raises Unavailable or StepFailed."""
    there, schemas = kong.all(), Schemas(kong.schema)
    if service:
        return x_kong(there, schemas, service, clear=clear)
    return dump_all(there, schemas, clear=clear, file=ONE_FILE if one_file else "")


def write(dumped: Dump, folder: Path | None, secrets: Path | None, *, force: bool) -> list[str]:
    """Write the files below `folder` and the secrets that they refer to into `secrets`; what was done, a line each.

    If one of them exists, nothing is written at all, unless with `force`.  Raises Unavailable or StepFailed.
    """
    texts = {folder / name: text for name, text in dumped.files.items()} if folder else {}
    hidden = {secrets / name: text for name, text in dumped.secrets.items()} if secrets else {}
    if there := [path for path in (*texts, *hidden) if path.exists() and not force]:
        raise StepFailed(f"cannot write {', '.join(map(str, there))}: already there", "--force overwrites")
    for path, text in hidden.items():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, Entry(f"{text}\n".encode(), 0o600, *_owner()))
    for path, text in texts.items():
        files.write(path, Entry(text.encode(), 0o644, *_owner()))
    lines = [f"wrote {path}" for path in texts]
    if hidden:
        lines.append(f"wrote {_secrets(len(hidden))} into {secrets}. Copy to /etc/gitops-mvd/secrets on each server.")
    elif dumped.secrets:
        lines.append(f"the files refer to {_secrets(len(dumped.secrets))}. --secrets FOLDER writes them, too.")
    return lines


def _secrets(number: int) -> str:
    return f"{number} {'secret' if number == 1 else 'secrets'}"


def _owner() -> tuple[int, int]:
    return os.geteuid(), os.getegid()


def lines(adoptions: Adoptions) -> Iterator[str]:
    """What would be adopted and what not, for people; secrets are digests."""
    for adoption in adoptions.adopted:
        found = adoption.found
        parent = f" of {adoption.parent}" if adoption.parent else ""
        id = "" if found.id in str(found) else f"  {found.id}"
        yield f"{'~' if adoption.changes else '='} {found}{parent}{id}"
        for name, (before, after) in adoption.changes.items():
            yield f"    {name}: {_shown(before)} → {_shown(after)}"
        if adoption.undeclared:
            yield f"    kept for now, but not declared: {', '.join(adoption.undeclared)}"
    for entity, why in adoptions.refused:
        yield f"! {entity} cannot be adopted: {why}"
    for entity, other in adoptions.shadowed:
        yield f"! {entity} matches the same requests as the route {_called(other)} in Kong, which is not managed"


def as_json(adoptions: Adoptions) -> dict[str, JsonValue]:
    """What would be adopted and what not, for programs."""
    return {
        "adopted": [_adoption_as_json(adoption) for adoption in adoptions.adopted],
        "refused": [{"type": entity.type, "name": str(entity), "why": why} for entity, why in adoptions.refused],
        "shadowed": [{"route": str(entity), "by": _called(other)} for entity, other in adoptions.shadowed],
    }


def _adoption_as_json(adoption: Adoption) -> dict[str, JsonValue]:
    return {
        "type": adoption.found.type,
        "name": str(adoption.found),
        "id": adoption.found.id,
        "of": adoption.parent,
        "changes": {name: {"was": before, "becomes": after} for name, (before, after) in adoption.changes.items()},
        "stays": list(adoption.undeclared),
    }


def _called(entity: Entity) -> str:
    return str(entity.fields.get("name") or entity.id)


def _shown(value: JsonValue) -> str:
    if value is None:
        return "nothing"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
