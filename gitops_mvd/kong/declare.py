"""From what was declared to Kong's entities, with ids that stay and tags by which they are known again.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid5

from gitops_mvd.core.model import Json
from gitops_mvd.kong.compare import field_tags
from gitops_mvd.kong.entities import DEFAULT_WEIGHT, LISTED, OWNED, REFERENCES, TYPES, Entity, unique_key

_NAMESPACE = UUID("6f1f3b44-54ab-5c0c-8f6c-0d1f5b7a7f3e")


def of_service(host: str, app: str, service: str, kong: Json) -> list[Entity]:
    """The entities of one service's `x-kong` in normal form: service, upstream, routes and plugins, but no targets."""
    name = f"mvd.{app}.{service}"
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


def of_targets(host: str, app: str, service: str, targets: Iterable[Json]) -> list[Entity]:
    """The targets of a service's upstream: `{"instance": ..., "address": "127.0.0.1:20000"}` each.

    What a route that was changed by hand has behind the address is left out.
    """
    upstream = {"id": _id(host, "upstreams", f"mvd.{app}.{service}")}
    return [
        entity
        for target in targets
        for entity in declared(
            host,
            {"targets": [{"target": target["address"].split(" ")[0], "weight": DEFAULT_WEIGHT, "upstream": upstream}]},
            [f"app:{app}", f"service:{service}", f"instance:{target['instance']}"],
        )
    ]


def declared(host: str, document: Mapping[str, Iterable[Json]], tags: Sequence[str]) -> list[Entity]:
    """The entities of a document in Kong's declarative format, with nested ones taken out and references resolved."""
    entities = [
        entity
        for type, items in document.items()
        for item in items
        for entity in _declare(host, type, item, tags, inside={})
    ]
    return sorted(entities, key=lambda entity: entity.rank)


def _declare(host: str, type: str, item: Json, tags: Sequence[str], inside: Json) -> Iterator[Entity]:
    nested = {key: value for key, value in item.items() if key in TYPES and _has_mappings(value)}
    own = {key: value for key, value in item.items() if key not in nested and not key.startswith("_")}
    fields = {**own, **inside}
    for key in REFERENCES.keys() & fields.keys():
        fields[key] = _reference(host, key, fields[key])
    fields.setdefault("id", _id(host, type, unique_key(type, fields)))
    index = [] if type in LISTED else [f"index:{host}"]
    fields["tags"] = [OWNED, f"host:{host}", *tags, *index, *field_tags(fields), *sorted(own.get("tags") or [])]
    yield Entity(type, fields)
    parent = next((key for key, plural in REFERENCES.items() if plural == type), "")
    for child, items in nested.items():
        for one in items:
            yield from _declare(host, child, one, tags, {parent: {"id": fields["id"]}})


def _has_mappings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def _reference(host: str, key: str, value: Any) -> Any:
    """Declarative files refer by name; ids follow from names."""
    name = value.get("name") or value.get("username") if isinstance(value, Mapping) else value
    return {"id": _id(host, REFERENCES[key], name)} if isinstance(name, str) else value


def _id(host: str, type: str, name: str) -> str:
    """Follows from owner, type and name, so that what changes is updated in place.  A given id stays."""
    try:
        return str(UUID(name))
    except ValueError:
        return str(uuid5(_NAMESPACE, f"{host}/{type}/{name}"))
