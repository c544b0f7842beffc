"""`mvd schema`: the JSON Schemas that come with the package, for editors."""

from __future__ import annotations

import json
from importlib import resources
from importlib.resources.abc import Traversable

import click

from gitops_mvd.cli import completion


@click.command(epilog="Example: mvd schema x-mvd")
@click.argument("name", default="", shell_complete=completion.schemas)
def schema(name: str) -> int:
    """Print the JSON Schema NAME, or list the schemas.

    How an editor uses them: mvd docs manifest.
    """
    schemas = known()
    if not name:
        for known_name, file in sorted(schemas.items()):
            click.echo(f"{known_name:<8} {json.loads(file.read_text(encoding='utf-8'))['title']}")
        return 0
    if name not in schemas:
        raise click.UsageError(f"no such schema: {name}. Schemas: {', '.join(sorted(schemas))}")
    click.echo(schemas[name].read_text(encoding="utf-8"), nl=False)
    return 0


def known() -> dict[str, Traversable]:
    """The schemas in the package, by name."""
    folder = resources.files("gitops_mvd.schemas")
    return {file.name.removesuffix(".json"): file for file in folder.iterdir() if file.name.endswith(".json")}
