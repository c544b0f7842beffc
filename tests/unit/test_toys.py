"""A file is a feature: a probe or a kind in a folder of its own works in every room, and half of one is an error."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd import kinds, probes
from gitops_mvd.core.features import IncompleteFeature
from gitops_mvd.core.model import App, Change, Goal
from gitops_mvd.docker.client import Engine
from gitops_mvd.kinds import Tools
from gitops_mvd.systemd.client import Systemd
from tests.fakes import FakeClock, service
from tests.unit.test_host import Kind, machine

TOYS = Path(__file__).with_name("toys")
COUNT = itertools.count()


# ---- a probe ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story() -> Any:
    """What became of the toy probe in a process of its own: manifest and gates read the list of probes only once."""
    words = [sys.executable, "-m", "tests.unit.toys.story"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=TOYS.parents[2])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_manifest_accepts_the_toy_probe_and_its_mistakes_are_told(story: Any) -> None:
    assert story["check"] == ["unlucky", {"pid": 13, "lowest": 1}, 9.0]
    assert story["mistakes"] == {
        "value": ["must be from 1 to 99, not 100"],
        "option": ["goes with `unlucky` only"],
        "network": ["asks for a port, but with network_mode none the container has no address of its own"],
        "objection": ["dislikes the user of the service"],
    }


def test_a_plan_and_an_explanation_show_the_toy_probe(story: Any) -> None:
    assert story["explained"] == "until unlucky 13 succeeds (at most 9 s)"
    assert [step["what"] for step in story["plan"]] == ["until unlucky 13 succeeds (at most 9 s)"]


def test_a_gate_asks_the_toy_probe(story: Any) -> None:
    passed, failed = story["gate"]
    assert passed == "passed"
    assert failed.startswith("web: its process has the unlucky number 13")


def test_the_monitor_asks_the_toy_probe(story: Any) -> None:
    assert story["monitored"]
    assert story["monitor"] == ["Degraded", "its process has the unlucky number 13"]


def test_the_manual_has_the_toy_probe_and_its_option(story: Any) -> None:
    assert "| `unlucky` | The unlucky number. |" in story["manual"]
    assert "| `lowest` | For `unlucky`: the lowest number. |" in story["manual"]


@pytest.fixture
def half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to put half a feature into; its modules have names that no other test uses."""
    monkeypatch.setattr(probes, "__path__", [*probes.__path__, str(tmp_path)])
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(tmp_path)])
    probes.known.cache_clear()
    yield tmp_path
    probes.known.cache_clear()


def discovered(room: Any, folder: Path, text: str) -> str:
    """What the discovery says about a file of that text, without its name."""
    name = f"half{next(COUNT)}"
    (folder / f"{name}.py").write_text(text.replace("NAME", name))
    with pytest.raises(IncompleteFeature) as caught:
        room.known() if room is probes else room.discover(unused_tools())
    file = f"{room.__name__.replace('.', '/')}/{name}.py "
    assert str(caught.value).startswith(file)
    return str(caught.value).removeprefix(file).replace(name, "NAME")


PROBE = (TOYS / "probes" / "unlucky.py").read_text()
PARTS = ["key", "argument", "summary", "connects", "is_monitored", "passes_ended", "only_waits", "check"]


@pytest.mark.parametrize("part", PARTS)
def test_a_probe_that_lacks_a_part_is_refused_by_file_and_part(half: Path, part: str) -> None:
    assert discovered(probes, half, re.sub(rf"(?m)^    {part}=.*\n", "", PROBE)) == f"lacks '{part}'"


def test_a_probe_module_without_a_probe_is_refused(half: Path) -> None:
    assert discovered(probes, half, PROBE.replace("PROBE =", "PROB =")) == "lacks 'PROBE'"


def test_an_option_that_another_probe_has_in_another_sense_is_refused(half: Path) -> None:
    why = discovered(probes, half, PROBE.replace('"lowest"', '"status"'))
    assert why == "has an option 'status' that means something else in another probe"


def test_an_option_that_no_manifest_could_reach_is_refused(half: Path) -> None:
    why = discovered(probes, half, re.sub("key=Key.*", "key=None,", PROBE))
    assert why == "has an argument or options, but no manifest can name it: it lacks a `key`"


# ---- a kind ----------------------------------------------------------------------------------------------------------


def unused_tools(files: Path = Path("/nowhere")) -> Tools:
    """Clients that are not asked for anything."""
    return Tools("h1", Engine(), Systemd(), None, FakeClock(), files=files)


def test_the_toy_kind_is_planned_made_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinds, "__path__", [*kinds.__path__, str(TOYS / "kinds")])
    notes: Any = kinds.discover(unused_tools(tmp_path))["note"]
    host = machine(Kind("image"), Kind("unit", "image"), Kind("route", "unit"), notes)
    app = App("chat", (service("web", route=False),))

    def done(app: App) -> list[str]:
        host.refresh()
        changes = [step for step in host.plan([Goal(app, proven=True)]) if isinstance(step, Change)]
        host.carry_out(changes)
        return [f"{change.verb} {change.resource.name}" for change in changes if change.resource.kind == "note"]

    assert done(app) == ["create chat.web"]
    assert (tmp_path / "chat.web.note").read_text() == "v1"
    assert done(app) == []
    assert done(App("chat")) == ["delete chat.web"]
    assert list(tmp_path.iterdir()) == []


KIND = (TOYS / "kinds" / "note.py").read_text().replace('name = "note"', 'name = "NAME"')


@pytest.mark.parametrize(
    ("part", "without"),
    [
        ("connect", KIND.replace("def connect", "def connected")),
        ("name", KIND.replace('name = "NAME"', "pass")),
        *(
            (part, re.sub(rf"(?m)^    {part} = .*\n", "", KIND))
            for part in ("after", "role", "prunes", "keeps_previous")
        ),
        *((part, KIND.replace(f"def {part}(", f"def _{part}(")) for part in ("wanted", "observe", "prepare", "apply")),
    ],
)
def test_a_kind_that_lacks_a_part_is_refused_by_file_and_part(half: Path, part: str, without: str) -> None:
    assert discovered(kinds, half, without) == f"lacks '{part}'"


def test_a_kind_that_has_not_the_name_of_its_file_is_refused(half: Path) -> None:
    assert discovered(kinds, half, KIND.replace('"NAME"', '"other"')) == "makes a kind 'other', which is not its name"


def test_a_kind_that_needs_an_unknown_kind_is_refused(half: Path) -> None:
    assert (
        discovered(kinds, half, KIND.replace('("unit",)', '("moon",)')) == "needs the kind 'moon', which nobody makes"
    )
