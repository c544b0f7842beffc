"""The probes: one module each, found by name, with `check(at, spec, tools) -> (health, why)`."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gitops_mvd.core.model import Instance, unix_time
from gitops_mvd.core.ports import Probe

if TYPE_CHECKING:
    from gitops_mvd.docker.client import Engine
    from gitops_mvd.systemd.client import Systemd


@dataclass(frozen=True, slots=True)
class Tools:
    """What a probe may ask beyond the container itself: the one client each of Docker and systemd."""

    engine: Engine
    systemd: Systemd


def counts_from(at: Instance, now: float, every: float | None) -> float:
    """From when on a sign of life of an instance counts, in Unix time: since it started, and not longer than `every`.

    What it did first may have come a moment before the start that Docker noted; what it did before a restart is two
    seconds older.
    """
    started = unix_time(at.started) - 1.0 if at.started else now
    return max(started, now - every) if every else started


def discover(tools: Tools) -> dict[str, Probe]:
    """Every probe, by the name that a manifest uses."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    return {name: partial(importlib.import_module(f"{__name__}.{name}").check, tools=tools) for name in names}
