"""Kong's entities: what types there are, what is unique about each, and by which tags ours are known.  Pure."""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import Json

OWNED = "managed-by:gitops-mvd"
ADOPTED = "adopted"  # the tag with the id that what was adopted would have of us
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
    "keys": (("set", "kid"), "name"),
    "plugins": (("name", "service", "route", "consumer", "consumer_group"),),
}
OPEN = {"services", "routes", "upstreams", "targets", "consumers", "consumer_groups", "snis", "key_sets"}  # no secrets
OUTSIDE = {"id", "tags", "created_at", "updated_at", "ws_id"}  # never compared as fields


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


def unique_key(type: str, fields: Json) -> str:
    """What Kong lets exist only once among those of a type; without such a thing, all that was declared."""
    for key in UNIQUE.get(type, ("name",)):
        if isinstance(key, tuple):
            return as_json([_plain(fields.get(part)) for part in key])
        if fields.get(key) is not None:
            return str(fields[key])
    return as_json({key: value for key, value in fields.items() if key not in OUTSIDE})


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


CLASH_HINT = "`mvd adopt` takes it over; or rename one of them, or delete that one from Kong"


def clash(entity: Entity, other: Entity) -> StepFailed:
    tags = f"tags {', '.join(other.tags)}" if other.tags else "no tags"
    return StepFailed(f"{entity} is already in Kong and not ours: {other.id}, {tags}", CLASH_HINT)


def as_json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
