"""The probes: one module each, found by name, with `check(at, spec, tools) -> (health, why)`."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from gitops_mvd.ports import Probe

if TYPE_CHECKING:
    from gitops_mvd.engine import Engine
    from gitops_mvd.systemd import Systemd


@dataclass(frozen=True, slots=True)
class Tools:
    """What a probe may ask beyond the container itself: the one client each of Docker and systemd."""

    engine: Engine
    systemd: Systemd


def discover(tools: Tools) -> dict[str, Probe]:
    """Every probe, by the name that a manifest uses."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    return {name: partial(importlib.import_module(f"{__name__}.{name}").check, tools=tools) for name in names}
