"""One server as the page knows it: what is asked again, and when its daemon is away."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from gitops_mvd.api.client import Api, Refused
from gitops_mvd.api.endpoints import BY_NAME
from gitops_mvd.api.questions import Wrong, read_parameters
from gitops_mvd.api.views import ChangesView
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.web.host import MOST_QUESTIONS, Host


class Counting(Api):
    """A daemon that answers each question with how often it has been asked, and judges it as the real one does."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()
        self.number = 7
        self.is_away = False
        self.refused: list[str] = []
        self.asked: list[str] = []
        self.watched = 0
        self.held: frozenset[str] = frozenset()

    def ask(self, name: str, of: Any, /, *, timeout: float = 10.0, **parameters: Any) -> Any:
        try:
            given = read_parameters(BY_NAME[name], {key: str(value) for key, value in parameters.items()})
        except Wrong as error:
            self.refused.append(error.message)
            raise Refused(error.status, error.message) from None
        with self.changed:
            if self.is_away:
                raise Unavailable("the daemon is away")
            if name == "changes":
                self.watched += 1
                self.changed.wait_for(lambda: self.number != given["after"] or self.is_away, given["within"])
                if self.is_away:
                    raise Unavailable("the daemon is away")
                return ChangesView(self.number)
            self.asked.append(name)
            self.changed.wait_for(lambda: name not in self.held)
            return self.asked.count(name)

    def become(self, **state: Any) -> None:
        with self.changed:
            for name, value in state.items():
                setattr(self, name, value)
            self.changed.notify_all()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.01)


def test_after_a_silence_changes_are_asked_for_from_the_beginning_and_nothing_known_counts_as_new() -> None:
    async def follow() -> None:
        api = Counting()
        host = Host("web-1", api)
        host.look()
        assert await host.next_change(0, 0.0) == 7
        assert [await host.ask("status", int) for _ in range(3)] == [1, 1, 1], "nothing has changed"
        api.become(number=8)
        assert await host.next_change(7, 10.0) == 8
        assert await host.ask("status", int) == 2
        api.become(is_away=True)
        await until(lambda: host.silence is not None)
        assert await host.ask("status", int) == 2, "the last answer is shown, as an old one"
        with pytest.raises(Unavailable, match="the daemon is away"):
            await host.next_change(8, 10.0)
        with pytest.raises(Unavailable, match="the daemon is away"):
            await host.ask_now("status", int)
        watched = api.watched
        api.become(is_away=False)
        assert await host.ask("history", int) == 1
        assert host.silence is None
        assert await host.ask("status", int) == 3
        await until(lambda: api.watched > watched + 1)
        assert api.refused == []
        assert [await host.ask("status", int) for _ in range(2)] == [4, 4]

    asyncio.run(follow())


def test_who_asks_after_a_change_is_not_told_what_was_so_before() -> None:
    async def follow() -> None:
        api = Counting()
        host = Host("web-1", api)
        await host.next_change(0, 0.0)
        api.become(held=frozenset({"status"}))
        before = asyncio.create_task(host.ask("status", int))
        await until(lambda: api.asked == ["status"])
        api.become(number=8)
        await host.next_change(7, 10.0)
        after = asyncio.create_task(host.ask("status", int))
        await until(lambda: api.asked == ["status", "status"])
        api.become(held=frozenset())
        await asyncio.gather(before, after)

    asyncio.run(follow())


def test_a_program_is_answered_as_of_now_and_long_questions_wait_for_their_own() -> None:
    async def ask() -> None:
        api = Counting()
        host = Host("web-1", api)
        await host.next_change(0, 0.0)
        assert [await host.ask_now("status", int) for _ in range(3)] == [1, 2, 3]
        api.become(held=frozenset({"plan", "doctor", "explain"}))
        long = [asyncio.create_task(host.ask_now(name, int)) for name in ("plan", "doctor", "explain", "plan") * 5]
        long.append(asyncio.create_task(host.ask("plan", int)))
        await until(lambda: len(api.asked) == 3 + MOST_QUESTIONS["long"])
        assert await host.ask("status", int) == 4
        assert await host.ask_now("status", int) == 5
        assert len(api.asked) == 5 + MOST_QUESTIONS["long"], "no more at once"
        api.become(held=frozenset())
        await asyncio.gather(*long)

    asyncio.run(ask())
