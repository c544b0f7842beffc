"""What changes managed units beside their files, as systemd says; it is asked only about what may have changed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.systemd.client import Loaded
from gitops_mvd.systemd.overrides import Override, Overrides

WEB, DB = "mvd-shop-web-0123abcd.service", "mvd-shop-db-0123abcd.service"


class Systemd:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, Loaded] = {}
        self.asked: list[str] = []

    def loaded(self, names: Iterable[str]) -> dict[str, Loaded]:
        self.asked += names
        return {name: self.answers.get(name, Loaded(str(self.folder / name), (), False)) for name in names}


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.systemd = Systemd(folder)
        systemd: Any = self.systemd
        self.overrides = Overrides(systemd, folder)
        for name in (WEB, DB):
            (folder / name).write_text("[Service]\n")

    def look(self) -> dict[str, Override]:
        self.systemd.asked.clear()
        return self.overrides.of([WEB, DB])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_unit_is_asked_about_once_and_again_when_a_file_of_it_changes(world: World) -> None:
    assert world.look() == {WEB: Override(), DB: Override()}
    assert world.systemd.asked == [WEB, DB]
    world.look()
    assert world.systemd.asked == []
    (world.folder / WEB).write_text("[Service]\nUser=nobody\n")
    world.look()
    assert world.systemd.asked == [WEB]


@pytest.mark.parametrize(
    ("drop_in", "concerns"),
    [
        (f"{WEB}.d", [WEB]),
        ("mvd-shop-web-.service.d", [WEB]),
        ("mvd-shop-.service.d", [WEB, DB]),
        ("mvd-.service.d", [WEB, DB]),
        ("mvd-shop-web.service.d", []),
        ("mvd-shop-.timer.d", []),
        ("service.d", []),
        ("nginx.service.d", []),
    ],
)
def test_a_drop_in_is_told_for_as_long_as_it_is_there(world: World, drop_in: str, concerns: list[str]) -> None:
    world.look()
    (world.folder / drop_in).mkdir()
    assert world.look() == {WEB: Override(), DB: Override()}, "nothing is in it"
    by = world.folder / drop_in / "x.conf"
    by.write_text("[Service]\n")
    for _ in range(2):  # systemd has not read it yet, and may do so at any time
        assert world.look() == {name: Override(str(by) if name in concerns else "") for name in (WEB, DB)}
        assert world.systemd.asked == concerns
    by.unlink()
    assert world.look() == {WEB: Override(), DB: Override()}
    assert world.systemd.asked == concerns
    world.look()
    assert world.systemd.asked == []


def test_the_first_file_that_changes_a_unit_is_told(world: World) -> None:
    own, vendor = str(world.folder / WEB), "/usr/lib/systemd/system/service.d/10-timeout.conf"
    folder = world.folder / "run" / f"{WEB}.d"
    folder.mkdir(parents=True)
    by = str(folder / "50-x.conf")
    Path(by).touch()
    world.systemd.answers = {
        WEB: Loaded(own, (vendor, by), False),
        DB: Loaded(f"/run/systemd/transient/{DB}", (), False),
    }
    assert world.look() == {WEB: Override(by), DB: Override(f"/run/systemd/transient/{DB}")}
    Path(by).unlink()
    world.systemd.answers[WEB] = Loaded(own, (vendor, by), True)
    (world.folder / WEB).touch()
    assert world.look()[WEB] == Override(is_stale=True), "it is gone, and systemd has yet to see that"


def test_what_is_to_be_read_again_is_asked_about_until_it_was(world: World) -> None:
    world.systemd.answers = {WEB: Loaded(str(world.folder / WEB), (), True)}
    assert world.look()[WEB] == Override(is_stale=True)
    assert world.look()[WEB] == Override(is_stale=True)
    assert world.systemd.asked == [WEB]
    world.systemd.answers = {}
    assert world.look()[WEB] == Override()
    world.look()
    assert world.systemd.asked == []
