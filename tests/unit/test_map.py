"""The map shows every module in one room, and tells which arrow goes up and which rooms form a circle."""

from __future__ import annotations

from pathlib import Path

from tests.map import ROOT, Room, arrows_up, drawn, floors, rooms

HEIGHTS = {"cli": 2, "host": 1, "core": 0}


def building(**imports: set[str]) -> dict[str, Room]:
    return {name: Room([Path(__file__)], others) for name, others in imports.items()}


def test_every_module_of_the_package_is_in_one_room() -> None:
    drawn_files = sorted(file for room in rooms().values() for file in room.files)
    assert drawn_files == sorted(set(ROOT.rglob("*.py")) - {ROOT / "__init__.py"})


def test_a_package_is_a_room_and_so_is_a_module_beside_it() -> None:
    found = rooms()
    assert ROOT / "forges" / "github.py" in found["forges"].files
    assert ROOT / "kong" / "shared" / "store.py" in found["kong"].files
    assert found["__main__"].files == [ROOT / "__main__.py"]


def test_a_room_stands_on_all_that_it_imports() -> None:
    assert floors(building(cli={"host", "core"}, host={"core"}, core=set())) == {"cli": 2, "host": 1, "core": 0}


def test_an_import_of_a_higher_layer_goes_up() -> None:
    found = building(cli={"host"}, host=set(), core={"cli"})
    assert arrows_up(found, HEIGHTS) == ["core -> cli"]


def test_a_room_without_a_layer_is_not_judged() -> None:
    found = building(__main__={"cli"}, cli={"__main__"}, host=set(), core=set())
    assert arrows_up(found, HEIGHTS) == []


def test_a_circle_is_told_in_place_of_floors() -> None:
    lines = list(drawn(building(cli={"host"}, host={"cli"}), {}))
    assert any(line in {"circle: cli -> host -> cli", "circle: host -> cli -> host"} for line in lines)
    assert lines[1].split()[:2] == ["?", "cli"]


def test_a_room_has_the_share_of_its_statements_that_ran() -> None:
    header, cli, *_ = drawn(building(cli=set()), {Path(__file__): (3, 4)})
    assert header.split()[-2:] == ["ran", "imports"]
    assert cli.split()[-1] == "75%"
