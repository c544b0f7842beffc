"""The files that the README and the guide have are good ones; what is typed is tried by the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mvd.config import settings
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.manifest import review
from tests.pages import GUIDE, README, blocks

PAGES = [README, *sorted(GUIDE.glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_files_of_a_page_are_a_config_repository_without_mistakes(page: Path, tmp_path: Path) -> None:
    written = [block for block in blocks(page) if block.is_of_repository]
    for block in written:
        file = tmp_path / block.place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text)
        if file.name.startswith("compose"):
            assert [str(problem) for problem in review(FolderTree(tmp_path)).problems] == [], block.place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_settings_of_a_page_are_good_ones(page: Path) -> None:
    for block in blocks(page):
        if block.place.endswith("gitops-mvd/config.yaml"):
            assert settings.read(block.place, block.text.encode()).repository == "https://git.example.com/acme/config"
