"""`mvd export kubernetes`: the apps of a config repository as documents for a cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mvd.cli.completion import apps_of_folder, hosts_of_folder
from gitops_mvd.cli.output import as_json, print_error
from gitops_mvd.core.errors import MvdError

if TYPE_CHECKING:
    from gitops_mvd.exports.report import Export

_GATEWAY = re.compile(r"(?:([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)/)?([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?)")
_SIZE = re.compile(r"[1-9][0-9]*(?:[kMGTP]|[KMGTP]i)?")
UNREADABLE = 2  # exit code


@click.group(epilog="Example: mvd export kubernetes chatbot --output cluster")
def export() -> None:
    """Write the apps of a config repository for another engine."""


@export.command(epilog="Example: mvd export kubernetes chatbot --host uk-web-1 --output cluster")
@click.argument("app", default="", shell_complete=apps_of_folder)
@click.option(
    "--host",
    default="",
    metavar="HOST",
    help="As this host of fleet.yaml reads it; as all of them if left out.",
    shell_complete=hosts_of_folder,
)
@click.option(
    "--from",
    "folder",
    default=".",
    metavar="FOLDER",
    show_default="this folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The config repository.",
)
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write DIR/APP.yaml for each app, instead of all to the standard output.",
)
@click.option(
    "--gateway",
    default="kong/kong",
    metavar="NAMESPACE/NAME",
    show_default=True,
    help="The Gateway that routes belong to.",
)
@click.option("--time-zone", default="", metavar="ZONE", help="Of schedules that name none: Europe/London.")
@click.option("--size", default="10Gi", metavar="SIZE", show_default=True, help="What each volume asks for.")
@as_json
def kubernetes(
    app: str, host: str, folder: Path, output: Path | None, gateway: str, time_zone: str, size: str, machine: bool
) -> int:
    """Write the apps of a config repository, or APP, as documents for Kubernetes.

    For the Gateway API, with Kong as its controller.  Nothing is applied, and no value of a secret is written.  What
    has no counterpart is a comment where it would stand, and is listed on the standard error.  Exit code 0: all was
    carried over; 1: something was not; 2: nothing was written, as something cannot be read.
    """
    from gitops_mvd.exports import report

    try:
        exports = _exports(app, host, folder, gateway, time_zone, size)
        if output:
            _write(output, exports)
    except MvdError as error:
        print_error(error)
        return UNREADABLE
    if machine:
        apps = {one.app: report.as_json(one) for one in exports}
        click.echo(json.dumps({"apps": apps}, indent=2, ensure_ascii=False).encode())  # as bytes: nothing is cut
    elif not output:
        click.echo("".join(map(report.text_of, exports)).encode(), nl=False)
    for line in report.summary(exports):
        click.echo(line, err=True)
    return 1 if any(one.lost for one in exports) else 0


def _exports(app: str, host: str, folder: Path, gateway: str, time_zone: str, size: str) -> Sequence[Export]:
    from gitops_mvd.exports.app import Choices
    from gitops_mvd.exports.report import export
    from gitops_mvd.exports.routes import Gateway
    from gitops_mvd.exports.source import read
    from gitops_mvd.git.tree import FolderTree

    named = _GATEWAY.fullmatch(gateway)
    if not named:
        raise MvdError(f"--gateway {gateway}: write --gateway NAMESPACE/NAME, such as kong/kong")
    if not _SIZE.fullmatch(size):
        raise MvdError(f"--size {size}: write a size of Kubernetes, such as --size 10Gi")
    choices = Choices(Gateway(named[1] or "", named[3]), time_zone, size)
    return [export(source, choices) for source in read(FolderTree(folder), app, host)]


def _write(folder: Path, exports: Sequence[Export]) -> None:
    """One file for each app, each of which is replaced as a whole."""
    from gitops_mvd.exports.report import text_of

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in exports:
            path = folder / f"{one.app}.yaml"
            new = path.with_name(f".{path.name}.new")
            new.write_text(text_of(one), "utf-8")
            new.replace(path)
    except OSError as error:
        raise MvdError(f"cannot write to {folder}: {error.strerror or error}") from error
