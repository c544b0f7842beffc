"""Features that are one module each in a folder: found by name, and refused when a part is missing.  Pure."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable
from types import ModuleType

from gitops_mvd.core.errors import MvdError

_MISSING = re.compile(r"missing \d+ required .*arguments?: (.*)")


class IncompleteFeature(MvdError):
    """A module that is a feature lacks a part, or contradicts another one."""


def modules(package: str, folders: Iterable[str]) -> dict[str, ModuleType]:
    """The modules in the folders of a package (its `__path__`), by name; what they share is in packages below it.

    Raises IncompleteFeature for a module that builds its own description without a required part.
    """
    found: dict[str, ModuleType] = {}
    for name in (info.name for info in pkgutil.iter_modules(folders) if not info.ispkg):
        try:
            found[name] = importlib.import_module(f"{package}.{name}")
        except TypeError as error:
            if not (missing := _MISSING.search(str(error))):
                raise
            raise IncompleteFeature(f"{package.replace('.', '/')}/{name}.py lacks {missing[1]}") from error
    return found


def require(module: ModuleType, what: object, parts: Iterable[str]) -> None:
    """Raise IncompleteFeature if `what`, a module or what it makes, lacks one of its parts."""
    if missing := [part for part in parts if not hasattr(what, part)]:
        raise incomplete(module, f"lacks {' and '.join(map(repr, missing))}")


def incomplete(module: ModuleType, why: str) -> IncompleteFeature:
    return IncompleteFeature(f"{module.__name__.replace('.', '/')}.py {why}")
