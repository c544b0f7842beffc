"""`mvd docs`: the manual, which comes with the package."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import click

from gitops_mvd.cli import completion
from gitops_mvd.core.errors import MvdError


@click.command(epilog="Example: mvd docs manifest")
@click.argument("page", default="", shell_complete=completion.pages)
def docs(page: str) -> int:
    """Read a PAGE of the manual, or list its pages."""
    known = pages()
    if not page:
        for name, file in sorted(known.items()):
            click.echo(f"{name:<12} {file.read_text(encoding='utf-8').splitlines()[0].lstrip('# ')}")
        return 0
    if page not in known:
        raise MvdError(f"no such page: {page}", f"Pages: {', '.join(sorted(known))}")
    click.echo_via_pager(known[page].read_text(encoding="utf-8"))
    return 0


def pages() -> dict[str, Traversable]:
    """The pages of the manual, by name."""
    folder = resources.files("gitops_mvd.docs")
    return {Path(file.name).stem: file for file in folder.iterdir() if file.name.endswith(".md")}
