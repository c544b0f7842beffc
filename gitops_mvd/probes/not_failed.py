"""`not_failed`: healthy while the container runs, and once it has exited with code 0; the default."""

from __future__ import annotations

from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import Answer, NoSpec, ProbeTools, ProbeType, never, nothing


def check(at: Instance, spec: NoSpec, tools: ProbeTools) -> Answer:
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
            return Health.PROGRESSING, f"is {state or 'not created yet'}"


PROBE = ProbeType(
    key=None,
    argument="",
    summary=nothing,
    connects=False,
    is_monitored=never,  # each pass sees it
    passes_ended=True,
    only_waits=False,
    check=check,
)
