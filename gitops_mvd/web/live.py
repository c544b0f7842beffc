"""Pages that stay open: each is drawn once for a change, however many browsers show it.

A browser never has more waiting for it than the newest picture of its page, so one that reads slowly misses pictures
in between; one that reads nothing is cut off with its connection.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from gitops_mvd.core.errors import MvdError
from gitops_mvd.web.signal import Signal

log = logging.getLogger(__name__)

MOST_BROWSERS = 1500  # that are connected at once
MOST_SCREENS = 64  # different pages that are followed at once
BEAT_SECONDS = 15.0  # between two signs of life
CALM_SECONDS = 0.25  # between two pictures of a page
TICK_SECONDS = 1.0  # between two pictures of what is going on
EVENTS = b"text/event-stream"
RETRY = b"retry: 2000\n\n"
BEAT = b": \n\n"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Draw = Callable[[], Awaitable[tuple[str, bool]]]
"""Draws a page: its HTML, and whether something on it goes on by the second."""


class TooMany(MvdError):
    """No more can be followed now."""


class Crowd:
    """Those who are connected, no more than `most`."""

    def __init__(self, most: int = MOST_BROWSERS) -> None:
        self.size = 0
        self._most = most

    @property
    def is_full(self) -> bool:
        return self.size >= self._most


class Stream:
    """An answer without an end, as ASGI has it: `events` until the browser goes.

    It is one task and half a task for each browser, as there may be a thousand.
    """

    def __init__(self, events: AsyncIterator[bytes], crowd: Crowd, kind: bytes = EVENTS) -> None:
        self._events = events
        self._crowd = crowd
        self._kind = kind

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self._kind), (b"x-accel-buffering", b"no")]
        self._crowd.size += 1
        me = asyncio.current_task()
        gone = asyncio.create_task(_gone(receive, me))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if scope["method"] != "HEAD":
                if self._kind == EVENTS:
                    await send(_part(RETRY))
                async for event in self._events:
                    await send(_part(event))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not gone.done():
                raise
        finally:
            self._crowd.size -= 1
            gone.cancel()
            with suppress(Exception):
                await self._events.aclose()  # type: ignore[attr-defined]


def _part(body: bytes) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": True}


async def _gone(receive: Receive, task: asyncio.Task[Any] | None) -> None:
    """Cancel the task once the browser has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    if task:
        task.cancel()


def event(name: str, text: str) -> bytes:
    """An event of a stream, as EventSource reads it."""
    lines = "".join(f"data: {line}\n" for line in text.split("\n"))
    return f"event: {name}\n{lines}\n".encode()


class Screen:
    """A page that some browsers have open."""

    def __init__(self, draw: Draw, changed: Signal, look: Callable[[], None]) -> None:
        self._draw = draw
        self._changed = changed
        self._look = look
        self._drawn = Signal()
        self._picture = b""
        self._version = 0
        self._watching = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def is_watched(self) -> bool:
        return self._watching > 0

    async def events(self) -> AsyncIterator[bytes]:
        """The page as it is now, and again whenever it looks different."""
        self._watching += 1
        seen = 0
        try:
            while True:
                if not self._task or self._task.done():
                    self._task = asyncio.create_task(self._keep())
                if self._version != seen:
                    seen = self._version
                    yield self._picture
                elif not await self._drawn.wait(BEAT_SECONDS):
                    yield BEAT
        finally:
            self._watching -= 1
            if not self._watching and self._task:
                self._task.cancel()

    async def _keep(self) -> None:
        while self._watching:
            self._look()
            ticks = False
            waits = asyncio.ensure_future(self._changed.wait(BEAT_SECONDS))  # what changes while it is drawn counts
            try:
                html, ticks = await self._draw()
                picture = event("page", html)
                if picture != self._picture:
                    self._picture = picture
                    self._version += 1
                    self._drawn.fire()
            except MvdError as error:
                log.warning("a page cannot be drawn: %s", error)
            except Exception:
                log.exception("a page cannot be drawn")
            try:
                await asyncio.sleep(CALM_SECONDS)
                if ticks:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(asyncio.shield(waits), TICK_SECONDS - CALM_SECONDS)
                else:
                    await waits
            finally:
                waits.cancel()


class Screens:
    """The pages that are open, at most MOST_SCREENS: each is drawn anew with each change."""

    def __init__(self) -> None:
        self._open: dict[object, Screen] = {}

    def make_room(self, key: object) -> None:
        """Raises TooMany if there is none for that page."""
        for old in [old for old, screen in self._open.items() if not screen.is_watched]:
            del self._open[old]
        if key not in self._open and len(self._open) >= MOST_SCREENS:
            raise TooMany(f"{MOST_SCREENS} different pages are followed already", "close some, and load it again")

    def screen(self, key: object, draw: Draw, changed: Signal, look: Callable[[], None]) -> Screen:
        if key not in self._open:
            self._open[key] = Screen(draw, changed, look)
        return self._open[key]
