"""The ports of tasks outlive the daemon, and nothing fails of what lies in their file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mvd.state.task_ports import TaskPorts


def test_what_was_saved_is_read(tmp_path: Path) -> None:
    memory = TaskPorts(tmp_path / "state/task-ports.json")
    assert memory.read() == {}
    memory.save({"a": {7799: 32768}, "b": {}})
    assert memory.read() == {"a": {7799: 32768}, "b": {}}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": {"x": 1}}', '{"a": {"1": null}}', "\udcff"])
def test_what_is_no_such_file_is_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "task-ports.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    assert TaskPorts(path).read() == {}


def test_where_it_cannot_be_written_nothing_happens(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    TaskPorts(tmp_path / "file/task-ports.json").save({"a": {}})
    assert TaskPorts(tmp_path / "file/task-ports.json").read() == {}
