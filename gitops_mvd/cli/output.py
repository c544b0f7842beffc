"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import click

from gitops_mvd.core.redact import told_line, told_text
from gitops_mvd.core.text import LONGEST_TEXT, plain_line

LONGEST_PRINTED = 10 * LONGEST_TEXT  # characters of a line: what is in it was cut before, and may be escaped in JSON
TRACEBACK = "\nTraceback (most recent call last):"
RECENT_SECONDS = 100  # within which a time is shown as "12s ago"

as_json = click.option("--json", "machine", is_flag=True, help="Print JSON, for programs.")


class Told:
    """A stream to a terminal, a file or the journal, by which nothing is printed but what may be told of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        plain = "\n".join(told_text(line, LONGEST_PRINTED) for line in text.split("\n"))
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(plain.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)


@contextmanager
def telling() -> Iterator[None]:
    """Inside, all that is printed is plain text without secrets; bytes are printed as they are."""
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = cast(TextIO, Told(out)), cast(TextIO, Told(err))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = out, err


class OneLine(logging.Formatter):
    """A line of the log for each message, however many it has; the lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        first, begins, rest = record.message.partition(TRACEBACK)
        record.message = told_line(first, LONGEST_TEXT) + (_indented(begins + rest) if begins else "")
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return _indented("\n" + super().formatException(ei)).removeprefix("\n")


def _indented(text: str) -> str:
    return told_text(text).replace("\n", "\n  ")


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


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    rows = [[plain_line(cell, LONGEST_TEXT) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 problem`, `2 problems`; `plural` is for a noun that does not only take an -s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def how_long(seconds: float) -> str:
    """A time span in words, cut to its largest unit: `3 minutes`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return counted(int(seconds // size), unit)
    return counted(max(0, int(seconds)), "second")


def when(at: float) -> str:
    """A time in seconds since 1970 as a person reads it here."""
    ago = time.time() - at
    if ago < RECENT_SECONDS:
        return f"{ago:.0f}s ago"
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
