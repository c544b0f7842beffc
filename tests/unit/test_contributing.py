"""CONTRIBUTING.md names commands, files and rooms that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "CONTRIBUTING.md").read_text()
QUOTED = [re.sub(r"\s+", " ", found) for found in re.findall(r"`([^`]+)`", PAGE)]


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert {name for text in QUOTED for name in re.findall(r"^make ([a-z]+)", text)} <= targets


def test_every_path_exists() -> None:
    paths = {word for text in QUOTED for word in text.split() if re.fullmatch(r"[a-z_]+/[\w./-]+", word)}
    places = (CHECKOUT, CHECKOUT / "gitops_mvd", CHECKOUT / "tests")
    there = {path for path in paths if "NAME" in path or any((place / path).exists() for place in places)}
    assert paths - there == set()


MAPPED = ("api", "daemon", "docker", "host", "metrics", "state", "status", "systemd")  # rooms that list their modules


@pytest.mark.parametrize("room", MAPPED)
def test_a_room_that_lists_its_modules_lists_all_of_them(room: str) -> None:
    folder = CHECKOUT / "gitops_mvd" / room
    listed = set(re.findall(r"\w+", (folder / "__init__.py").read_text().split('"""')[1]))
    assert {file.stem for file in folder.glob("*.py")} - {"__init__"} <= listed


def test_every_room_is_in_the_table_of_layers() -> None:
    rooms = {init.parent.name for init in (CHECKOUT / "gitops_mvd").glob("*/__init__.py")}
    assert rooms - {"docs"} == set(
        re.findall(r"`([a-z]+)`", PAGE[PAGE.index("| layer |") : PAGE.index("A room imports")])
    )


def test_every_room_is_on_the_map_of_the_readme() -> None:
    rooms = {init.parent.name for init in (CHECKOUT / "gitops_mvd").glob("*/__init__.py")}
    drawn = (CHECKOUT / "README.md").read_text().partition("gitops_mvd/\n")[2].partition("tests/\n")[0]
    assert rooms <= set(re.findall(r"\b([a-z]+)/", drawn))
