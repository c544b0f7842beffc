"""`docker`: what the container's own HEALTHCHECK says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gitops_mvd.config.tables import Key
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import Answer, NoSpec, ProbeTools, ProbeType, Values, never, nothing, true


def check(at: Instance, spec: NoSpec, tools: ProbeTools) -> Answer:
    match at.health:
        case "healthy":
            return Health.HEALTHY, ""
        case "unhealthy":
            return Health.DEGRADED, "its healthcheck says unhealthy"
        case "starting":
            return Health.PROGRESSING, "its healthcheck is still starting"
        case _:
            return Health.UNKNOWN, "it has no healthcheck, neither in the image nor in the manifest"


def _objections(value: Any, service: Values) -> Iterator[str]:
    if service.get("healthcheck", {}).get("disable"):
        yield "asks for the `healthcheck`, which is switched off"


PROBE = ProbeType(
    key=Key("`true`: what the container's HEALTHCHECK says.", true),
    argument="",
    objections=_objections,
    summary=nothing,
    connects=False,
    is_monitored=never,  # each pass sees it
    passes_ended=False,
    only_waits=False,
    check=check,
)
