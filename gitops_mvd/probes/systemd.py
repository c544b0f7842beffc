"""`systemd`: healthy as long as systemd says that the instance's unit is active and running."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from gitops_mvd.config.tables import Key
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import TIMEOUT, TRY_SECONDS, Answer, ProbeTools, ProbeType, never, nothing, true


class Spec(TypedDict):
    timeout: NotRequired[float]


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    name = f"{at.name}.service"
    try:
        unit = tools.systemd.units(name, spec.get("timeout", TRY_SECONDS)).get(name)
    except (StepFailed, Unavailable) as error:
        return Health.UNKNOWN, error.message
    match (unit.active, unit.sub) if unit else ("inactive", "dead"):  # which is not kept loaded
        case ("active", "running"):
            return Health.HEALTHY, ""
        case ("failed", _):
            return Health.DEGRADED, "its unit has failed"
        case (active, sub):
            return Health.PROGRESSING, f"its unit is {active} ({sub})"


PROBE = ProbeType(
    key=Key("`true`: its unit must be active and running.", true),
    argument="",
    options={"timeout": TIMEOUT},
    summary=nothing,
    connects=False,
    is_monitored=never,  # each pass sees it
    passes_ended=False,
    only_waits=False,
    check=check,
)
