"""`mvd docs`: the manual, to be read on a terminal, searched, or piped."""

from __future__ import annotations

import re
import shutil
from itertools import groupby

import click

from gitops_mvd.cli import completion
from gitops_mvd.cli.manual import Page, Passage, pages, search
from gitops_mvd.cli.output import has_colours, is_terminal
from gitops_mvd.core.errors import MvdError

WIDEST = 100  # characters of a line that is read with ease
SHOWN = 200  # characters of a passage that was found
_LINK = re.compile(r"\[([^\]]+)\]\((?:[\w.]+/)*([\w-]+)\.md[^)]*\)")


@click.command(epilog="Example: mvd docs --search 'restore a volume'")
@click.argument("page", default="", shell_complete=completion.pages)
@click.option("--search", "words", metavar="WORDS", help="Show where the manual has all of these words.")
def docs(page: str, words: str | None) -> int:
    """Read a PAGE of the manual, or list its pages."""
    if words is not None:
        return _show_found(words)
    known = pages()
    if not page:
        for it in known.values():
            click.echo(f"{it.name:<14} {it.title}")
        return 0
    if page not in known:
        raise MvdError(f"no such page: {page}", f"Pages: {', '.join(known)}. Or search: mvd docs --search {page}")
    _show(_readable(known[page]) if is_terminal() else known[page].text)
    return 0


def _show_found(words: str) -> int:
    found = search(words)
    if not found:
        raise MvdError(f"the manual has no passage with all of: {words}", "Try fewer words, or `mvd docs`")
    lines = []
    for (page, heading), under in groupby(found, key=lambda it: (it.page, it.heading)):
        lines.append(_bold(f"mvd docs {page.name}: {heading}"))
        lines += [f"    {_shown(passage)}" for passage in under if passage.text]
    _show("\n".join(lines))
    return 0


def _show(text: str) -> None:
    click.echo_via_pager(text.rstrip("\n"))


def _shown(passage: Passage) -> str:
    return " ".join(passage.text.strip("| ").split())[:SHOWN]


def _bold(text: str) -> str:
    return click.style(text, bold=True) if has_colours() else text


def _readable(page: Page) -> str:
    """A page as a terminal shows it: headings, tables and code as such, and links as what one types."""
    from rich.console import Console
    from rich.markdown import Markdown

    width = min(shutil.get_terminal_size().columns, WIDEST)
    console = Console(width=width, force_terminal=True, no_color=not has_colours())
    with console.capture() as captured:
        console.print(Markdown(_LINK.sub(r"\1 (`mvd docs \2`)", page.text), hyperlinks=False))
    return captured.get()
