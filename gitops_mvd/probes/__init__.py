"""The probes: one module each, found by name, with `check(at, spec) -> (health, why)`."""

from __future__ import annotations

import importlib
import pkgutil

from gitops_mvd.ports import Probe


def discover() -> dict[str, Probe]:
    """Every probe, by the name that a manifest uses."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    return {name: importlib.import_module(f"{__name__}.{name}").check for name in names}
