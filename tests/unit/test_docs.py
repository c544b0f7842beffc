"""The manual has every command, and the command line is as it says."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest

from gitops_mvd.cli.commands import COMMANDS
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.manifest import validate

CHECKOUT = Path(__file__).parents[2]
PAGES = sorted(
    [*CHECKOUT.glob("*.md"), *CHECKOUT.glob("gitops_mvd/docs/**/*.md"), *CHECKOUT.glob("example-repo/**/*.md")]
)


def page(name: str) -> str:
    return (resources.files("gitops_mvd.docs") / f"{name}.md").read_text()


def test_every_command_is_documented() -> None:
    assert [name for name in COMMANDS if f"`mvd {name}`" not in page("commands")] == []


def test_the_glossary_has_the_words_that_the_command_prints_and_is_pointed_at() -> None:
    words = set(re.findall(r"\*\*([^*]+)\*\*", page("glossary")))
    assert words >= {"app", "instance", "version", "gate", "staged", "route proof", "failed version", "stand-in"}
    assert all("`mvd docs glossary`" in page(name) for name in ("commands", "operations"))


def test_every_page_named_in_the_manual_is_there() -> None:
    pages = [Path(file.name).stem for file in resources.files("gitops_mvd.docs").iterdir() if file.name.endswith(".md")]
    named = {name for known in pages for name in re.findall(r"`mvd docs (\w+)`", page(known))}
    assert named <= set(pages)


def headings(text: str) -> set[str]:
    """The anchors of the headings of a page, as forges make them."""
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("file", PAGES, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_every_link_of_a_page_leads_somewhere_and_every_heading_stands_alone(file: Path) -> None:
    text = file.read_text()
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        there = file.parent / path if path else file
        assert there.exists(), target
        assert not anchor or anchor in headings(there.read_text()), target
    prose = re.sub(r"^```.*?^```$", "```", text, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"[^\n]\n(#+ .+)\n", prose) == [], "a blank line comes before it"


def test_the_manifests_among_the_settings_are_good_ones(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(_format_version.*?)```", page("settings"), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        (tmp_path / "kong").mkdir(exist_ok=True)
        (tmp_path / "kong" / f"{number}.yaml").write_text(block)
    assert not validate(FolderTree(tmp_path))
