"""The text of a timer, and what it says of itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gitops_mvd.core.errors import NotNow, StepFailed
from gitops_mvd.core.model import App, Change, Resource, Service
from gitops_mvd.kinds.timer import Timers, connect, parse, render
from gitops_mvd.systemd.unit import sealed

NIGHTLY = Service("nightly", "image", schedule="*-*-* 03:00:00")
SHOP = App("shop", (Service("web", "image"), NIGHTLY))


class Systemd:
    """Takes every schedule but nonsense."""

    def refusal(self, schedule: str) -> str:
        return "Failed to parse it" if schedule == "nonsense" else ""


def timers(folder: Path) -> Timers:
    tools: Any = SimpleNamespace(systemd=Systemd(), units=folder)
    return connect(tools)


def wanted(app: App = SHOP) -> Resource:
    [timer] = timers(Path("/nonexistent")).wanted(app)
    return timer


def test_only_what_runs_on_a_schedule_needs_a_timer_named_as_its_unit() -> None:
    name = NIGHTLY.instances("shop")[0]
    assert wanted() == Resource("timer", name, "shop", "nightly", {"schedule": "*-*-* 03:00:00", "state": "active"})


def test_another_schedule_is_the_same_timer_and_the_same_unit() -> None:
    hourly = wanted(App("shop", (dataclasses.replace(NIGHTLY, schedule="hourly"),)))
    assert hourly.key == wanted().key
    assert hourly != wanted()


def test_the_whole_timer() -> None:
    name = wanted().name
    assert render(wanted()).partition("\n")[2] == (
        '# {"app": "shop", "schedule": "*-*-* 03:00:00", "service": "nightly"}\n'
        "# Written by gitops-mvd and kept as it is: change the service in Git instead.\n"
        "[Unit]\n"
        "Description=shop/nightly on its schedule (gitops-mvd)\n"
        "\n"
        "[Timer]\n"
        "OnCalendar=*-*-* 03:00:00\n"
        "AccuracySec=1s\n"
        "Persistent=true\n"
        f"Unit={name}.service\n"
        "\n"
        "[Install]\n"
        "WantedBy=timers.target\n"
    )


def test_a_timer_says_whose_it_is_and_whether_it_was_edited() -> None:
    text = render(wanted())
    file = parse(text)
    assert file is not None
    assert (file.app, file.service, file.schedule, file.intact) == ("shop", "nightly", "*-*-* 03:00:00", True)
    edited = parse(text.replace("Persistent=true", "Persistent=false"))
    assert edited is not None
    assert (edited.app, edited.service, edited.intact) == ("shop", "nightly", False)


@pytest.mark.parametrize("text", ["", "[Timer]\nOnCalendar=daily\n", sealed("# {}\n[Timer]\n"), sealed("# 1\n")])
def test_what_does_not_say_whose_it_is_is_none_of_ours(text: str) -> None:
    assert parse(text) is None


def test_what_systemd_does_not_read_as_a_time_is_told_in_its_words_and_nothing_is_written(tmp_path: Path) -> None:
    nonsense = wanted(App("shop", (dataclasses.replace(NIGHTLY, schedule="nonsense"),)))
    for step in (timers(tmp_path).prepare, timers(tmp_path).apply):
        with pytest.raises(StepFailed, match="shop/nightly: systemd does not accept the schedule: Failed to parse it"):
            step([Change(None, nonsense)])
    assert list(tmp_path.iterdir()) == []


def test_a_timer_of_somebody_else_is_named_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / f"{wanted().name}.timer"
    path.write_text("[Timer]\nOnCalendar=daily\n")
    with pytest.raises(NotNow, match=f"{path.name} is there, and gitops-mvd did not write it"):
        timers(tmp_path).apply([Change(None, wanted())])
    assert path.read_text() == "[Timer]\nOnCalendar=daily\n"
