"""`kong/*.yaml` → the app `gateway`: what belongs to the gateway as a whole.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gitops_mvd.manifest.kong import (
    PARENT,
    PLUGIN,
    PROTOCOLS,
    SERVICE,
    TAGS,
    Entity,
    entity_name,
    host,
    named,
    once,
    plugins,
    routes,
    scope,
    settings,
    uuid,
)
from gitops_mvd.manifest.place import Key, Place, Refused, Table, fields, record
from gitops_mvd.manifest.shapes import boolean, filled, formed, integer, list_of, one_of, placed, strings, text
from gitops_mvd.manifest.yamltree import Sink, parse, tell
from gitops_mvd.model import App
from gitops_mvd.ports import Tree

NAME = "gateway"
FOLDER = "kong"

_ID = Key("An id of your own, a UUID, for references to it.", uuid)
_NO_ID = Refused("is not honoured: it follows from the name, by which others refer to it; remove it")
_TTL = Refused("is not honoured: what runs out by itself would be put back at once; remove it")

GATEWAY_PLUGIN: Table = {
    **PLUGIN,
    "service": Key("Only for that service of `kong/*.yaml`: its `name`.", named("name")),
    "route": Key("Only for that route of `kong/*.yaml`: its `name`.", named("name")),
    "id": _NO_ID,
}


def _credential(*required: str, **keys: Callable[[Place], Any]) -> Callable[[Place], list[Entity]]:
    table = {name: Key("", read) for name, read in keys.items()}
    return list_of(record({**table, "tags": TAGS, "id": _NO_ID, "ttl": _TTL, "consumer": Refused(PARENT)}, required))


CREDENTIALS: Table = {
    "keyauth_credentials": Key("For `key-auth`: `key`.", _credential(key=filled)),
    "basicauth_credentials": Key(
        "For `basic-auth`: `username` and `password`.",
        _credential("username", "password", username=filled, password=text),
    ),
    "hmacauth_credentials": Key(
        "For `hmac-auth`: `username` and `secret`.", _credential("username", username=filled, secret=text)
    ),
    "jwt_secrets": Key(
        "For `jwt`: `key`, `secret`, `algorithm`, `rsa_public_key`.",
        _credential(key=filled, secret=text, algorithm=filled, rsa_public_key=text),
    ),
    "oauth2_credentials": Key(
        "For `oauth2`: `name`, `client_id`, `client_secret`, `redirect_uris`, `client_type`, `hash_secret`.",
        _credential(
            "name",
            name=filled,
            client_id=filled,
            client_secret=text,
            redirect_uris=strings,
            client_type=one_of("confidential", "public"),
            hash_secret=boolean,
        ),
    ),
    "acls": Key("For `acl`: each with its `group`.", _credential("group", group=filled)),
}
CONSUMER: Table = {
    "username": Key("The name of the consumer.", filled),
    "custom_id": Key("The name that it has elsewhere.", filled),
    **CREDENTIALS,
    "plugins": Key("Plugins for this consumer.", plugins({**GATEWAY_PLUGIN, "consumer": Refused(PARENT)})),
    "tags": TAGS,
    "id": _NO_ID,
    "groups": Refused("is not honoured: it is decK's; use `acls`"),
}
GATEWAY_SERVICE: Table = {
    **SERVICE,
    "name": Key("Its name in Kong.", entity_name),
    "host": Key("Where it is.", host),
    "port": Key("Its port; 80 if left out.", integer(0, 65535)),
    "protocol": Key("How Kong speaks to it; `http` if left out.", one_of(*PROTOCOLS)),
    "routes": Key("Its routes, as in `x-kong`.", routes),
    "plugins": Key("Its plugins, as in `x-kong`.", plugins()),
    "id": _NO_ID,
    "url": Refused("is not honoured: write `protocol`, `host`, `port` and `path`"),
}
_SNI: Table = {"name": Key("", host), "tags": TAGS, "id": _NO_ID, "certificate": Refused(PARENT)}
CERTIFICATE: Table = {
    "cert": Key("The certificate, in PEM.", filled),
    "key": Key("Its private key, in PEM, or a reference such as `{vault://env/tls-key}`.", filled),
    "cert_alt": Key("A second certificate of another kind.", filled),
    "key_alt": Key("Its private key.", filled),
    "snis": Key(
        "The server names that it is for.",
        formed(
            list, "`[{name: example.org}]`", list_of(formed(dict, "`{name: example.org}`", record(_SNI, ("name",))))
        ),
    ),
    "tags": TAGS,
    "id": _ID,
}
CA_CERTIFICATE: Table = {"cert": Key("The certificate, in PEM.", filled), "tags": TAGS, "id": _ID}
VAULT: Table = {
    "name": Key("The kind of vault, such as `env`.", filled),
    "prefix": Key("What references to it begin with.", filled),
    "description": Key("For readers only.", text),
    "config": Key("Its own settings, which Kong checks.", settings),
    "tags": TAGS,
    "id": _NO_ID,
}


def _entities(table: Table, *required: str, otherwise: str = "") -> Any:
    return placed(lambda place: fields(place, table, required, otherwise))


def _consumer(place: Place) -> Entity:
    consumer = fields(place, CONSUMER)
    if not place.has("username") and not place.has("custom_id"):
        place.complain("has neither a `username` nor a `custom_id`")
    return consumer


GATEWAY: Table = {
    "_format_version": Key('Kong\'s, such as `"3.0"`.', text),
    "consumers": Key("Who may come in, with their credentials.", placed(_consumer)),
    "plugins": Key(
        "Plugins for everything, or for one `consumer`, `service` or `route`.",
        _entities(GATEWAY_PLUGIN, "name", otherwise="the plugin's own settings go under `config`"),
    ),
    "certificates": Key("Certificates of the gateway, with their `snis`.", _entities(CERTIFICATE, "cert", "key")),
    "ca_certificates": Key("Certificate authorities that it trusts.", _entities(CA_CERTIFICATE, "cert")),
    "vaults": Key("Where Kong itself looks up secrets.", _entities(VAULT, "name", "prefix")),
    "services": Key("Services that do not run here, with their `routes`.", _entities(GATEWAY_SERVICE, "host")),
    "_transform": Refused("is not honoured: write credentials as Kong is to store them"),
    "routes": Refused("write them under the service that they lead to, in `services` or in an app's `x-kong`"),
    "upstreams": Refused("is not honoured: name a host in `services`, and let DNS spread the load"),
    "targets": Refused("is not honoured: name a host in `services`, and let DNS spread the load"),
    "consumer_groups": Refused("is not honoured: who is in a group can not be said here; use `acls` and `acl`"),
    "snis": Refused("write them under their certificate, in `certificates`"),
    **{name: Refused("write them under the consumer whose they are, in `consumers`") for name in CREDENTIALS},
}

# What Kong lets exist only once, and by what it knows that.
_UNIQUE: Mapping[str, tuple[str, Callable[[Entity], Any]]] = {
    "consumers": ("consumer", lambda it: it.get("username") or it.get("custom_id")),
    "plugins": ("plugin", scope),
    "services": ("service", lambda it: it.get("name")),
    "vaults": ("vault", lambda it: it.get("prefix")),
}


def read_gateway(tree: Tree, sink: Sink) -> tuple[App, list[tuple[Place, Entity]]]:
    """All files of the folder as one app, and its routes by themselves; mistakes go to `sink`.

    The files are Kong's own and taken literally: `$` means nothing in them.
    """
    found: dict[str, list[tuple[Place, Entity]]] = {}
    for name in tree.names(FOLDER):
        if not name.endswith((".yaml", ".yml")):
            continue
        path = f"{FOLDER}/{name}"
        try:
            node = parse(path, tree.read(path), sink)
        except FileNotFoundError:
            node = None
            tell(sink, (), path, 1, "is no regular file")
        values = Place(node, (), sink).attempt(fields, GATEWAY) if node else None
        for kind, some in (values or {}).items():
            if kind != "_format_version":
                found.setdefault(kind, []).extend(some)
    for kind, (what, key) in _UNIQUE.items():
        once(found.get(kind, ()), what, key)
    routes = [route for _, service in found.get("services", ()) for route in service.get("routes", ())]
    once(routes, "route", lambda route: route.get("name"))
    _check_references(found, routes)
    return App(NAME, gateway={kind: [_bare(entity) for _, entity in some] for kind, some in found.items()}), routes


def _check_references(found: Mapping[str, list[tuple[Place, Entity]]], routes: list[tuple[Place, Entity]]) -> None:
    """A plugin is for what these files have: the services of apps come and go without asking them."""
    known = {
        "consumer": {_UNIQUE["consumers"][1](consumer) for _, consumer in found.get("consumers", ())},
        "service": {service.get("name") for _, service in found.get("services", ())},
        "route": {route.get("name") for _, route in routes},
    }
    holders = [*found.get("consumers", ()), *found.get("services", ()), *routes]
    nested = [(at, plugin) for at, holder in holders for plugin in holder.get("plugins", ())]
    for at, plugin in [*found.get("plugins", ()), *nested]:
        for kind in known.keys() & plugin.keys():
            named = plugin[kind]
            name = named if isinstance(named, str) else named.get("name") or named.get("username")
            if name and name not in known[kind]:
                at.complain(
                    f"has the plugin {plugin.get('name')} for the {kind} {name}, which {FOLDER}/*.yaml does not have; "
                    "a plugin of an app's service stands in its `x-kong`"
                )


def _bare(entity: Entity) -> Entity:
    """A service's routes without their places."""
    return {**entity, "routes": [route for _, route in entity["routes"]]} if "routes" in entity else entity
