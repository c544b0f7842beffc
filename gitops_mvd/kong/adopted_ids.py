"""The two ids of an adopted entity: the one that it keeps in Kong, and the managed id in its tag `adopted:`.  Pure.

Kong changes no id, and much refers to an entity by it: credentials and plugins that the repository does not have, apps
that know a consumer by `X-Consumer-ID`.  So all code above this module sees managed ids, which follow from what was
declared, and Kong its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.compare import ADOPTED_PASSWORD, shown_password
from gitops_mvd.kong.entities import ADOPTED, REFERENCES, Entity, Fields, tag_value

LISTS_OF_IDS = ("ca_certificates",)


def ids_in_kong(entities: Iterable[Entity]) -> dict[str, str]:
    """Managed id -> id in Kong, of all adopted entities."""
    return {managed: entity.id for entity in entities if (managed := tag_value(entity.tags, ADOPTED))}


def with_managed_ids(entities: Sequence[Entity], ids: Mapping[str, str]) -> Sequence[Entity]:
    """The entities that Kong shows, by their managed ids; the very same list where nothing was adopted."""
    if not ids:
        return entities
    managed = {in_kong: id for id, in_kong in ids.items()}
    return [entity.with_fields(_renamed(entity.fields, managed)) for entity in entities]


def with_ids_in_kong(entity: Entity, ids: Mapping[str, str]) -> Entity:
    """A managed entity as it is written: under the id that it has in Kong, with the tag that names its managed id."""
    if not ids:
        return entity
    fields = _renamed(entity.fields, ids)
    if entity.from_admin_api:
        return entity.with_fields(fields)
    tags = [tag for tag in entity.tags if not tag.startswith((f"{ADOPTED}:", f"{ADOPTED_PASSWORD}:"))]
    if fields["id"] != entity.id:
        tags.append(f"{ADOPTED}:{entity.id}")
    renamed = entity.with_fields({**fields, "tags": tags})
    if entity.type == "basicauth_credentials" and "password" in fields:
        in_kong, by_managed_id = shown_password(renamed, entity.id), shown_password(entity, entity.id)
        if in_kong != by_managed_id:  # Kong salts it with the id of the consumer: both are one password
            return entity.with_fields({**fields, "tags": [*tags, f"{ADOPTED_PASSWORD}:{in_kong} {by_managed_id}"]})
    return renamed


def _renamed(fields: Fields, ids: Mapping[str, str]) -> dict[str, JsonValue]:
    renamed = {**fields, "id": ids.get(str(fields["id"]), fields["id"])}
    for key in REFERENCES.keys() & fields.keys():
        if isinstance(value := fields[key], Mapping) and (id := ids.get(str(value.get("id")))):
            renamed[key] = {"id": id}
    for key in LISTS_OF_IDS:
        if isinstance(value := fields.get(key), list):
            renamed[key] = [ids.get(id, id) for id in value]
    return renamed
