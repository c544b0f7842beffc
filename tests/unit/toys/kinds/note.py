"""`note`: a file with the name of each service, beside the folder of the mounted files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from gitops_mvd.core.model import App, Change, Resource, Role
from gitops_mvd.kinds import Tools


class Notes:
    name = "note"
    after = ("unit",)
    role = Role.SUPPORT
    prunes = True
    keeps_previous = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def wanted(self, app: App) -> Iterator[Resource]:
        for service in app.services:
            yield Resource(self.name, f"{app.name}.{service.name}", app.name, service.name, {"text": service.image})

    def observe(self) -> Iterator[Resource]:
        for path in self._folder.glob("*.note"):
            app, _, service = path.stem.partition(".")
            yield Resource(self.name, path.stem, app, service, {"text": path.read_text()})

    def prepare(self, changes: Sequence[Change]) -> None:
        """Nothing is known beforehand."""

    def apply(self, changes: Sequence[Change]) -> None:
        for change in changes:
            path = self._folder / f"{change.resource.name}.note"
            if change.to:
                path.write_text(change.to.spec["text"])
            else:
                path.unlink(missing_ok=True)


def connect(tools: Tools) -> Notes:
    return Notes(tools.files)
