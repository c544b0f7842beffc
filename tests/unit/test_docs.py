"""The manual has every command, and leads nowhere that is not there."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest
import yaml

from gitops_mvd.cli.commands import COMMANDS
from gitops_mvd.cli.manual import pages, search
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.manifest import validate
from tests.pages import CHECKOUT

MANUAL = CHECKOUT / "gitops_mvd" / "docs"
FILES = sorted([*CHECKOUT.glob("*.md"), *MANUAL.rglob("*.md"), *CHECKOUT.glob("example-repo/**/*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def page(name: str) -> str:
    return (resources.files("gitops_mvd.docs") / f"{name}.md").read_text()


def anchors(file: Path) -> set[str]:
    """The headings of a page as a link names them: by GitHub's rule, which is that of the site, too."""
    titles = re.findall(r"^#+ (.+)$", FENCED.sub("", file.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_every_command_is_documented() -> None:
    assert [name for name in COMMANDS if f"`mvd {name}`" not in page("commands")] == []


def test_the_glossary_has_the_words_that_the_command_prints_and_is_pointed_at() -> None:
    words = set(re.findall(r"\*\*([^*]+)\*\*", page("glossary")))
    assert words >= {"app", "instance", "version", "gate", "staged", "route proof", "failed version", "stand-in"}
    assert all("`mvd docs glossary`" in page(name) for name in ("commands", "operations"))


def test_every_page_is_in_the_index_and_in_the_site_in_the_same_order() -> None:
    listed = [it.path for it in pages().values()]
    there = {str(file.relative_to(MANUAL)) for file in MANUAL.rglob("*.md") if "decisions" not in file.parts}
    assert set(listed) == there - {"index.md"}
    sections = yaml.safe_load((CHECKOUT / "mkdocs.yml").read_text())["nav"][1:]
    paths = [path for section in sections for group in section.values() for path in group]
    assert paths == [*listed, "decisions/README.md"]


def test_every_page_named_in_the_manual_is_there() -> None:
    texts = [re.sub(r"\s+", " ", file.read_text()) for file in FILES]
    named = {name for text in texts for name in re.findall(r"`mvd docs ([a-z][\w-]+)", text)}
    assert named <= set(pages())


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_every_link_leads_somewhere(file: Path) -> None:
    lost = []
    for link in LINK.findall(FENCED.sub("", file.read_text())):
        path, _, anchor = link.partition("#")
        target = file.parent / path if path else file
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            lost.append(link)
    assert lost == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CHECKOUT)))
def test_a_blank_line_comes_before_every_heading(file: Path) -> None:
    assert re.findall(r"[^\n]\n(#+ .+)\n", FENCED.sub("```", file.read_text())) == []


@pytest.mark.parametrize("file", sorted(MANUAL.rglob("*.md")), ids=lambda file: str(file.relative_to(MANUAL)))
def test_no_page_of_the_manual_leads_out_of_what_is_installed(file: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(FENCED.sub("", file.read_text())) if "://" not in link]
    assert [link for link in links if not (file.parent / link).resolve().is_relative_to(MANUAL)] == []


def test_a_search_finds_what_has_all_words_and_headings_first() -> None:
    found = search("volume RESTORE")
    assert (found[0].page.name, found[0].heading) == ("data", "Back up and restore a volume as it is")
    assert all("restore" in f"{it.heading}\n{it.text}".lower() for it in found)
    assert [it.page.name for it in search("is in use by nobody at all")] == []


def test_a_search_finds_a_row_of_a_table_by_its_words() -> None:
    texts = [it.text for it in search("exited with code") if it.page.name == "red"]
    assert [text.startswith("| `exited with code …` |") for text in texts] == [True]


def test_the_manifests_among_the_settings_are_good_ones(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(_format_version.*?)```", page("settings"), re.DOTALL)
    assert blocks
    for number, block in enumerate(blocks):
        (tmp_path / "kong").mkdir(exist_ok=True)
        (tmp_path / "kong" / f"{number}.yaml").write_text(block)
    assert not validate(FolderTree(tmp_path))
