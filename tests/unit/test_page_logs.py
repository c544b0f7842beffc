"""A log that many browsers follow: where each is, and what it has missed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from gitops_mvd.api.client import Api
from gitops_mvd.api.views import LogLine
from gitops_mvd.web.host import Host
from gitops_mvd.web.logs import MOST_LINES, Follower


class Printed(Api):
    """A daemon that hands on so many lines at each go, as fast as it can."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = self.given = 0
        self.more = threading.Condition()

    def print(self, number: int) -> None:
        with self.more:
            self.lines += number
            self.more.notify_all()

    def stream(
        self, name: str, of: Any, /, *, timeout: float, until: Callable[[], bool] = lambda: False, **parameters: Any
    ) -> Iterator[Any]:
        given = 0
        while not until():
            with self.more:
                self.more.wait_for(lambda given=given: self.lines > given, 0.05)
                wanted = self.lines
            for number in range(given, wanted):
                yield LogLine(0.0, "a", "b", "c", f"line {number + 1}", f"s{number}")
            given = self.given = wanted


async def lines_of(follower: Follower, last_id: str = "") -> tuple[list[str], str, str]:
    """The names of the events until lines come, those lines, and their id."""
    names, events = [], follower.events(last_id)
    async for said in events:
        text = said.decode()
        names.append(text[text.index("event: ") + 7 :].partition("\n")[0])
        if names[-1] == "lines":
            await events.aclose()  # type: ignore[attr-defined]
            return names, text, text.partition("\n")[0].removeprefix("id: ")
        if names[-1] == "missed":
            names[-1] = f"missed {text.split('data: ')[1].strip()}"
    raise AssertionError("it ended")


def test_what_the_event_loop_is_too_slow_for_is_missed_by_number() -> None:
    async def follow() -> None:
        api = Printed()
        follower = Follower(Host("web-1", api), "a")
        api.print(3)
        try:
            names, text, place = await lines_of(follower)
            assert names == ["anew", "lines"]
            assert text.count("<li") == 3
            api.print(MOST_LINES + 40)
            while api.given < api.lines:
                time.sleep(0.01)  # nothing else goes on in the event loop meanwhile
            names, text, place = await lines_of(follower, place)
            assert names == ["missed 40", "lines"]
            assert text.count("<li") == MOST_LINES
            assert f">line {MOST_LINES + 43}<" in text
        finally:
            follower.end()

    asyncio.run(follow())


def test_a_place_of_another_follower_or_made_up_begins_anew() -> None:
    async def follow() -> None:
        api = Printed()
        host = Host("web-1", api)
        one, other = Follower(host, "a"), Follower(host, "a")
        api.print(5)
        try:
            *_, place = await lines_of(one)
            for made_up in ("", "4", "-", "x-4", place.replace("-", "--"), f"{place}0" * 9):
                names, text, _ = await lines_of(one, made_up)
                assert (names, text.count("<li")) == (["anew", "lines"], 5)
            names, text, _ = await lines_of(other, place)
            assert (names, text.count("<li")) == (["anew", "lines"], 5)
            later = asyncio.create_task(lines_of(one, place))
            await asyncio.sleep(0)
            api.print(1)
            names, text, _ = await later
            assert (names, text.count("<li")) == (["lines"], 1)
        finally:
            one.end()
            other.end()

    asyncio.run(follow())
