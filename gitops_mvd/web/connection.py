"""One connection of a browser: cut off if it keeps a request or an answer waiting, so that few hold up nobody."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

LEAST_READ = 1 << 10  # bytes between two looks, or it counts as nothing


@dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may take, in seconds, and how many there may be."""

    connections: int
    request_seconds: float = 30.0  # from its begin, or from the last answer, to the end of the body
    unread_seconds: float = 20.0  # in which nothing of an answer is read
    look_seconds: float = 5.0  # between two looks at all this


class Connection(H11Protocol):
    """uvicorn's, which by itself waits for ever for a request that does not end, or for an answer to be read."""

    __slots__ = ("_asks_since", "_has_read", "_limits", "_read_at", "_timer", "_unread")  # there may be a thousand

    def __init__(self, *args: Any, limits: Limits, **named: Any) -> None:
        super().__init__(*args, **named)
        self._limits = limits
        self._asks_since = self._read_at = self.loop.time()
        self._unread = 0  # bytes of the answer, at the last look
        self._has_read = False  # since then
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(self._limits.look_seconds, self._look)
        if len(self.connections) > self._limits.connections:
            waiting = [it for it in self.connections if isinstance(it, Connection) and it.is_asking]
            min(waiting, key=lambda it: it._asks_since)._cut_off()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    @property
    def is_asking(self) -> bool:
        """Is its request not complete, if it has begun at all?"""
        return self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def handle_events(self) -> None:
        super().handle_events()
        if not self.is_asking:
            self._asks_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._has_read = True

    def _look(self) -> None:
        now = self.loop.time()
        unread = self.transport.get_write_buffer_size()
        if not unread or self._has_read or self._unread - unread >= LEAST_READ:
            self._read_at = now
        self._unread, self._has_read = unread, False
        if unread or not self.is_asking:
            self._asks_since = now
        is_late = now - self._asks_since > self._limits.request_seconds
        if is_late or now - self._read_at > self._limits.unread_seconds:
            self._cut_off()
        else:
            self._timer = self.loop.call_later(self._limits.look_seconds, self._look)

    def _cut_off(self) -> None:
        """Close the connection, and have the kernel forget what it has for it as well."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
