"""The bench's recorded server is one that is in sync, and looking at it takes as few calls as was promised."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.manifest import load, read_fleet, validate
from tests.lab.bench import api, fleet, waves
from tests.lab.bench.kong import figures
from tests.lab.bench.noop import look
from tests.lab.bench.world import recorded
from tests.unit.memory_tree import MemoryTree

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


def test_the_api_of_a_daemon_of_its_own_is_measured() -> None:
    found = {figure.what.removeprefix("7 services: "): figure.value for figure in api.figures(SERVICES)}
    assert found["an operation of 1,000 steps: answer"] > 100
    assert found["a scrape: answer"] > 10
    assert 20 < found["memory after a pass"] <= found["memory with API and page in use"]


def test_the_fleet_that_is_measured_is_a_good_one_with_an_app_for_each_role() -> None:
    tree = MemoryTree(fleet.fleet(4, 2, 4, 4))
    assert validate(tree) == []
    for n in range(4):
        [app], broken = load(tree, read_fleet(tree).host(f"host-{n}"))
        assert (app.name, len(app.services), broken) == (f"app-000{n}", 2, {})


def test_a_rollout_over_a_fleet_is_simulated_to_its_end_with_the_limits_of_a_forge() -> None:
    found = {figure.what: figure.value for figure in waves.figures(6, 1, 12, 2)}
    alone, outage = ("6 hosts × 1, a forge of one's own", "6 hosts × 1, a forge of one's own, an hour down")
    assert found[f"{alone}: the last host is green"] > 3 * waves.BAKE_SECONDS / 60
    assert found[f"{outage}: the last host is green"] > 60
    assert 2 <= found[f"{alone}: statuses posted for each host"] <= 4
