"""`lists` of `fleet.yaml`: variables with a text for each of several hosts, such as servers to balance.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypedDict

from gitops_mvd.config.readers import filled, placed
from gitops_mvd.config.tables import Key, Place, Table, accepts, record
from gitops_mvd.core.model import HostFacts, Problem
from gitops_mvd.manifest.interpolate import MAX_LENGTH, Unresolved, Variables, substitute
from gitops_mvd.manifest.placement import Constraint, Placed, constraint, why_none

HOSTNAME = "HOSTNAME"
MOST_SHOWN = 5  # hosts
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_ADVICE = "the variable {0} is not set: give the host one, or have `defaults` have it"


class ListKeys(TypedDict, total=False):
    constraints: list[tuple[Place, Constraint]]
    each: str


LIST: Table = {
    "constraints": Key(
        "The hosts that are in it, as under `deploy.placement.constraints`; never one with `drain: true`.",
        placed(constraint),
        "every host",
    ),
    "each": Key(
        "The text for one host, with `${HOSTNAME}` and its own variables filled in as in a Compose file. Each text "
        "begins a line.",
        filled,
    ),
}


_list = record(ListKeys, LIST, ("each",))


@accepts({"type": "object", "propertyNames": {"pattern": f"^{_NAME}$"}, "additionalProperties": _list.schema})
def lists(place: Place) -> dict[str, tuple[Place, ListKeys]]:
    """The lists by the name of their variable, each with its place."""
    found = {}
    for name, at in place.entries().items():
        if not re.fullmatch(_NAME, name):
            at.report(f"is the name of a variable: letters, digits and _, such as {re.sub('[^A-Za-z0-9]+', '_', name)}")
        elif (keys := at.attempt(_list)) is not None:
            found[name] = (at, keys)
    return found


def filled_in(found: Mapping[str, tuple[Place, ListKeys]], hosts: Sequence[HostFacts]) -> dict[str, str]:
    """The variables that the lists are, for all hosts; one without a host is not set.  Mistakes are reported."""
    variables = {}
    for name, (place, keys) in found.items():
        if doubles := [facts.name for facts in hosts if name in facts.variables]:
            place.report(f"is a variable of {doubles[0]}, too: give one of them another name")
        elif (text := _text(place, keys, hosts)) is not None:
            variables[name] = text
    return variables


def _text(place: Place, keys: ListKeys, hosts: Sequence[HostFacts]) -> str | None:
    at = place.entries()["each"]
    lines: list[str] = []
    length = 0
    for facts in _hosts_of(keys, hosts):
        known = Variables({HOSTNAME: facts.name, **facts.variables}, advice=_ADVICE)
        try:
            lines.append(substitute(keys["each"], known).rstrip("\n"))
        except Unresolved as error:
            at.report(f"for {facts.name}: {error}")
            return None
        length += len(lines[-1])
        if length > MAX_LENGTH:
            at.report(f"is longer than {MAX_LENGTH >> 20} MiB for all hosts together")
            return None
    return "\n".join(lines) if lines else None


def _hosts_of(keys: ListKeys, hosts: Iterable[HostFacts]) -> Iterator[HostFacts]:
    return (facts for facts in _allowed(keys, hosts) if not facts.drained)


def _allowed(keys: ListKeys, hosts: Iterable[HostFacts]) -> Iterator[HostFacts]:
    wanted: Placed = keys.get("constraints", [])
    return (facts for facts in hosts if all(it.holds_on(facts) for _, it in wanted))


def without_hosts(found: Mapping[str, tuple[Place, ListKeys]], hosts: Sequence[HostFacts]) -> Iterator[Problem]:
    """The lists in which no host is: an app that needs their variable stays as it is, on every host."""
    for place, keys in found.values():
        if any(_hosts_of(keys, hosts)):
            continue
        if drained := [facts.name for facts in _allowed(keys, hosts)]:
            it = place.node
            shown = ", ".join(drained[:MOST_SHOWN])
            yield Problem(it.file, it.line, place.key, f"has no host that is not drained: {shown}")
        else:
            for at, why in why_none([(facts, keys.get("constraints", [])) for facts in hosts]):
                yield Problem(at.node.file, at.node.line, at.key, f"has no host of fleet.yaml: {why}")
