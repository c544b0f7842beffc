"""`log`: healthy once a line that the instance printed since its start matches a pattern; for queue workers.

With `every` such a line must have come within so many seconds.
"""

from __future__ import annotations

import time

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.probes import Tools, counts_from

DEADLINE = 2.0


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    every = spec.get("every")
    since = counts_from(at, time.time(), every)
    try:
        found = tools.systemd.grep(f"{at.name}.service", spec["pattern"], since, spec.get("timeout", DEADLINE))
    except (StepFailed, Unavailable) as error:
        return Health.UNKNOWN, error.message
    if found:
        return Health.HEALTHY, ""
    lately = f" in the last {every:g} s" if every else " since its start"
    return Health.PROGRESSING, f"no line of its log matches{lately}"
