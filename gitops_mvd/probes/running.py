"""`running`: healthy as long as the container runs; what a service gets that names no other probe."""

from __future__ import annotations

from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.probes import Tools


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    match at.state:
        case "running":
            return Health.HEALTHY, ""
        case "exited" | "dead" | "restarting":
            return Health.DEGRADED, f"exited with code {at.exit_code}"
        case "paused":
            return Health.SUSPENDED, "is paused"
        case state:
            return Health.PROGRESSING, f"is {state or 'not there yet'}"
