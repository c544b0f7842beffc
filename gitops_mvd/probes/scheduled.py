"""`scheduled`: healthy unless the last run ended badly; what a service gets that runs on a schedule."""

from __future__ import annotations

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import TRY_SECONDS, Answer, NoSpec, ProbeTools, ProbeType, never, nothing


def check(at: Instance, spec: NoSpec, tools: ProbeTools) -> Answer:
    match at.state:
        case "exited" | "dead" if at.exit_code:
            return Health.DEGRADED, f"its last run ended with exit code {at.exit_code}"
        case "exited" | "dead" | "running":
            return Health.HEALTHY, ""
        case "paused":
            return Health.SUSPENDED, "is paused"
        case _:
            return _without_container(f"{at.name}.service", tools)


def _without_container(unit: str, tools: ProbeTools) -> tuple[Health, str]:
    """It never ran, it is about to, or no container could be created or started for it: only the unit shows which."""
    try:
        found = tools.systemd.units(unit, TRY_SECONDS).get(unit)
    except (StepFailed, Unavailable) as error:
        return Health.UNKNOWN, error.message
    if found and found.active == "failed":
        return Health.DEGRADED, "its last run could not be started"
    return Health.HEALTHY, ""


PROBE = ProbeType(
    key=None,
    argument="",
    summary=nothing,
    connects=False,
    is_monitored=never,  # each pass sees it
    passes_ended=False,
    only_waits=False,
    check=check,
)
