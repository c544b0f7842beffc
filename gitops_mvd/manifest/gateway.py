"""`kong/*.yaml` → the app `gateway`: what belongs to the gateway as a whole.  Pure."""

from __future__ import annotations

from typing import Any

from gitops_mvd.manifest.place import Key, Place, Refused, Table, fields
from gitops_mvd.manifest.shapes import list_of, text
from gitops_mvd.manifest.xkeys import entity, plugin
from gitops_mvd.manifest.yamltree import Sink, parse, tell
from gitops_mvd.model import App
from gitops_mvd.ports import Tree

NAME = "gateway"
FOLDER = "kong"

_ENTITIES = list_of(entity)

GATEWAY: Table = {
    "_format_version": Key('Kong\'s, such as `"3.0"`.', text),
    "consumers": Key("Who may come in, with their credentials.", _ENTITIES),
    "consumer_groups": Key("Groups of consumers.", _ENTITIES),
    "plugins": Key("Plugins for everything.", list_of(plugin)),
    "certificates": Key("Certificates of the gateway, with their `snis`.", _ENTITIES),
    "ca_certificates": Key("Certificate authorities that it trusts.", _ENTITIES),
    "vaults": Key("Where Kong itself looks up secrets.", _ENTITIES),
    "services": Key("Services that do not run here, with their `routes`.", _ENTITIES),
    "upstreams": Key("Upstreams that do not run here, with their `targets`.", _ENTITIES),
    "_transform": Refused("is not honoured: write credentials as Kong is to store them"),
    "routes": Refused("write them under the service that they lead to, in `services` or in an app's `x-kong`"),
}


def read_gateway(tree: Tree, sink: Sink) -> App:
    """All files of the folder as one app; mistakes go to `sink`.

    The files are Kong's own and taken literally: `$` means nothing in them.
    """
    entities: dict[str, list[Any]] = {}
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
                entities.setdefault(kind, []).extend(some)
    return App(NAME, gateway=entities)
