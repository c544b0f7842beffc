"""`x-mvd` and `x-kong`, the two keys of our own.  Pure."""

from __future__ import annotations

import re
from typing import Any

from gitops_mvd.manifest.health import health
from gitops_mvd.manifest.kong import PROTOCOLS, SERVICE, UPSTREAM, plugins, routes
from gitops_mvd.manifest.place import Key, Place, Refused, Table, fields, record
from gitops_mvd.manifest.shapes import filled, formed, one_of, port_number

_TIME = re.compile(r"[A-Za-z0-9*]([A-Za-z0-9*:/,.~_+ -]{0,198}[A-Za-z0-9*])?")
_CRON = re.compile(r"@[a-z]+|[0-9*/,-]+( +[A-Za-z0-9*/,-]+){4}")  # OnCalendar has at most four words


def schedule(place: Place) -> str:
    """What may be a time for OnCalendar=; whether it is one, systemd says on the host."""
    written = filled(place)
    if _CRON.fullmatch(written):
        place.fail('is a time in the language of cron: write it in that of systemd, as "*-*-* 03:00:00" or "daily"')
    if not _TIME.fullmatch(written):
        place.fail(f'must be a time in the language of systemd, such as "*-*-* 03:00:00", not {written!r}')
    return written


MVD: Table = {
    "health": Key(
        "When the service counts as healthy, asked from the host.", formed(dict, "`{http: /health}`", health)
    ),
    "schedule": Key(
        'When it runs, as systemd\'s OnCalendar has it, such as `"*-*-* 03:00:00"`; left out, all the time.', schedule
    ),
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
