"""Every decision is a page of the same form, in the package and in its index."""

from __future__ import annotations

import re
from importlib import resources

import pytest

FOLDER = resources.files("gitops_mvd.docs") / "decisions"
PAGES = sorted(page.name for page in FOLDER.iterdir() if re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", page.name))
HEAD = re.compile(
    r"# (?P<number>\d+)\. (?P<title>.+)\n\n"
    r"- Date: (?P<date>\d{4}-\d\d-\d\d)\n"
    r"(- Amended: \d{4}-\d\d-\d\d: .+\n)*"
    r"- Status: (accepted|superseded by \[.+\]\(.+\))\n\n"
)
SECTIONS = ["Context", "Decision", "Not chosen", "Consequences"]


def head(page: str) -> dict[str, str]:
    found = HEAD.match((FOLDER / page).read_text())
    assert found, f"{page} does not begin as the other decisions do"
    return found.groupdict()


@pytest.mark.parametrize("page", PAGES)
def test_a_decision_has_its_number_and_every_section(page: str) -> None:
    _, *sections = (FOLDER / page).read_text().split("\n## ")
    assert int(head(page)["number"]) == int(page[:4])
    assert [section.partition("\n\n")[0] for section in sections] == SECTIONS
    assert all(section.partition("\n\n")[2].strip() for section in sections)


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page[:4]) for page in PAGES] == list(range(1, len(PAGES) + 1))


def test_the_index_lists_every_decision_with_its_title_and_date() -> None:
    rows = [line for line in (FOLDER / "README.md").read_text().splitlines() if re.match(r"\| \d", line)]
    heads = [(page, head(page)) for page in PAGES]
    assert rows == [f"| {int(page[:4])} | [{found['title']}]({page}) | {found['date']} |" for page, found in heads]
