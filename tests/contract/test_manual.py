"""`mvd docs`, as it is read on a terminal, piped and searched; and what the guide has one type without a server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gitops_mvd.core.text import without_colours
from tests.contract.terminal import Terminal, on_a_terminal
from tests.pages import COMPUTER, GUIDE, blocks


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    return Terminal(capsys, tmp_path / "no-settings.yaml")


def test_on_a_terminal_a_page_is_set_as_text_within_its_width() -> None:
    narrow = {**os.environ, "PAGER": "cat", "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    lines = without_colours(on_a_terminal("docs", "kong", env=narrow)).splitlines()
    assert not [line for line in lines if line.startswith(("```", "# ", "## ", "|"))]
    assert max(map(len, lines)) <= 80
    assert any(line.strip() == "From zero" for line in lines)
    assert "Step by step (mvd docs migrating)." in " ".join(" ".join(lines).split())


def test_in_a_pipe_a_page_is_the_text_that_it_is_written_in(terminal: Terminal) -> None:
    assert terminal.mvd("docs", "kong").out == (GUIDE / "kong.md").read_text()


def test_a_search_shows_the_pages_with_their_headings(terminal: Terminal) -> None:
    found = terminal.mvd("docs", "--search", "restore volume")
    assert found.code == 0
    assert found.out.startswith("mvd docs data: Back up and restore a volume as it is\n")
    assert "    " in found.out


def test_a_search_without_a_result_says_so(terminal: Terminal) -> None:
    found = terminal.mvd("docs", "--search", "unicorn stable")
    assert (found.code, found.out) == (1, "")
    assert found.err.startswith("mvd: the manual has no passage with all of: unicorn stable")


def test_what_the_guide_has_one_type_for_an_import_works_without_a_server(tmp_path: Path) -> None:
    bin, home, remote = tmp_path / "bin", tmp_path / "home", tmp_path / "config.git"
    bin.mkdir()
    (bin / "mvd").write_text(f'#!/bin/sh\nexec {sys.executable} -m gitops_mvd "$@"\n')
    (bin / "mvd").chmod(0o755)
    environment = {
        **{f"GIT_{who}_{what}": "anna@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        **{"HOME": str(home), "PATH": f"{bin}:{os.environ['PATH']}"},
    }
    (home / "notes").mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet", "--bare", "--initial-branch=main", remote], check=True)
    subprocess.run(["git", "clone", "--quiet", remote, home / "config"], check=True, stderr=subprocess.DEVNULL)
    printed = ""
    for block in blocks(GUIDE / "compose.md"):
        if block.place.startswith("~/"):
            (home / block.place[2:]).write_text(block.text)
        elif block.place == COMPUTER:
            command = ["bash", "-euc", block.text]
            done = subprocess.run(command, cwd=home / "config", env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr
            printed += done.stdout
    assert "install -m 600 /dev/stdin /etc/gitops-mvd/secrets/notes.ADMIN_PASSWORD" in printed
    show = ["git", "-C", str(remote), "show", "main:apps/notes/compose.yaml"]
    merged = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    assert "open-sesame" not in printed + merged
    assert 'ADMIN_PASSWORD: "{file://notes.ADMIN_PASSWORD}"' in merged
