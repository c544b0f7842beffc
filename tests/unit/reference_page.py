"""The tables of keys as the manual shows them; with `ACCEPT=1`, the tests that use it rewrite the tables of a page."""

import os
import re
from collections.abc import Collection
from pathlib import Path

import gitops_mvd.docs
from gitops_mvd.config.tables import Ignored, Key, Table, Unsupported

DOCS = Path(gitops_mvd.docs.__path__[0])


def rows(table: Table, required: Collection[str] = ()) -> str:
    """The rows of a table: what is supported, with its default, and below that what is refused."""
    supported, refused = [], []
    for name, key in table.items():
        match key:
            case Key(doc=doc, default=default):
                more = " Required." if name in required else f" Default: {default}." if default else ""
                supported.append(f"| `{name}` | {doc}{more} |")
            case Ignored(why=why):
                supported.append(f"| `{name}` | Ignored: {why} |")
            case Unsupported(why=why):
                refused.append(f"| `{name}` | {why} |")
    if refused:
        refused = ["", "| refused | why, and what to do |", "|---|---|", *refused]
    return "\n".join(["| key | what it does |", "|---|---|", *supported, *refused])


def has_rows(page: Path, heading: str, expected: str) -> bool:
    """Does the page have exactly these rows below a heading?  With ACCEPT, it does from now on."""
    below = re.compile(
        rf"(?ms)^(#+ {re.escape(heading)}\n(?:(?!\| key |#).*?\n)*?)(\| key \|.*?)(?=\n\n(?!\| refused)|\s*\Z)"
    )
    if os.environ.get("ACCEPT"):
        page.write_text(below.sub(lambda found: found[1] + expected, page.read_text(), count=1))
    found = below.search(page.read_text())
    return found is not None and found[2] == expected
