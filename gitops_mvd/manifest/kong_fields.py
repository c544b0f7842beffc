"""Kong's own entities: their fields in Kong 3.9, by table, so that mistakes are found before the merge.  Pure.

What depends on several fields at once, or is inside a plugin's `config`, Kong itself checks before anything is written.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from urllib.parse import unquote_to_bytes

from gitops_mvd.config.readers import (
    FILLED,
    WORD,
    boolean,
    either,
    filled,
    formed,
    integer,
    json,
    list_of,
    mapping_of,
    number,
    one_of,
    own_words,
    placed,
    text,
)
from gitops_mvd.config.tables import Key, Place, Reader, Table, Unsupported, accepts, fields, mapping_schema, record
from gitops_mvd.core.policy.gateway import ADMIN, asked_by, is_admin_api
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.manifest.references import referring

Reference = str | Declaration

KONG_PROTOCOLS = ("http", "https", "grpc", "grpcs", "tcp", "tls", "tls_passthrough", "udp")
ROUTE_MATCHERS = ("paths", "hosts", "methods", "headers", "snis", "sources", "destinations", "expression")

# Protocols that can share a route, and the fields that such a route can match: routes.lua and
# routes_subschemas.lua among the schemas of Kong 3.9.1.
FAMILIES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (("http", "https"), ("paths", "hosts", "methods", "headers", "snis")),
    (("grpc", "grpcs"), ("paths", "hosts", "headers", "snis")),
    (("tcp", "tls", "udp"), ("sources", "destinations", "snis")),
    (("tls_passthrough",), ("snis", "sources", "destinations")),
)
WITH_TLS = {"https", "grpcs", "tls", "tls_passthrough"}
ENTERPRISE = "needs Kong Enterprise"
NO_GROUPS = f"{ENTERPRISE} (consumer groups): use `acls` at a consumer and the plugin `acl`"

SET_FROM_SERVICE = "is set by gitops-mvd, from the service: remove it"
PARENT = "follows from the entity around it: remove it"

_NAME = re.compile(r"[A-Za-z0-9.\-_~\u0080-\U0010ffff]+")
_PATH = re.compile(r"/[A-Za-z0-9_.\-~/%:@!$&'()*+,;=]*")
_ROUTE_PATH = re.compile(r"/[^\x00-\x1f\x7f?#\[\]\\^`{|}]*")  # as text: a space or an `ö` is one there
_HEADER = re.compile(r"[A-Za-z0-9_-]+")
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
_HASHES = ("none", "consumer", "ip", "header", "cookie", "path", "query_arg", "uri_capture")
_HASHED = one_of(*_HASHES)

_milliseconds = integer(1, 2147483646)
_byte = integer(0, 255)


def _matching(pattern: re.Pattern[str], wanted: str) -> Reader[str]:
    """A reader of strings of that pattern."""

    @accepts({"type": "string", "pattern": f"^{pattern.pattern}$".replace(r"\U0010ffff", r"\uffff")})
    def read(place: Place) -> str:
        value = filled(place)
        return value if pattern.fullmatch(value) else place.fail(f"must be {wanted}, not {value!r}")

    return read


entity_name = _matching(_NAME, "a name of letters, digits, `.`, `-`, `_` and `~`")
host = _matching(_HOST, "a host such as example.org or *.example.org, without a scheme or a path")
header = _matching(_HEADER, "the name of a header, of letters, digits, `-` and `_`")
uuid = _matching(_UUID, "the id of an entity, a UUID")


@accepts({"type": "string", "pattern": "^[^,/]+$"})
def _tag(place: Place) -> str:
    tag = filled(place)
    if tag.startswith(_OUR_TAGS):
        place.fail(f"begins with `{tag.partition(':')[0]}:`: such tags are reserved for gitops-mvd")
    return place.fail("has a comma or a slash, which Kong does not allow in a tag") if re.search("[,/]", tag) else tag


@accepts({"type": "string", "pattern": "^/"})
def _path(place: Place) -> str:
    path = filled(place)
    if not path.startswith("/"):
        place.fail(f"must begin with a slash, such as /chatbot, not {path!r}")
    if not _PATH.fullmatch(path) or "//" in path:
        place.fail(f"has an empty part, or a character that no path has: {path!r}")
    return path


@accepts({"type": "string", "pattern": "^(/|~/)"})
def _route_path(place: Place) -> str:
    path = filled(place)
    if path.startswith("~/"):
        return path
    if not path.startswith("/"):
        place.fail(f"must begin with `/`, or with `~/` for a regular expression, not {path!r}")
    normal = _normal(path)
    if not _ROUTE_PATH.fullmatch(normal) or re.search("%(?![0-9A-Fa-f]{2})", path) or "//" in path:
        place.fail(
            f"has an empty part, or a character that no path has: begin a regular expression with `~/`, not {path!r}"
        )
    return path if path == normal else place.fail(f"is not normalized: write {normal!r}, as Kong does, not {path!r}")


def _normal(path: str) -> str:
    """The path as Kong compares it with that of a request, without dots and needless encoding; "" if it is no text."""

    def decoded(match: re.Match[bytes]) -> bytes:
        byte = unquote_to_bytes(match[0])
        return match[0].upper() if byte in b"!*'();:@&=+$,/?%#[]" else byte

    raw = re.sub(rb"%[0-9A-Fa-f]{2}", decoded, path.encode())
    kept: list[bytes] = []
    first, *segments = raw.split(b"/")
    for place, segment in enumerate(segments, 1):
        if segment == b"..":
            kept = kept[:-1]
        elif segment != b".":
            kept.append(segment)
        if segment in (b".", b"..") and place == len(segments):
            kept.append(b"")
    try:
        return b"/".join([first, *kept]).decode()
    except UnicodeDecodeError:
        return ""


@accepts({"enum": list(KONG_PROTOCOLS)})
def protocol(place: Place) -> str:
    value = text(place)
    if value in ("ws", "wss"):
        place.fail(f"{ENTERPRISE}: a websocket passes a route and a service of `http` or `https`")
    return one_of(*KONG_PROTOCOLS)(place)


@accepts(FILLED)
def _ip_or_range(place: Place) -> str:
    value = filled(place)
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError:
        place.fail(f"must be an IP address or a range such as 10.0.0.0/8, not {value!r}")
    return value


@accepts({"enum": [426, 301, 302, 307, 308]})
def _redirect(place: Place) -> int:
    status = integer()(place)
    return status if status in (426, 301, 302, 307, 308) else place.fail("must be 426, 301, 302, 307 or 308")


@accepts({"type": "object", "additionalProperties": {"type": "array", "items": WORD}})
def _headers(place: Place) -> dict[str, list[str]]:
    for name, at in place.entries().items():
        if name.lower() == "host":
            at.report("goes into `hosts`")
        elif not _HEADER.fullmatch(name):
            at.report("is not a header name that Kong accepts: use letters, digits, `-` and `_`")
    return mapping_of(formed(list, '`["2"]`', own_words))(place)


_BY_ID: Table = {"id": Key("The id of the certificate.", uuid)}


@accepts(either(uuid.schema, mapping_schema(_BY_ID, ("id",))))
def certificate(place: Place) -> Reference:
    """A reference to a certificate, which has no name: only its id is accepted."""
    if isinstance(place.value(), dict):
        fields(place, _BY_ID, ("id",))
    else:
        uuid(place)
    found: Reference = json(place)
    return found


@accepts({"type": "object"})
def settings(place: Place) -> Declaration:
    """A mapping whose keys only Kong knows."""
    place.entries()
    found: Declaration = json(place)
    return found


def named(*words: str) -> Reader[Reference]:
    """A reader of references by name, as text or as a mapping of one of these words, or by id."""
    table = {word: Key(f"The {word} of the entity.", filled) for word in (*words, "id")}

    @accepts(either(FILLED, mapping_schema(table)))
    def read(place: Place) -> Reference:
        if isinstance(place.value(), dict):
            if len(fields(place, table)) != 1:
                place.fail(f"must have one of `{'`, `'.join(words)}`, `id`")
            found: Reference = json(place)
            return found
        return filled(place)

    return read


_ADDRESS: Table = {
    "ip": Key("An IP address or range.", _ip_or_range),
    "port": Key("A port.", integer(0, 65535)),
}


@accepts(mapping_schema(_ADDRESS))
def _address(place: Place) -> Declaration:
    found = fields(place, _ADDRESS)
    return found if place.has("ip") or place.has("port") else place.fail("has neither an `ip` nor a `port`")


_addresses = formed(list, "`[{ip: 10.0.0.0/8}]`", list_of(formed(dict, "`{ip: 10.0.0.0/8}`", _address)))
_protocols = list_of(protocol)
_hosts = formed(list, "`[example.org]`", list_of(host))

TAGS_KEY = Key("Tags of your own.", list_of(_tag))

KONG_PLUGIN: Table = {
    "name": Key("The plugin, such as `key-auth`.", filled),
    "instance_name": Key("A name for this use of it.", entity_name),
    "config": Key("The plugin's own settings, which Kong checks.", referring(settings)),
    "enabled": Key("`false` switches it off.", boolean),
    "protocols": Key("The protocols that it is for.", _protocols),
    "consumer": Key("Only for that consumer: its `username`.", named("username")),
    "tags": TAGS_KEY,
    "service": Unsupported(PARENT),
    "route": Unsupported(PARENT),
    "id": Unsupported(SET_FROM_SERVICE),
    "ordering": Unsupported(f"{ENTERPRISE}: plugins run in the order of Kong's own priorities"),
    "consumer_group": Unsupported(NO_GROUPS),
}

_SETTINGS = "the plugin's own settings go under `config`"


def one_plugin(table: Table) -> Reader[Declaration]:
    """A reader of one plugin, which does not connect to Kong's Admin API."""
    keys = record(Declaration, table, ("name",), _SETTINGS)

    @accepts(keys.schema)
    def read(place: Place) -> Declaration:
        found = keys(place)
        if any(is_admin_api(host, port) for _, host, port in asked_by(found)):
            place.report(ADMIN)
        return found

    return read


def plugins(table: Table = KONG_PLUGIN) -> Reader[list[Declaration]]:
    """A reader of plugins; the same one twice would be one of them."""
    every = placed(formed(dict, "`{name: key-auth}`", one_plugin(table)))

    @accepts(every.schema)
    def read(place: Place) -> list[Declaration]:
        found = every(place)
        once(found, "plugin", scope)
        return [entity for _, entity in found]

    return formed(list, "`[{name: key-auth}]`", read)


def scope(plugin: Declaration) -> list[object]:
    """What must be unique for a plugin in Kong."""
    return [plugin.get(key) for key in ("name", "consumer", "service", "route")]


def once(found: Iterable[tuple[Place, Declaration]], what: str, key: Callable[[Declaration], object]) -> None:
    """Report entities with the same key as one before them; `key` returns None for an entity without one."""
    seen: dict[str, Place] = {}
    for at, entity in found:
        if (name := key(entity)) is None:
            continue
        first = seen.setdefault(repr(name), at)
        if first is not at:
            at.report(f"is the same {what} as {first.key}, in {first.node.file}:{first.node.line}")


KONG_ROUTE: Table = {
    "name": Key("Its name in Kong, behind `mvd.<app>.<service>.`; left out: its number.", entity_name),
    "protocols": Key("`http` and `https` if left out; others of one kind only, such as `[grpc, grpcs]`.", _protocols),
    "hosts": Key("Hosts, also as `*.example.org`.", _hosts),
    "paths": Key(
        "Prefixes of paths: each begins with `/`, or with `~/` for a regular expression.",
        formed(list, "`[/chatbot]`", list_of(_route_path)),
    ),
    "methods": Key(
        "HTTP methods, in capitals.", formed(list, "`[GET]`", list_of(_matching(re.compile("[A-Z]+"), "in capitals")))
    ),
    "headers": Key('The values that a header may have: `{x-version: ["2"]}`.', referring(_headers, vaults=False)),
    "snis": Key("Server names of TLS.", _hosts),
    "sources": Key("`ip` and `port` of clients, for tcp, tls and udp.", _addresses),
    "destinations": Key("`ip` and `port` of Kong, for tcp, tls and udp.", _addresses),
    "expression": Key("An expression instead of the other matchers, if Kong's router is `expressions`.", filled),
    "priority": Key("The order of expressions: the highest wins.", integer(0, 2**46 - 1)),
    "regex_priority": Key("The order of regular expressions: the highest wins.", integer()),
    "https_redirect_status_code": Key(
        "The status for a request over http to an https route: 426, 301, 302, 307 or 308.", _redirect
    ),
    "strip_path": Key("`false` leaves the path in the request.", boolean),
    "path_handling": Key("`v0` or `v1`.", one_of("v0", "v1")),
    "preserve_host": Key("`true` passes the host of the request on to the service.", boolean),
    "request_buffering": Key("`true` reads the whole request before it is passed on.", boolean),
    "response_buffering": Key("`true` reads the whole response before it is passed on.", boolean),
    "plugins": Key("Plugins for this route.", plugins()),
    "tags": TAGS_KEY,
    "service": Unsupported(SET_FROM_SERVICE),
    "id": Unsupported(SET_FROM_SERVICE),
}


@accepts(mapping_schema(KONG_ROUTE))
def route(place: Place) -> Declaration:
    return read_route(place, KONG_ROUTE)


def read_route(place: Place, table: Table) -> Declaration:
    """A route whose fields go together, by the rules that Kong has for its protocols."""
    values = fields(place, table)
    given = [name for name in ROUTE_MATCHERS if place.has(name) and place.entries()[name].node.value not in ([], {})]
    spoken = values.get("protocols", ["http", "https"])
    if not spoken:
        if place.entries()["protocols"].node.value == []:
            place.entries()["protocols"].report("is empty: leave it out for http and https")
        return values
    if "expression" in given:
        _check_expression(place, values, given)
    else:
        _check_protocols(place, values, given, spoken)
    return values


def _check_expression(place: Place, values: Declaration, given: list[str]) -> None:
    entries = place.entries()
    for name in given:
        if name != "expression":
            entries[name].report("cannot be used together with `expression`: write it into the expression")
    if values.get("regex_priority"):
        entries["regex_priority"].report("cannot be used together with `expression`: use `priority`")


def _check_protocols(place: Place, values: Declaration, given: list[str], spoken: list[str]) -> None:
    entries = place.entries()
    family, matchers = next((family for family in FAMILIES if spoken[0] in family[0]), FAMILIES[0])
    said = " and ".join(spoken)
    if strange := [name for name in spoken if name not in family]:
        return entries["protocols"].report(f"{strange[0]} and {spoken[0]} cannot share a route: make two routes")
    if values.get("priority"):
        entries["priority"].report("is only for an `expression`; regular expressions have `regex_priority`")
    if family[0] == "grpc" and values.get("strip_path"):
        entries["strip_path"].report(f"cannot be true in a route for {said}: a path is the name of a method there")
    can = [name for name in matchers if name != "snis" or not WITH_TLS.isdisjoint(spoken)]
    for name in given:
        if name not in matchers:
            entries[name].report(f"cannot be matched by a route for {said}: use {', '.join(can)}")
        elif name not in can:
            entries[name].report("needs a protocol with TLS: add https, grpcs or tls to `protocols`")
    needed = ["snis"] if family[0] == "tls_passthrough" else can
    if not set(given) - set(can) and not set(given) & set(needed):
        place.report(f"matches nothing: give it one of {', '.join([*needed, 'expression'])}")
    return None


def routes(table: Table = KONG_ROUTE) -> Reader[list[tuple[Place, Declaration]]]:
    """A reader of routes and where they stand; two of one name would be one route."""
    route = Reader(lambda place: read_route(place, table), mapping_schema(table))
    every = placed(formed(dict, "`{paths: [/chatbot]}`", route))

    @accepts(every.schema)
    def read(place: Place) -> list[tuple[Place, Declaration]]:
        found = every(place)
        numbers = {id(entity): str(number) for number, (_, entity) in enumerate(found, 1)}
        once(found, "route", lambda entity: entity.get("name", numbers[id(entity)]))
        return found

    return read


_SAID_BY_KONG = "is set by gitops-mvd, to an upstream with the instances: remove it"

KONG_SERVICE: Table = {
    "path": Key("The prefix of the path of each request.", _path),
    "retries": Key("How often another instance is tried; 5 if left out.", integer(0, 32767)),
    "connect_timeout": Key("Milliseconds; 60000 if left out.", _milliseconds),
    "write_timeout": Key("Milliseconds; 60000 if left out.", _milliseconds),
    "read_timeout": Key("Milliseconds; 60000 if left out.", _milliseconds),
    "client_certificate": Key("The id of a certificate of `kong/*.yaml`, for https and tls.", certificate),
    "tls_verify": Key("Check the certificate of the service, for https and tls.", boolean),
    "tls_verify_depth": Key("How long the chain of certificates may be.", integer(0, 64)),
    "ca_certificates": Key("Ids of the authorities that it trusts.", list_of(uuid)),
    "enabled": Key("`false` removes the service from Kong.", boolean),
    "tags": TAGS_KEY,
    "id": Unsupported(SET_FROM_SERVICE),
    "name": Unsupported(SET_FROM_SERVICE),
    "host": Unsupported(_SAID_BY_KONG),
    "url": Unsupported(_SAID_BY_KONG),
    "port": Unsupported("is set by gitops-mvd; the port of the container goes into `x-kong: {port: }`"),
    "protocol": Unsupported("goes into `x-kong: {protocol: }`"),
    "routes": Unsupported("goes into `x-kong: {routes: }`"),
    "plugins": Unsupported("goes into `x-kong: {plugins: }`"),
}


def check_service(place: Place, values: Declaration, spoken: str) -> None:
    """Check the fields of a service against its protocol: kong/db/schema/entities/services.lua of Kong 3.9.1."""
    entries = place.entries()
    if "path" in values and spoken not in ("http", "https"):
        entries["path"].report(f"is not supported for a service of protocol {spoken}: remove it")
    for name in ("client_certificate", "tls_verify", "tls_verify_depth", "ca_certificates"):
        if name in values and spoken not in ("https", "tls"):
            entries[name].report(f"is only for the protocols https and tls, not for {spoken}: remove it")


_STATUSES = list_of(integer(100, 999))
_HEALTHY: Table = {
    "http_statuses": Key("The statuses that count as healthy.", _STATUSES),
    "successes": Key("How many successes in a row make a target healthy.", _byte),
}
_UNHEALTHY: Table = {
    "http_statuses": Key("The statuses that count as unhealthy.", _STATUSES),
    "tcp_failures": Key("How many failed connections make a target unhealthy; 0 for never.", _byte),
    "timeouts": Key("How many timeouts make a target unhealthy; 0 for never.", _byte),
    "http_failures": Key("How many unhealthy statuses make a target unhealthy; 0 for never.", _byte),
}
_INTERVAL: Table = {"interval": Key("Seconds between two checks; 0 for none.", number)}
_TYPE: Table = {"type": Key("The protocol of the check.", one_of("tcp", "http", "https", "grpc", "grpcs"))}
_ACTIVE: Table = {
    **_TYPE,
    "timeout": Key("Seconds until a check has failed.", number),
    "concurrency": Key("How many targets are checked at a time.", integer(1)),
    "http_path": Key("The path of the check.", _path),
    "https_sni": Key("The server name of the check.", filled),
    "https_verify_certificate": Key("Check the certificate of the target.", boolean),
    "headers": Key("Headers of the check.", referring(_headers, vaults=False)),
    "healthy": Key("When a target counts as healthy.", record(Declaration, {**_HEALTHY, **_INTERVAL})),
    "unhealthy": Key("When a target counts as unhealthy.", record(Declaration, {**_UNHEALTHY, **_INTERVAL})),
}
_PASSIVE: Table = {
    **_TYPE,
    "healthy": Key("When a target counts as healthy.", record(Declaration, _HEALTHY)),
    "unhealthy": Key("When a target counts as unhealthy.", record(Declaration, _UNHEALTHY)),
}
_HEALTHCHECKS: Table = {
    "active": Key("Checks that Kong makes by itself.", record(Declaration, _ACTIVE)),
    "passive": Key("Checks by the requests that pass.", record(Declaration, _PASSIVE)),
    "threshold": Key("The percentage of healthy targets below which the upstream is unhealthy.", number),
}

STICKY = f"{ENTERPRISE}: use `algorithm: consistent-hashing` with `hash_on: cookie`"

KONG_UPSTREAM: Table = {
    "algorithm": Key(
        "`round-robin` if left out, `least-connections`, `consistent-hashing` or `latency`.",
        one_of("round-robin", "least-connections", "consistent-hashing", "latency"),
    ),
    "hash_on": Key("For `consistent-hashing`: `ip`, `header`, `cookie`, `consumer`, `path`, ...", _HASHED),
    "hash_on_header": Key("The header for `header`.", header),
    "hash_on_cookie": Key("The cookie for `cookie`.", filled),
    "hash_on_cookie_path": Key("The path of that cookie.", _path),
    "hash_on_query_arg": Key("The query parameter for `query_arg`.", filled),
    "hash_on_uri_capture": Key("The capture group of a regular expression in `paths`, for `uri_capture`.", filled),
    "hash_fallback": Key("What is hashed if a request lacks the value for `hash_on`.", _HASHED),
    "hash_fallback_header": Key("The header for `header`.", header),
    "hash_fallback_query_arg": Key("The query parameter for `query_arg`.", filled),
    "hash_fallback_uri_capture": Key(
        "The capture group of a regular expression in `paths`, for `uri_capture`.", filled
    ),
    "slots": Key("The size of the ring, 10 to 65536.", integer(10, 65536)),
    "healthchecks": Key("Kong's own checks: `active`, `passive`, `threshold`.", record(Declaration, _HEALTHCHECKS)),
    "host_header": Key("The host header of requests to the instances.", host),
    "client_certificate": Key("The id of a certificate of `kong/*.yaml`.", certificate),
    "use_srv_name": Key("`true` uses the name of a DNS SRV record as host.", boolean),
    "tags": TAGS_KEY,
    "id": Unsupported(SET_FROM_SERVICE),
    "name": Unsupported(SET_FROM_SERVICE),
    "targets": Unsupported("is set by gitops-mvd, to the instances: remove it"),
    **{name: Unsupported(STICKY) for name in ("sticky_sessions_cookie", "sticky_sessions_cookie_path")},
}


@accepts(mapping_schema(KONG_UPSTREAM))
def upstream(place: Place) -> Declaration:
    return read_upstream(place, KONG_UPSTREAM)


def read_upstream(place: Place, table: Table, required: Iterable[str] = ()) -> Declaration:
    """An upstream whose hashing goes together: kong/db/schema/entities/upstreams.lua of Kong 3.9.1.

    Kong derives the algorithm from `hash_on`, so the two must agree.
    """
    values = fields(place, table, required)
    entries = place.entries()
    first, second = values.get("hash_on", "none"), values.get("hash_fallback", "none")
    hashing = values.get("algorithm", "consistent-hashing") == "consistent-hashing"
    if first != "none" and not hashing:
        entries["hash_on"].report(f"is {first}, for which Kong changes `algorithm` to consistent-hashing: remove one")
    elif first == "none" and hashing and "algorithm" in values:
        entries["algorithm"].report("needs `hash_on`")
    if first in ("none", "cookie") and second != "none":
        entries["hash_fallback"].report(f"is never used if `hash_on` is {first}")
    elif first == second and first in ("consumer", "ip", "path"):
        entries["hash_fallback"].report("is the same as `hash_on`")
    for key, name in (("hash_on", first), ("hash_fallback", second)):
        beside = "hash_on_cookie" if name == "cookie" else f"{key}_{name}"
        if name in ("header", "cookie", "query_arg", "uri_capture") and not place.has(beside):
            entries[key].report(f"is {name}, which needs `{beside}`")
    for name in ("header", "query_arg", "uri_capture"):
        one, other = values.get(f"hash_on_{name}"), values.get(f"hash_fallback_{name}")
        if one is not None and one == other:
            entries[f"hash_fallback_{name}"].report(f"is the same as `hash_on_{name}`")
    return values
