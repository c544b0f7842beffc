"""`heartbeat`: healthy while a file in the container was modified within the last `every` seconds; for queue workers.

The engine is asked for that time, so that the image needs no tools; it does not see files in a tmpfs.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Iterator
from typing import NotRequired, TypedDict

from gitops_mvd.config.readers import absolute
from gitops_mvd.config.tables import Key
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Instance
from gitops_mvd.probes import EVERY, TIMEOUT, TRY_SECONDS, Answer, ProbeTools, ProbeType, Values, always, counts_from


class Spec(TypedDict):
    path: str
    every: float
    timeout: NotRequired[float]


def check(at: Instance, spec: Spec, tools: ProbeTools) -> Answer:
    path = spec["path"]
    try:
        modified = tools.engine.modified(at.name, path, spec.get("timeout", TRY_SECONDS))
    except (StepFailed, Unavailable) as error:
        return Health.UNKNOWN, error.message
    if modified is None:
        return Health.PROGRESSING, f"there is no {path} yet"
    now = time.time()
    if modified < counts_from(at, now, spec["every"]):
        return Health.PROGRESSING, f"{path} was last modified {now - modified:.0f} s ago"
    return Health.HEALTHY, ""


def _objections(path: str, service: Values) -> Iterator[str]:
    if folder := _memory_at(path, service):
        yield (
            f"asks for a file in {folder}, which is memory that the engine does not look into: "
            "keep it on a volume, or in the container's own file system"
        )


def _memory_at(path: str, service: Values) -> str:
    """The tmpfs, or the kernel's own file system, that a path of the container is in; "" if it is on a disk."""
    in_memory = dict.fromkeys(("/dev", "/proc", "/sys"), True)
    in_memory |= {mount["target"]: mount["type"] == "tmpfs" for _, mount in service.get("volumes", ())}
    in_memory |= {line.partition(":")[0]: True for _, line in service.get("tmpfs", ())}
    above = [folder for folder in in_memory if f"{path}/".startswith(f"{posixpath.normpath(folder)}/")]
    nearest = max(above, key=len, default="")
    return nearest if in_memory.get(nearest) else ""


PROBE = ProbeType(
    key=Key("A file in the container that it must go on modifying.", absolute),
    argument="path",
    options={"every": EVERY, "timeout": TIMEOUT},
    required={"every": "how often the file is modified, such as 30s"},
    objections=_objections,
    summary=lambda spec: f"{spec['path']} every {spec['every']:g}s",
    connects=False,
    is_monitored=always,
    passes_ended=False,
    only_waits=False,
    check=check,
)
