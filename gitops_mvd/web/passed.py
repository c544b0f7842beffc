"""The local API handed on: to programs, and to the page of another server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from gitops_mvd.api.client import Refused
from gitops_mvd.api.endpoints import Endpoint
from gitops_mvd.api.questions import read_parameters
from gitops_mvd.api.views import ChangesView
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.web.host import Host
from gitops_mvd.web.live import Crowd, TooMany

LINES = b"application/x-ndjson"
MOST_STREAMS = 4  # at once: each is one more question to the daemon
WAITING = 200  # lines that wait for somebody who reads slowly
SILENT_SECONDS = 30.0


def parameters(endpoint: Endpoint, given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, in the types of the endpoint; what was not is left to the daemon.  Raises Wrong."""
    return {name: value for name, value in read_parameters(endpoint, given).items() if name in given}


async def answer(host: Host, asked: Endpoint, given: Mapping[str, Any]) -> object:
    """The daemon's answer.  Raises Unavailable and Refused."""
    if asked.name == "changes":  # waits here, as one question is asked for all
        return ChangesView(await host.next_change(given.get("after", 0), given.get("within", 0.0)))
    return await host.ask_now(asked.name, asked.answer, **given)


async def lines(host: Host, asked: Endpoint, given: Mapping[str, Any], crowd: Crowd) -> AsyncIterator[bytes]:
    """An endless answer, line by line; an empty line is a sign of life.

    Raises TooMany, Unavailable and Refused, here alone: whoever reads the lines sees that they have ended.
    """
    rest = _lines(host, asked, given, crowd)
    first = await anext(rest, b"")

    async def all_of_them() -> AsyncIterator[bytes]:
        try:
            yield first
            with suppress(Unavailable, Refused):
                async for line in rest:
                    yield line
        finally:
            await rest.aclose()  # type: ignore[attr-defined]

    return all_of_them()


async def _lines(host: Host, asked: Endpoint, given: Mapping[str, Any], crowd: Crowd) -> AsyncIterator[bytes]:
    if crowd.is_full:
        raise TooMany("too many programs follow a log at once", "end some of them")
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | MvdError | None] = asyncio.Queue(WAITING)
    is_over = threading.Event()

    def put(line: bytes | MvdError | None) -> None:
        with suppress(RuntimeError, TimeoutError):
            asyncio.run_coroutine_threadsafe(queue.put(line), loop).result(SILENT_SECONDS)

    def alive() -> bool:
        if queue.empty():
            put(b"\n")
        return is_over.is_set()

    def run() -> None:
        ask = partial(host.api.stream, asked.name, asked.answer, timeout=SILENT_SECONDS, until=alive)
        try:
            for value in ask(**given):
                put(msgspec.json.encode(value) + b"\n")
                if is_over.is_set():
                    break
        except (Unavailable, Refused) as error:
            put(error)
        finally:
            put(None)

    threading.Thread(target=run, daemon=True).start()
    crowd.size += 1
    try:
        while (line := await queue.get()) is not None:
            if isinstance(line, MvdError):
                raise line
            yield line
    finally:
        crowd.size -= 1
        is_over.set()
        while not queue.empty():  # lets the thread go on to its end
            queue.get_nowait()
