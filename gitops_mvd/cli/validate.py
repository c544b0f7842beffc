"""`mvd validate`: the mistakes of a config repository, for its CI."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mvd.cli.output import as_json, counted, print_json
from gitops_mvd.core.model import Problem


@click.command()
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@as_json
def validate(folder: Path, machine: bool) -> int:
    """Check the config repository in FOLDER.

    For every host of its fleet; needs no server and no settings.  Exit code 1: there are mistakes.
    """
    from gitops_mvd.git.tree import FolderTree
    from gitops_mvd.manifest import validate as problems_in

    problems = problems_in(FolderTree(folder))
    if machine:
        print_json([_as_json(problem) for problem in problems])
    else:
        for problem in problems:
            click.echo(str(problem))
        click.echo(f"{folder}: {counted(len(problems), 'problem')}", err=True)
    return 1 if problems else 0


def _as_json(problem: Problem) -> dict[str, str | int]:
    return {"file": problem.file, "line": problem.line, "key": problem.key, "message": problem.message}
