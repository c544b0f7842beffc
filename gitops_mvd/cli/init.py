"""`mvd init`: a config repository that works, to begin with."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import click

from gitops_mvd import forges
from gitops_mvd.cli.starter import AS_APP, FORGES, KONG, NO_FORGE, NONE, Answers, files, next_steps, pipeline_of
from gitops_mvd.core.errors import ManifestError, MvdError
from gitops_mvd.core.text import without_login

IMAGE, PORT = "nginx:1.28-alpine", 80
GIT_SECONDS = 10.0
KONG_HELP = "Is there a Kong on the server? `app` writes one as an app."

Answer = TypeVar("Answer")


@click.command(epilog="Example: mvd init config --forge github --host web-1")
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
@click.option("--forge", type=click.Choice(FORGES), help="Where it is pushed to; decides the CI.")
@click.option("--package", metavar="ADDRESS", help="Where that CI gets gitops-mvd: git+https://..., or a wheel.")
@click.option("--host", "hosts", multiple=True, metavar="NAME", help="The name of a server, once for each.")
@click.option("--app", default="hello", show_default=True, metavar="NAME", help="The name of the first app.")
@click.option("--image", metavar="IMAGE", help="The image of the first app.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port that it listens to.")
@click.option("--health", default="/", show_default=True, metavar="PATH", help="A path that it answers once healthy.")
@click.option("--kong", type=click.Choice(KONG), help=KONG_HELP)
@click.option("--yes", is_flag=True, help="Ask nothing: take the defaults of what no option says.")
def init(
    folder: Path,
    forge: str | None,
    package: str | None,
    hosts: Sequence[str],
    app: str,
    image: str | None,
    port: int | None,
    health: str,
    kong: str | None,
    yes: bool,
) -> int:
    """Write a config repository that works into FOLDER.

    fleet.yaml, one app, the CI that checks pull requests, renovate.json and schemas for editors.  Asks what no option
    says.  What it writes passes `mvd validate`.  No file is overwritten.
    """
    asks = not yes
    if asks and None in (forge, image, port, kong, *([] if hosts else [None])) and not sys.stdin.isatty():
        raise MvdError("there is no terminal to ask at", "--yes takes the defaults of what no option says")
    origin = _origin(folder)
    forge = _asked(asks, forge, "Forge", forges.likely(origin) or NO_FORGE, click.Choice(FORGES))
    if package is not None and not pipeline_of(forge):
        raise MvdError(f"--package is for the CI of a forge, and --forge {forge} has none")
    if pipeline_of(forge):
        package = _package(asks, package)
    hosts = hosts or (_asked(asks, None, "Name of the server", socket.gethostname()),)
    image = _asked(asks, image, "Image of the first app", IMAGE)
    port = _asked(asks, port, "Port that it listens to", PORT, click.IntRange(1, 65535))
    kong = _asked(asks, kong, "Kong on the server (app: write one as an app)", NONE, click.Choice(KONG))
    if kong == AS_APP and app == "kong":
        raise MvdError("the first app cannot be called kong, as Kong's own is", "choose another name with --app")
    answers = Answers(forge, package or "", tuple(hosts), app, image, port, health, kong)
    made = files(answers)
    _check(made)
    _write(folder, made)
    for path in made:
        click.echo(f"wrote {folder / path}")
    click.echo()
    for line in next_steps(answers, str(folder), origin):
        click.echo(line)
    return 0


def _asked(
    asks: bool, given: Answer | None, question: str, default: Answer, kind: click.ParamType[Any] | None = None
) -> Answer:
    """The answer of an option, of the person at the terminal, or the default."""
    if given is not None or not asks:
        return default if given is None else given
    answer: Answer = click.prompt(question, default=default, type=kind, err=True)
    return answer


def _package(asks: bool, given: str | None) -> str:
    """Where pip gets gitops-mvd; by default, where this one has come from.  It is not on PyPI."""
    package = given or _came_from()
    if asks and given is None:
        package = click.prompt("CI installs gitops-mvd from (git+https://... or a wheel)", default=package, err=True)
    if not package:
        hint = "--package git+https://HOST/NAME@VERSION, the address of a wheel, or --forge none for no CI"
        raise MvdError("nobody has said where CI gets gitops-mvd, which is not on PyPI", hint)
    if not re.fullmatch(r"(?:git\+)?(?:https?|ssh)://[^\s]+", package):
        raise MvdError(
            f"{package} is not an address that pip gets from another machine", "write git+https://... or https://..."
        )
    return package


def _came_from() -> str:
    """Where pip got this installation, if others can get it there too; "" if not."""
    try:
        told = json.loads(metadata.distribution("gitops-mvd").read_text("direct_url.json") or "{}")
    except metadata.PackageNotFoundError:  # run from a folder
        return ""
    url = without_login(str(told.get("url", "")))
    if commit := told.get("vcs_info", {}).get("commit_id"):
        return f"git+{url}@{commit}"
    if url.startswith("file://") and "dir_info" in told:
        checkout = Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path))
        url, commit = _origin(checkout), _git(checkout, "rev-parse", "HEAD")
        return f"git+{url}@{commit}" if url.startswith("https://") and commit else ""
    return url if url.startswith("https://") else ""


def _origin(folder: Path) -> str:
    """The address that a clone is pushed to, without a login; "" for what is no clone."""
    is_clone = (folder / ".git").exists()  # and no folder of somebody else's
    return without_login(_git(folder, "config", "--get", "remote.origin.url")) if is_clone else ""


def _git(folder: Path, *words: str) -> str:
    """What git prints about a folder, "" if it cannot say."""
    from gitops_mvd.git.child import Limits, run

    with suppress(MvdError):
        ended = run(["git", "-C", str(folder), *words], os.environ, Limits(GIT_SECONDS))
        return ended.output.decode(errors="replace").strip() if ended.status == 0 else ""
    return ""


def _check(made: Mapping[str, str]) -> None:
    """Raise ManifestError for what would not pass `mvd validate`, such as an image that is none."""
    from gitops_mvd.git.tree import FolderTree
    from gitops_mvd.manifest import review

    with tempfile.TemporaryDirectory() as scratch:
        _write(Path(scratch), made)
        if problems := review(FolderTree(Path(scratch))).problems:
            raise ManifestError(problems)


def _write(folder: Path, made: Mapping[str, str]) -> None:
    """Write all files or none.  Raises MvdError, also if one is there."""
    if there := [path for path in made if os.path.lexists(folder / path)]:
        raise MvdError(f"{folder / there[0]} exists already, and nothing is overwritten", "choose another folder")
    undo: list[Callable[[], None]] = []
    try:
        for path, text in made.items():
            file = folder / path
            for parent in reversed([it for it in (file.parent, *file.parent.parents) if not it.exists()]):
                parent.mkdir()
                undo.append(parent.rmdir)
            with file.open("x", encoding="utf-8") as opened:
                undo.append(file.unlink)
                opened.write(text)
    except OSError as error:
        for take_back in reversed(undo):
            take_back()
        raise MvdError(f"cannot write {error.filename or folder}: {error.strerror}. Nothing was written") from error
