"""Write the man pages of `mvd` and its commands into a folder: what `--help` says, in the form of man(7)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path

import click

from gitops_mvd.cli.main import mvd


def write(command: click.Command, folder: Path, parent: click.Context | None = None) -> None:
    """The page of a command, and those of its own."""
    context = click.Context(command, parent, info_name=command.name if parent else "mvd")
    name = context.command_path.replace(" ", "-")
    (folder / f"{name}.1").write_text("".join(f"{line}\n" for line in page(command, context, name)))
    if isinstance(command, click.Group):
        for one in command.list_commands(context):
            if (found := command.get_command(context, one)) and not found.hidden:
                write(found, folder, context)


def page(command: click.Command, context: click.Context, name: str) -> Iterator[str]:
    summary, _, more = cleandoc(command.help or "").partition("\n")
    yield f'.TH {name.upper()} 1 "" "gitops-mvd {version("gitops-mvd")}"'
    yield from (".SH NAME", text(f"{name} - {summary.rstrip('.')}"))
    yield from (
        ".SH SYNOPSIS",
        f".B {text(context.command_path)}",
        text(" ".join(command.collect_usage_pieces(context))),
    )
    yield from (".SH DESCRIPTION", *paragraphs(more.strip() or summary))
    yield ".SH OPTIONS"
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            yield from entry(*record)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for one in command.list_commands(context):
            if found := command.get_command(context, one):
                yield from entry(one, cleandoc(found.help or "").partition("\n")[0])
    if command.epilog:
        yield from (".SH EXAMPLES", *paragraphs(command.epilog))
    yield from (".SH SEE ALSO", ".BR mvd (1);", text("the manual: mvd docs"))


def paragraphs(prose: str) -> Iterator[str]:
    for line in prose.replace("\b\n", "").splitlines():
        yield text(line) if line else ".PP"


def entry(term: str, about: str) -> Iterator[str]:
    yield from (".TP", f".B {text(term)}", text(about))


def text(line: str) -> str:
    r"""A line as it is: `\` would be an escape, `-` a hyphen of print, and `.` or `'` at the start a request."""
    return "\\&" * line.startswith((".", "'")) + line.replace("\\", "\\e").replace("-", "\\-")


if __name__ == "__main__":
    write(mvd, Path(sys.argv[1]))
