"""`running`: healthy as long as the container runs; what a service gets that names no other probe."""

from __future__ import annotations

from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import Answer, NoSpec, ProbeTools, ProbeType, never, nothing


def check(at: Instance, spec: NoSpec, tools: ProbeTools) -> Answer:
    match at.state:
        case "running":
            return Health.HEALTHY, ""
        case "exited" | "dead" | "restarting":
            return Health.DEGRADED, f"exited with code {at.exit_code}"
        case "paused":
            return Health.SUSPENDED, "is paused"
        case state:
            return Health.PROGRESSING, f"is {state or 'not created yet'}"


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
