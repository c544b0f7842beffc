"""The manual, which comes with the package: its pages in the order in which they are read, and what is said where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

_LINK = re.compile(r"^- \[(?P<title>[^\]]+)\]\((?P<path>(?:guide/)?[\w-]+\.md)\)", re.MULTILINE)
_FENCE = "```"


@dataclass(frozen=True, slots=True)
class Page:
    """A page: its name, as `mvd docs NAME` has it, its title, and its path in the manual."""

    name: str
    title: str
    path: str

    @property
    def text(self) -> str:
        return (resources.files("gitops_mvd.docs") / self.path).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Passage:
    """A paragraph, a row of a table, an item of a list, or a block: the page and the heading that it stands under."""

    page: Page
    heading: str
    text: str


def pages() -> dict[str, Page]:
    """The pages by their names, in the order of the index."""
    index = Page("index", "", "index.md").text
    found = (Page(_name(link["path"]), link["title"], link["path"]) for link in _LINK.finditer(index))
    return {page.name: page for page in found}


def search(words: str) -> list[Passage]:
    """The passages in which all of these words are, in any case, or that have one of them and their heading the others.

    Those under a heading with such a word come first.
    """
    wanted = words.lower().split()
    found = [passage for page in pages().values() for passage in _passages(page) if wanted and _has(passage, wanted)]
    return sorted(found, key=lambda it: -sum(word in it.heading.lower() for word in wanted))


def _has(passage: Passage, wanted: list[str]) -> bool:
    heading, text = passage.heading.lower(), passage.text.lower()
    missed = [word for word in wanted if word not in (text or heading)]
    return not missed or (len(missed) < len(wanted) and all(word in heading for word in missed))


def _passages(page: Page) -> Iterator[Passage]:
    """What a page is made of; one that stands under its heading alone has no text."""
    heading, lines, is_code = "", list[str](), False

    def passage() -> Iterator[Passage]:
        if lines:
            yield Passage(page, heading, "\n".join(lines))
            lines.clear()

    for line in page.text.splitlines():
        if line.startswith(_FENCE):
            is_code = not is_code
            continue
        if is_code:
            lines.append(line)
            continue
        begins = line.startswith(("#", "|", "- ")) or not line.strip()
        if begins:
            yield from passage()
        if line.startswith("#"):
            heading = line.lstrip("# ")
            yield Passage(page, heading, "")
        elif line.strip() and not re.fullmatch(r"[|: -]+", line):
            lines.append(line)
    yield from passage()


def _name(path: str) -> str:
    return path.rpartition("/")[2].removesuffix(".md")
