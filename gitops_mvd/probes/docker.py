"""`docker`: what the container's own HEALTHCHECK says."""

from __future__ import annotations

from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.probes import Tools


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    match at.health:
        case "healthy":
            return Health.HEALTHY, ""
        case "unhealthy":
            return Health.DEGRADED, "its healthcheck says unhealthy"
        case "starting":
            return Health.PROGRESSING, "its healthcheck is still starting"
        case _:
            return Health.UNKNOWN, "it has no healthcheck, neither in the image nor in the manifest"
