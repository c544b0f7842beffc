"""`drained`: healthy once nobody is connected to the container; for an old instance, before it is stopped."""

from __future__ import annotations

from gitops_mvd.core.model import Health, Instance
from gitops_mvd.net import traffic
from gitops_mvd.probes import Answer, NoSpec, ProbeTools, ProbeType, never, nothing

HOST_ADDRESS = "127.0.0.1"  # of a container on the host's own network, whose connections cannot be told apart


def check(at: Instance, spec: NoSpec, tools: ProbeTools) -> Answer:
    if at.state != "running" or at.ip == HOST_ADDRESS:
        return Health.HEALTHY, ""
    match traffic.inbound(at.pid):
        case 0:
            return Health.HEALTHY, ""
        case None:
            return Health.PROGRESSING, "its connections cannot be seen"
        case 1:
            return Health.PROGRESSING, "1 connection is open"
        case count:
            return Health.PROGRESSING, f"{count} connections are open"


PROBE = ProbeType(
    key=None,
    argument="",
    summary=nothing,
    connects=False,
    is_monitored=never,  # each pass sees it
    passes_ended=False,
    only_waits=True,
    check=check,
)
