"""What `fleet.yaml` says of a rollout, and when its windows are open."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.waves import Question, Rollout, Rollouts, Silent
from gitops_mvd.git.trailers import trailers_of
from gitops_mvd.manifest import read_fleet
from tests.unit.memory_tree import MemoryTree

HOSTS = {"canary": {"labels": {"region": "uk"}}, "uk-1": {"labels": {"region": "uk"}}, "de-1": None}
WAVES = [["canary"], ["region=uk"], ["*"]]


def rollouts(rollout: Any, apps: Any = None) -> Rollouts:
    fleet = {"hosts": HOSTS, "rollout": rollout, "apps": apps or {}}
    return read_fleet(MemoryTree({"fleet.yaml": yaml.safe_dump(fleet)})).rollouts


def usual(**more: Any) -> Rollout:
    found = rollouts({"waves": WAVES, **more}).usual
    assert found
    return found


def test_a_host_is_in_the_wave_that_names_it_else_in_that_of_its_label_else_in_the_rest() -> None:
    assert [(wave.title, sorted(wave.hosts)) for wave in usual().waves] == [
        ("canary", ["canary"]),
        ("region=uk", ["uk-1"]),
        ("*", ["de-1"]),
    ]
    [first, second, _] = rollouts({"waves": [["region=uk"], ["canary"], ["*"]]}).usual.waves  # type: ignore[union-attr]
    assert (first.hosts, second.hosts) == ({"uk-1"}, {"canary"})


def test_every_gate_is_read() -> None:
    found = usual(
        bake="10m",
        approval="Approved-by",
        prometheus={"url": "https://prometheus.example.com/", "query": "up < 1"},
        http={"url": "https://example.com/go"},
        silent={"after": "15m", "counts_as": "green"},
    )
    assert (found.bake, found.approval, found.silent) == (600.0, "Approved-by", Silent(900.0, "green"))
    assert found.questions == (Question("https://prometheus.example.com", "up < 1"), Question("https://example.com/go"))
    assert usual().silent == Silent(1800.0, "red")


def test_an_app_has_its_own_gates_in_the_waves_of_the_fleet_its_own_waves_or_none() -> None:
    apps = {
        "web": {"rollout": {"bake": "1h"}},
        "shop": {"rollout": {"waves": [["canary", "uk-1"], ["*"]]}},
        "logs": {"rollout": "none"},
    }
    found = rollouts({"waves": WAVES, "bake": "1m"}, apps)
    web, shop = found.of("web"), found.of("shop")
    assert web
    assert shop
    assert (web.bake, web.waves) == (3600.0, usual().waves)
    assert (shop.bake, len(shop.waves)) == (0.0, 2)
    assert found.of("logs") is None
    assert found.of("other") == found.usual


@pytest.mark.parametrize(
    ("written", "when", "is_open"),
    [
        ("Mon-Thu 09:00-16:00 Europe/London", "2026-11-30 09:00 Europe/London", True),
        ("Mon-Thu 09:00-16:00 Europe/London", "2026-11-30 16:00 Europe/London", False),
        ("Mon-Thu 09:00-16:00 Europe/London", "2026-12-04 12:00 Europe/London", False),
        ("Mon-Thu 09:00-16:00 Europe/London", "2026-06-01 08:30 UTC", True),  # British Summer Time
        ("Mon-Thu 09:00-16:00 Europe/London", "2026-12-01 08:30 UTC", False),
        ("Fri-Mon 00:00-24:00", "2026-11-29 23:59 UTC", True),
        ("Fri-Mon", "2026-12-01 00:00 UTC", False),
        ("Sat,Sun", "2026-11-29 12:00 UTC", True),
        ("22:00-02:00", "2026-12-01 01:59 UTC", True),
        ("Mon 22:00-02:00", "2026-12-01 01:59 UTC", True),
        ("Mon 22:00-02:00", "2026-11-30 01:59 UTC", False),
    ],
)
def test_a_window_is_open_by_the_clocks_of_its_zone(written: str, when: str, is_open: bool) -> None:
    day, _, zone = when.rpartition(" ")
    now = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).timestamp()
    assert (usual(windows={"allow": [written]}).windows.closed(now) == "") == is_open
    assert (usual(windows={"deny": [written]}).windows.closed(now) == "") != is_open
    assert usual(windows={"allow": [written], "deny": [written]}).windows.closed(now), "deny wins"


@pytest.mark.parametrize(
    ("message", "trailers"),
    [
        ("Deploy shop\n\nApproved-by: anna\nRollout: all\n", {"approved-by": "anna", "rollout": "all"}),
        ("Merge pull request #5\r\n\r\nText\r\n\r\nApproved-By: anna  \r\n", {"approved-by": "anna"}),
        ("Approved-by: anna", {}),  # the subject
        ("Deploy\n\nApproved-by: anna\n\nAnd more text", {}),  # not at the end
        (
            "Deploy\n\n* one\n* two\nCo-authored-by: b <b@x>\nApproved-by: anna",
            {"co-authored-by": "b <b@x>", "approved-by": "anna"},
        ),
        ("Deploy\n\nApproved-by:\n", {}),
        ("", {}),
    ],
)
def test_the_trailers_of_a_message_are_in_its_last_paragraph(message: str, trailers: dict[str, str]) -> None:
    assert trailers_of(message) == trailers


def test_a_circle_is_told_at_the_first_app_that_closes_it() -> None:
    other = {"rollout": {"waves": [["canary", "uk-1"], ["*"]]}}
    apps = {f"app-{n}": other for n in range(5)} | {"wrong": {"rollout": {"waves": [["*"], ["canary"]]}}, "z": other}
    with pytest.raises(ManifestError) as told:
        rollouts({"waves": WAVES}, apps)
    assert [problem.key for problem in told.value.problems] == ["apps.wrong.rollout"]


def test_a_fleet_with_too_many_waves_and_hosts_is_told_at_once() -> None:
    hosts = dict.fromkeys((f"host-{n}" for n in range(5000)), None)
    own = {"rollout": {"waves": [["host-1"], ["*"]]}}
    fleet = {"hosts": hosts, "apps": {f"app-{n}": own for n in range(200)}}
    with pytest.raises(ManifestError, match="are more than 1,000,000: have fewer"):
        read_fleet(MemoryTree({"fleet.yaml": yaml.safe_dump(fleet)}))
