"""`not_failed`: healthy while the container runs, and once it has exited with code 0; for `restart: on-failure`."""

from __future__ import annotations

from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.probes import Tools


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    match at.state:
        case "running":
            return Health.HEALTHY, ""
        case "exited" | "dead" if at.exit_code == 0:
            return Health.HEALTHY, ""
        case "exited" | "dead" | "restarting":
            return Health.DEGRADED, f"exited with code {at.exit_code}"
        case "paused":
            return Health.SUSPENDED, "is paused"
        case state:
            return Health.PROGRESSING, f"is {state or 'not there yet'}"
