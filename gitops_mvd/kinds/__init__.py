"""The kinds of resource: one module each, found by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gitops_mvd.core.features import incomplete, modules, require
from gitops_mvd.core.ports import Clock, Kind
from gitops_mvd.docker.swarm import Manager, Task
from gitops_mvd.secrets.store import Secrets

if TYPE_CHECKING:
    from gitops_mvd.docker.client import Engine
    from gitops_mvd.kong.client import Kong
    from gitops_mvd.systemd.client import Systemd


@dataclass(frozen=True, slots=True)
class Tools:
    """What the kinds work with: the one client each of Docker, systemd and Kong, and the folders of managed files.

    `files` is the folder for env files and mounted files, `folders` that for the folders of apps, `units` that for unit
    files.  `address` is where routed services are published and where Kong finds them.  `kong` is None on a host
    without Kong.  What takes long is given up when `clock` interrupts.  `secrets` has what a manifest only refers to.
    `commit_of` is the commit that an instance is of, by the names of its app and its own; "" if it is not known.
    `is_ready` says whether a task of a Swarm may be sent requests, by the name of its service.
    """

    host: str
    engine: Engine
    systemd: Systemd
    kong: Kong | None
    clock: Clock
    files: Path = Path("/etc/gitops-mvd/files")
    folders: Path = Path("/srv/mvd")
    units: Path = Path("/etc/systemd/system")
    address: str = "127.0.0.1"
    secrets: Secrets = field(default_factory=lambda: Secrets(Path("/etc/gitops-mvd/secrets")))
    commit_of: Callable[[str, str], str] = lambda app, instance: ""
    is_ready: Callable[[str, Task], bool] = lambda service, task: True


ON_SWARM = ("network", "swarm_file", "swarm_service", "route")  # the kinds of a Swarm, and which of them no other has
ONLY_ON_SWARM = ("swarm_file", "swarm_service")
PARTS = (*Kind.__annotations__, *(name for name in vars(Kind) if not name.startswith("_")))


def discover(tools: Tools) -> dict[str, Kind]:
    """Every kind that there is on such a host, by name.  Raises IncompleteFeature for a module that lacks a part."""
    found: dict[str, Kind] = {}
    every = modules(__name__, __path__)
    on_swarm = isinstance(tools.engine, Manager)
    chosen = {name for name in every if (name in ON_SWARM if on_swarm else name not in ONLY_ON_SWARM)}
    for name, module in every.items():
        require(module, module, ["connect"])
        if name not in chosen:
            continue
        kind: Kind = module.connect(tools)
        require(module, kind, PARTS)
        if kind.name != name:
            raise incomplete(module, f"makes a kind {kind.name!r}, which is not its name")
        for other in kind.after:
            if other not in every:
                raise incomplete(module, f"needs the kind {other!r}, which nobody makes")
        found[name] = kind
    return found
