"""Where Kong may lead, and which of its plugins an app may use.  Pure.

Kong speaks from this host: a service, a target or a plugin on a loopback address would lead the world to what listens
on this host alone.  What leads to Kong's own Admin API is refused with any policy, and without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from gitops_mvd.core.addresses import is_reachable_here_only, leads_here, plain_host, split_url
from gitops_mvd.core.model import App
from gitops_mvd.core.policy.rules import ADMIN_PORTS, Policy, Server

QUIET = frozenset(  # plugins that look at a request and an answer, and ask nobody; of Kong 3.9.1, as are the others
    {"acl", "ai-prompt-decorator", "ai-prompt-guard", "ai-prompt-template", "basic-auth", "bot-detection"}
    | {"correlation-id", "cors", "grpc-gateway", "grpc-web", "hmac-auth", "ip-restriction", "jwt", "key-auth"}
    | {"oauth2", "prometheus", "proxy-cache", "redirect", "request-size-limiting", "request-termination"}
    | {"request-transformer", "response-transformer", "session", "standard-webhooks"}
)
ASKING = frozenset(  # plugins that connect to the addresses in their `config`
    {"acme", "azure-functions", "datadog", "http-log", "ldap-auth", "loggly", "opentelemetry", "rate-limiting"}
    | {"response-ratelimiting", "statsd", "syslog", "tcp-log", "udp-log", "zipkin"}
)
# Any other runs code (pre-function), writes files (file-log), has the rights of the host at a cloud (aws-lambda,
# ai-proxy), or is not known.
_CODE = "_by_lua"  # the end of a key of `config` that is a program
_HOST_KEYS = ("hostname", "host", "ip", "address")
_DIGITS = re.compile(r"[0-9]{1,5}")
_HOST_AND_PORT = re.compile(r"([^\s/:]+|\[[^\]\s]+\]):[0-9]{1,5}(/.*)?")
_UNIX = ("unix:", "http+unix:")  # Kong's Admin API may listen on a socket, and so do parts of Kong
DEFAULT_SERVICE_PORT = 80
ADMIN = "leads to Kong's Admin API, by which anybody could change Kong: remove it"


class Destination(NamedTuple):
    """Where Kong connects to; `what` names the entity that says so."""

    what: str
    host: str
    port: int


def forbidden_in_gateway(policy: Policy, server: Server, entities: Mapping[str, Any]) -> Iterator[str]:
    """What a policy does not let Kong do, of the entities of `kong/*.yaml` or of one `x-kong`."""
    upstreams = {str(it.get("name")) for it in entities.get("upstreams", ())}
    for what, host, port in routed(entities):
        is_neighbour = not {*host} & {*".:"} and port in server.admin_ports and host not in upstreams
        if is_reachable_here_only(host) or server.is_own(host) or is_neighbour:
            yield f"{what} to {host}:{port}"
    for plugin in plugins_in(entities):
        name, config = plugin["name"], plugin.get("config")
        if name in policy.plugins:
            continue
        if name not in QUIET | ASKING:
            yield f"the plugin {name}"
        elif code := next((key for key, _ in _leaves(config) if key.endswith(_CODE)), ""):
            yield f"the plugin {name} with the program {code}"
        for _, host, port in asked_by(plugin):
            if is_reachable_here_only(host) or server.is_own(host):
                yield f"the plugin {name} to {host}:{port}"
    for vault in entities.get("vaults", ()):
        if f"vault://{vault.get('prefix')}" not in policy.secrets:
            yield f"the vault {vault.get('prefix')}"


def admin_api_of(server: Server, app: App) -> Iterator[str]:
    """What leads from an app to Kong's Admin API."""
    for entities in (app.kong_entities, *(service.kong for service in app.services if service.kong)):
        found = [*routed(entities), *(it for plugin in plugins_in(entities) for it in asked_by(plugin))]
        yield from (f"kong: {what}" for what, host, port in found if is_admin_api(host, port, server))


def is_admin_api(host: str, port: int, server: Server | None = None) -> bool:
    """Is it Kong's Admin API, as far as that is known without a `server`?"""
    if host.startswith(_UNIX):
        return True
    if server and host and port and (plain_host(host), port) == (plain_host(server.admin[0]), server.admin[1]):
        return True
    is_here = leads_here(host) or (server is not None and server.is_own(host))
    return is_here and port in (server.admin_ports if server else ADMIN_PORTS)


def asked_by(plugin: Mapping[str, Any]) -> Iterator[Destination]:
    """The hosts in the `config` of a plugin that it connects to: those of URLs, and those with a port beside them."""
    if plugin.get("name") not in QUIET:
        what = f"the plugin {plugin.get('name')}"
        yield from (Destination(what, host, port) for host, port in _asked(plugin.get("config")))


def plugins_in(entities: object) -> Iterator[Mapping[str, Any]]:
    """The plugins of entities, at any depth."""
    if isinstance(entities, Mapping):
        for key, value in entities.items():
            if key == "plugins" and isinstance(value, list | tuple):
                yield from (plugin for plugin in value if isinstance(plugin, Mapping) and "name" in plugin)
            elif key != "config":
                yield from plugins_in(value)
    elif isinstance(entities, list | tuple):
        for value in entities:
            yield from plugins_in(value)


def routed(entities: Mapping[str, Any]) -> Iterator[Destination]:
    """Where the services and the targets of `kong/*.yaml` lead."""
    for service in entities.get("services", ()):
        host, port = split_url(str(service["url"])) if "url" in service else (str(service.get("host", "")), 0)
        what = f"the service {service.get('name', host)}"
        host, port = _written(host) or (host, port)
        yield Destination(what, host, port or int(service.get("port", DEFAULT_SERVICE_PORT)))
    targets = [(str(entity.get("target", "")), entity.get("upstream")) for entity in entities.get("targets", ())]
    for upstream in entities.get("upstreams", ()):
        targets += [(str(target.get("target", "")), upstream.get("name")) for target in upstream.get("targets", ())]
    for target, of in targets:
        what = f"the target {target} of {next(iter(of.values()), '') if isinstance(of, Mapping) else of}"
        yield Destination(what, *(_written(target) or (target, 0)))


def _asked(config: object) -> Iterator[tuple[str, int]]:
    """The hosts and ports in URLs, in `host:port`, and in keys such as `redis_host` with `redis_port` beside them."""
    if isinstance(config, Mapping):
        ports = {key: _port(value) for key, value in config.items() if str(key).endswith("port")}
        for key, value in config.items():
            text = _text(value)
            if not text or not str(key).endswith(_HOST_KEYS):
                yield from _asked(value)
            else:
                host, port = _written(text) or (text, 0)
                beside = next(str(key).removesuffix(end) for end in _HOST_KEYS if str(key).endswith(end))
                yield host, port or ports.get(f"{beside}port", ports.get("port", 0))
    elif isinstance(config, list | tuple):
        for value in config:
            yield from _asked(value)
    elif isinstance(config, str) and (found := _written(config)):
        yield found


def _text(value: object) -> str:
    """A text, or the number that Kong would take for one; "" for anything else."""
    if isinstance(value, int | float):
        return str(value) if abs(value) < 1 << 32 else ""
    return value if isinstance(value, str) else ""


def _port(value: object) -> int:
    return int(text) if _DIGITS.fullmatch(text := _text(value)) else 0


def _written(text: str) -> tuple[str, int] | None:
    """The host and port of a URL or of `host:port`; the whole text for a Unix socket, None for any other text."""
    if text.startswith(_UNIX):
        return text, 0
    return split_url(text) if "://" in text or _HOST_AND_PORT.fullmatch(text) else None


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """All keys in a value with what they have, at any depth."""
    if key:
        yield key, value
    if isinstance(value, Mapping):
        for name, below in value.items():
            yield from _leaves(below, str(name))
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _leaves(below)
