"""A TCP connection on which all has to be over by a deadline, however slowly the other side talks."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


class Line(socket.socket):
    """A socket; each call is given what is left of the time, and raises TimeoutError where nothing is."""

    def __init__(self, family: socket.AddressFamily, deadline: float) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._deadline = deadline

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._set_time_left()
        return super().recv(size, flags)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        self._set_time_left()
        return super().recv_into(buffer, nbytes, flags)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        self._set_time_left()
        super().sendall(data, flags)

    def _set_time_left(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time is over")
        self.settimeout(left)


def dial(ip: str, port: int, within: float) -> Line:
    """Connect, and limit the whole exchange to so many seconds from now.  Raises OSError, also for an ip of ""."""
    if not ip:  # which would be this host itself
        raise OSError("the container has no address of its own")
    # an address is no name, and resolving it would cost as much as connecting
    line = Line(socket.AF_INET6 if ":" in ip else socket.AF_INET, time.monotonic() + within)
    try:
        line.settimeout(within)
        line.connect((ip, port))
    except BaseException:
        line.close()
        raise
    return line
