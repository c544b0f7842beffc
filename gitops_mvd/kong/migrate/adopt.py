"""Which entities of a Kong the repository declares too, and what is written to make them managed.  Pure.

An entity is adopted in place: it keeps its id (`adopted_ids.py`), its age, whatever refers to it, and every field that
the repository does not declare.  So it is never missing, and each is one write of its own: a failure leaves some
adopted and the others as they were, and to adopt again does the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from gitops_mvd.core.model import JsonValue
from gitops_mvd.kong.adopted_ids import ids_in_kong, with_ids_in_kong
from gitops_mvd.kong.compare import MAPS, declared_fields, is_managed_tag
from gitops_mvd.kong.entities import (
    MANAGED_TAG,
    REFERENCES,
    UNIQUE,
    Entity,
    Fields,
    as_json,
    id_or_value,
    is_managed,
    tag_value,
)
from gitops_mvd.kong.schema import Schemas

MATCHERS = ("paths", "hosts", "methods", "headers", "snis", "sources", "destinations", "expression", "protocols")


@dataclass(frozen=True)
class Adoption:
    """One entity that becomes managed: `entity` has what is written, under the id that it has in Kong.

    `changes` has the declared fields with another value in Kong: dotted path -> before and after, secrets as digests.
    `undeclared` names the fields that have no default value and that the repository does not declare.  `parent` is what
    it belongs to, for people.
    """

    entity: Entity
    found: Entity
    parent: str = ""
    changes: Mapping[str, tuple[JsonValue, JsonValue]] = field(default_factory=dict)
    undeclared: Sequence[str] = ()


@dataclass(frozen=True)
class Adoptions:
    """`adopted` in the order in which they can be written; `refused` cannot be adopted, each with the reason.

    `shadowed` are managed routes, each with one that is not managed and matches the same requests.
    """

    adopted: Sequence[Adoption] = ()
    refused: Sequence[tuple[Entity, str]] = ()
    shadowed: Sequence[tuple[Entity, Entity]] = ()


def plan(host: str, declared: Sequence[Entity], there: Sequence[Entity], schemas: Schemas) -> Adoptions:
    """What to adopt for the declared entities of this host, of all that is in Kong."""
    in_kong = _InKong(host, there)
    ids = ids_in_kong(entity for entity in there if is_managed(entity.fields, host))
    taken = {ids.get(entity.id, entity.id) for entity in declared}  # ids in Kong that a declared entity has
    adopted: list[Adoption] = []
    refused: list[tuple[Entity, str]] = []
    for entity in sorted(declared, key=lambda entity: entity.rank):
        wanted = with_ids_in_kong(entity, ids)
        rivals = in_kong.rivals(wanted)
        if not rivals or (rivals[0].id == wanted.id and is_managed(rivals[0].fields, host)):
            continue  # it is new, and the daemon will create it, or it is managed already
        found = rivals[0]
        if why := in_kong.why_not(wanted, rivals, taken):
            refused.append((entity, why))
            continue
        taken.add(found.id)
        ids |= {entity.id: found.id} if found.id != entity.id else {}
        after = with_ids_in_kong(entity, ids)
        undeclared = sorted(_undeclared(after, found, schemas))
        adopted.append(Adoption(after, found, in_kong.parent(found), changes(after, found), undeclared))
    adopted_ids = {adoption.found.id for adoption in adopted}
    return Adoptions(adopted, refused, list(in_kong.shadows(declared, adopted_ids)))


class _InKong:
    """What is in Kong, by all that must be unique about it."""

    def __init__(self, host: str, there: Sequence[Entity]) -> None:
        self._host = host
        self._there = there
        self._by_id = {entity.key: entity for entity in there}
        self._by_key: dict[tuple[str, str], list[Entity]] = defaultdict(list)
        for entity in there:
            for key in _keys(entity.type, entity.fields):
                self._by_key[entity.type, key].append(entity)

    def rivals(self, entity: Entity) -> Sequence[Entity]:
        """The one with that id or, without one, all that clash with the entity."""
        if entity.key in self._by_id:
            return [self._by_id[entity.key]]
        keys = _keys(entity.type, entity.fields)
        return list({one.id: one for key in keys for one in self._by_key[entity.type, key]}.values())

    def parent(self, entity: Entity) -> str:
        """What an entity belongs to, for people."""
        ids = {key: entity.reference(key) for key in REFERENCES if key != "client_certificate"}
        parents = (self._by_id.get((REFERENCES[key], id)) for key, id in ids.items() if id)
        return ", ".join(str(one) for one in parents if one)

    def why_not(self, entity: Entity, rivals: Sequence[Entity], taken: Set[str]) -> str:
        """Why none of the rivals can become that entity; "" if it can."""
        found = rivals[0]
        owner = tag_value(found.tags, "host")
        if len(rivals) > 1:
            there = ", ".join(one.id for one in rivals)
            return f"{len(rivals)} entities in Kong clash with it: {there}; delete all but one of them"
        if MANAGED_TAG in found.tags and owner and owner != self._host:
            return f"the gitops-mvd of the host {owner} manages it"
        if found.id in taken and found.id != entity.id:
            return "Kong has it once, and it is declared twice"
        for key, type in REFERENCES.items():
            reference = entity.fields.get(key)
            if isinstance(reference, Mapping) and (type, reference.get("id")) not in self._by_id:
                return f"it has another {key} in Kong, and the declared one is not there yet"
        if entity.type == "oauth2_credentials" and found.fields.get("hash_secret"):
            return "Kong shows only the hash of its secret, which cannot be compared"
        if entity.type == "upstreams" and tag_value(entity.tags, "service"):
            targets = [it for it in self._there if it.type == "targets" and it.reference("upstream") == found.id]
            if targets:
                names = ", ".join(str(target.fields["target"]) for target in targets)
                return f"it has targets that are no managed instances and would get requests: {names}; delete them"
        return ""

    def shadows(self, declared: Iterable[Entity], adopted_ids: Set[str]) -> Iterator[tuple[Entity, Entity]]:
        """The managed routes, each with one that is not managed and matches the same requests."""
        others: dict[str, Entity] = {}
        for entity in self._there:
            if entity.type == "routes" and MANAGED_TAG not in entity.tags and entity.id not in adopted_ids:
                others.setdefault(_matched(entity.fields), entity)
        for entity in declared:
            if entity.type == "routes" and (other := others.get(_matched(entity.fields))):
                yield entity, other


def changes(entity: Entity, found: Entity) -> dict[str, tuple[JsonValue, JsonValue]]:
    """The declared fields that have another value in Kong, as `declared_fields` shows them: before and after."""
    fields = [tag for tag in entity.tags if tag.startswith("fields:")]
    user_tags = [tag for tag in found.tags if not is_managed_tag(tag)]
    compared = Entity(entity.type, {**found.fields, "tags": [*fields, *user_tags]}, from_admin_api=True)
    before = declared_fields([compared])[entity.type][entity.id]
    after = declared_fields([entity])[entity.type][entity.id]
    names = [*after, *(name for name in before if name not in after)]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _undeclared(entity: Entity, found: Entity, schemas: Schemas) -> list[str]:
    """The names of what is neither declared nor a default.  Kong keeps it until another change rewrites the entity."""
    own = {key: value for key, value in found.fields.items() if key not in REFERENCES}
    shown = schemas.without_defaults(found.type, own)
    return [name for name in _names_without(shown, entity.fields) if name not in {"tags", "snis", "cert_digest"}]


def _names_without(value: Fields, declared: Fields) -> Iterator[str]:
    for key, below in value.items():
        if key not in declared:
            yield key
        elif isinstance(below, Mapping) and isinstance(other := declared[key], Mapping) and key not in MAPS:
            yield from (f"{key}.{name}" for name in _names_without(below, other))


def _keys(type: str, fields: Fields) -> Iterator[str]:
    """All by which Kong, or a reader, would take two entities of a type for the same."""
    for key in UNIQUE.get(type, ("name",)):
        if isinstance(key, tuple):
            yield as_json([key, *(id_or_value(fields.get(part)) for part in key)])
        elif fields.get(key) is not None:
            yield as_json([key, str(fields[key]).strip()])
    if type == "plugins" and fields.get("instance_name"):
        yield as_json(["instance_name", fields["instance_name"]])
    if type == "routes" and not fields.get("name"):
        yield as_json(["matched", id_or_value(fields.get("service")), _matched(fields)])
    if type == "services" and not fields.get("name"):
        yield as_json(["place", fields.get("protocol") or "http", fields.get("host"), fields.get("port") or 80])


def _matched(fields: Fields) -> str:
    """The requests that a route takes."""
    return as_json([_sorted(name, fields) for name in MATCHERS])


def _sorted(name: str, fields: Fields) -> JsonValue:
    value = fields.get(name) or (["http", "https"] if name == "protocols" else None)
    return sorted(value, key=as_json) if isinstance(value, list) else value
