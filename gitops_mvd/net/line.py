"""Connections on which a whole exchange has a limit, in seconds and in bytes, however slowly the other side talks.

The timeouts of Python's libraries count from one byte to the next: a side that sends one byte a second is never late.
"""

from __future__ import annotations

import errno
import math
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

MOST_BYTES = 64 << 20  # of one answer: that of Docker about 1,000 containers has 3 MB
NO_ADDRESS = "the container has no address of its own"


class Limit:
    """When an exchange has to be over, by the monotonic clock, and how many bytes it may still bring."""

    def __init__(self, ends: float, most: float, outer: Limit | None = None) -> None:
        self.ends: float = min(ends, outer.ends) if outer else ends
        self._bytes_left = most
        self._outer = outer

    def count(self, received: int) -> None:
        """Raises OSError if that is more than may be read."""
        self._bytes_left -= received
        if self._bytes_left < 0:
            raise OSError(errno.EMSGSIZE, "the answer is too large")
        if self._outer:
            self._outer.count(received)


class _Current(threading.local):
    limit = Limit(math.inf, math.inf)


_current = _Current()


@contextmanager
def limit(seconds: float, most: float = MOST_BYTES) -> Iterator[None]:
    """Inside, all that this thread asks over a Line is over after so many seconds and bytes.

    The call of the Line then raises TimeoutError or OSError.  An outer limit goes on to hold.
    """
    outer = _current.limit
    _current.limit = Limit(time.monotonic() + seconds, most, outer)
    try:
        yield
    finally:
        _current.limit = outer


class Line(socket.socket):
    """A socket on which the limit of the thread that uses it holds, besides the timeout of its own."""

    _timeout: float | None = None  # for one call, as it was set

    @classmethod
    def over(cls, plain: socket.socket) -> Line:
        """The same connection, with limits."""
        timeout = plain.gettimeout()
        line = cls(plain.family, plain.type, plain.proto, plain.detach())
        line.settimeout(timeout)
        return line

    def settimeout(self, value: float | None) -> None:
        self._timeout = value
        super().settimeout(value)

    def connect(self, address: Any) -> None:
        self._begin()
        super().connect(address)

    def recv(self, size: int = 1024, flags: int = 0) -> bytes:
        now = self._begin()
        received = super().recv(size, flags)
        now.count(len(received))
        return received

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        now = self._begin()
        received = super().recv_into(buffer, nbytes or 0, flags)
        now.count(received)
        return received

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        self._begin()
        return super().send(data, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        self._begin()
        super().sendall(data, flags)

    def _begin(self) -> Limit:
        """Give the next call what is left of the time.  Raises TimeoutError if nothing is."""
        now = _current.limit
        left = now.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        least = min(left, math.inf if self._timeout is None else self._timeout)
        super().settimeout(None if least == math.inf else least)
        return now


class TlsLine(Line, ssl.SSLSocket):
    """The same with TLS: what an SSLContext makes whose `sslsocket_class` this is."""

    def do_handshake(self, block: bool = False) -> None:
        self._begin()
        super().do_handshake(block)


@contextmanager
def dial(ip: str, port: int, within: float) -> Iterator[Line]:
    """A TCP connection; all inside is over after so many seconds.  Raises OSError, also for an ip of ""."""
    if not ip:  # which would be this host itself
        raise OSError(NO_ADDRESS)
    # an address is no name, and resolving it would cost as much as connecting
    with limit(within), Line(socket.AF_INET6 if ":" in ip else socket.AF_INET) as line:
        line.connect((ip, port))
        yield line
