"""`web`: the page, who may see it, and whose servers it shows.  Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from gitops_mvd.config.readers import absolute, either, filled, mapping_of, tuple_of
from gitops_mvd.config.settings.section import address, host_and_port, is_this_machine, listening, section
from gitops_mvd.config.tables import Key, Place, accepts
from gitops_mvd.config.yamltree import Node, Sink, mistakes, parse
from gitops_mvd.core.errors import ManifestError

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """A proxy with a login of its own, that is believed who somebody is: `addresses` are its IP addresses."""

    user_header: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Where another server is asked: by ssh at its socket, by https at its page, or at a socket of this server."""

    address: str
    token_file: str = ""
    ssh_key: str = ""
    known_hosts: str = ""


@dataclass(frozen=True, slots=True)
class WebSettings:
    """The page of this server; without `hosts`, it shows this server alone."""

    listen: str = "127.0.0.1:8650"
    url: str = ""
    token_file: str = ""
    proxy: ProxySettings | None = None
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)

    @property
    def has_login(self) -> bool:
        return bool(self.token_file or self.proxy)


@accepts({"type": "string", "pattern": f"^{_HEADER.pattern}$"})
def _header(place: Place) -> str:
    name = filled(place)
    return name if _HEADER.fullmatch(name) else place.fail(f"must be the name of a header, not {name!r}")


@accepts({"type": "string"})
def _network(place: Place) -> str:
    value = filled(place)
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        place.fail(f"must be an IP address or a network such as 10.0.0.0/8, not {value!r}")


@accepts(address("https", "http").schema)
def _url(place: Place) -> str:
    return address("https", "http")(place).rstrip("/")


PROXY_SECTION = section(
    ProxySettings,
    {
        "user_header": Key(
            "The header with the name of the user: `X-Forwarded-User` of an oauth2-proxy, "
            "`X-Consumer-Username` or `X-Credential-Identifier` of Kong. The proxy must set it on every request, "
            "and drop what a browser sends under that name.",
            _header,
        ),
        "addresses": Key(
            "The addresses or networks that requests of the proxy come from. Whoever else sends the header is not "
            "believed.",
            tuple_of(_network),
        ),
    },
)


@accepts({"type": "string", "pattern": "^(ssh|https|http|unix)://"})
def _place_of_host(place: Place) -> str:
    value = filled(place)
    if not value.startswith(("ssh://", "https://", "http://", "unix://")):
        place.fail("must be an address that begins with ssh://, https://, http:// or unix:///path")
    if not value.startswith("ssh://"):
        return address("https", "http", "unix")(place).rstrip("/")
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError as error:
        place.fail(f"is not an address: {error}")
    user, host = parts.username or "", parts.hostname or ""
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", user) or user.startswith("-") or parts.password is not None:
        place.fail("must be `ssh://user@host`, without a password")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.:_-]*", host) or parts.path not in ("", "/"):
        place.fail("must be `ssh://user@host` or `ssh://user@host:port`, with nothing behind it")
    return value.rstrip("/")


HOST_SECTION = section(
    HostSettings,
    {
        "address": Key(
            "`ssh://user@host`: the socket of the daemon there, through `ssh`. `https://...`: the page of that server, "
            "for example through Kong. `unix:///run/gitops-mvd/api.sock`: this server.",
            _place_of_host,
        ),
        "token_file": Key("For https: the file with the token of that page.", absolute),
        "ssh_key": Key("For ssh: the file with the private key.", absolute, "what `ssh` finds for the user"),
        "known_hosts": Key("For ssh: the known_hosts file.", absolute, "that of the user"),
    },
)


@accepts(either(_place_of_host.schema, HOST_SECTION.schema))
def _host(place: Place) -> HostSettings:
    """An address alone, or the section."""
    if isinstance(place.value(), str):
        return HostSettings(_place_of_host(place))
    found = HOST_SECTION(place)
    if found.token_file and not found.address.startswith("http"):
        place.entries()["token_file"].report("is for an address with https")
    url = urlsplit(found.address)
    if found.token_file and url.scheme == "http" and not is_this_machine(url.hostname or ""):
        place.entries()["address"].report("sends the token over plain http to another machine: use https")
    return found


@accepts({"type": "object", "additionalProperties": _host.schema})
def _hosts(place: Place) -> Mapping[str, HostSettings]:
    for name, at in place.entries().items():
        if not _NAME.fullmatch(name):
            at.report("is not a name of a server: letters, digits, `.`, `_` and `-`")
    return mapping_of(_host)(place)


WEB_SECTION = section(
    WebSettings,
    {
        "listen": Key(
            "The address and port to listen at, plain HTTP. Whatever is not of this machine alone needs a login: "
            "`token_file` or `proxy`.",
            listening,
        ),
        "url": Key(
            "Where people reach the page: `https://mvd.example.com`, or with a path. If it is set, commit statuses "
            "link to the page of their deploy, unless `forge.link` says otherwise. Needs a login, too, unless it is "
            "of this machine alone.",
            _url,
        ),
        "token_file": Key(
            "The file with the token that people log in with, and programs as `Authorization: Bearer`, 16 characters "
            "or more: `openssl rand -hex 32`. The page must be able to read it: `chgrp mvd-act`, mode 0640.",
            absolute,
        ),
        "proxy": Key("A proxy in front that knows who somebody is, such as Kong with OIDC.", PROXY_SECTION, "none"),
        "hosts": Key(
            "The servers to show, by name: an address, or a mapping with the keys below.", _hosts, "this server alone"
        ),
    },
)


@accepts(WEB_SECTION.schema)
def read_web(place: Place) -> WebSettings:
    found = WEB_SECTION(place)
    needs = "so it needs a login: set `token_file`, or `proxy` for a login in front of it"
    if not found.has_login and not is_this_machine(host_and_port(found.listen)[0]):
        place.report(f"listens to other machines, {needs}")
    if not found.has_login and found.url and not is_this_machine(urlsplit(found.url).hostname or ""):
        place.entries()["url"].report(f"is reached from other machines, {needs}")
    return found


def read_hosts(file: str, data: bytes) -> Mapping[str, HostSettings]:
    """The servers that a file names, in the form of `web.hosts`.  Raises ManifestError with every mistake in it."""
    sink: Sink = []
    place = Place(parse(file, data, sink) or Node({}, file, 1), (), sink)
    found = place.attempt(_hosts) or {}
    if not found and not mistakes(sink):
        place.report("names no server")
    if wrong := mistakes(sink):
        raise ManifestError(sorted(it.problem for it in wrong))
    return found
