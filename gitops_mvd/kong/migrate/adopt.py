"""What of a Kong the repository declares too, and what it takes to make that ours.  Pure.

An entity is adopted in place: it keeps its id (`adopted.py`), its age, whatever refers to it, and every field that the
repository does not declare.  So there is no moment in which it is not there, and each is one write of its own: a
failure leaves some adopted and the others as they were, and to do it again does the rest.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from gitops_mvd.core.model import Json
from gitops_mvd.kong.adopted_ids import ids_in_kong, with_ids_in_kong
from gitops_mvd.kong.compare import MAPS, is_ours_to_say, normal
from gitops_mvd.kong.entities import OWNED, REFERENCES, UNIQUE, Entity, as_json, is_ours, tagged
from gitops_mvd.kong.schema import Schemas

MATCHERS = ("paths", "hosts", "methods", "headers", "snis", "sources", "destinations", "expression", "protocols")


@dataclass(frozen=True)
class Adoption:
    """One entity that becomes ours: `entity` has what is written, under the id that it has in Kong.

    `changes` has the declared fields that have another value there, as dotted path -> was and becomes, secrets as
    digests; `stays` names what is there and is no default, and of which the repository says nothing.  `of` is what it
    stands in.
    """

    entity: Entity
    found: Entity
    of: str = ""
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    stays: Sequence[str] = ()


@dataclass(frozen=True)
class Adoptions:
    """`adopted` in the order in which they can be written; `refused`, what can not be, and why.

    `shadowed` are routes of ours beside one that is not ours and takes the same requests.
    """

    adopted: Sequence[Adoption] = ()
    refused: Sequence[tuple[Entity, str]] = ()
    shadowed: Sequence[tuple[Entity, Entity]] = ()


def plan(host: str, declared: Sequence[Entity], there: Sequence[Entity], schemas: Schemas) -> Adoptions:
    """Each of the declared entities of this host beside the one in Kong that says the same, and is not ours yet."""
    found = _Found(host, there)
    ids = ids_in_kong(entity for entity in there if is_ours(entity.fields, host))
    taken = {ids.get(entity.id, entity.id) for entity in declared}  # by what is declared and is there under its own id
    adopted: list[Adoption] = []
    refused: list[tuple[Entity, str]] = []
    for entity in sorted(declared, key=lambda entity: entity.rank):
        wanted = with_ids_in_kong(entity, ids)
        rivals = found.like(wanted)
        if not rivals or (rivals[0].id == wanted.id and is_ours(rivals[0].fields, host)):
            continue  # it is new, and the daemon's to make, or it is ours
        theirs = rivals[0]
        if why := found.why_not(wanted, rivals, taken):
            refused.append((entity, why))
            continue
        taken.add(theirs.id)
        ids |= {entity.id: theirs.id} if theirs.id != entity.id else {}
        becomes = with_ids_in_kong(entity, ids)
        adopted.append(
            Adoption(becomes, theirs, found.around(theirs), changes(becomes, theirs), _stays(becomes, theirs, schemas))
        )
    ours = {adoption.found.id for adoption in adopted}
    return Adoptions(adopted, refused, list(found.shadows(declared, ours)))


class _Found:
    """What is in Kong, by all that is unique about it."""

    def __init__(self, host: str, there: Sequence[Entity]) -> None:
        self._host = host
        self._there = there
        self._by_id = {(entity.type, entity.id): entity for entity in there}
        self._by_key: dict[tuple[str, str], list[Entity]] = defaultdict(list)
        for entity in there:
            for key in _keys(entity.type, entity.fields):
                self._by_key[entity.type, key].append(entity)

    def like(self, entity: Entity) -> Sequence[Entity]:
        """The one of that id or, without one, all that Kong would not let be beside the entity."""
        if (entity.type, entity.id) in self._by_id:
            return [self._by_id[entity.type, entity.id]]
        keys = _keys(entity.type, entity.fields)
        return list({one.id: one for key in keys for one in self._by_key[entity.type, key]}.values())

    def around(self, entity: Entity) -> str:
        """What an entity belongs to, for people."""
        belongs = {key: entity.fields.get(key) for key in REFERENCES if key != "client_certificate"}
        around = (self._by_id.get((REFERENCES[key], str(_plain(value)))) for key, value in belongs.items() if value)
        return ", ".join(str(one) for one in around if one)

    def why_not(self, entity: Entity, rivals: Sequence[Entity], taken: Set[str]) -> str:
        """Why none of the rivals can become that entity; "" where it can."""
        theirs = rivals[0]
        owner = tagged(theirs.tags, "host")
        if len(rivals) > 1:
            there = ", ".join(one.id for one in rivals)
            return f"is in Kong {len(rivals)} times, in parts: {there}; delete all but one of them"
        if OWNED in theirs.tags and owner and owner != self._host:
            return f"is of the host {owner}, whose gitops-mvd keeps it"
        if theirs.id in taken and theirs.id != entity.id:
            return "is there once, and declared twice"
        for key, type in REFERENCES.items():
            reference = entity.fields.get(key)
            if isinstance(reference, Mapping) and (type, reference.get("id")) not in self._by_id:
                return f"has another {key} in Kong, and the one that is declared is not there yet"
        if entity.type == "oauth2_credentials" and theirs.fields.get("hash_secret"):
            return "Kong only tells the hash of its secret, which can not be compared"
        if entity.type == "upstreams" and tagged(entity.tags, "service"):
            targets = [it for it in self._there if it.type == "targets" and it.fields["upstream"]["id"] == theirs.id]
            if targets:
                names = ", ".join(str(target.fields["target"]) for target in targets)
                return f"has targets that are no instances of ours and would go on being asked: {names}; delete them"
        return ""

    def shadows(self, declared: Iterable[Entity], ours: Set[str]) -> Iterator[tuple[Entity, Entity]]:
        """The routes of ours that another route takes the requests of, or may do so, for it matches the same."""
        others: dict[str, Entity] = {}
        for entity in self._there:
            if entity.type == "routes" and OWNED not in entity.tags and entity.id not in ours:
                others.setdefault(_matched(entity.fields), entity)
        for entity in declared:
            if entity.type == "routes" and (other := others.get(_matched(entity.fields))):
                yield entity, other


def changes(entity: Entity, theirs: Entity) -> dict[str, tuple[Any, Any]]:
    """The declared fields that are another than they are to be, in the vocabulary of `normal`."""
    fields = [tag for tag in entity.tags if tag.startswith("fields:")]
    own = [tag for tag in theirs.tags if not is_ours_to_say(tag)]
    was = normal([Entity(entity.type, {**theirs.fields, "tags": [*fields, *own]}, kept=True)])
    becomes = normal([entity])
    before, after = was[entity.type][entity.id], becomes[entity.type][entity.id]
    names = [*after, *(name for name in before if name not in after)]
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _stays(entity: Entity, theirs: Entity, schemas: Schemas) -> list[str]:
    """What is neither declared nor a default.  It is kept for now, and lost once another change rewrites the entity."""
    lean = schemas.lean(theirs.type, {key: value for key, value in theirs.fields.items() if key not in REFERENCES})
    return [name for name in _names_without(lean, entity.fields) if name not in {"tags", "snis", "cert_digest"}]


def _names_without(value: Json, declared: Json) -> Iterator[str]:
    for key, below in value.items():
        if key not in declared:
            yield key
        elif isinstance(below, Mapping) and isinstance(declared[key], Mapping) and key not in MAPS:
            yield from (f"{key}.{name}" for name in _names_without(below, declared[key]))


def _keys(type: str, fields: Json) -> Iterator[str]:
    """All by which Kong, or a reader, would take two entities of a type for the same."""
    for key in UNIQUE.get(type, ("name",)):
        if isinstance(key, tuple):
            yield as_json([key, *(_plain(fields.get(part)) for part in key)])
        elif fields.get(key) is not None:
            yield as_json([key, str(fields[key]).strip()])
    if type == "plugins" and fields.get("instance_name"):
        yield as_json(["instance_name", fields["instance_name"]])
    if type == "routes" and not fields.get("name"):
        yield as_json(["matched", _plain(fields.get("service")), _matched(fields)])
    if type == "services" and not fields.get("name"):
        yield as_json(["place", fields.get("protocol") or "http", fields.get("host"), fields.get("port") or 80])


def _matched(fields: Json) -> str:
    """The requests that a route takes."""
    return as_json([_sorted(name, fields) for name in MATCHERS])


def _sorted(name: str, fields: Json) -> Any:
    value = fields.get(name) or (["http", "https"] if name == "protocols" else None)
    return sorted(value, key=as_json) if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    return value["id"] if isinstance(value, Mapping) and "id" in value else value
