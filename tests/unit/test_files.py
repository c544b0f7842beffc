"""Files on the host: the old ones or the new ones, never half of each."""

import os
from pathlib import Path

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.state.files import Entry, remove, remove_tree, write, write_tree

ME = {"uid": os.geteuid(), "gid": os.getegid()}


def entry(text: str, mode: int = 0o600) -> Entry:
    return Entry(text.encode(), mode, **ME)


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_replaced_and_nothing_is_left_beside_it(tmp_path):
    path = tmp_path / "new" / "unit"
    for text in ("one", "two", ""):
        write(path, entry(text, 0o640))
        assert path.read_text() == text
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == ["unit"]


def test_a_file_that_can_not_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "unit"
    write(path, entry("old"))
    (tmp_path / ".unit.new").mkdir()
    with pytest.raises(Unavailable, match=r"cannot write .*unit: Is a directory"):
        write(path, entry("new"))
    assert path.read_text() == "old"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("untouched")
    (tmp_path / "unit").symlink_to(elsewhere)
    write(tmp_path / "unit", entry("new"))
    assert not (tmp_path / "unit").is_symlink()
    assert elsewhere.read_text() == "untouched"


def test_a_folder_is_made_with_all_its_files_and_only_root_gets_into_it(tmp_path):
    folder = tmp_path / "app"
    write_tree(folder, {"env": entry("A=b"), "files/0/deep/x": entry("x", 0o444)})
    assert tree(folder) == {"env": "A=b", "files/0/deep/x": "x"}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "files/0/deep").stat().st_mode & 0o777 == 0o755, "a container's user reads the mounted folder"
    assert os.listdir(tmp_path) == ["app"]


def test_a_folder_is_mended_in_place_because_a_container_holds_its_files(tmp_path):
    folder = tmp_path / "app"
    entries = {"env": entry("A=b"), "files/0/file": entry("right", 0o444), "files/1/x": entry("x")}
    write_tree(folder, entries)
    held = (folder / "files/0/file").open()
    (folder / "files/0/file").write_text("tampered with, and longer")
    (folder / "extra").write_text("?")
    (folder / "files/1/x").unlink()
    (folder / "files/1/x").symlink_to("/etc/passwd")
    (folder / "env").unlink()
    (folder / "env").mkdir()
    write_tree(folder, entries)
    assert tree(folder) == {"env": "A=b", "files/0/file": "right", "files/1/x": "x"}
    assert held.read() == "right"
    assert os.listdir(tmp_path) == ["app"]
    held.close()


def test_the_owner_and_the_mode_are_mended_too(tmp_path):
    write_tree(tmp_path / "app", {"env": entry("A=b")})
    (tmp_path / "app/env").chmod(0o666)
    write_tree(tmp_path / "app", {"env": entry("A=b")})
    assert (tmp_path / "app/env").stat().st_mode & 0o777 == 0o600


def test_what_is_removed_may_be_gone_already(tmp_path):
    write_tree(tmp_path / "app", {"env": entry("A=b"), "files/0/file": entry("x")})
    for _ in range(2):
        remove_tree(tmp_path / "app", last="env")
        remove(tmp_path / "no" / "such")
    assert os.listdir(tmp_path) == []
