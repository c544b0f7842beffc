"""`kong/*.yaml` → the app `gateway`: what belongs to the gateway as a whole.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gitops_mvd.manifest.kong import (
    CA_CERTIFICATE,
    CERTIFICATE,
    CONSUMER,
    CREDENTIALS,
    GATEWAY_PLUGIN,
    GATEWAY_SERVICE,
    VAULT,
    Entity,
    once,
    scope,
)
from gitops_mvd.manifest.place import Key, Place, Refused, Table, fields
from gitops_mvd.manifest.shapes import placed, text
from gitops_mvd.manifest.yamltree import Sink, parse, tell
from gitops_mvd.model import App
from gitops_mvd.ports import Tree

NAME = "gateway"
FOLDER = "kong"


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
    for at, plugin in found.get("plugins", ()):
        for kind in known.keys() & plugin.keys():
            named = plugin[kind]
            name = named if isinstance(named, str) else named.get("name") or named.get("username")
            if name and name not in known[kind]:
                at.complain(
                    f"is for the {kind} {name}, which {FOLDER}/*.yaml does not have; "
                    "a plugin of an app's service stands in its `x-kong`"
                )


def _bare(entity: Entity) -> Entity:
    """A service's routes without their places."""
    return {**entity, "routes": [route for _, route in entity["routes"]]} if "routes" in entity else entity
