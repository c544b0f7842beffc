"""`heartbeat`: healthy while a file in the container was modified within the last `every` seconds; for queue workers.

The engine tells when that was, so that the image needs no tools; it does not look into a tmpfs.
"""

from __future__ import annotations

import time

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance, Json
from gitops_mvd.probes import Tools, counts_from

DEADLINE = 2.0


def check(at: Instance, spec: Json, tools: Tools) -> tuple[Health, str]:
    path = spec["path"]
    try:
        modified = tools.engine.modified(at.name, path, spec.get("timeout", DEADLINE))
    except (StepFailed, Unavailable) as error:
        return Health.UNKNOWN, error.message
    if modified is None:
        return Health.PROGRESSING, f"there is no {path} yet"
    now = time.time()
    if modified < counts_from(at, now, spec["every"]):
        return Health.PROGRESSING, f"{path} was last modified {now - modified:.0f} s ago"
    return Health.HEALTHY, ""
