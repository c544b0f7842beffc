"""`completed`: healthy once the container has exited with code 0; for one-off jobs (`restart: "no"`)."""

from __future__ import annotations

from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.probes import Tools


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    if at.state not in {"exited", "dead"}:
        return Health.PROGRESSING, f"is {at.state or 'not there yet'}"
    if at.exit_code:
        return Health.DEGRADED, f"exited with code {at.exit_code}"
    return Health.HEALTHY, ""
