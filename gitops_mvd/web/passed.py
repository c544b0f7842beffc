"""The local API handed on: to programs, and to the page of another server."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from typing import Any

import msgspec

from gitops_mvd.api.client import Refused
from gitops_mvd.api.endpoints import ENDPOINTS, LONGEST_WAIT_SECONDS, Endpoint
from gitops_mvd.api.views import ChangesView
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.web.host import Host

LINES = b"application/x-ndjson"
MOST_STREAMS = 4  # at once: each is one more question to the daemon
WAITING = 200  # lines that wait for somebody who reads slowly
SILENT_SECONDS = 30.0


def endpoint(method: str, path: str) -> tuple[Endpoint, dict[str, str]] | None:
    """The question that is asked with a path, and what the path gives it."""
    for it in ENDPOINTS:
        wanted, given = it.path.split("/"), path.split("/")
        if it.method == method and len(wanted) == len(given):
            pairs = list(zip(wanted, given, strict=True))
            if all(one == other or one.startswith("{") for one, other in pairs):
                return it, {one.strip("{}"): other for one, other in pairs if one.startswith("{")}
    return None


async def answer(host: Host, asked: Endpoint, given: dict[str, str]) -> object:
    """The daemon's answer.  Raises Unavailable and Refused."""
    host.look()
    if asked.name == "changes":
        return await _changes(host, given)
    found = await host.ask(asked.name, asked.answer, **given)
    if host.silence:
        raise Unavailable(host.silence.why, host.silence.hint)
    return found


async def _changes(host: Host, given: dict[str, str]) -> ChangesView:
    """Waits here, as one question is asked for all."""
    after, within = int(given.get("after", "0")), min(float(given.get("within", "0")), LONGEST_WAIT_SECONDS)
    if host.number == after and not host.silence:
        await host.changed.wait(within)
    if host.silence:
        raise Unavailable(host.silence.why, host.silence.hint)
    return ChangesView(host.number)


async def lines(host: Host, asked: Endpoint, given: dict[str, Any]) -> AsyncIterator[bytes]:
    """An endless answer, line by line; an empty line is a sign of life."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue(WAITING)
    is_over = threading.Event()

    def put(line: bytes | None) -> None:
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
        except (Unavailable, Refused):
            pass  # whoever asked sees that it has ended
        put(None)

    threading.Thread(target=run, daemon=True).start()
    try:
        while (line := await queue.get()) is not None:
            yield line
    finally:
        is_over.set()
        while not queue.empty():  # lets the thread go on to its end
            queue.get_nowait()
