"""Who of the managers of a Swarm acts, and what one knows that has not led for a while."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.daemon.lead import Lead, Led


class World:
    """A Swarm that is led by somebody, or by nobody (None), as one of its managers sees it; "" is this one."""

    def __init__(self) -> None:
        self.led_by: str | None = ""
        self.forgotten = 0
        manager: Any = SimpleNamespace(leader=self._leader)
        history: Any = SimpleNamespace(forget_good=self._forget)
        self.lead = Lead("prod", manager, history)

    def _leader(self) -> str:
        if self.led_by is None:
            raise Unavailable("the Swarm has no leader")
        return self.led_by

    def _forget(self) -> None:
        self.forgotten += 1


@pytest.fixture
def world() -> World:
    return World()


def test_on_a_plain_host_nobody_else_acts() -> None:
    history: Any = None
    lead = Lead("web1", None, history)
    lead.require()
    assert lead.is_own


def test_who_takes_over_begins_with_the_newest_commit_and_knows_what_worked(world: World) -> None:
    world.lead.require()
    assert not world.lead.is_own
    world.lead.begin()
    world.lead.require()
    assert world.lead.is_own
    assert world.forgotten == 0


def test_who_is_led_forgets_once_what_worked_and_takes_over_anew(world: World) -> None:
    world.lead.begin()
    world.led_by = "two"
    for _ in range(2):
        with pytest.raises(Led, match="prod is led by two"):
            world.lead.require()
        assert not world.lead.is_own
    assert world.forgotten == 1
    world.led_by = ""
    world.lead.require()
    assert not world.lead.is_own
    world.lead.begin()
    assert world.lead.is_own
    assert world.forgotten == 1


@pytest.mark.parametrize("acted", [True, False])
def test_that_nobody_leads_is_told_by_who_acted_last(world: World, acted: bool) -> None:
    if acted:
        world.lead.begin()
    world.led_by = None
    with pytest.raises(Unavailable if acted else Led, match="the Swarm has no leader"):
        world.lead.require()
    assert world.lead.is_own is acted
