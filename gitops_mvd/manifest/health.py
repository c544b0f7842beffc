"""`x-mvd.health`: which probe says when a service is healthy, and what it asks.  Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any

from gitops_mvd.config.readers import (
    absolute,
    boolean,
    command,
    duration,
    filled,
    integer,
    mapping_of,
    one_or_more,
    port_number,
    text,
)
from gitops_mvd.config.tables import Key, Place, Table, fields

LONGEST_TRY = 30.0  # seconds; the other gates wait meanwhile
LONGEST_PATTERN = 1000  # characters: to read one must not take long
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")

# Each probe, and the keys that only some of them have.
PROBES: Mapping[str, frozenset[str]] = {
    "http": frozenset({"port", "status", "body", "header", "timeout"}),
    "tcp": frozenset({"timeout"}),
    "grpc": frozenset({"port", "timeout"}),
    "exec": frozenset({"timeout"}),
    "log": frozenset({"every", "timeout"}),
    "heartbeat": frozenset({"every", "timeout"}),
    "docker": frozenset(),
    "systemd": frozenset({"timeout"}),
    "completed": frozenset(),
}


def _path(place: Place) -> str:
    path = filled(place)
    return (
        path
        if path.startswith("/") and path.isprintable() and " " not in path
        else place.fail("must be a path such as /health")
    )


def _pattern(place: Place) -> str:
    value = filled(place)
    if len(value) > LONGEST_PATTERN:
        place.fail(f"is longer than {LONGEST_PATTERN} characters")
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        place.fail(f"is no regular expression: {error}")
    return value


def _headers(place: Place) -> dict[str, str]:
    for name, at in place.entries().items():
        if not _HEADER.fullmatch(name):
            at.complain("is no name of a header")
    return mapping_of(_pattern)(place)


def _words(place: Place) -> list[str]:
    found = command(place)
    if not found or not found[0]:
        place.fail("must name a command")
    if found[0] in ("CMD", "CMD-SHELL", "NONE"):
        place.fail(f"is the command itself, without {found[0]} in front: for a shell write [sh, -c, ...]")
    return found


def _true(place: Place) -> bool:
    return boolean(place) or place.fail("must be true: name another probe instead")


def _some_time(place: Place) -> float:
    return duration(place) or place.fail("must be more than nothing")


def _try(place: Place) -> float:
    seconds = _some_time(place)
    return seconds if seconds <= LONGEST_TRY else place.fail(f"must be at most {LONGEST_TRY:g}s: a try is a short one")


HEALTH: Table = {
    "http": Key("The path to ask for, such as `/health`; healthy is an answer of 200 to 399.", _path),
    "tcp": Key("The port that must accept a connection.", port_number),
    "grpc": Key('The service that `grpc.health.v1` must call SERVING; `""` for the server as a whole.', text),
    "exec": Key("A command to run in the container, as in `command`; healthy is exit code 0.", _words),
    "log": Key("A regular expression that must be found in a line that it printed since its start.", _pattern),
    "heartbeat": Key("A file in the container that it must go on modifying.", absolute),
    "docker": Key("`true`: what the container's HEALTHCHECK says.", _true),
    "systemd": Key("`true`: its unit must be active and running.", _true),
    "completed": Key("`true`: it must end with exit code 0; for a job that needs more than ten minutes.", _true),
    "port": Key(
        "The port in the container to ask, for `http` and `grpc`; or else `x-kong.port`, or the only port of `ports` "
        "or `expose`.",
        port_number,
    ),
    "status": Key(
        "The answers that count as healthy, for `http`: one status or a list.", one_or_more(integer(100, 599))
    ),
    "body": Key("A regular expression that must be found in the first 64 KiB of the answer, for `http`.", _pattern),
    "header": Key("Headers of the answer, for `http`: name and a regular expression to be found in it.", _headers),
    "every": Key("How long ago the last line may be, for `log`, or the last change, for `heartbeat`.", _some_time),
    "within": Key("How long it may take to become healthy; 60s if left out.", duration),
    "start_period": Key("How long failures do not count; `within` begins after that.", duration),
    "interval": Key(
        "The pause between two tries, afterwards too; left out, short at first and then up to a second, and about a "
        "minute afterwards.",
        _some_time,
    ),
    "successes": Key("How many tries in a row must succeed; 1 if left out.", integer(1, 1000)),
    "timeout": Key("How long one try may take; 2s if left out.", _try),
}


def health(place: Place) -> dict[str, Any]:
    """The values of the table, with exactly one probe and what goes with it."""
    values = fields(place, HEALTH)
    entries = place.entries()
    named = [name for name in PROBES if place.has(name)]
    if not named:
        place.fail(f"names no probe: choose {_either(list(PROBES))}")
    if len(named) > 1:
        place.fail(f"has {_either(named, 'and')}: choose one")
    for name, at in entries.items():
        goes_with = [probe for probe, keys in PROBES.items() if name in keys]
        if goes_with and named[0] not in goes_with:
            at.complain(f"goes with {_either(goes_with)} only")
    if named == ["heartbeat"] and not place.has("every"):
        place.complain("has no `every`: how often the file is modified, such as 30s")
    return values


def look_into(place: Place, values: Mapping[str, Any], service: Mapping[str, Any]) -> None:
    """Tell what the service's other keys do not let a probe see."""
    mode = service.get("network_mode", "bridge")
    if {"http", "tcp", "grpc"} & values.keys() and (mode == "none" or mode.startswith("container:")):
        place.complain(f"asks for a port, but with network_mode {mode} the container has no address of its own")
    policy = service.get("deploy", {}).get("restart_policy") or service.get("restart", "always")
    if "completed" in values and policy in ("always", "unless-stopped"):
        place.complain('waits for its end, but it is always started again: give it `restart: "no"`')
    if "docker" in values and service.get("healthcheck", {}).get("disable"):
        place.complain("asks for the `healthcheck`, which is switched off")
    if "heartbeat" in values and (folder := _memory_at(values["heartbeat"], service)):
        place.complain(
            f"asks for a file in {folder}, which is memory that the engine does not look into: "
            "keep it on a volume, or in the container's own file system"
        )


def _memory_at(path: str, service: Mapping[str, Any]) -> str:
    """The tmpfs, or the kernel's own file system, that a path of the container is in; "" where it is on a disk."""
    in_memory = dict.fromkeys(("/dev", "/proc", "/sys"), True)
    in_memory |= {mount["target"]: mount["type"] == "tmpfs" for _, mount in service.get("volumes", ())}
    in_memory |= {line.partition(":")[0]: True for _, line in service.get("tmpfs", ())}
    above = [folder for folder in in_memory if f"{path}/".startswith(f"{posixpath.normpath(folder)}/")]
    nearest = max(above, key=len, default="")
    return nearest if in_memory.get(nearest) else ""


def asked(values: Mapping[str, Any], port: int) -> tuple[str, dict[str, Any]]:
    """The probe, and its argument; `port` is what it asks where the manifest names none."""
    options = {name: values[name] for name in ("status", "body", "header", "every", "timeout") if name in values}
    probe = next((name for name in PROBES if name in values), "running")  # none: its value is a mistake
    match probe:
        case "http":
            return probe, {"path": values["http"], "port": values.get("port", port), **options}
        case "tcp":
            return probe, {"port": values["tcp"], **options}
        case "grpc":
            return probe, {"service": values["grpc"], "port": values.get("port", port), **options}
        case "exec":
            return probe, {"command": values["exec"], **options}
        case "log":
            return probe, {"pattern": values["log"], **options}
        case "heartbeat":
            return probe, {"path": values["heartbeat"], **options}
        case _:
            return probe, options


def _either(names: list[str], word: str = "or") -> str:
    quoted = [f"`{name}`" for name in names]
    return f"{', '.join(quoted[:-1])} {word} {quoted[-1]}" if len(quoted) > 1 else quoted[0]
