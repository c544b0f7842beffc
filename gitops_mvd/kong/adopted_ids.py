"""What was adopted keeps the id that it was found with; its tag `adopted:` has the id that it would have of us.  Pure.

Kong changes no id, and whatever else there is refers to an entity by it: credentials and plugins that the repository
does not have, apps that know a consumer by `X-Consumer-ID`.  So everybody above sees our ids, and Kong its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gitops_mvd.kong.compare import HASHED_HERE, shown_password
from gitops_mvd.kong.entities import ADOPTED, REFERENCES, Entity, tagged

LISTS_OF_IDS = ("ca_certificates",)


def ids_in_kong(entities: Iterable[Entity]) -> dict[str, str]:
    """Our id -> the one in Kong, of all that was adopted."""
    return {ours: entity.id for entity in entities if (ours := tagged(entity.tags, ADOPTED))}


def with_our_ids(entities: Sequence[Entity], ids: Mapping[str, str]) -> Sequence[Entity]:
    """What Kong shows, by our ids; the very same list where nothing was adopted."""
    if not ids:
        return entities
    ours = {theirs: ours for ours, theirs in ids.items()}
    return [Entity(entity.type, _renamed(entity.fields, ours), entity.kept) for entity in entities]


def with_ids_in_kong(entity: Entity, ids: Mapping[str, str]) -> Entity:
    """An entity of ours as Kong is to have it: under the id that it was found with, and with the tag that says so."""
    if not ids:
        return entity
    fields = _renamed(entity.fields, ids)
    tags = [tag for tag in entity.tags if not tag.startswith((f"{ADOPTED}:", f"{HASHED_HERE}:")) or entity.kept]
    if fields["id"] != entity.id and not entity.kept:
        tags.append(f"{ADOPTED}:{entity.id}")
    renamed = Entity(entity.type, {**fields, "tags": tags}, entity.kept)
    if entity.type == "basicauth_credentials" and "password" in fields and not entity.kept:
        there, here = shown_password(renamed, entity.id), shown_password(entity, entity.id)
        if there != here:  # Kong salts it with the id of the consumer: both are one password
            tags.append(f"{HASHED_HERE}:{there} {here}")
    return renamed


def _renamed(fields: Mapping[str, Any], ids: Mapping[str, str]) -> dict[str, Any]:
    renamed = {**fields, "id": ids.get(fields["id"], fields["id"])}
    for key in REFERENCES.keys() & fields.keys():
        if isinstance(value := fields[key], Mapping) and value.get("id") in ids:
            renamed[key] = {"id": ids[value["id"]]}
    for key in LISTS_OF_IDS:
        if isinstance(value := fields.get(key), list):
            renamed[key] = [ids.get(id, id) for id in value]
    return renamed
