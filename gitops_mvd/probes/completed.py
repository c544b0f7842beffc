"""`completed`: healthy once the container has exited with code 0; for one-off jobs (`restart: "no"`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gitops_mvd.config.tables import Key
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import Answer, NoSpec, ProbeTools, ProbeType, Values, never, nothing, true


def check(at: Instance, spec: NoSpec, tools: ProbeTools) -> Answer:
    if at.state not in {"exited", "dead"}:
        return Health.PROGRESSING, f"is {at.state or 'not created yet'}"
    if at.exit_code:
        return Health.DEGRADED, f"exited with code {at.exit_code}"
    return Health.HEALTHY, ""


def _objections(value: Any, service: Values) -> Iterator[str]:
    policy = service.get("deploy", {}).get("restart_policy") or service.get("restart", "")
    if policy in ("always", "unless-stopped"):
        yield 'waits for its end, but it is always started again: give it `restart: "no"`'


PROBE = ProbeType(
    key=Key("`true`: it must end with exit code 0; for a job that needs more than ten minutes.", true),
    argument="",
    objections=_objections,
    summary=nothing,
    connects=False,
    is_monitored=never,  # each pass sees it
    passes_ended=True,
    only_waits=False,
    check=check,
)
