"""HTTP connections over Lines: pools for urllib3."""

from __future__ import annotations

import socket
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs

from gitops_mvd.net.line import Line, TlsLine


def _connect(connection: HTTPConnection) -> Line:
    """A connection to the first address of the host that answers; all of them share the limit."""
    try:
        addresses = socket.getaddrinfo(connection.host.strip("[]"), connection.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NameResolutionError(connection.host, connection, error) from error  # type: ignore[arg-type]
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in addresses:
        try:
            return _connected(Line(family, kind, protocol), address, connection.timeout)
        except OSError as error:
            failure = error
    raise _meant(connection, failure) from failure


def _connected(line: Line, address: Any, timeout: object) -> Line:
    try:
        if isinstance(timeout, int | float):
            line.settimeout(timeout)
        if line.family != socket.AF_UNIX:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line.connect(address)
    except BaseException:
        line.close()
        raise
    return line


def _meant(connection: HTTPConnection, failure: OSError) -> Exception:
    """What urllib3 calls a connection that could not be made."""
    if isinstance(failure, TimeoutError):
        return ConnectTimeoutError(connection, "timed out")
    return NewConnectionError(connection, str(failure))


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)

    def connect(self) -> None:
        if self.ssl_context is None:
            self.ssl_context = create_urllib3_context(cert_reqs=resolve_cert_reqs(self.cert_reqs))
        self.ssl_context.sslsocket_class = TlsLine
        super().connect()


class HttpPool(HTTPConnectionPool):
    ConnectionCls = _Connection


class HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class UnixPool(HTTPConnectionPool):
    """Connections to the socket at `path`."""

    def __init__(self, path: str, maxsize: int = 1) -> None:
        super().__init__("localhost", maxsize=maxsize)
        self._path = path

    def _new_conn(self) -> HTTPConnection:
        self.num_connections += 1
        return _UnixConnection(self._path, self.timeout.connect_timeout)


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: Any) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def _new_conn(self) -> socket.socket:
        try:
            return _connected(Line(socket.AF_UNIX), self._path, self.timeout)
        except OSError as error:
            raise _meant(self, error) from error
