"""The ports of nodes at which tasks of a Swarm were seen, across restarts of the daemon.

After its leader has changed, a Swarm does not know those any more that tasks had before, and go on to have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from gitops_mvd.core.errors import MvdError
from gitops_mvd.state.files import Entry, write

Ports = Mapping[str, Mapping[int, int]]
"""Port in the container -> port of the node, by task."""


class TaskPorts:
    """A file of them: a comfort, so that it may be lost, and may be beyond the rights of who looks on."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Ports:
        try:
            found = json.loads(self._path.read_bytes())
            return {task: {int(port): int(at) for port, at in ports.items()} for task, ports in found.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def save(self, ports: Ports) -> None:
        with suppress(MvdError):
            write(self._path, Entry(json.dumps(ports, sort_keys=True).encode(), 0o600))
