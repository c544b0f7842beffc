"""`mvd import`: a Compose project becomes an app of the config repository."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mvd.cli.output import as_json, print_json
from gitops_mvd.core.errors import MvdError

if TYPE_CHECKING:
    from gitops_mvd.imports.draft import Request
    from gitops_mvd.imports.plan import Imported

_OF_A_NEW_REPOSITORY = {"README", "README.md", "LICENSE", "renovate.json", "CODEOWNERS"}


@click.command("import", epilog="Example: mvd import . --app shop")
@click.argument("project", type=click.Path())
@click.option("--app", default="", metavar="NAME", help="The app's name; that of the project if left out.")
@click.option("--image", "images", multiple=True, metavar="SERVICE=IMAGE", help="The image of a service that is built.")
@click.option("--set", "values", multiple=True, metavar="NAME=VALUE", help="The value of a variable without one.")
@click.option("--unset-empty", is_flag=True, help="Variables without a value are empty, as `docker compose` has it.")
@click.option(
    "--not-secret", "not_secret", multiple=True, metavar="NAME", help="What is taken for a secret, and is none."
)
@click.option(
    "--into",
    default=".",
    metavar="FOLDER",
    show_default="this folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The config repository.",
)
@as_json
def import_(
    project: str,
    app: str,
    images: Sequence[str],
    values: Sequence[str],
    unset_empty: bool,
    not_secret: Sequence[str],
    into: Path,
    machine: bool,
) -> int:
    """Write apps/NAME of this config repository from a Compose project.

    PROJECT is its folder or its Compose file.  Every change is printed with its reason, and what is left to do.
    Secrets and data stay outside of Git.  Nothing is overwritten, and nothing is written that does not pass `mvd
    validate`.  Exit code 1: nothing was written.
    """
    path = os.path.abspath(project)
    _check_repository(into, path)
    request = _request(path, app, images, values, unset_empty, not_secret)
    found, request = _planned(request, into, ask=not machine and sys.stdin.isatty() and sys.stdout.isatty())
    return _finished(found, request, into / "apps" / found.app, machine)


def _request(
    path: str, app: str, images: Sequence[str], values: Sequence[str], unset_empty: bool, not_secret: Sequence[str]
) -> Request:
    from gitops_mvd.imports.draft import Request

    return Request(path, app, _pairs("--image", images), _pairs("--set", values), unset_empty, frozenset(not_secret))


def _planned(request: Request, into: Path, ask: bool) -> tuple[Imported, Request]:
    """The plan, and the request with the answers of the person at the terminal, if there is one."""
    from gitops_mvd.git.tree import FolderTree
    from gitops_mvd.imports.disk import Disk
    from gitops_mvd.imports.plan import plan

    tree = FolderTree(into)
    found = plan(request, Disk(), tree)
    if ask and found.questions and not found.problems:
        request = _asked(found, request)
        found = plan(request, Disk(), tree)
    return found, request


def _finished(found: Imported, request: Request, folder: Path, machine: bool) -> int:
    """Write the app if nothing is in the way, and print the report."""
    from gitops_mvd.imports import report
    from gitops_mvd.imports.disk import write_app

    if found.complete:
        write_app(folder, found.files)
    if machine:
        print_json(report.as_json(found, request, str(folder), written=found.complete))
    elif found.complete:
        for line in report.lines(found):
            click.echo(line)
    else:
        for line in report.refusal(found, request):
            click.echo(line, err=True)
    return 0 if found.complete else 1


def _check_repository(folder: Path, project: str) -> None:
    """Raise MvdError for a folder that is no config repository, as the project itself, though it may have apps/."""
    names = {name for name in os.listdir(folder) if not name.startswith(".")}
    real = os.path.realpath(folder)
    inside = os.path.realpath(project)
    if real in (inside, os.path.dirname(inside) if os.path.isfile(inside) else inside):
        known = "fleet.yaml" in names
    else:
        known = bool(names & {"apps", "fleet.yaml", "kong"}) or names <= _OF_A_NEW_REPOSITORY
    if known:
        return
    missing = "fleet.yaml" if "apps" in names else "apps/ and no fleet.yaml"
    raise MvdError(
        f"{real} is not a config repository: it has no {missing}",
        f"run this in one, or name it: mvd import {project} --into FOLDER. A new one is an empty folder",
    )


def _pairs(option: str, words: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise click.UsageError(f"{option} {word}: write {option} NAME=VALUE")
        pairs[name] = value
    return pairs


def _asked(found: Imported, request: Request) -> Request:
    """The request with the answers of the person at the terminal."""
    images, values = dict(request.images), dict(request.values)
    for question in found.questions:
        at = question.places[0]
        hint = f" ({question.hint})" if question.hint else ""
        if question.kind == "image":
            text = f"{at}: the image of {question.name}, which is built{hint}"
            images[question.name] = click.prompt(text, err=True).strip()
        else:
            text = f"{at}: the value of {question.name}, which is not set{hint}"
            values[question.name] = click.prompt(text, default="", show_default=False, err=True)
    return replace(request, images=images, values=values)
