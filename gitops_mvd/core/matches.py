"""The requests that a route matches; of two routes that match the same request, Kong takes the older.  Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from gitops_mvd.core.model import Json, digest

MAX_COMBINATIONS = 1000  # of one route; beyond that only the very same route is known again

_FURTHER = ("snis", "sources", "destinations", "expression", "priority")

MatchKey = tuple[str | int, ...]


def combinations(route: Json) -> Iterator[tuple[str, MatchKey]]:
    """Every combination that a route matches: a description for messages, and a key.

    A route as it was declared and as Kong shows it, every default filled in, have the same.
    """
    parts: Sequence[Sequence[str]] = (
        route.get("protocols") or ("http", "https"),
        route.get("methods") or ("",),
        [host.lower() for host in route.get("hosts") or ()] or ("",),
        route.get("paths") or ("",),
    )
    headers = {name.lower(): sorted(map(str.lower, some)) for name, some in (route.get("headers") or {}).items()}
    more = {name: _in_order(route[name]) for name in _FURTHER if route.get(name)}
    rest = digest([headers, more]) if headers or more else ""
    priority = route.get("regex_priority") or 0
    found = list(itertools.islice(itertools.product(*parts), MAX_COMBINATIONS + 1))
    if len(found) > MAX_COMBINATIONS:
        yield "the route", ("route", digest([sorted(part) for part in parts]), rest, priority)
        return
    for protocol, method, host, path in found:
        what = " ".join(word for word in ("the route", method, host + path) if word)
        yield what, ("route", protocol, method, host, path, rest, priority if path.startswith("~") else 0)


def _in_order(value: object) -> object:
    return sorted(value, key=str) if isinstance(value, list) else value
