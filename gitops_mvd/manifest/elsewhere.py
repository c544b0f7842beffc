"""Whether an app that runs on other hosts can be told to be small without reading it to its end.  Pure.

Its mistakes are those of other hosts, but for one: an app that is too much to be read is broken on every host.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gitops_mvd.config.tables import Place
from gitops_mvd.core.ports import Tree
from gitops_mvd.manifest.composition import inside
from gitops_mvd.manifest.interpolate import MAX_LENGTH, MAX_PUT_IN, Variables

MOST_PORTS = 1000  # items, none of which is a range
MOST_LINES = 10_000  # of env files


def is_small(services: Iterable[Place], tree: Tree, variables: Variables) -> bool:
    """Do these services stay far below what an app may have: ports, files of the repository, variables in env files?

    False for everything that only a reader can tell.
    """
    services = list(services)
    ports = [item for service in services for item in _items(service, "ports")]
    volumes = [item for service in services for item in _items(service, "volumes")]
    if len(ports) > MOST_PORTS or any(item is None or "-" in item for item in ports):
        return False
    if any(item is None or item.startswith(".") for item in volumes):
        return False
    lines = 0
    put_in = variables.tally.put_in
    for service in services:
        for content in _env_files(service, tree):
            if content is None:
                return False
            lines += content.count(b"\n") + 1
            put_in += content.count(b"$") * MAX_LENGTH
    return lines <= MOST_LINES and put_in <= MAX_PUT_IN


def _env_files(service: Place, tree: Tree) -> Iterator[bytes | None]:
    """The content of each env file and label file of a service, nothing of one that is missing; None: unknown."""
    for key in ("env_file", "label_file"):
        for item in _items(service, key):
            path = service.attempt(inside, item) if item else None
            try:
                yield tree.read(path) if path is not None else None
            except FileNotFoundError:
                yield b""


def _items(service: Place, key: str) -> list[str | None]:
    """The texts in a list, or the one in its place; None for each item that is something else."""
    if not service.has(key):
        return []
    node = service.entries()[key].node
    nodes = node.value if isinstance(node.value, list) else [node]
    return [str(it.value) if isinstance(it.value, str | int) and it.tag != "!broken" else None for it in nodes]
