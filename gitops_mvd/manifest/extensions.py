"""`x-mvd` and `x-kong`, the two extension keys of gitops-mvd.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gitops_mvd.config.readers import FILLED, boolean, either, filled, formed, one_of, one_or_more, port_number
from gitops_mvd.config.tables import Key, Place, Table, Unsupported, accepts, fields, mapping_schema, record
from gitops_mvd.config.yamltree import Sink
from gitops_mvd.core.suspension import IN_GIT, Suspension
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.manifest.canary import canary
from gitops_mvd.manifest.health import health
from gitops_mvd.manifest.kong_fields import (
    KONG_ROUTE,
    KONG_SERVICE,
    check_service,
    plugins,
    protocol,
    route,
    routes,
    upstream,
)
from gitops_mvd.manifest.values import AppMvdKeys, KongKeys, MvdKeys

_TIME = re.compile(r"[A-Za-z0-9*]([A-Za-z0-9*:/,.~_+ -]{0,198}[A-Za-z0-9*])?")
_CRON = re.compile(r"@[a-z]+|[0-9*/,-]+( +[A-Za-z0-9*/,-]+){4}")  # OnCalendar has at most four words


SUSPEND: Table = {
    "why": Key("The reason, which statuses show.", filled),
    "stop": Key("`true`: its instances are stopped, and nothing leads to them; its data stays.", boolean, "`false`"),
}


@accepts(FILLED)
def schedule_time(place: Place) -> str:
    """A time for OnCalendar=; systemd checks it on the host."""
    written = filled(place)
    if _CRON.fullmatch(written):
        place.fail('is a time in the language of cron: write it in that of systemd, as "*-*-* 03:00:00" or "daily"')
    if not _TIME.fullmatch(written):
        place.fail(f'must be a time in the language of systemd, such as "*-*-* 03:00:00", not {written!r}')
    return written


@accepts(either(boolean.schema, mapping_schema(SUSPEND)))
def suspension(place: Place) -> Suspension | None:
    """A suspension by the commit; None for `false`."""
    if not isinstance(place.value(), dict):
        return Suspension(IN_GIT) if boolean(place) else None
    values = fields(place, SUSPEND)
    return Suspension(IN_GIT, values.get("why", ""), stop=values.get("stop", False))


OF_APP: Table = {
    "suspend": Key(
        "`true`: the app is left as it is: nothing of it is deployed, repaired or removed. Or `why` and `stop`.",
        suspension,
        "`false`",
    ),
    "canary": Unsupported("belongs in a service, not beside `services`"),
    "health": Unsupported("belongs in a service, not beside `services`"),
    "schedule": Unsupported("belongs in a service, not beside `services`"),
}


read_x_mvd_of_app = record(AppMvdKeys, OF_APP)


X_MVD: Table = {
    "health": Key("The probe that decides when the service is healthy.", formed(dict, "`{http: /health}`", health)),
    "schedule": Key(
        'When it runs, as systemd\'s OnCalendar has it, such as `"*-*-* 03:00:00"`; left out, it runs all the time.',
        schedule_time,
    ),
    "canary": Key(
        "A new version gets a share of the traffic at first, and all of it only if it does as well as the old one.",
        formed(dict, "`{steps: [5, 25, 100], for: 5m}`", canary),
    ),
    "suspend": Unsupported("belongs beside `services`: an app is suspended as a whole"),
}


read_x_mvd = record(MvdKeys, X_MVD)


# Keys of `x-kong` itself for its only route, and plugins that authenticate callers without a `config`.
SHORT = ("paths", "hosts", "methods", "headers", "strip_path", "preserve_host")
AUTH = ("key-auth", "basic-auth", "jwt", "hmac-auth")


_auth = one_or_more(one_of(*AUTH))


def _short(name: str) -> Key:
    key = KONG_ROUTE[name]
    assert isinstance(key, Key)
    return Key(f"Short for that of the one route. {key.doc}", key.read)


X_KONG: Table = {
    "port": Key("The port in the container; left out: the only port of `ports` or `expose`.", port_number),
    "protocol": Key("How Kong speaks to the service: `http` if left out.", protocol),
    "routes": Key(
        "Kong's route objects; `plugins` may stand inside.",
        formed(list, "`[{paths: [/chatbot]}]`", routes()),
    ),
    **{name: _short(name) for name in SHORT},
    "auth": Key(
        f"Short for a plugin with its defaults: `{'`, `'.join(AUTH)}`. All plugins of a list must accept the caller.",
        _auth,
    ),
    "plugins": Key("Kong's plugin objects for the whole service.", plugins()),
    "service": Key("Fields of Kong's service object, such as `read_timeout`.", record(Declaration, KONG_SERVICE)),
    "upstream": Key("Fields of Kong's upstream object, such as `algorithm`.", upstream),
    "targets": Unsupported("is set by gitops-mvd, to the instances: remove it"),
    "upstreams": Unsupported("is not supported: a service has one `upstream`"),
}


@accepts({**mapping_schema(X_KONG), "allOf": [{"anyOf": [{"required": [name]} for name in ("routes", *SHORT)]}]})
def read_x_kong(place: Place) -> KongKeys:
    """The normal form, without short forms; each of `routes` has its place."""
    values = fields(place, X_KONG)
    entries = place.entries()
    short = [name for name in SHORT if name in entries]
    auth = values.pop("auth", ())
    if "routes" in entries:
        for name in short:
            entries[name].report("is short for one route, and `routes` is here too: move it into a route")
        if entries["routes"].node.value in ([], None):
            entries["routes"].report("is empty: the service needs a route")
    elif short:
        values["routes"] = [(entries[short[0]], _one_route(place, short))]
    else:
        place.report("has no `routes`, and no `paths` or `hosts` as their short form")
    own_plugins = values.get("plugins", [])
    if "service" in values:
        check_service(entries["service"], values["service"], values.get("protocol", "http"))
    return {
        "port": values.get("port", 0),
        "protocol": values.get("protocol", "http"),
        "routes": values.get("routes", []),
        "plugins": [*_by_name(entries.get("auth"), auth, own_plugins), *own_plugins],
        "service": values.get("service", {}),
        "upstream": values.get("upstream", {}),
    }


def _one_route(place: Place, short: list[str]) -> Declaration:
    """The route of the short form, by the rules of the long form; mistakes of single keys were reported before."""
    mistakes: Sink = []
    entries = place.entries()
    node = place.node._replace(value={name: entries[name].node for name in short})
    found = Place(node, place.path, mistakes).attempt(route)
    place.sink.extend(it for it in mistakes if it.path == place.path)
    return found or {}


def _by_name(place: Place | None, names: Iterable[str], plugins: Iterable[Declaration]) -> Iterator[Declaration]:
    """The plugins that `auth` is short for."""
    said = [plugin.get("name") for plugin in plugins]
    for name in names:
        if place and name in said:
            place.report(f"is short for the plugin {name}, which is in `plugins` or `auth` too: remove one")
        said.append(name)
        yield {"name": name}
