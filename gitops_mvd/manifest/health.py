"""`x-mvd.health`: which probe says when a service is healthy, and what it asks.  Pure.

What the probes are, and which keys go with each, is read from their modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gitops_mvd import probes
from gitops_mvd.config.readers import duration, integer
from gitops_mvd.config.tables import Key, Place, Table, accepts, fields, mapping_schema
from gitops_mvd.probes import Values

PROBES = {name: probe for name, probe in probes.known().items() if probe.key}

_COMMON: Table = {
    "within": Key("How long it may take to become healthy; 60s if left out.", duration),
    "start_period": Key("How long failures do not count; `within` begins after that.", duration),
    "interval": Key(
        "The pause between two tries, afterwards too; left out, short at first and then up to a second, and about a "
        "minute afterwards.",
        probes.positive_duration,
    ),
    "successes": Key("How many tries in a row must succeed; 1 if left out.", integer(1, 1000)),
}


def _option(name: str) -> Key:
    """An option of some probes, with a sentence that names the probes."""
    key = next(probe.options[name] for probe in PROBES.values() if name in probe.options)
    return Key(f"For {_listed(_with_option(name))}: {key.doc[0].lower()}{key.doc[1:]}", key.read)


def _with_option(name: str) -> list[str]:
    return [probe for probe, its in PROBES.items() if name in its.options]


def _listed(names: Iterable[str], word: str = "and") -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} {word} {quoted[-1]}" if len(quoted) > 1 else quoted[0]


HEALTH_KEYS: Table = {
    **{name: probe.key for name, probe in PROBES.items() if probe.key},
    **{name: _option(name) for name in dict.fromkeys(option for its in PROBES.values() for option in its.options)},
    **_COMMON,
}


@accepts({**mapping_schema(HEALTH_KEYS), "allOf": [{"anyOf": [{"required": [probe]} for probe in PROBES]}]})
def health(place: Place) -> Values:
    """The values of the table, with exactly one probe and what goes with it."""
    values = fields(place, HEALTH_KEYS)
    entries = place.entries()
    named = [name for name in PROBES if place.has(name)]
    if not named:
        place.fail(f"names no probe: choose {_listed(PROBES, 'or')}")
    if len(named) > 1:
        place.fail(f"has {_listed(named)}: choose one")
    for name, at in entries.items():
        goes_with = _with_option(name)
        if goes_with and named[0] not in goes_with:
            at.report(f"goes with {_listed(goes_with, 'or')} only")
    for name, purpose in PROBES[named[0]].required.items():
        if not place.has(name):
            place.report(f"has no `{name}`: {purpose}")
    return values


def probe_of(values: Values) -> str:
    """The probe that is named; "" if its value is a mistake."""
    return next((name for name in PROBES if name in values), "")


def report_blindness(place: Place, values: Values, service: Values) -> None:
    """Report other keys of the service that do not let the probe work."""
    if not (name := probe_of(values)):
        return
    mode = service.get("network_mode", "bridge")
    if PROBES[name].connects and (mode == "none" or mode.startswith(("container:", "service:"))):
        other = mode.removeprefix("service:")
        advice = f": put it on {other}, whose network it shares" if other != mode else ""
        place.report(f"asks for a port, but with network_mode {mode} the container has no address of its own{advice}")
    for objection in PROBES[name].objections(values[name], service):
        place.report(objection)


def asks_for_port(place: Place) -> bool:
    """Does the probe need to know a port that is not its own value?"""
    return any(place.has(name) and "port" in probe.options for name, probe in PROBES.items())


def probe_and_spec(values: Values, port: int) -> tuple[str, dict[str, Any]]:
    """The probe, and its argument; `port` is what it asks if the manifest names none."""
    name = probe_of(values)
    return (name, PROBES[name].spec(values, name, port)) if name else ("running", {})
