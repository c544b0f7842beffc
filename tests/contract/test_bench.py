"""The bench's recorded server is one that is in sync, and looking at it takes as few calls as was promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mvd.daemon.loop import Daemon
from tests.lab.bench.kong import figures
from tests.lab.bench.noop import look
from tests.lab.bench.world import recorded

SERVICES = 7


# sdnotify never closes its socket
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("mode", "kong"), [("off", 1), ("postgres", 4)])
def test_a_second_look_changes_nothing_and_takes_few_calls(tmp_path: Path, mode: str, kong: int) -> None:
    with recorded(tmp_path, SERVICES, mode) as world:
        daemon = Daemon(world.wired)
        assert len(look(daemon, "sync").outcomes) == 2
        before = world.calls()
        look(daemon)
        after = world.calls()
    assert {who: after[who] - before[who] for who in after} == {"docker": 1, "systemd": 1, "kong": kong}


def test_routes_are_measured_in_both_modes_and_few_calls() -> None:
    found = {figure.what: figure.value for figure in figures(10)}
    assert found["10 routes, Kong without a database, made at once: calls"] == 2
    assert found["10 routes, Kong without a database, looked at: calls"] == 1
    assert found["10 routes, Kong with a database, looked at: calls"] == 4
