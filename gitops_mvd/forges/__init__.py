"""The forges that are told of a commit: one module each, found by name, with `connect(account)` and what hooks need."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import cast

from gitops_mvd.core.ports import Forge, Receiver
from gitops_mvd.forges.api import Account

ALIASES: dict[str, str] = {"forgejo": "gitea"}  # another name of the same API


SHARED = {"api"}  # what every forge is built on, and no forge


def kinds() -> list[str]:
    """The names that the settings use."""
    names = {found.name for found in pkgutil.iter_modules(__path__)} - SHARED
    return sorted([*(name.replace("_", "-") for name in names), *ALIASES])


def connect(kind: str, account: Account) -> Forge:
    """A client of that forge; nothing is asked yet."""
    return cast(Forge, _module(kind).connect(account))


def receiver(kind: str) -> Receiver:
    """What tells a forge's webhooks from others, and what they mean."""
    return cast(Receiver, _module(kind))


def _module(kind: str) -> ModuleType:
    name = ALIASES.get(kind, kind).replace("-", "_")
    return importlib.import_module(f"{__name__}.{name}")
