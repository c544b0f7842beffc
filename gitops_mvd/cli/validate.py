"""`mvd validate`: the mistakes of a config repository, for its CI."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mvd.cli.output import as_json, counted, print_json
from gitops_mvd.core.model import Problem


@click.command(epilog="Example: mvd validate .")
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@as_json
def validate(folder: Path, machine: bool) -> int:
    """Check the config repository in FOLDER.

    For every host of its fleet; needs no server and no settings.  What is done otherwise than one may expect is noted.
    Exit code 1: there are mistakes.
    """
    from gitops_mvd.git.tree import FolderTree
    from gitops_mvd.manifest import review

    found = review(FolderTree(folder))
    if machine:
        problems, notes = ([_as_json(it) for it in some] for some in (found.problems, found.notes))
        print_json({"apps": found.apps, "hosts": found.hosts, "problems": problems, "notes": notes})
    else:
        for problem in found.problems:
            click.echo(str(problem))
        for note in found.notes:
            click.echo(f"note: {note}")
        hosts = counted(found.hosts, "host") if found.hosts else "any host"
        checked = f"{counted(found.apps, 'app')}, {hosts}, {counted(len(found.problems), 'problem')}"
        click.echo(f"{folder}: {checked}", err=True)
    return 1 if found.problems else 0


def _as_json(problem: Problem) -> dict[str, str | int]:
    return {"file": problem.file, "line": problem.line, "key": problem.key, "message": problem.message}
