"""One at a time, and how the second one gets what it wants of the first."""

from __future__ import annotations

import fcntl
import signal
import threading
from contextlib import closing
from pathlib import Path

import pytest

from gitops_mvd.core.errors import Unavailable
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
