"""`folder`: a folder of an app on this host, made if it is missing, and never removed, as it holds data.

A path such as `./data` that a service mounts and that is not in the repository lies at `<folders>/<app>/data`.  Only
the first part of a path is a resource of its own: what is below belongs to the containers.  As Docker would make it,
it belongs to root of the containers, which is another user with `userns-remap`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gitops_mvd.core.model import App, Change, Resource, Role
from gitops_mvd.kinds import Tools
from gitops_mvd.state.files import readable
from gitops_mvd.state.folders import folders_of, make_folder, remove_empty_folder


class Folders:
    """`name` is the path."""

    name = "folder"
    after: tuple[str, ...] = ()
    role = Role.DATA
    prunes = False
    keeps_previous = False

    def __init__(self, root: Path, container_root: Callable[[], tuple[int, int]]) -> None:
        self._root = root
        self._container_root = container_root

    def wanted(self, app: App) -> Iterator[Resource]:
        parts = {
            path.split("/")[1] for service in app.services for path in folders_of(app.name, service) if "/" in path
        }
        for first in sorted(parts):
            yield Resource(self.name, str(self._root / app.name / first), app.name)

    def observe(self) -> Iterator[Resource]:
        for app in self._folders_in(self._root):
            for folder in self._folders_in(self._root / app):
                yield Resource(self.name, str(self._root / app / folder), app)

    def _folders_in(self, path: Path) -> list[str]:
        with readable(path):
            if not path.is_dir():
                return []
            return sorted(entry.name for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing: what is refused, is refused by `apply`, before anything stops."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            path = Path(change.resource.name)
            if change.to:
                make_folder(path, self._container_root())
            else:
                remove_empty_folder(path)


def connect(tools: Tools) -> Folders:
    return Folders(tools.folders, lambda: tools.engine.container_root())
