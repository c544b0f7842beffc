"""What the story of a burst of commits finds fault with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.lab.burst import Pushed, Told, checked
from tests.lab.stage import NotTrue

AT = datetime(2026, 1, 1, tzinfo=UTC)
NEXT = "superseded by bbbbbbb"


def pushed(name: str, version: str, *told: tuple[str, str]) -> Pushed:
    return Pushed(name * 40, version, tuple((AT, *one) for one in told))


WELL = Told(
    (
        pushed("a", "1", ("pending", "deploying aaaaaaa"), ("error", NEXT)),
        pushed("b", "2", ("pending", "deploying bbbbbbb"), ("success", "1 app healthy")),
        pushed("c", "", ("success", "nothing to do here")),
    ),
    frozenset({"2"}),
    5,
    AT,
    AT,
)


def but(place: int, *told: tuple[str, str]) -> Told:
    changed = replace(WELL.pushed[place], told=tuple((AT, *one) for one in told))
    return replace(WELL, pushed=(*WELL.pushed[:place], changed, *WELL.pushed[place + 1 :]))


def test_one_true_end_each_is_no_fault() -> None:
    assert checked(WELL).faults() == []
    assert checked(but(0, ("error", NEXT), ("error", NEXT))), "a kill may have left it in doubt whether it was told"
    assert WELL.fewest == 3


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        (but(0, ("pending", "deploying")), "0 ends"),
        (but(0, ("error", NEXT), ("success", "1 app healthy")), "2 ends"),
        (but(0, ("error", NEXT), ("pending", "deploying")), "pending after its end"),
        (but(0, ("success", "1 app healthy")), "it is not true that it is success"),
        (but(0, ("failure", "http 500")), "it is not true that it is failure"),
        (but(0, ("error", "superseded by ccccccc")), "it is not true that it is error"),
        (but(1, ("failure", "http 500")), "the last version ended as"),
        (but(2, ("pending", "deploying")), "a README was told deploying"),
        (but(2), "the tip ended as"),
        (replace(WELL, calls=99), "99 calls for 2 commits"),
    ],
)
def test_anything_else_is_one(told: Told, fault: str) -> None:
    with pytest.raises(NotTrue, match=fault):
        checked(told)
