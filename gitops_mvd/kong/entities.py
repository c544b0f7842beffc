"""Kong's entities: declared ones get stable ids and tags, by which they are known in what Kong shows.  Pure.

Kong fills in every default, so what it shows is never what was declared.  Each entity of ours therefore carries the
names of its declared fields in its tags, and only those are compared (`normal`).  That needs no memory and no schema,
and a default that changes with a new Kong is no difference.
"""

from __future__ import annotations

import functools
import hashlib
import json
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID, uuid5

from gitops_mvd.errors import StepFailed
from gitops_mvd.model import Json

OWNED = "managed-by:gitops-mvd"
DEFAULT_WEIGHT = 100

# In the order in which they can be made: each refers only to those before it.
TYPES = (
    "ca_certificates",
    "certificates",
    "snis",
    "vaults",
    "key_sets",
    "keys",
    "consumer_groups",
    "consumers",
    "keyauth_credentials",
    "basicauth_credentials",
    "hmacauth_credentials",
    "jwt_secrets",
    "oauth2_credentials",
    "acls",
    "upstreams",
    "targets",
    "services",
    "routes",
    "plugins",
)
LISTED = ("services", "routes", "upstreams")  # what every route has; of all else, the tag `index:` tells what there is
REFERENCES = {
    "service": "services",
    "route": "routes",
    "consumer": "consumers",
    "consumer_group": "consumer_groups",
    "upstream": "upstreams",
    "certificate": "certificates",
    "client_certificate": "certificates",
    "set": "key_sets",
}
# What Kong lets exist only once; the first field that is there, or all of a tuple.
UNIQUE: Mapping[str, tuple[str | tuple[str, ...], ...]] = {
    "ca_certificates": ("cert",),
    "certificates": ("cert",),
    "vaults": ("prefix",),
    "consumers": ("username", "custom_id"),
    "keyauth_credentials": ("key",),
    "basicauth_credentials": ("username",),
    "hmacauth_credentials": ("username",),
    "jwt_secrets": ("key",),
    "oauth2_credentials": ("client_id",),
    "acls": (("consumer", "group"),),
    "targets": (("upstream", "target"),),
    "plugins": (("name", "service", "route", "consumer", "consumer_group"),),
}
OPEN = {"services", "routes", "upstreams", "targets", "consumers", "consumer_groups", "snis"}  # have no secrets in them
SETS = {"methods", "hosts", "paths", "snis", "protocols", "http_statuses"}  # their order means nothing to Kong
MAPS = {"headers"}  # keys are the user's, so that one more is a difference
OUTSIDE = {"id", "tags", "created_at", "updated_at", "ws_id"}  # never compared as fields

_NAMESPACE = UUID("6f1f3b44-54ab-5c0c-8f6c-0d1f5b7a7f3e")
_TAG_LENGTH = 1000  # PostgreSQL indexes tags, and an entry ends at 2,700 bytes
_LISTS = "#"


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity, flat: `fields` as the Admin API has them, with its id, and references as `{"id": ...}`.

    `kept` is an entity as Kong shows it, so that passwords in it are hashed already.
    """

    type: str
    fields: Json = field(repr=False)
    kept: bool = False

    @property
    def id(self) -> str:
        return str(self.fields["id"])

    @property
    def tags(self) -> Sequence[str]:
        return self.fields.get("tags") or ()

    @property
    def rank(self) -> int:
        """When it is made.  A plugin of a service comes before its routes: no route is ever open without it."""
        if self.type == "plugins" and not self.fields.get("route"):
            return 2 * TYPES.index("routes") - 1
        return 2 * TYPES.index(self.type) if self.type in TYPES else 0

    def __str__(self) -> str:
        """What it is, for people, without a secret."""
        name = self.fields.get("name") or self.fields.get("username") or self.fields.get("target")
        shown = name if self.type in OPEN | {"plugins"} else self.id
        return f"{self.type.removesuffix('s')} {shown or self.id}"


def part_of(entity: Entity) -> str:
    """The id of what a route's payload has of it: targets come and go, their upstream stays."""
    return str(entity.fields["upstream"]["id"]) if entity.type == "targets" else entity.id


def tagged(tags: Iterable[str], name: str) -> str:
    """The value of the tag `name:value`, "" without one."""
    prefix = f"{name}:"
    for tag in tags:
        if tag.startswith(prefix):
            return tag[len(prefix) :]
    return ""


def is_ours(fields: Json, host: str) -> bool:
    tags = fields.get("tags") or ()
    return OWNED in tags and f"host:{host}" in tags and bool(tagged(tags, "app"))


# ---- from what was declared ------------------------------------------------------------------------------------------


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
    paths = [f"fields:{line}" for line in _chunks(sorted(map(_dotted, _paths(fields))))]
    fields["tags"] = [OWNED, f"host:{host}", *tags, *index, *paths, *sorted(own.get("tags") or [])]
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


def unique_key(type: str, fields: Json) -> str:
    """What Kong lets exist only once among those of a type; without such a thing, all that was declared."""
    for key in UNIQUE.get(type, ("name",)):
        if isinstance(key, tuple):
            return _json([_plain(fields.get(part)) for part in key])
        if fields.get(key) is not None:
            return str(fields[key])
    return _json({key: value for key, value in fields.items() if key not in OUTSIDE})


def _plain(value: Any) -> Any:
    return value["id"] if isinstance(value, Mapping) and "id" in value else value


def as_kept(entity: Entity) -> Entity:
    """The entity as Kong keeps it: what Kong derives by itself when written to a database, but not from a document.

    Passwords of basic-auth are SHA-1 of the password and the consumer's id, `cert_digest` is that of the DER form.
    """
    if entity.kept or entity.type not in {"basicauth_credentials", "ca_certificates"}:
        return entity
    fields = dict(entity.fields)
    if entity.type == "basicauth_credentials" and "password" in fields:
        salted = f"{fields['password']}{fields['consumer']['id']}"
        fields["password"] = hashlib.sha1(salted.encode(), usedforsecurity=False).hexdigest()
    if entity.type == "ca_certificates" and "cert" in fields:
        fields["cert_digest"] = hashlib.sha256(_der(fields["cert"])).hexdigest()
    return Entity(entity.type, fields, kept=True)


def _der(certificate: str) -> bytes:
    try:
        return ssl.PEM_cert_to_DER_cert(certificate)
    except ValueError:
        return b""  # Kong will say that it is none


def clash(entity: Entity, other: Entity) -> StepFailed:
    tags = f"tags {', '.join(other.tags)}" if other.tags else "no tags"
    hint = "rename one of them, or delete that one from Kong"
    return StepFailed(f"{entity} is already in Kong and not ours: {other.id}, {tags}", hint)


# ---- comparing -------------------------------------------------------------------------------------------------------


def normal(entities: Iterable[Entity]) -> dict[str, dict[str, Json]]:
    """What was declared of these entities, in one vocabulary for both sides: type -> id -> dotted path -> value.

    Sets are sorted, and secrets, which are all texts in a plugin's `config` and in anything like a credential, are
    digests.
    """
    spec: dict[str, dict[str, Json]] = {}
    for entity in entities:
        kept = as_kept(entity)
        paths = {dotted: path for tag in entity.tags if tag.startswith("fields:") for dotted, path in _named(tag)}
        values = {dotted: _shown(entity, path, _at(kept.fields, path)) for dotted, path in sorted(paths.items())}
        tags = sorted(tag for tag in entity.tags if not _is_about(tag))
        spec.setdefault(entity.type, {})[entity.id] = {**values, **({"tags": tags} if tags else {})}
    return spec


def same(entity: Entity, there: Entity | None) -> bool:
    """Is what is there all that was declared, under the same tags?"""
    return there is not None and set(entity.tags) == set(there.tags) and normal([entity]) == normal([there])


def declared_names(fields: Json) -> set[str]:
    """The names of the fields of which something was declared."""
    return {path[0] for tag in fields.get("tags") or () if tag.startswith("fields:") for _, path in _named(tag)}


def _is_about(tag: str) -> bool:
    return tag == OWNED or tag.startswith(("host:", "app:", "service:", "instance:", "fields:", "index:"))


def _paths(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The paths of all leaves; a list of mappings has its length as a leaf, so that one more is seen."""
    if isinstance(value, Mapping) and value and not (path and path[-1] in MAPS):
        for key, below in value.items():
            if path or key not in OUTSIDE:
                yield from _paths(below, (*path, str(key)))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        yield (*path, _LISTS)
        for index, item in enumerate(value):
            yield from _paths(item, (*path, str(index)))
    else:
        yield path


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        if isinstance(value, list):
            value = (
                len(value) if key == _LISTS else value[int(key)] if key.isdigit() and int(key) < len(value) else None
            )
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _shown(entity: Entity, path: Sequence[str], value: Any) -> Any:
    hidden = is_secret(entity.type, path)

    def shown(value: Any) -> Any:
        match value:
            case str():
                return f"sha256:{_digest(f'{entity.id} {value}')}" if hidden else value
            case float():
                return int(value) if value.is_integer() else float(f"{value:.14g}")  # the digits that Kong keeps
            case Mapping():
                return {key: shown(below) for key, below in value.items()} or []  # Lua has one empty table for both
            case list():
                items = [shown(item) for item in value]
                return sorted(items, key=_json) if path[-1] in SETS else items
        return value

    return shown(value)


def is_secret(type: str, path: Sequence[str]) -> bool:
    """May a text at that path be a secret?  A plugin's may lie anywhere in its config: in a URL, in a header."""
    if path[-1] == "id" or path[0] in {"name", "enabled", "protocols", "instance_name"}:
        return False
    return type not in OPEN or "headers" in path


def secrets(entities: Iterable[Entity]) -> set[str]:
    """Every text in these entities that must not be told."""
    found = set()
    for entity in entities:
        for path in _paths(entity.fields):
            if is_secret(entity.type, path):
                found |= set(_texts(_at(entity.fields, path)))
    return found


def _texts(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for below in value.values():
                yield from _texts(below)
        case list():
            for item in value:
                yield from _texts(item)


@functools.lru_cache(4096)
def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(quote(key, safe=_LISTS).replace(".", "%2E") for key in path)


@functools.lru_cache(4096)  # the tags of most entities are alike
def _named(tag: str) -> Sequence[tuple[str, tuple[str, ...]]]:
    """The paths that a `fields:` tag names, as written and taken apart."""
    return [(word, tuple(map(unquote, word.split(".")))) for word in tag.partition(":")[2].split()]


def _chunks(words: Iterable[str]) -> Iterator[str]:
    """The words in lines that are short enough for a tag."""
    line = ""
    for word in words:
        if line and len(line) + len(word) >= _TAG_LENGTH:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
