"""`drained`: healthy once nobody waits for the container any more; for an old instance, before it is stopped."""

from __future__ import annotations

from typing import TypedDict

from gitops_mvd.core.model import Health, Instance
from gitops_mvd.net import traffic
from gitops_mvd.probes import Answer, ProbeTools, ProbeType, never, nothing

HOST_ADDRESS = "127.0.0.1"  # of a container on the host's own network, whose connections cannot be told apart


class DrainedSpec(TypedDict, total=False):
    """Connections through `idle_port`, a port of this host, are those that Kong keeps without an open request."""

    idle_port: int


def check(at: Instance, spec: DrainedSpec, tools: ProbeTools) -> Answer:
    if at.state != "running" or at.ip == HOST_ADDRESS:
        return Health.HEALTHY, ""
    count = traffic.inbound(at.pid)
    if count is None:
        return Health.PROGRESSING, "its connections cannot be seen"
    if count and (port := spec.get("idle_port")):
        count = max(0, count - traffic.to_loopback(port))
    match count:
        case 0:
            return Health.HEALTHY, ""
        case 1:
            return Health.PROGRESSING, "1 connection is open"
        case _:
            return Health.PROGRESSING, f"{count} connections are open"


PROBE: ProbeType[DrainedSpec] = ProbeType(
    key=None,
    argument="",
    summary=nothing,
    connects=False,
    is_monitored=never,  # each pass sees it
    passes_ended=False,
    only_waits=True,
    check=check,
)
