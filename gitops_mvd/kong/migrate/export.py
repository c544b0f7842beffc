"""What a Kong has beside ours, for people: written as files of a repository, and shown before it is adopted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.kong.client import Kong
from gitops_mvd.kong.entities import Entity
from gitops_mvd.kong.migrate.adopt import Adoption, Adoptions
from gitops_mvd.kong.migrate.dump import Dump, dump_all, x_kong
from gitops_mvd.kong.schema import Schemas
from gitops_mvd.state import files
from gitops_mvd.state.files import Entry

ONE = "kong.yaml"


def dump(kong: Kong, service: str = "", *, clear: bool = False, one_file: bool = False) -> Dump:
    """All of a Kong that is not ours, or one `service` of it as `x-kong`.  Raises Unavailable or StepFailed."""
    there, schemas = kong.all(), Schemas(kong.schema)
    if service:
        return x_kong(there, schemas, service, clear=clear)
    return dump_all(there, schemas, clear=clear, file=ONE if one_file else "")


def write(dumped: Dump, folder: Path | None, secrets: Path | None, *, force: bool) -> list[str]:
    """Write the files below `folder` and what they refer to into `secrets`; what was done, a line each.

    Nothing at all is written where one of them is there already, unless by `force`.  Raises Unavailable or StepFailed.
    """
    texts = {folder / name: text for name, text in dumped.files.items()} if folder else {}
    hidden = {secrets / name: text for name, text in dumped.secrets.items()} if secrets else {}
    if there := [path for path in (*texts, *hidden) if path.exists() and not force]:
        raise StepFailed(f"{', '.join(map(str, there))} would be written over", "--force does that")
    for path, text in hidden.items():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        files.write(path, Entry(f"{text}\n".encode(), 0o600, *_owner()))
    for path, text in texts.items():
        files.write(path, Entry(text.encode(), 0o644, *_owner()))
    lines = [f"{path}: written" for path in texts]
    if hidden:
        lines.append(f"{len(hidden)} secrets are in {secrets}: on the server, they belong into /etc/gitops-mvd/secrets")
    elif dumped.secrets:
        lines.append(f"{len(dumped.secrets)} secrets are only named, and still to be fetched: --secrets FOLDER does so")
    return lines


def _owner() -> tuple[int, int]:
    return os.geteuid(), os.getegid()


def lines(adoptions: Adoptions) -> Iterator[str]:
    """What would become ours and what not, for people; secrets are digests."""
    for adoption in adoptions.adopted:
        there = adoption.found
        whose = f" of {adoption.of}" if adoption.of else ""
        id = "" if there.id in str(there) else f"  {there.id}"
        yield f"{'~' if adoption.changes else '='} {there}{whose}{id}"
        for name, (was, becomes) in adoption.changes.items():
            yield f"    {name}: {_shown(was)} → {_shown(becomes)}"
        if adoption.stays:
            yield f"    is kept for now, but not declared: {', '.join(adoption.stays)}"
    for entity, why in adoptions.refused:
        yield f"! {entity}  can not be adopted: {why}"
    for entity, other in adoptions.shadowed:
        yield f"! {entity}  takes the same requests as the route {_called(other)} of Kong's, which is not ours"


def as_json(adoptions: Adoptions) -> dict[str, Any]:
    return {
        "adopted": [_adoption_as_json(adoption) for adoption in adoptions.adopted],
        "refused": [{"type": entity.type, "name": str(entity), "why": why} for entity, why in adoptions.refused],
        "shadowed": [{"route": str(entity), "by": _called(other)} for entity, other in adoptions.shadowed],
    }


def _adoption_as_json(adoption: Adoption) -> Mapping[str, Any]:
    return {
        "type": adoption.found.type,
        "name": str(adoption.found),
        "id": adoption.found.id,
        "of": adoption.of,
        "changes": {name: {"was": was, "becomes": becomes} for name, (was, becomes) in adoption.changes.items()},
        "stays": list(adoption.stays),
    }


def _called(entity: Entity) -> str:
    return str(entity.fields.get("name") or entity.id)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
