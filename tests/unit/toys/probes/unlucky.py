"""`unlucky`: healthy while the container's process has not a given number."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from gitops_mvd.config.readers import integer
from gitops_mvd.config.tables import Key
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import Answer, ProbeTools, ProbeType, always


class Spec(TypedDict):
    pid: int
    lowest: NotRequired[int]


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    if at.pid != spec["pid"]:
        return Health.HEALTHY, ""
    return Health.DEGRADED, f"its process has the unlucky number {at.pid}"


PROBE = ProbeType(
    key=Key("The unlucky number.", integer(1, 99)),
    argument="pid",
    options={"lowest": Key("The lowest number.", integer(1))},
    objections=lambda pid, service: ["dislikes the user of the service"] if service.get("user") == "13" else [],
    summary=lambda spec: str(spec["pid"]),
    connects=True,
    is_monitored=always,
    passes_ended=False,
    only_waits=False,
    check=check,
)
