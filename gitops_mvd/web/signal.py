"""A bell that many tasks wait for, and threads that nobody waits for at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


class Signal:
    """Wakes all who wait for it at that moment."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def fire(self) -> None:
        rung, self._next = self._next, asyncio.Event()
        rung.set()

    async def wait(self, within: float) -> bool:
        """Has it rung within so many seconds?"""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._next.wait()
                return True
        return False


async def apart(work: Callable[[], T], then: Callable[[], object] = lambda: None) -> T:
    """What `work` returns or raises, done in a thread that does not hold up the end of the process.

    `then` is called when it is done, also if nobody waits for it any more.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: T | None, error: BaseException | None) -> None:
        then()
        if done.cancelled():
            return
        if error:
            done.set_exception(error)
        else:
            done.set_result(value)  # type: ignore[arg-type]

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except BaseException as raised:
            error = raised
        with suppress(RuntimeError):  # the loop has ended in the meantime
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=run, daemon=True).start()
    return await done
