"""`x-mvd.canary`: the shares of the traffic that a new version gets at first, and what counts against it.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TypedDict

from gitops_mvd.config.readers import integer, list_of, text
from gitops_mvd.config.tables import Key, Place, Table, accepts, fields, mapping_schema, record
from gitops_mvd.core.canary import Canary, Judge
from gitops_mvd.core.model import Service
from gitops_mvd.core.xkong import XKong
from gitops_mvd.manifest.update_order import explained
from gitops_mvd.probes import positive_duration

COUNTED_BY = "udp-log"  # the plugin by which Kong tells of its requests
_NUMBER = r"[0-9]{1,5}(\.[0-9]{1,3})?"
_KEEPS_SHARES = ("round-robin", "consistent-hashing")
_STREAMS = {"tcp", "tls", "tls_passthrough", "udp"}
_ALL = 100  # percent


def _measure(place: Place, unit: str, example: str) -> float:
    """The number before a unit."""
    written = text(place) if isinstance(place.node.value, str) else ""
    if not re.fullmatch(_NUMBER + unit, written):
        place.fail(f"must be a number with `{unit}` behind it, such as {example}, not {place.node.value!r}")
    return float(written.removesuffix(unit))


@accepts({"type": "string", "pattern": f"^{_NUMBER}%$"})
def percentage(place: Place) -> float:
    """A share from 0 to 1, written as `0.5%`."""
    found = _measure(place, "%", "2%")
    return found / 100 if found <= 100 else place.fail(f"must be at most 100%, not {found:g}%")


@accepts({"type": "string", "pattern": f"^{_NUMBER}x$"})
def factor(place: Place) -> float:
    """A factor of 1 or more, written as `1.5x`."""
    found = _measure(place, "x", "1.5x")
    return found if found >= 1 else place.fail(f"must be at least 1x, not {found:g}x")


class JudgeKeys(TypedDict, total=False):
    min_requests: int
    errors: float
    latency: float


JUDGE: Table = {
    "errors": Key(
        "The share of its requests that may fail (5xx, or no answer) beyond the old version's share; one more, and it "
        "goes back at once.",
        percentage,
        "`2%`",
    ),
    "latency": Key(
        "How many times as long as the old version's its answers may take, by the time within which 90 % came.",
        factor,
        "`1.5x`",
    ),
    "min_requests": Key(
        "Fewer requests say little: latencies are not compared, and errors count as if it were so many.",
        integer(1, 1_000_000),
        "50",
    ),
}


_judge = record(JudgeKeys, JUDGE)
_shares = list_of(integer(1, _ALL))


@accepts(_shares.schema)
def shares(place: Place) -> tuple[int, ...]:
    """The shares in percent, without that of 100 which comes last anyway."""
    found = _shares(place)
    if any(next <= before for before, next in pairwise(found)):
        place.fail("must go up, such as [5, 25, 100]")
    steps = tuple(share for share in found if share < _ALL)
    return steps or place.fail("needs a share below 100, such as [5, 25, 100]")


CANARY: Table = {
    "steps": Key("The percentages of the requests, one after the other; 100 comes last.", shares, "`[5, 25, 100]`"),
    "for": Key("How long the version is judged at each share below 100.", positive_duration, "`5m`"),
    "judge": Key("What counts against it: `errors`, `latency`, `min_requests`.", _judge),
}


@accepts(mapping_schema(CANARY))
def canary(place: Place) -> Canary:
    values, usual = fields(place, CANARY), Canary()
    return Canary(
        values.get("steps", usual.steps), values.get("for", usual.lasts), Judge(**values.get("judge", JudgeKeys()))
    )


def report_hindrances(place: Place, service: Service, joined_by: str) -> None:
    """Report why the traffic of this service cannot be given to a new version by and by.

    `joined_by` is a service that shares a namespace of it.
    """
    for why in _hindrances(service, joined_by):
        place.report(why)


def _hindrances(service: Service, joined_by: str) -> Iterator[str]:
    if service.schedule or service.is_job:
        yield "cannot be used with a job: nobody asks it for anything"
        return
    if service.kong is None:
        yield "needs `x-kong`: it is Kong that gives a version its share of the traffic"
        return
    if service.update.order == "stop-first":
        why = explained(service, joined_by)
        yield f"needs both versions at once, and this service is updated stop-first: {why}"
    if service.update.failure_action == "continue":
        yield "cannot be used with `failure_action: continue`, which keeps a version however it is judged"
    yield from _of_kong(service.kong)


def _of_kong(kong: XKong) -> Iterator[str]:
    algorithm = kong["upstream"].get("algorithm", "round-robin")
    if algorithm not in _KEEPS_SHARES:
        yield f"cannot be used with `algorithm: {algorithm}`, which does not keep shares: use round-robin"
    routes: Sequence[dict[str, object]] = kong["routes"]
    if any(_STREAMS.intersection(_names(route.get("protocols"))) for route in routes):
        yield "cannot be used with routes of tcp, tls or udp: Kong knows no errors of theirs"
    named = [plugin.get("name") for plugin in (*kong["plugins"], *(p for r in routes for p in _plugins(r)))]
    if COUNTED_BY in named:
        yield f"needs the plugin {COUNTED_BY} for itself, by which Kong tells of requests: use http-log or tcp-log"


def _names(value: object) -> list[str]:
    return [str(it) for it in value] if isinstance(value, list) else []


def _plugins(route: dict[str, object]) -> list[dict[str, object]]:
    plugins = route.get("plugins")
    return [it for it in plugins if isinstance(it, dict)] if isinstance(plugins, list) else []
