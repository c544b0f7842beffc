"""Kong's own entities: their fields in Kong 3.9, by table, so that a mistake in one is told before the merge.  Pure.

What depends on several fields at once, or is inside a plugin's `config`, Kong itself checks before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from gitops_mvd.manifest.place import Key, Place, Refused, Table, fields, record
from gitops_mvd.manifest.shapes import (
    boolean,
    filled,
    formed,
    integer,
    json,
    list_of,
    mapping_of,
    number,
    one_of,
    placed,
    words,
)

Entity = dict[str, Any]

PROTOCOLS = ("http", "https", "grpc", "grpcs", "tcp", "tls", "tls_passthrough", "udp")
MATCHERS = ("paths", "hosts", "methods", "headers", "snis", "sources", "destinations", "expression")

OURS = "is ours to say: it follows from the service; remove it"
PARENT = "is said by where it stands; remove it"

_NAME = re.compile(r"[A-Za-z0-9.\-_~\u0080-\U0010ffff]+")
_PATH = re.compile(r"/[A-Za-z0-9_.\-~/%:@!$&'()*+,;=]*")
_HOST = re.compile(r"(?:\*\.)?[A-Za-z0-9_.:\[\]-]+(?:\.\*)?")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_OUR_TAGS = (
    "managed-by:",
    "host:",
    "app:",
    "service:",
    "instance:",
    "fields:",
    "index:",
    "adopted:",
    "adopted-password:",
)
_HASHED = one_of("none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture")

_milliseconds = integer(1, 2147483646)
_byte = integer(0, 255)


def _matching(pattern: re.Pattern[str], wanted: str) -> Callable[[Place], str]:
    def read(place: Place) -> str:
        value = filled(place)
        return value if pattern.fullmatch(value) else place.fail(f"must be {wanted}, not {value!r}")

    return read


entity_name = _matching(_NAME, "a name of letters, digits, `.`, `-`, `_` and `~`")
host = _matching(_HOST, "a host such as example.org or *.example.org, without a scheme or a path")
uuid = _matching(_UUID, "the id of an entity, a UUID")


def _tag(place: Place) -> str:
    tag = filled(place)
    if tag.startswith(_OUR_TAGS):
        place.fail(f"begins with `{tag.partition(':')[0]}:`: such tags are ours, by which we know what we made")
    return place.fail("has a comma or a slash, which Kong does not allow in a tag") if re.search("[,/]", tag) else tag


def _path(place: Place) -> str:
    path = filled(place)
    if not path.startswith("/"):
        place.fail(f"must begin with a slash, such as /chatbot, not {path!r}")
    if not _PATH.fullmatch(path) or "//" in path:
        place.fail(f"has an empty part, or a character that no path has: {path!r}")
    return path


def _route_path(place: Place) -> str:
    path = filled(place)
    if path.startswith("~/"):
        return path
    if not path.startswith("/"):
        place.fail(f"must begin with `/`, or with `~/` for a regular expression, not {path!r}")
    if not _PATH.fullmatch(path) or "//" in path:
        place.fail(
            f"has an empty part, or a character that no path has: begin a regular expression with `~/`, not {path!r}"
        )
    return path


def _redirect(place: Place) -> int:
    status = integer()(place)
    return status if status in (426, 301, 302, 307, 308) else place.fail("must be 426, 301, 302, 307 or 308")


def _headers(place: Place) -> dict[str, list[str]]:
    for name, at in place.entries().items():
        if name.lower() == "host":
            at.complain("goes into `hosts`")
    return mapping_of(formed(list, '`["2"]`', words))(place)


def _certificate(place: Place) -> Any:
    """A reference to a certificate, which has no name: only its id will do."""
    if isinstance(place.value(), dict):
        fields(place, {"id": Key("", uuid)}, ("id",))
    else:
        uuid(place)
    return json(place)


def settings(place: Place) -> Entity:
    """A mapping of which Kong alone knows what may be in it."""
    place.entries()
    found: Entity = json(place)
    return found


def named(*words: str) -> Callable[[Place], Any]:
    """A reference by name, as text or as a mapping of one of these words, or by id."""

    def read(place: Place) -> Any:
        if isinstance(place.value(), dict):
            if len(fields(place, {word: Key("", filled) for word in (*words, "id")})) != 1:
                place.fail(f"must have one of `{'`, `'.join(words)}`, `id`")
            return json(place)
        return filled(place)

    return read


_ADDRESS: Table = {"ip": Key("", filled), "port": Key("", integer(0, 65535))}
_addresses = list_of(record(_ADDRESS))
_hosts = formed(list, "`[example.org]`", list_of(host))

TAGS = Key("Tags of your own.", list_of(_tag))

PLUGIN: Table = {
    "name": Key("The plugin, such as `key-auth`.", filled),
    "instance_name": Key("A name for this use of it.", entity_name),
    "config": Key("The plugin's own settings, which Kong checks.", settings),
    "enabled": Key("`false` switches it off.", boolean),
    "protocols": Key("The protocols that it is for.", list_of(one_of(*PROTOCOLS))),
    "consumer": Key("Only for that consumer: its `username`.", named("username")),
    "ordering": Key("Before or after which others it runs (Kong Enterprise).", settings),
    "tags": TAGS,
    "service": Refused(PARENT),
    "route": Refused(PARENT),
    "id": Refused(OURS),
    "consumer_group": Refused("is not honoured: who is in a group can not be said here; use `acls` and `acl`"),
}

_SETTINGS = "the plugin's own settings go under `config`"


def plugins(table: Table = PLUGIN) -> Callable[[Place], list[Entity]]:
    """A reader of plugins; the same one twice would be one of them."""

    def plugin(place: Place) -> Entity:
        return fields(place, table, ("name",), otherwise=_SETTINGS)

    def read(place: Place) -> list[Entity]:
        found = placed(formed(dict, "`{name: key-auth}`", plugin))(place)
        once(found, "plugin", scope)
        return [entity for _, entity in found]

    return formed(list, "`[{name: key-auth}]`", read)


def scope(plugin: Entity) -> list[Any]:
    """What Kong lets a plugin exist only once for."""
    return [plugin.get(key) for key in ("name", "consumer", "service", "route")]


def once(found: Iterable[tuple[Place, Entity]], what: str, key: Callable[[Entity], Any]) -> None:
    """Tell the entities that say the same as one before them; what has no key has no namesake."""
    seen: dict[str, Place] = {}
    for at, entity in found:
        if (name := key(entity)) is None:
            continue
        first = seen.setdefault(repr(name), at)
        if first is not at:
            at.complain(f"is the same {what} as {first.key}, in {first.node.file}:{first.node.line}")


ROUTE: Table = {
    "name": Key("Its name in Kong, behind `mvd.<app>.<service>.`; left out: its number.", entity_name),
    "protocols": Key("`http` and `https` if left out.", list_of(one_of(*PROTOCOLS))),
    "hosts": Key("Hosts, also as `*.example.org`.", _hosts),
    "paths": Key(
        "What paths begin with: each begins with `/`, or with `~/` for a regular expression.",
        formed(list, "`[/chatbot]`", list_of(_route_path)),
    ),
    "methods": Key(
        "HTTP methods, in capitals.", formed(list, "`[GET]`", list_of(_matching(re.compile("[A-Z]+"), "in capitals")))
    ),
    "headers": Key('The values that a header may have: `{x-version: ["2"]}`.', _headers),
    "snis": Key("Server names of TLS.", _hosts),
    "sources": Key("`ip` and `port` of clients, for tcp, tls and udp.", _addresses),
    "destinations": Key("`ip` and `port` of Kong, for tcp, tls and udp.", _addresses),
    "expression": Key("An expression instead, where Kong's router is `expressions`.", filled),
    "priority": Key("The highest wins among expressions.", integer(0)),
    "regex_priority": Key("The highest wins among regular expressions.", integer()),
    "https_redirect_status_code": Key("426, 301, 302, 307 or 308.", _redirect),
    "strip_path": Key("`false` leaves the path in the request.", boolean),
    "path_handling": Key("`v0` or `v1`.", one_of("v0", "v1")),
    "preserve_host": Key("Hand on the host that the client asked for.", boolean),
    "request_buffering": Key("Read the whole request first.", boolean),
    "response_buffering": Key("Read the whole answer first.", boolean),
    "plugins": Key("Plugins for this route.", plugins()),
    "tags": TAGS,
    "service": Refused(OURS),
    "id": Refused(OURS),
}


def route(place: Place) -> Entity:
    entries = place.entries()
    if not any(name in entries for name in MATCHERS):
        place.complain(f"matches nothing: give it one of {', '.join(MATCHERS)}")
    return fields(place, ROUTE)


def routes(place: Place) -> list[tuple[Place, Entity]]:
    """The routes and where they stand; two of one name would be one route."""
    found = placed(formed(dict, "`{paths: [/chatbot]}`", route))(place)
    numbers = {id(entity): str(number) for number, (_, entity) in enumerate(found, 1)}
    once(found, "route", lambda entity: entity.get("name", numbers[id(entity)]))
    return found


_SAID_BY_KONG = "is ours to say: Kong reaches the instances through an upstream of ours; remove it"

SERVICE: Table = {
    "path": Key("Goes in front of the path of each request.", _path),
    "retries": Key("How often another instance is tried; 5 if left out.", integer(0, 32767)),
    "connect_timeout": Key("Milliseconds; 60000 if left out.", _milliseconds),
    "write_timeout": Key("Milliseconds; 60000 if left out.", _milliseconds),
    "read_timeout": Key("Milliseconds; 60000 if left out.", _milliseconds),
    "client_certificate": Key("The id of a certificate of `kong/*.yaml`, for https and tls.", _certificate),
    "tls_verify": Key("Check the certificate of the service, for https and tls.", boolean),
    "tls_verify_depth": Key("How long the chain of certificates may be.", integer(0, 64)),
    "ca_certificates": Key("Ids of the authorities that it trusts.", list_of(uuid)),
    "enabled": Key("`false` takes it off the gateway.", boolean),
    "tags": TAGS,
    "id": Refused(OURS),
    "name": Refused(OURS),
    "host": Refused(_SAID_BY_KONG),
    "url": Refused(_SAID_BY_KONG),
    "port": Refused("is ours to say; that of the container goes into `x-kong: {port: }`"),
    "protocol": Refused("goes into `x-kong: {protocol: }`"),
    "routes": Refused("goes into `x-kong: {routes: }`"),
    "plugins": Refused("goes into `x-kong: {plugins: }`"),
}

_STATUSES = list_of(integer(100, 999))
_HEALTHY: Table = {"http_statuses": Key("", _STATUSES), "successes": Key("", _byte)}
_UNHEALTHY: Table = {
    "http_statuses": Key("", _STATUSES),
    **{name: Key("", _byte) for name in ("tcp_failures", "timeouts", "http_failures")},
}
_INTERVAL: Table = {"interval": Key("", number)}
_TYPE: Table = {"type": Key("", one_of("tcp", "http", "https", "grpc", "grpcs"))}
_ACTIVE: Table = {
    **_TYPE,
    "timeout": Key("", number),
    "concurrency": Key("", integer(1)),
    "http_path": Key("", _path),
    "https_sni": Key("", filled),
    "https_verify_certificate": Key("", boolean),
    "headers": Key("", _headers),
    "healthy": Key("", record({**_HEALTHY, **_INTERVAL})),
    "unhealthy": Key("", record({**_UNHEALTHY, **_INTERVAL})),
}
_PASSIVE: Table = {
    **_TYPE,
    "healthy": Key("", record(_HEALTHY)),
    "unhealthy": Key("", record(_UNHEALTHY)),
}
_HEALTHCHECKS: Table = {
    "active": Key("", record(_ACTIVE)),
    "passive": Key("", record(_PASSIVE)),
    "threshold": Key("", number),
}

UPSTREAM: Table = {
    "algorithm": Key(
        "`round-robin` if left out, `least-connections`, `consistent-hashing` or `latency`.",
        one_of("round-robin", "least-connections", "consistent-hashing", "latency"),
    ),
    "hash_on": Key("For `consistent-hashing`: `ip`, `header`, `cookie`, `consumer`, `path`, ...", _HASHED),
    "hash_on_header": Key("That header.", filled),
    "hash_on_cookie": Key("That cookie.", filled),
    "hash_on_cookie_path": Key("The path of that cookie.", _path),
    "hash_on_query_arg": Key("That parameter of the query.", filled),
    "hash_on_uri_capture": Key("That part of a regular expression in `paths`.", filled),
    "hash_fallback": Key("Where the first has nothing to go by.", _HASHED),
    "hash_fallback_header": Key("That header.", filled),
    "hash_fallback_query_arg": Key("That parameter of the query.", filled),
    "hash_fallback_uri_capture": Key("That part of a regular expression in `paths`.", filled),
    "slots": Key("The size of the ring, 10 to 65536.", integer(10, 65536)),
    "healthchecks": Key("Kong's own checks: `active`, `passive`, `threshold`.", record(_HEALTHCHECKS)),
    "host_header": Key("The host that the instances are asked for.", host),
    "client_certificate": Key("The id of a certificate of `kong/*.yaml`.", _certificate),
    "use_srv_name": Key("Take the host from DNS.", boolean),
    "sticky_sessions_cookie": Key("The cookie that keeps a client with its instance (Kong 3.11 and later).", filled),
    "sticky_sessions_cookie_path": Key("The path of that cookie.", _path),
    "tags": TAGS,
    "id": Refused(OURS),
    "name": Refused(OURS),
    "targets": Refused("is ours to say: the targets are the instances; remove it"),
}
