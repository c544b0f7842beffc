"""The forges that are told of a commit: one module each, found by name, with `connect(repository, token, base_url)`."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from gitops_mvd.ports import Forge


def discover() -> dict[str, Callable[..., Forge]]:
    """Every forge's `connect`, by the name that the settings use."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    return {name: importlib.import_module(f"{__name__}.{name}").connect for name in names}
