"""`kong/*.yaml` → the app `gateway`: the entities that belong to Kong as a whole.  Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import urlsplit

from gitops_mvd.config.readers import (
    FILLED,
    boolean,
    filled,
    formed,
    integer,
    json,
    list_of,
    number,
    one_of,
    placed,
    strings,
    text,
)
from gitops_mvd.config.tables import (
    Ignored,
    Key,
    Place,
    Reader,
    Table,
    Unsupported,
    accepts,
    fields,
    mapping_schema,
    record,
)
from gitops_mvd.config.yamltree import Sink, parse, report
from gitops_mvd.core.model import App
from gitops_mvd.core.policy.gateway import ADMIN, is_admin_api, routed
from gitops_mvd.core.ports import Tree
from gitops_mvd.core.xkong import Declaration
from gitops_mvd.manifest.kong_fields import (
    ENTERPRISE,
    KONG_PLUGIN,
    KONG_PROTOCOLS,
    KONG_ROUTE,
    KONG_SERVICE,
    KONG_UPSTREAM,
    NO_GROUPS,
    PARENT,
    TAGS_KEY,
    certificate,
    check_service,
    entity_name,
    host,
    named,
    once,
    one_plugin,
    plugins,
    protocol,
    read_route,
    read_upstream,
    routes,
    scope,
    settings,
    uuid,
)
from gitops_mvd.manifest.references import referring
from gitops_mvd.manifest.sealed import is_sealed
from gitops_mvd.manifest.stand_ins import not_a_file, not_a_folder, stand_in

GATEWAY_APP = "gateway"
FOLDER = "kong"
_SEALED = "is encrypted with SOPS, which nothing decrypts for Kong: write {file://NAME}"
DEFAULT_PORT = 8000  # of a target, in Kong

_READERS_ONLY = "for readers only."
_TIME = Ignored("Kong sets it.", number)
# What Kong's format has in every entity.
_OF_EVERY: Table = {
    "id": Key("Its id in Kong, a UUID; left out, it follows from the name. It cannot be changed.", uuid),
    "_comment": Ignored(_READERS_ONLY, text),
    "_ignore": Ignored(_READERS_ONLY, list_of(json)),
    "created_at": _TIME,
    "updated_at": _TIME,
}
_TTL = Unsupported("is not supported: what expires would be added again at once; remove it")

_UPSTREAM_NAME = re.compile(r"(?![0-9.]*$)[A-Za-z0-9._-]+")
_ADDRESS = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_ALGORITHMS = [f"{kind}{bits}" for kind in ("HS", "RS", "ES", "PS") for bits in (256, 384, 512)]


@accepts({"type": "string", "pattern": f"^{_UPSTREAM_NAME.pattern}$"})
def _upstream_name(place: Place) -> str:
    value = filled(place)
    if not _UPSTREAM_NAME.fullmatch(value):
        place.fail(f"must be a name such as `search.internal`, without a port and not an IP address, not {value!r}")
    return value


@accepts(FILLED)
def _target(place: Place) -> str:
    """A host and its port, as Kong keeps it: an IPv6 address in full, and with the port that it takes for granted."""
    value = filled(place)
    bare = f"[{value}]" if value.count(":") > 1 and not value.startswith("[") else value
    found = _ADDRESS.fullmatch(bare)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    try:
        if not found or port > 65535:
            raise ValueError
        six = found["six"] and ipaddress.IPv6Address(found["six"]).exploded
        known = found["name"] or f"[{six}]"
        if re.fullmatch(r"[0-9.]+", known):
            known = str(ipaddress.IPv4Address(known))
    except ValueError:
        place.fail(f"must be a host or an address with its port, such as 10.0.0.9:9200, not {value!r}")
    if is_admin_api(known, port):
        place.fail(ADMIN)
    return f"{known}:{port}"


GATEWAY_PLUGIN: Table = {
    **KONG_PLUGIN,
    "service": Key("Only for that service of `kong/*.yaml`: its `name`.", named("name")),
    "route": Key("Only for that route of `kong/*.yaml`: its `name`.", named("name")),
    **_OF_EVERY,
}
_NESTED_PLUGINS = plugins({**KONG_PLUGIN, **_OF_EVERY})
_NESTED_ROUTE: Table = {**KONG_ROUTE, "plugins": Key("Plugins for this route.", _NESTED_PLUGINS), **_OF_EVERY}


def _entities(table: Table, *required: str) -> Reader[list[tuple[Place, Declaration]]]:
    return placed(record(Declaration, table, required))


# A secret of a caller, in which Kong does not look up a `{vault://...}`.
_literal = referring(text, vaults=False)
_filled_literal = referring(filled, vaults=False)


@accepts({"enum": [False, "false"]})
def _plain_text(place: Place) -> bool:
    if boolean(place):
        place.fail(
            "is not supported: Kong would hash the secret with a salt of its own, so that nobody could compare it"
        )
    return False


_SECRETS: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, Reader[object]]]] = {
    "keyauth_credentials": ("For `key-auth`: `key`.", ("key",), {"key": _filled_literal}),
    "basicauth_credentials": (
        "For `basic-auth`: `username` and `password`.",
        ("username", "password"),
        {"username": filled, "password": _literal},
    ),
    "hmacauth_credentials": (
        "For `hmac-auth`: `username` and `secret`.",
        ("username",),
        {"username": filled, "secret": _literal},
    ),
    "jwt_secrets": (
        "For `jwt`: `key`, `secret`, `algorithm`, `rsa_public_key`.",
        (),
        {
            "key": _filled_literal,
            "secret": _literal,
            "algorithm": one_of(*_ALGORITHMS, "EdDSA"),
            "rsa_public_key": _literal,
        },
    ),
    "oauth2_credentials": (
        "For `oauth2`: `name`, `client_id`, `client_secret`, `redirect_uris`, `client_type`.",
        ("name",),
        {
            "name": filled,
            "client_id": filled,
            "client_secret": _literal,
            "redirect_uris": strings,
            "client_type": one_of("confidential", "public"),
            "hash_secret": _plain_text,
        },
    ),
    "acls": ("For `acl`: each with its `group`.", ("group",), {"group": filled}),
}


def _credential(kind: str, consumer: Key | Unsupported) -> Reader[list[tuple[Place, Declaration]]]:
    _, required, keys = _SECRETS[kind]
    table = {name: Key(f"The `{name}` of the credential.", read) for name, read in keys.items()}
    whose = ("consumer",) if isinstance(consumer, Key) else ()
    return _entities({**table, "tags": TAGS_KEY, **_OF_EVERY, "ttl": _TTL, "consumer": consumer}, *required, *whose)


CONSUMER_CREDENTIALS: Table = {
    kind: Key(doc, _credential(kind, Unsupported(PARENT))) for kind, (doc, *_) in _SECRETS.items()
}
_OF_A_CONSUMER = Key("The `username` of the consumer.", named("username"))
CONSUMER: Table = {
    "username": Key("The name of the consumer.", filled),
    "custom_id": Key("The id of the consumer in another system.", filled),
    **CONSUMER_CREDENTIALS,
    "plugins": Key("Plugins for this consumer.", plugins({**GATEWAY_PLUGIN, "consumer": Unsupported(PARENT)})),
    "tags": TAGS_KEY,
    **_OF_EVERY,
    "groups": Unsupported(NO_GROUPS),
    "mtls_auth_credentials": Unsupported(f"{ENTERPRISE}: use another way to let callers in"),
}
GATEWAY_SERVICE: Table = {
    **KONG_SERVICE,
    "name": Key("Its name in Kong.", entity_name),
    "host": Key("The host of the service, or the `name` of an upstream.", host),
    "port": Key("Its port; 80 if left out.", integer(0, 65535)),
    "protocol": Key("How Kong speaks to it; `http` if left out.", protocol),
    "url": Key("Short for `protocol`, `host`, `port` and `path`: `https://example.org:8443/v1`.", filled),
    "routes": Key("Its routes, as in `x-kong`.", routes(_NESTED_ROUTE)),
    "plugins": Key("Its plugins, as in `x-kong`.", _NESTED_PLUGINS),
    **_OF_EVERY,
}
GATEWAY_ROUTE: Table = {
    **KONG_ROUTE,
    "name": Key("Its name in Kong.", entity_name),
    "service": Key(
        "Where it leads: the `name` of a service of `kong/*.yaml`; left out, plugins answer requests.", named("name")
    ),
    **_OF_EVERY,
}
KONG_TARGET: Table = {
    "target": Key(f"A host or an address, and its port; {DEFAULT_PORT} if left out.", _target),
    "weight": Key("Its share, 0 to 65535; 100 if left out.", integer(0, 65535)),
    "tags": TAGS_KEY,
    "upstream": Unsupported(PARENT),
    **_OF_EVERY,
}
GATEWAY_UPSTREAM: Table = {
    **KONG_UPSTREAM,
    "name": Key("Its name, which is the `host` of services.", _upstream_name),
    "targets": Key("The targets, each with `target` and `weight`.", _entities(KONG_TARGET, "target")),
    **_OF_EVERY,
}
_PEM = "`{public_key: ...}`"
KEY: Table = {
    "name": Key("Its name.", filled),
    "kid": Key("The id of the key in a token.", filled),
    "jwk": Key("The key as JSON.", referring(filled)),
    "pem": Key("The key as PEM: `private_key`, `public_key`.", referring(formed(dict, _PEM, settings))),
    "set": Unsupported(PARENT),
    "tags": TAGS_KEY,
    **_OF_EVERY,
}
KEY_SET: Table = {
    "name": Key("Its name.", filled),
    "keys": Key("The keys in it.", _entities(KEY, "kid")),
    "tags": TAGS_KEY,
    **_OF_EVERY,
}
SNI: Table = {
    "name": Key("A host, also as `*.example.org`.", host),
    "tags": TAGS_KEY,
    **_OF_EVERY,
    "certificate": Unsupported(PARENT),
}
_SNIS = placed(formed(dict, "`{name: example.org}`", record(Declaration, SNI, ("name",))))
CERTIFICATE: Table = {
    "cert": Key("The certificate, in PEM.", referring(filled)),
    "key": Key("Its private key, in PEM, or a reference such as `{file://tls-key}`.", referring(filled)),
    "cert_alt": Key("A second certificate of another kind.", referring(filled)),
    "key_alt": Key("Its private key.", referring(filled)),
    "snis": Key("The server names of the certificate.", formed(list, "`[{name: example.org}]`", _SNIS)),
    "tags": TAGS_KEY,
    **_OF_EVERY,
}
CA_CERTIFICATE: Table = {
    "cert": Key("The certificate, in PEM.", _filled_literal),
    "cert_digest": Ignored("Kong makes it of the certificate.", text),
    "tags": TAGS_KEY,
    **_OF_EVERY,
}
_ENTERPRISE_VAULTS = ("aws", "azure", "conjur", "gcp", "hcv")


@accepts(FILLED)
def _vault(place: Place) -> str:
    name = filled(place)
    if name in _ENTERPRISE_VAULTS:
        place.fail(f"{name} {ENTERPRISE}: use `env`, or a {{file://NAME}} that this server has")
    return name


VAULT: Table = {
    "name": Key("The type of the vault: `env`, or one that you have installed.", _vault),
    "prefix": Key("The prefix of references to the vault.", filled),
    "description": Key("For readers only.", text),
    "config": Key("Its own settings, which Kong checks.", referring(settings)),
    "tags": TAGS_KEY,
    **_OF_EVERY,
}


@accepts(mapping_schema(CONSUMER))
def _consumer(place: Place) -> Declaration:
    consumer = fields(place, CONSUMER)
    if not place.has("username") and not place.has("custom_id"):
        place.report("has neither a `username` nor a `custom_id`")
    return consumer


@accepts(mapping_schema(GATEWAY_SERVICE))
def _service(place: Place) -> Declaration:
    service = fields(place, GATEWAY_SERVICE, () if place.has("url") else ("host",))
    if url := service.pop("url", ""):
        entries = place.entries()
        found = _of_url(entries["url"], url)
        for name in ("protocol", "host", "port", "path"):
            if name in service and service[name] != found.get(name):
                entries[name].report(
                    f"is {found.get(name) or 'nothing'} by `url`, which Kong takes: remove one of them"
                )
        service = {**service, **found}
    if any(is_admin_api(host, port) for _, host, port in routed({"services": [service]})):
        place.report(ADMIN)
    check_service(place, service, service.get("protocol", "http"))
    return service


def _of_url(place: Place, url: str) -> Declaration:
    """What Kong makes of a `url`."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    wrong = parts.query or parts.fragment or "@" in parts.netloc or port == -1
    if parts.scheme not in KONG_PROTOCOLS or not parts.hostname or wrong:
        place.fail("must be as in https://example.org:8443/v1, with a protocol of Kong's, and without login and query")
    found = {"protocol": parts.scheme, "host": parts.hostname, "port": port or (443 if parts.scheme == "https" else 80)}
    return {**found, "path": parts.path} if parts.path else found


@accepts(mapping_schema(GATEWAY_UPSTREAM, ("name",)))
def _upstream(place: Place) -> Declaration:
    return read_upstream(place, GATEWAY_UPSTREAM, ("name",))


_KEY_BY_ITSELF: Table = {**KEY, "set": Key("The name of a set.", named("name"))}


@accepts(mapping_schema(_KEY_BY_ITSELF, ("kid",)))
def _key(place: Place) -> Declaration:
    found = fields(place, _KEY_BY_ITSELF, ("kid",))
    if place.has("jwk") == place.has("pem"):
        place.report("must have one of `jwk` and `pem`")
    return found


@accepts(mapping_schema(GATEWAY_ROUTE))
def _route(place: Place) -> Declaration:
    return read_route(place, GATEWAY_ROUTE)


_VERSIONS = ("1.1", "2.1", "3.0")


@accepts({"enum": [True, "true"]})
def _transform(place: Place) -> bool:
    if not boolean(place):
        place.fail(
            "is not supported: passwords would count as hashed already, and lock their callers out; "
            "write them as callers send them, and remove it"
        )
    return True


_UNMADE = "is not supported: Kong makes these by itself while it runs"

GATEWAY: Table = {
    "_format_version": Key('Kong\'s: `"3.0"`; with an older one, too, paths are read as in 3.0.', one_of(*_VERSIONS)),
    "_comment": Ignored(_READERS_ONLY, text),
    "_ignore": Ignored(_READERS_ONLY, list_of(json)),
    "_transform": Key("`true`, as in Kong if left out: passwords are as callers send them.", _transform),
    "consumers": Key("The callers, with their credentials.", placed(_consumer)),
    "plugins": Key(
        "Plugins for everything, or for one `consumer`, `service` or `route`.",
        placed(one_plugin(GATEWAY_PLUGIN)),
    ),
    "services": Key("Services that do not run here, with their `routes`.", placed(_service)),
    "routes": Key(
        "Routes by themselves, each with its `service`, or without one.",
        placed(_route),
    ),
    "upstreams": Key("Load balancers over several `targets` that do not run here.", placed(_upstream)),
    "targets": Key(
        "Targets by themselves, each with its `upstream`.",
        _entities({**KONG_TARGET, "upstream": Key("Its name.", named("name"))}, "target", "upstream"),
    ),
    "certificates": Key("Certificates, with their `snis`.", _entities(CERTIFICATE, "cert", "key")),
    "snis": Key(
        "Server names by themselves, each with the id of its `certificate`.",
        _entities({**SNI, "certificate": Key("The id of its certificate.", certificate)}, "name", "certificate"),
    ),
    "ca_certificates": Key("Certificate authorities that Kong trusts.", _entities(CA_CERTIFICATE, "cert")),
    "key_sets": Key("Sets of keys, with their `keys`.", _entities(KEY_SET, "name")),
    "keys": Key(
        "Keys by themselves, with or without their `set`.",
        placed(_key),
    ),
    "vaults": Key("Stores in which Kong itself looks up secrets.", _entities(VAULT, "name", "prefix")),
    **{
        kind: Key(f"Credentials, each with its `consumer`. {doc}", _credential(kind, _OF_A_CONSUMER))
        for kind, (doc, *_) in _SECRETS.items()
    },
    "_info": Unsupported("is not supported: it is decK's"),
    "_workspace": Unsupported(f"{ENTERPRISE}: remove it"),
    **{
        name: Unsupported(NO_GROUPS)
        for name in ("consumer_groups", "consumer_group_consumers", "consumer_group_plugins")
    },
    "mtls_auth_credentials": Unsupported(f"{ENTERPRISE}: use another way to let callers in"),
    "partials": Unsupported(f"{ENTERPRISE}: write the settings into each plugin"),
    "filter_chains": Unsupported("is not supported: Kong comes with WebAssembly switched off"),
    **{
        name: Unsupported(_UNMADE)
        for name in ("oauth2_tokens", "oauth2_authorization_codes", "acme_storage", "sessions")
    },
}


def _name_of(value: object) -> object:
    """The name, or the id, by which something is referred to."""
    if isinstance(value, Mapping):
        return next(iter(value.values()), None)
    return value


# What Kong allows only once: the kind, its name in messages, and the value that must be unique.
_UNIQUE: tuple[tuple[str, str, Callable[[Declaration], object]], ...] = (
    ("consumers", "consumer", lambda it: it.get("username") or it.get("custom_id")),
    ("plugins", "plugin", scope),
    ("services", "service", lambda it: it.get("name")),
    ("routes", "route", lambda it: it.get("name")),
    ("upstreams", "upstream", lambda it: it.get("name")),
    ("targets", "target", lambda it: it.get("target") and (_name_of(it.get("upstream")), it["target"])),
    ("snis", "server name", lambda it: it.get("name")),
    ("key_sets", "key set", lambda it: it.get("name")),
    ("keys", "key", lambda it: it.get("kid") and (_name_of(it.get("set")), it["kid"])),
    ("vaults", "vault", lambda it: it.get("prefix")),
    ("keyauth_credentials", "key", lambda it: it.get("key")),
    ("basicauth_credentials", "login", lambda it: it.get("username")),
    ("hmacauth_credentials", "login", lambda it: it.get("username")),
    ("jwt_secrets", "key", lambda it: it.get("key")),
    ("oauth2_credentials", "client", lambda it: it.get("client_id")),
    ("acls", "membership", lambda it: it.get("group") and (_name_of(it.get("consumer")), it["group"])),
)
# Nested entities: the kind around them, and the field that refers to it.
_NESTED = {
    "consumers": "consumer",
    "services": "service",
    "upstreams": "upstream",
    "key_sets": "set",
    "certificates": "",
}
_NAMED_BY = {"consumer": "username", "service": "name", "upstream": "name", "set": "name"}

Declarations = list[tuple[Place, Declaration]]


def gateway_files(tree: Tree) -> list[str]:
    """What has the name of a file of the folder, whatever it is."""
    names = (name.rstrip("/") for name in tree.names(FOLDER))
    return [f"{FOLDER}/{name}" for name in names if name.endswith((".yaml", ".yml"))]


def read_gateway(tree: Tree, sink: Sink) -> tuple[App, Declarations]:
    """All files of the folder as one app, and its routes by themselves; mistakes go to `sink`.

    The files are Kong's own and taken literally: `$` means nothing in them.
    """
    found: dict[str, Declarations] = {}
    if why := not_a_folder(tree, FOLDER):
        report(sink, (), FOLDER, 1, why)
    for path in gateway_files(tree):
        try:
            data = tree.read(path)
            why = _SEALED if is_sealed(data) else stand_in(data)
            node = None if why else parse(path, data, sink)
        except FileNotFoundError:
            node, why = None, not_a_file(tree, path)
        if why:
            report(sink, (), path, 1, why)
        values = Place(node, (), sink).attempt(fields, GATEWAY) if node else None
        for kind, some in (values or {}).items():
            if not kind.startswith("_"):
                found.setdefault(kind, []).extend(some)
    every = {kind: list(_every(kind, found)) for kind in {*found, *(kind for kind, *_ in _UNIQUE)}}
    for kind, what, key in _UNIQUE:
        once(every[kind], what, key)
    once(every["consumers"], "consumer", lambda it: it.get("custom_id"))
    once(every["plugins"], "plugin", lambda it: it.get("instance_name"))
    _check_references(found, every)
    gateway: dict[str, list[Declaration]] = {
        kind: [_bare(entity) for _, entity in some] for kind, some in found.items()
    }
    return App(GATEWAY_APP, kong_entities=gateway), every["routes"]


def _every(kind: str, found: Mapping[str, Declarations]) -> Iterator[tuple[Place, Declaration]]:
    """All entities of a kind; a nested one gets a reference to the entity around it."""
    yield from found.get(kind, ())
    for outer, parent in _NESTED.items():
        for _, holder in found.get(outer, ()) if kind != "plugins" else ():
            name = {parent: holder.get(_NAMED_BY[parent]) or holder.get("custom_id")} if parent else {}
            nested = (item for item in holder.get(kind, ()) if isinstance(item, tuple))  # others are ids
            yield from ((at, {**entity, **name}) for at, entity in nested)


def _check_references(found: Mapping[str, Declarations], every: Mapping[str, Declarations]) -> None:
    """Report references to entities that these files do not have; they cannot refer to services of apps."""

    def names(kind: str, *keys: str) -> set[object]:
        return {entity.get(key) for _, entity in every.get(kind, ()) for key in keys}

    known = {
        "consumer": names("consumers", "username", "custom_id", "id"),
        "service": names("services", "name", "id"),
        "route": names("routes", "name", "id"),
        "upstream": names("upstreams", "name", "id"),
        "set": names("key_sets", "name", "id"),
        "certificate": names("certificates", "id"),
    }
    holders = [*found.get("consumers", ()), *found.get("services", ()), *every["routes"]]
    nested = [(at, plugin) for at, holder in holders for plugin in holder.get("plugins", ())]
    for at, plugin in [*found.get("plugins", ()), *nested]:
        for kind, name in _unknown(plugin, known):
            at.report(
                f"has the plugin {plugin.get('name')} for the {kind} {name}, which is not in {FOLDER}/*.yaml; "
                "a plugin of an app's service belongs in its `x-kong`"
            )
    for type in (*CONSUMER_CREDENTIALS, "routes", "targets", "keys", "snis"):
        for at, entity in found.get(type, ()):
            for kind, name in _unknown(entity, known):
                at.report(f"is for the {kind} {name}, which is not in {FOLDER}/*.yaml")


def _unknown(entity: Declaration, known: Mapping[str, set[object]]) -> Iterator[tuple[str, str]]:
    for kind in sorted(known.keys() & entity.keys()):
        value = entity[kind]
        by_id = isinstance(value, Mapping) and "id" in value and kind != "certificate"
        if not by_id and _name_of(value) not in known[kind]:
            yield kind, str(_name_of(value))


def _bare(entity: Declaration) -> Declaration:
    """An entity with those that are nested in it, without their places."""
    return {key: _without_places(value) for key, value in entity.items()}


def _without_places(value: object) -> object:
    if isinstance(value, list):
        return [_bare(item[1]) if isinstance(item, tuple) else item for item in value]
    return value
