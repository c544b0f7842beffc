"""The manual as a web site: it is built without a warning, such as of a lost link, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from gitops_mvd.cli.manual import pages
from tests.pages import CHECKOUT

LOADED = re.compile(
    r"<(?:script|img|iframe)\b[^>]*\bsrc=\"?([^\"\s>]+)|<link\b(?=[^>]*stylesheet)[^>]*href=\"?([^\"\s>]+)"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = (sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder))
    built = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_page_is_there(site: Path) -> None:
    paths = [page.path.replace(".md", ".html") for page in pages().values()]
    assert [path for path in paths if not (site / path).is_file()] == []


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    texts = [file.read_text() for file in site.rglob("*.html")]
    loaded = {"".join(found) for text in texts for found in LOADED.findall(text)}
    assert any(path.endswith(".svg") for path in loaded)
    assert [address for address in loaded if "//" in address] == []
    assert [
        file.name for file in site.rglob("*.css") if re.search(r"url\(\s*[\"']?(https?:)?//", file.read_text())
    ] == []
