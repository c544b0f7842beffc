"""Which route a request takes, by a view of the store, and which target it goes to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.lab.kong_standin.checks import path_regex
from tests.lab.kong_standin.health import Health
from tests.lab.kong_standin.rules import Record
from tests.lab.kong_standin.store import Store

# A plugin of the first kind goes before one of the next: what it is bound to.
PRECEDENCE = [
    {"consumer", "route", "service"},
    {"consumer", "route"},
    {"consumer", "service"},
    {"route", "service"},
    {"consumer"},
    {"route"},
    {"service"},
    set(),
]


@dataclass(frozen=True)
class Match:
    """A route that takes the request, its service, and the part of the path that it matched."""

    route: Record
    service: Record | None
    matched: str


@dataclass(frozen=True)
class _Rule:
    """One path of one route; a route without paths has one rule with the empty path."""

    route: Record
    service: Record | None
    path: str
    regex: re.Pattern[str] | None
    rank: tuple[float, ...]

    def match(self, method: str, host: str, path: str, headers: Mapping[str, str]) -> Match | None:
        route = self.route
        if self.regex is None and not path.startswith(self.path):
            return None
        found = self.regex.match(path) if self.regex else None
        if self.regex and not found:
            return None
        if route["methods"] and method not in route["methods"]:
            return None
        if route["hosts"] and not any(_host_matches(pattern, host) for pattern in route["hosts"]):
            return None
        for name, values in (route["headers"] or {}).items():
            if not any(_header_matches(value, headers.get(name)) for value in values):
                return None
        return Match(route, self.service, found[0] if found else self.path)


class View:
    """The entities of one version of the store, arranged for the data path."""

    def __init__(self, store: Store) -> None:
        self.version = store.version
        self.store = store
        services = {service["id"]: service for service in store.all("services")}
        self._rules = sorted(
            (rule for route in store.all("routes") for rule in _rules(route, services)),
            key=lambda rule: rule.rank,
            reverse=True,
        )
        self._plugins: dict[str, list[Record]] = {}
        for plugin in store.all("plugins"):
            if plugin["enabled"]:
                self._plugins.setdefault(plugin["name"], []).append(plugin)

    def match(self, method: str, host: str, path: str, headers: Mapping[str, str]) -> Match | None:
        """The first rule that takes the request: more criteria before fewer, regex before prefix, long before short."""
        for rule in self._rules:
            if found := rule.match(method, host, path, headers):
                return found
        return None

    def plugin(self, name: str, **bound: Record | None) -> Record | None:
        """The most specific plugin of that name for this `route`, `service` and `consumer`."""
        if name not in self._plugins:
            return None
        ids = {scope: entity["id"] if entity else None for scope, entity in bound.items()}
        fitting = [
            plugin
            for plugin in self._plugins[name]
            if all(plugin[scope] is None or plugin[scope]["id"] == ids[scope] for scope in ids)
        ]
        return min(fitting, key=_precedence, default=None)


class RoundRobin:
    """Smooth weighted round robin: over any stretch of requests each target gets its share, well mixed."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._credit: dict[str, float] = {}

    def pick(self, targets: Iterable[Record]) -> Record | None:
        """The target to try next, which may be one that has just failed: so does Kong's round robin.

        None when no target serves.
        """
        serving = [target for target in targets if self._health.serves(target)]
        if not serving:
            return None
        for target in serving:
            self._credit[target["id"]] = self._credit.get(target["id"], 0) + target["weight"]
        chosen = max(serving, key=lambda target: self._credit[target["id"]])
        self._credit[chosen["id"]] -= sum(target["weight"] for target in serving)
        return chosen


def upstream_path(base: str | None, route: Mapping[str, Any], path: str, matched: str) -> str:
    """The path that the service gets: its own base, then the request's, with or without what the route matched.

    Source: https://developer.konghq.com/gateway/entities/route/ (path handling v0).
    """
    base = base or "/"
    if path == "/":
        return base
    trunk = base.removesuffix("/")
    if not route["strip_path"]:
        return trunk + path
    rest = path[len(matched) :]
    if rest or path.endswith("/"):
        return trunk + "/" + rest.removeprefix("/")
    return trunk or "/"


def _rules(route: Record, services: Mapping[str, Record]) -> list[_Rule]:
    if not {"http", "https", "grpc", "grpcs"} & set(route["protocols"]):
        return []
    service = services[route["service"]["id"]] if route["service"] else None
    if service and not service["enabled"]:
        return []
    return [_rule(route, service, path) for path in route["paths"] or [""]]


def _rule(route: Record, service: Record | None, path: str) -> _Rule:
    criteria = sum(bool(route[name]) for name in ("methods", "hosts", "headers", "paths", "snis"))
    plain_hosts = bool(route["hosts"]) and not any("*" in host for host in route["hosts"])
    regex = path_regex(path) if path.startswith("~") else None
    order = route["regex_priority"] if regex else len(path)
    rank = (criteria, len(route["headers"] or ()), plain_hosts, bool(regex), order, -route["created_at"])
    return _Rule(route, service, path, regex, rank)


def _precedence(plugin: Record) -> int:
    return PRECEDENCE.index({scope for scope in ("consumer", "route", "service") if plugin[scope]})


def _host_matches(pattern: str, host: str) -> bool:
    name = host if ":" in pattern else host.rpartition(":")[0] or host
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    if pattern.endswith(".*"):
        return name.startswith(pattern[:-1])
    return name.lower() == pattern.lower()


def _header_matches(wanted: str, given: str | None) -> bool:
    if given is None:
        return False
    if wanted.startswith("~*"):
        return re.search(wanted[2:], given, re.IGNORECASE) is not None
    return wanted.lower() == given.lower()
