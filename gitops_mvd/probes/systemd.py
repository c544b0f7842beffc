"""`systemd`: healthy as long as systemd says that the instance's unit is active and running."""

from __future__ import annotations

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.probes import Tools

DEADLINE = 2.0


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    name = f"{at.name}.service"
    try:
        unit = tools.systemd.units(name, spec.get("timeout", DEADLINE)).get(name)
    except (StepFailed, Unavailable) as error:
        return Health.UNKNOWN, error.message
    match unit or ("", "inactive", "dead"):  # which is not kept loaded
        case (_, "active", "running"):
            return Health.HEALTHY, ""
        case (_, "failed", _):
            return Health.DEGRADED, "its unit has failed"
        case (_, active, sub):
            return Health.PROGRESSING, f"its unit is {active} ({sub})"
