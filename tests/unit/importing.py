"""A Compose project in a folder, and what an import makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

from gitops_mvd.git.tree import FolderTree
from gitops_mvd.imports.disk import Disk, write_app
from gitops_mvd.imports.draft import Request
from gitops_mvd.imports.plan import Imported, plan
from gitops_mvd.imports.report import lines, refusal
from gitops_mvd.manifest import validate


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """A folder with these files, their common indentation removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else dedent(content).encode())
    return folder


class Importing:
    """A config repository and a project beside it; `home` is the user's."""

    def __init__(self, root: Path) -> None:
        self.repository = write(root / "config", {"README.md": "", "apps/README.md": ""})
        self.project = root / "srv" / "shop"
        self.source = Disk()
        self.source.home = str(root / "home")

    def plan(self, files: Mapping[str, str | bytes] | str = "", path: str = "", **options: Any) -> Imported:
        """The plan of an import of `files` (the one Compose file, if it is a text), or of `path`."""
        if isinstance(files, str):
            files = {"compose.yaml": files} if files else {}
        write(self.project, files)
        request = Request(path or str(self.project), **options)
        return plan(request, self.source, FolderTree(self.repository))

    def written(self, files: Mapping[str, str | bytes] | str = "", **options: Any) -> Imported:
        """The plan of an import that is complete, carried out; the result is valid."""
        found = self.plan(files, **options)
        assert [str(problem) for problem in found.problems] == []
        assert list(found.questions) == []
        write_app(self.repository / "apps" / found.app, found.files)
        assert [str(problem) for problem in validate(FolderTree(self.repository))] == []
        return found


def text(found: Imported, name: str = "compose.yaml") -> str:
    return found.files[name].content.decode()


def report(found: Imported) -> str:
    """All that is printed of it."""
    request = Request(found.root)
    return "\n".join([*lines(found), *refusal(found, request)])


def changes(found: Imported) -> list[str]:
    return [f"{change.at}: {change.what}" for change in found.changes]


def problems(found: Imported) -> list[str]:
    return [str(problem) for problem in found.problems]
