"""The ports of this host on which routed instances are published."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator, Set

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.route import INSTANCE_PORTS


class HostPorts:
    """Gives every port once in a pass.  May be used by several threads at once."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._given: set[int] = set()
        self._lock = threading.Lock()

    def begin(self) -> None:
        """A new pass: what was given in the last one is either taken or free again."""
        self._given = set()

    def free(self, taken: Set[int]) -> Iterator[int]:
        """Ports that are not `taken`, were not given in this pass, and on which nothing listens."""
        for port in INSTANCE_PORTS:
            if port not in taken and self._take(port):
                yield port
        raise Unavailable(f"no free port is left in {INSTANCE_PORTS.start}-{INSTANCE_PORTS.stop - 1}")

    def _take(self, port: int) -> bool:
        with self._lock:
            if port in self._given or not self._is_free(port):
                return False
            self._given.add(port)
            return True

    def _is_free(self, port: int) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self.address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                raise Unavailable(f"{self.address} is not an address of this host: {error.strerror}") from error
        return True
