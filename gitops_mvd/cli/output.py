"""How commands print: tables for people, JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

RECENT_SECONDS = 100  # within which a time is shown as "12s ago"

as_json = click.option("--json", "machine", is_flag=True, help="Print JSON, for programs.")


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 problem`, `2 problems`; `plural` is for a noun that does not only take an -s."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"


def when(at: float) -> str:
    """A time in seconds since 1970 as a person reads it here."""
    ago = time.time() - at
    if ago < RECENT_SECONDS:
        return f"{ago:.0f}s ago"
    return datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
