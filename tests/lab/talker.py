"""A server that runs in a container and does what busybox cannot: wait, stream, and talk over a WebSocket.

/                  NAME VERSION, of which the second is in its environment; 500 for each `FAILS_EVERY`-th request
/health            ok VERSION
/slow?seconds=5    silent for so long, and then NAME VERSION
/stream?seconds=5  NAME VERSION every 0.2 s; the last line is `end`
/echo              a WebSocket: says NAME VERSION, then what it hears

On SIGTERM it dies at once, in the middle of whatever it does: to lose nothing, drain it before that.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time

from aiohttp import web

LINE_EVERY_SECONDS = 0.2
LONGEST_SECONDS = 300.0


def application(name: str, version: str) -> web.Application:
    """What it answers."""
    itself = f"{name} {version}\n"
    fails_every, requests = int(os.environ.get("FAILS_EVERY", 0)), itertools.count(1)

    async def root(request: web.Request) -> web.Response:
        fails = fails_every and next(requests) % fails_every == 0
        return web.Response(text=itself, status=500 if fails else 200)

    async def health(request: web.Request) -> web.Response:
        return web.Response(text=f"ok {version}\n")

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(_seconds(request))
        return web.Response(text=itself)

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        until = time.monotonic() + _seconds(request)
        while time.monotonic() < until:
            await response.write(itself.encode())
            await asyncio.sleep(LINE_EVERY_SECONDS)
        await response.write(b"end\n")
        await response.write_eof()
        return response

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(itself.strip())
        async for message in socket:
            await socket.send_str(str(message.data))
        return socket

    answered = web.Application()
    answered.add_routes(
        [
            web.get("/", root),
            web.get("/health", health),
            web.get("/slow", slow),
            web.get("/stream", stream),
            web.get("/echo", echo),
        ]
    )
    return answered


def _seconds(request: web.Request) -> float:
    return min(float(request.query.get("seconds", 5)), LONGEST_SECONDS)


async def main(name: str, port: str) -> None:
    """Serve until SIGTERM."""
    version = os.environ["VERSION"]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    runner = web.AppRunner(application(name, version), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", int(port)).start()
    print(f"{name} {version} listens on port {runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
