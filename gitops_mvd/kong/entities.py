"""Kong's entities: what types there are, what is unique about each, and which tags mark the managed ones.  Pure."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

from gitops_mvd.core.errors import NotNow
from gitops_mvd.core.model import JsonValue, Resource

Fields = Mapping[str, JsonValue]  # an entity as the Admin API has it
Key = tuple[str, str]  # type and id
Owner = tuple[str, str]  # app and service; the service is "" for the entities of the folder `kong/`
Owners: TypeAlias = Collection[Owner] | None  # None is all of them

MANAGED_TAG = "managed-by:gitops-mvd"
ADOPTED = "adopted"  # the tag with the id that an adopted entity would have if it had been created by gitops-mvd

# In the order in which they can be created: each refers only to those before it.
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
# The types that every route has.  Which entities of other types there are, the tag `index:` lists.
LISTED = ("services", "routes", "upstreams")
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
# What must be unique in Kong: the first field that is set, or all fields of a tuple.
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
    "keys": (("set", "kid"), "name"),
    "plugins": (("name", "service", "route", "consumer", "consumer_group"),),
}
WITHOUT_SECRETS = {"services", "routes", "upstreams", "targets", "consumers", "consumer_groups", "snis", "key_sets"}
# The fields that gitops-mvd itself gives to the entities of a service.
OF_OUR_MAKING = {"upstreams": {"id", "tags", "name"}, "services": {"id", "tags", "name", "host", "protocol"}}
NOT_COMPARED = {"id", "tags", "created_at", "updated_at", "ws_id"}


@dataclass(frozen=True, slots=True)
class Entity:
    """One entity, flat: `fields` as the Admin API has them, with its id, and references as `{"id": ...}`.

    An entity that is `from_admin_api` is as Kong shows it, so that passwords in it are hashed already.
    """

    type: str
    fields: Fields = field(repr=False)
    from_admin_api: bool = False

    @property
    def id(self) -> str:
        return str(self.fields["id"])

    @property
    def key(self) -> Key:
        return self.type, self.id

    @property
    def tags(self) -> Sequence[str]:
        return tags_of(self.fields)

    @property
    def owner(self) -> Owner:
        """The app and the service that it is tag_value with."""
        return tag_value(self.tags, "app"), tag_value(self.tags, "service")

    @property
    def rank(self) -> int:
        """Its place in the order of creation.  A plugin of a service precedes its routes: none is ever open without."""
        if self.type == "plugins" and not self.fields.get("route"):
            return 2 * TYPES.index("routes") - 1
        return 2 * TYPES.index(self.type) if self.type in TYPES else 0

    def reference(self, key: str) -> str:
        """The id of the entity that a field refers to; "" without one."""
        return str(id_or_value(self.fields.get(key)) or "")

    def with_fields(self, fields: Fields) -> Entity:
        return Entity(self.type, fields, self.from_admin_api)

    def __str__(self) -> str:
        """What it is, for people, without a secret."""
        name = self.fields.get("name") or self.fields.get("username") or self.fields.get("target")
        shown = name if self.type in WITHOUT_SECRETS | {"plugins"} else self.id
        return f"{self.type.removesuffix('s')} {shown or self.id}"


def tags_of(fields: Fields) -> Sequence[str]:
    return cast(Sequence[str], fields.get("tags") or ())


def tag_value(tags: Iterable[str], name: str) -> str:
    """The value of the tag `name:value`, "" without one."""
    prefix = f"{name}:"
    for tag in tags:
        if tag.startswith(prefix):
            return tag[len(prefix) :]
    return ""


def is_entity(fields: object) -> bool:
    """Is that what the Admin API has in its lists: a mapping with an id, whose tags are texts?"""
    if not isinstance(fields, Mapping) or not isinstance(fields.get("id", fields.get("entity_id")), str):
        return False
    tags = fields.get("tags")
    return tags is None or (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags))


def is_managed(fields: Fields, host: str) -> bool:
    """Is an entity with these fields managed by the gitops-mvd of that host?"""
    tags = tags_of(fields)
    return MANAGED_TAG in tags and f"host:{host}" in tags and bool(tag_value(tags, "app"))


def is_instance_target(entity: Entity) -> bool:
    """Is it the target of an instance, and not one that was declared?"""
    return entity.type == "targets" and bool(tag_value(entity.tags, "instance"))


def is_of_our_making(entity: Entity) -> bool:
    """Are all its fields made or checked by gitops-mvd, so that Kong need not check it?"""
    own = OF_OUR_MAKING.get(entity.type, set()) if tag_value(entity.tags, "service") else set()
    return is_instance_target(entity) or (bool(own) and entity.fields.keys() <= own)


def holder_id(entity: Entity) -> str:
    """The id of a target's upstream, which stays while targets come and go; of all else, its own id."""
    return entity.reference("upstream") if entity.type == "targets" else entity.id


def unique_key(type: str, fields: Fields) -> str:
    """What must be unique among the entities of a type; all declared fields where nothing is."""
    for key in UNIQUE.get(type, ("name",)):
        if isinstance(key, tuple):
            return as_json([id_or_value(fields.get(part)) for part in key])
        if fields.get(key) is not None:
            return str(fields[key])
    return as_json({key: value for key, value in fields.items() if key not in NOT_COMPARED})


def id_or_value(value: JsonValue) -> JsonValue:
    """The id of a reference; any other value as it is."""
    return value["id"] if isinstance(value, Mapping) and "id" in value else value


def as_stored(entity: Entity) -> Entity:
    """The entity as Kong stores it: with what Kong derives when it writes to a database, but not from a document.

    Passwords of basic-auth are SHA-1 of the password and the consumer's id, `cert_digest` is that of the DER form.
    """
    if entity.from_admin_api or entity.type not in {"basicauth_credentials", "ca_certificates"}:
        return entity
    fields = dict(entity.fields)
    if entity.type == "basicauth_credentials" and "password" in fields:
        salted = f"{fields['password']}{entity.reference('consumer')}"
        fields["password"] = hashlib.sha1(salted.encode(), usedforsecurity=False).hexdigest()
    if entity.type == "ca_certificates" and "cert" in fields:
        fields["cert_digest"] = hashlib.sha256(_der(str(fields["cert"]))).hexdigest()
    return Entity(entity.type, fields, from_admin_api=True)


def _der(certificate: str) -> bytes:
    try:
        return ssl.PEM_cert_to_DER_cert(certificate)
    except ValueError:
        return b""  # Kong will reject it


CLASH_HINT = "`mvd adopt` takes it over; or rename one of them, or delete that one from Kong"


def clash(entity: Entity, other: Entity) -> NotNow:
    tags = f"tags {', '.join(other.tags)}" if other.tags else "no tags"
    return NotNow(f"{entity} is already in Kong and not managed by gitops-mvd: {other.id}, {tags}", CLASH_HINT)


def as_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)


def entities_of(route: Resource) -> Sequence[Entity]:
    """The entities in the payload of a route."""
    return cast(Sequence[Entity], route.payload)
