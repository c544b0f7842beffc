"""Kong's entities, made of what was declared: with ids that stay, and tags that mark them as managed.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from uuid import UUID, uuid5

from gitops_mvd.core.model import JsonValue
from gitops_mvd.core.route import Target, weight
from gitops_mvd.core.xkong import XKong
from gitops_mvd.kong.compare import field_tags
from gitops_mvd.kong.entities import (
    LISTED,
    MANAGED_TAG,
    REFERENCES,
    TYPES,
    Entity,
    Fields,
    Key,
    Owner,
    tag_value,
    tags_of,
    unique_key,
)

_NAMESPACE = UUID("6f1f3b44-54ab-5c0c-8f6c-0d1f5b7a7f3e")


class Declarations:
    """The entities of what is declared, for the Kong of one host."""

    def __init__(self, host: str) -> None:
        self._host = host

    def of_service(self, owner: Owner, kong: XKong) -> list[Entity]:
        """Those of a service's `x-kong` in normal form: service, upstream, routes and plugins, but no targets."""
        return service_entities(self._host, owner, kong)

    def of_app(self, app: str, document: Mapping[str, Iterable[Fields]]) -> list[Entity]:
        """Those of the folder `kong/`."""
        return declared(self._host, document, [f"app:{app}"])

    def app_targets(self) -> list[Target]:
        """What the folder `kong/` has in place of the targets of a service: nothing."""
        return []

    def targets(self, owner: Owner, targets: Iterable[Target]) -> list[Entity]:
        """The targets of a service's upstream."""
        upstream = entity_id(self._host, "upstreams", service_name(owner))
        app, service = owner
        tags = [f"app:{app}", f"service:{service}"]
        return [target_entity(self._host, upstream, target, tags) for target in targets]

    def counting(self, owner: Owner, plugin: Fields) -> list[Entity]:
        """The plugin by which Kong tells this host of the requests of a service."""
        return counting_plugin(self._host, self._host, owner, plugin)


def counting_plugin(host: str, shared: str, owner: Owner, plugin: Fields) -> list[Entity]:
    """A plugin of that host, for a service of all hosts that share it."""
    app, service = owner
    of_service = {**plugin, "service": {"id": entity_id(shared, "services", service_name(owner))}}
    return declared(host, {"plugins": [of_service]}, [f"app:{app}", f"service:{service}"])


def service_entities(host: str, owner: Owner, kong: XKong) -> list[Entity]:
    """The entities of a service's `x-kong` in normal form, with ids and tags of that host."""
    app, service = owner
    name = service_name(owner)
    routes = [
        {**route, "name": f"{name}.{route.get('name') or number}"} for number, route in enumerate(kong["routes"], 1)
    ]
    protocol = {"protocol": kong["protocol"]} if "protocol" in kong else {}
    behind = {**protocol, **kong.get("service", {}), "name": name, "host": name}
    document = {
        "upstreams": [{**kong.get("upstream", {}), "name": name}],
        "services": [{**behind, "routes": routes, "plugins": kong.get("plugins", [])}],
    }
    return declared(host, document, [f"app:{app}", f"service:{service}"])


def service_name(owner: Owner) -> str:
    """The name of a service and of its upstream in Kong; without a service, that of the app's own upstream."""
    app, service = owner
    return f"mvd.{app}.{service}" if service else f"mvd.{app}"


def target_entity(host: str, upstream: str, target: Target, tags: Sequence[str]) -> Entity:
    """One target of the upstream with that id."""
    fields: Fields = {"target": target["address"], "weight": weight(target), "upstream": {"id": upstream}}
    (entity,) = declared(host, {"targets": [fields]}, [*tags, f"instance:{target['instance']}"])
    return entity


def declared(host: str, document: Mapping[str, Iterable[Fields]], tags: Sequence[str]) -> list[Entity]:
    """The entities of a document in Kong's declarative format, with nested ones taken out and references resolved."""
    entries = [(type, item) for type, items in document.items() for item in items]
    known = list(chain.from_iterable(_known_ids(host, *entry) for entry in entries))
    ids = {
        (type, name): id
        for key in ("custom_id", "username", "name")  # a consumer's name goes before the custom_id of another
        for type, item, id in known
        if isinstance(name := item.get(key), str)
    }
    entities = [entity for type, item in entries for entity in _declare(_Ids(host, ids), type, item, tags, inside={})]
    return sorted(entities, key=lambda entity: entity.rank)


def _known_ids(host: str, type: str, item: Fields) -> Iterator[tuple[str, Fields, str]]:
    """Consumers, which others refer to by either of two names, and what was given an id of its own: with their ids."""
    if type == "consumers" or item.get("id"):
        yield type, item, str(item.get("id") or entity_id(host, type, unique_key(type, item)))
    for child, items in _nested(item).items():
        for one in items:
            yield from _known_ids(host, child, one)


@dataclass(frozen=True)
class _Ids:
    """The ids of the entities of a host: as they are `known`, else as they follow from the name."""

    host: str
    known: Mapping[Key, str]

    def of(self, type: str, name: str) -> str:
        return self.known.get((type, name)) or entity_id(self.host, type, name)


def _nested(item: Fields) -> dict[str, list[Fields]]:
    return {key: items for key, value in item.items() if key in TYPES and (items := _mappings(value)) is not None}


def _declare(ids: _Ids, type: str, item: Fields, tags: Sequence[str], inside: Fields) -> Iterator[Entity]:
    nested = _nested(item)
    own = {key: value for key, value in item.items() if key not in nested and not key.startswith("_")}
    fields: dict[str, JsonValue] = {**own, **inside}
    for key in REFERENCES.keys() & fields.keys():
        fields[key] = _reference(ids, key, fields[key])
    fields.setdefault("id", entity_id(ids.host, type, unique_key(type, fields)))
    index = [] if type in LISTED else [f"index:{ids.host}"]
    user_tags = sorted(tags_of(own))
    fields["tags"] = [MANAGED_TAG, f"host:{ids.host}", *tags, *index, *field_tags(fields), *user_tags]
    yield Entity(type, fields)
    parent = next((key for key, plural in REFERENCES.items() if plural == type), "")
    for child, items in nested.items():
        for one in items:
            yield from _declare(ids, child, one, tags, {parent: {"id": fields["id"]}})


def _mappings(value: JsonValue) -> list[Fields] | None:
    """The items of a list of mappings; None for anything else."""
    if not isinstance(value, list):
        return None
    items = [item for item in value if isinstance(item, Mapping)]
    return items if len(items) == len(value) else None


def _reference(ids: _Ids, key: str, value: JsonValue) -> JsonValue:
    """The reference by id for one by name, as declarative files have it."""
    name = value.get("name") or value.get("username") if isinstance(value, Mapping) else value
    return {"id": ids.of(REFERENCES[key], name)} if isinstance(name, str) else value


def has_given_id(entity: Entity) -> bool:
    """Was a declared entity given an id of its own?"""
    host = tag_value(entity.tags, "host") or tag_value(entity.tags, "shared")
    return entity.id != entity_id(host, entity.type, unique_key(entity.type, entity.fields))


def entity_id(host: str, type: str, name: str) -> str:
    """The id that follows from host, type and name, so that a change updates in place; an id as `name` stays."""
    try:
        return str(UUID(name))
    except ValueError:
        return str(uuid5(_NAMESPACE, f"{host}/{type}/{name}"))
