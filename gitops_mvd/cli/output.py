"""How commands print: tables for people, in colour on a terminal, and JSON for programs."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TextIO, cast

import click

from gitops_mvd.cli.table import Paint, plainly, table
from gitops_mvd.core.errors import ManifestError, MvdError
from gitops_mvd.core.redact import known, told_text
from gitops_mvd.core.text import LONGEST_TEXT

LONGEST_PRINTED = 10 * LONGEST_TEXT  # characters of a line: what is in it was cut before, and may be escaped in JSON
RECENT_SECONDS = 100  # within which a time is shown as "12s ago"
COLOURS = {
    **dict.fromkeys(("Synced", "Healthy", "Succeeded", "ok"), "green"),
    **dict.fromkeys(("OutOfSync", "Progressing", "Suspended", "Running", "Superseded", "RolledBack", "warn"), "yellow"),
    **dict.fromkeys(("Degraded", "Missing", "Failed", "RollbackFailed", "fail"), "red"),
    "Unknown": "magenta",
}

as_json = click.option("--json", "machine", is_flag=True, help="Print JSON, for programs.")


class Told:
    """A stream to a terminal, a file or the journal, by which nothing is printed but what may be told of."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        plain = "\n".join(told_text(line, LONGEST_PRINTED) for line in text.split("\n"))
        encoding = self.stream.encoding or "utf-8"
        self.stream.write(plain.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)


def print_error(error: MvdError) -> None:
    """Print an error and its hint, or every mistake in the manifests, to the standard error."""
    if isinstance(error, ManifestError):
        for problem in error.problems:
            click.echo(str(problem), err=True)
        return
    click.echo(f"mvd: {error.message}", err=True)
    if error.hint:
        click.echo(f"     {error.hint}", err=True)


@contextmanager
def telling() -> Iterator[None]:
    """Inside, all that is printed is plain text without secrets; bytes are printed as they are."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, Told(out)), cast(TextIO, Told(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


def print_json(value: Any) -> None:
    click.echo(json.dumps(_told(value), indent=2, ensure_ascii=False))


def _told(value: Any) -> Any:
    match value:
        case str():
            return told_text(value)
        case dict():
            return {told_text(name): _told(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_told(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Screen:
    """Where lines go: `width` characters, 0 for any number; `now` is when, in seconds since 1970."""

    width: int
    paint: Paint
    now: float


def screen() -> Screen:
    """The terminal that is printed to; nothing is cut or coloured for a file or a pipe."""
    if not is_terminal():
        return Screen(0, plainly, time.time())
    return Screen(shutil.get_terminal_size().columns, coloured if has_colours() else plainly, time.time())


def is_terminal() -> bool:
    return sys.stdout.isatty()


def has_colours() -> bool:
    """Does the terminal have colours, and does nobody mind (https://no-color.org)?"""
    return is_terminal() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def coloured(word: str) -> str:
    """A word in the colour of what it means, if it has one."""
    colour = COLOURS.get(word)
    return click.style(word, fg=colour) if colour else word


def print_lines(lines: Iterable[str]) -> None:
    """Print lines whose parts are plain text already, and in colour maybe."""
    encoding = sys.stdout.encoding or "utf-8"
    for line in lines:  # as bytes, its colours stay, and no secret does either
        click.echo(known.out_of(line).encode(encoding, "backslashreplace") if "\x1b" in line else line)


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose last column has words."""
    where = screen()
    print_lines(table(head, rows, where.width, where.paint))


def in_a_line(value: object) -> str:
    """A value in one line of YAML, in quotes only where it needs them."""
    import yaml

    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 16, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 problem`, `2 problems`; `plural` is for a noun that does not only take an -s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def how_long(seconds: float) -> str:
    """A time span in words, cut to its largest unit: `3 minutes`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return counted(int(seconds // size), unit)
    return counted(max(0, int(seconds)), "second")


def short_time(seconds: float) -> str:
    """A time span in as few characters as possible: `12s`, `5m`, `3h`, `4d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{max(0, int(seconds))}s"


def when(at: float, now: float) -> str:
    """A time as a person reads it here; both in seconds since 1970."""
    if now - at < RECENT_SECONDS:
        return f"{now - at:.0f}s ago"
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")
