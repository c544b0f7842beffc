"""What every answer has, its headers and the path that a proxy has in front; and how the body of a request is read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from gitops_mvd.web.guard import HEADERS, OVER_TLS, Denied, Guard
from gitops_mvd.web.live import Stream

LARGEST_FORM = 16 << 10  # bytes
FORM_WITHIN_SECONDS = 15.0
LEFT = "mvd.left"  # where a request has the stream that is its answer


class Endless(Response):
    """A stream in the place of an answer.  It is left for `Frame`, as there may be a thousand:

    what has found it, and all that this has in hand, is not kept for as long as it goes on.
    """

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[LEFT].append(self._stream)


class Frame:
    """Finds out who asks, adds what every answer has, and takes the path away that a proxy has in front."""

    def __init__(self, inner: ASGIApp, guard: Guard, prefix: str, *, is_over_tls: bool) -> None:
        self._inner = inner
        self._guard = guard
        self._prefix = prefix
        headers = HEADERS | OVER_TLS if is_over_tls else HEADERS
        self._headers = [(name.encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        await self._guard.meet(scope)
        path = scope["path"]
        if self._prefix and (path == self._prefix or path.startswith(f"{self._prefix}/")):
            scope = {**scope, "path": path[len(self._prefix) :] or "/"}

        async def sent(message: Any) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                if not any(name == b"cache-control" for name, _ in given):
                    given.append((b"cache-control", b"no-store"))
                message["headers"] = [*given, *self._headers]
            await send(message)

        left: list[Stream] = []
        await self._inner({**scope, LEFT: left}, receive, sent)
        if left:
            await left.pop()(scope, receive, sent)


def html_answer(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(text, status, dict(headers or {}) | {"vary": "accept"}, media_type="text/html")


def json_answer(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, dict(headers or {}), media_type="application/json")


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form.  Raises Denied, and TimeoutError."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise Denied(415, "this is not a form")
    text = (await body_of(request)).decode("utf-8", "replace")
    return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=20))


async def body_of(request: Request) -> bytes:
    """The body of a request.  Raises Denied for one that is too large, and TimeoutError."""
    body = b""
    async with asyncio.timeout(FORM_WITHIN_SECONDS):
        async for part in request.stream():
            body += part
            if len(body) > LARGEST_FORM:
                raise Denied(413, f"this has more than {LARGEST_FORM} bytes")
    return body
