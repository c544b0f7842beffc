"""`x-mvd` and `x-kong`, the two keys of our own.  Pure."""

from __future__ import annotations

from typing import Any

from gitops_mvd.manifest.health import health
from gitops_mvd.manifest.kong import PROTOCOLS, SERVICE, UPSTREAM, plugins, routes
from gitops_mvd.manifest.place import Key, Place, Refused, Table, fields, record
from gitops_mvd.manifest.shapes import formed, one_of, port_number

MVD: Table = {
    "health": Key("When the service counts as healthy, asked from the host.", formed(dict, "`{http: /health}`", health))
}


def mvd(place: Place) -> dict[str, Any]:
    return fields(place, MVD)


KONG: Table = {
    "port": Key("The port in the container; left out: the only port of `ports` or `expose`.", port_number),
    "protocol": Key("How Kong speaks to the service: `http` if left out.", one_of(*PROTOCOLS)),
    "routes": Key(
        "Kong's route objects, at least one; `plugins` may stand inside.",
        formed(list, "`[{paths: [/chatbot]}]`", routes),
    ),
    "plugins": Key("Kong's plugin objects for the whole service.", plugins()),
    "service": Key("Fields of Kong's service object, such as `read_timeout`.", record(SERVICE)),
    "upstream": Key("Fields of Kong's upstream object, such as `algorithm`.", record(UPSTREAM)),
    "targets": Refused("is ours to say: the targets are the instances; remove it"),
    "upstreams": Refused("is not honoured: a service has one `upstream`"),
}


def kong(place: Place) -> dict[str, Any]:
    """The normal form, but that each of `routes` comes with its place."""
    values = fields(place, KONG, required=("routes",))
    if values.get("routes") == [] and place.entries()["routes"].node.value == []:
        place.entries()["routes"].complain("is empty: without a route nothing leads to the service")
    return {"protocol": "http", "service": {}, "routes": [], "plugins": [], "upstream": {}, **values}
