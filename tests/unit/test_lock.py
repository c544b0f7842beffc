"""One at a time, and how the second one gets what it wants of the first."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from contextlib import closing
from pathlib import Path

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.state import suspension
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.lock import Taken, alone


def test_a_pass_that_came_to_no_report_is_not_waited_for(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.db")

    def daemon() -> None:
        asked.wait(5)
        history.save_last_error("Docker does not answer")

    asked = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: asked.set())
    answering = threading.Thread(target=daemon)
    answering.start()
    try:
        with alone(tmp_path), pytest.raises(Taken) as taken, alone(tmp_path):
            pass
        signal.signal(signal.SIGUSR1, lambda *_: asked.set())
        with pytest.raises(Unavailable, match="Docker does not answer"):
            taken.value.sync(history)
    finally:
        signal.signal(signal.SIGUSR1, before)
        answering.join()
        history.close()


def test_who_has_not_said_its_process_yet_is_not_asked(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Taken) as taken, alone(tmp_path):
            pass
    with (
        closing(SqliteHistory(tmp_path / "history.db")) as history,
        pytest.raises(Unavailable, match="just begun"),
    ):
        taken.value.sync(history)


@pytest.mark.parametrize("text", [b"garbage", b"-1", b"1", b"0", b"9" * 5000, b"\xff\xfe", b"12 34"])
def test_nobody_is_signalled_by_a_lock_of_garbage(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(text)
    with (tmp_path / "lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Taken) as taken, alone(tmp_path):
            pass
    assert taken.value.pid == 0
    with alone(tmp_path):
        assert (tmp_path / "lock").read_bytes() == b"%d\n" % os.getpid()


@pytest.mark.parametrize("text", [b"\xff\x1b[2J", b"x" * 10_000_000, b"\n"])
def test_the_reason_of_a_suspension_is_one_plain_line(text: bytes, tmp_path: Path) -> None:
    settings = tmp_path / "config.yaml"
    suspension.path(settings).write_bytes(text)
    found = suspension.suspended(settings).host
    assert found is not None
    assert found.text.isprintable()
    assert 0 < len(found.text) <= 2100
