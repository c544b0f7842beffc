"""`log`: healthy once a line that the instance printed since its start matches a pattern; for queue workers.

With `every` such a line must have come within so many seconds.
"""

from __future__ import annotations

import time
from typing import NotRequired, TypedDict

from gitops_mvd.config.tables import Key
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import (
    EVERY,
    TIMEOUT,
    TRY_SECONDS,
    Answer,
    ProbeTools,
    ProbeType,
    counts_from,
    regular_expression,
)


class Spec(TypedDict):
    pattern: str
    every: NotRequired[float]
    timeout: NotRequired[float]


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    every = spec.get("every")
    since = counts_from(at, time.time(), every)
    try:
        found = tools.systemd.grep(f"{at.name}.service", spec["pattern"], since, spec.get("timeout", TRY_SECONDS))
    except (StepFailed, Unavailable) as error:
        return Health.UNKNOWN, error.message
    if found:
        return Health.HEALTHY, ""
    lately = f" in the last {every:g} s" if every else " since its start"
    return Health.PROGRESSING, f"no line of its log matches{lately}"


PROBE = ProbeType(
    key=Key("A regular expression that must be found in a line that it printed since its start.", regular_expression),
    argument="pattern",
    options={"every": EVERY, "timeout": TIMEOUT},
    summary=lambda spec: f"every {spec['every']:g}s" if "every" in spec else "",  # a pattern may hold a secret
    connects=False,
    is_monitored=lambda spec: "every" in spec,  # that a line was printed since the start stays true
    passes_ended=False,
    only_waits=False,
    check=check,
)
