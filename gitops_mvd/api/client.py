"""Asks the daemon of this server over its unix socket."""

from __future__ import annotations

import http.client
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlencode

import msgspec

from gitops_mvd.api.endpoints import ACTING_SOCKET, ACTORS, BY_NAME, READERS, SETTINGS_HEADER, SOCKET, Endpoint
from gitops_mvd.core.errors import MvdError, Unavailable

T = TypeVar("T")

ANSWERS_WITHIN_SECONDS = 10.0
LONG_ANSWER_SECONDS = 120.0  # of what a process of its own finds out, such as a plan
LARGEST_ANSWER = 64 << 20  # bytes
LARGEST_STREAMED = 4 << 20  # bytes of one value of an endless answer


class NotServed(Unavailable):
    """No daemon answers here: none runs, or it is one of older times."""


class BrokenOff(Unavailable):
    """The daemon has ended before its answer had, as one does that takes up new settings."""


class Refused(MvdError):
    """The daemon has answered that it will not; `status` is that of HTTP."""

    def __init__(self, status: int, error: str, hint: str = "") -> None:
        super().__init__(error, hint)
        self.status = status


class NotNow(Refused):
    """The daemon has answered that it cannot now, as if too many ask, or something does not answer to it either."""


class Api:
    """The daemon behind two sockets, one of which is for what acts.  Every question is one connection.

    Every method raises NotServed if nobody answers, Unavailable for an answer that does not come in time or cannot be
    read, and Refused for a no.
    """

    def __init__(self, reads: str = SOCKET, acts: str = ACTING_SOCKET) -> None:
        self._reads = reads
        self._acts = acts
        self.settings = ""  # the path of the daemon's own settings, once it has answered

    def ask(self, name: str, of: type[T], /, *, timeout: float = ANSWERS_WITHIN_SECONDS, **parameters: Any) -> T:
        """The answer to the endpoint of that name, as a value of the type `of`; `timeout` is in seconds."""
        body = b"".join(self._ask(BY_NAME[name], timeout, parameters))
        try:
            return msgspec.json.decode(body, type=of)
        except msgspec.MsgspecError as error:
            raise _unreadable(error) from None

    def stream(
        self, name: str, of: type[T], /, *, timeout: float, until: Callable[[], bool] = lambda: False, **parameters: Any
    ) -> Iterator[T]:
        """The values of an endless answer as they come; `timeout` is the pause that is too long.

        The daemon sends an empty line now and then, so that a pause says that it is gone.  At each sign of life,
        `until` is asked whether that is enough.
        """
        rest = b""
        for part in self._ask(BY_NAME[name], timeout, parameters):
            if until():
                return
            *lines, rest = (rest + part).split(b"\n") if b"\n" in part else (rest + part,)
            if len(rest) > LARGEST_STREAMED:
                raise Unavailable("a line of the daemon's answer is too long")
            try:
                yield from (msgspec.json.decode(line, type=of) for line in lines if line)
            except msgspec.MsgspecError as error:
                raise _unreadable(error) from None

    def _ask(self, endpoint: Endpoint, timeout: float, parameters: dict[str, Any]) -> Iterator[bytes]:
        """The parts of the body of the answer."""
        is_read = endpoint.method == "GET"
        path = endpoint.path
        for name in [name for name in parameters if f"{{{name}}}" in path]:
            path = path.replace(f"{{{name}}}", quote(str(parameters.pop(name)), safe=""))
        query = urlencode({name: _text(value) for name, value in parameters.items()}) if is_read else ""
        body = None if is_read else json.dumps(parameters)
        with self._connected(endpoint, timeout) as connection:
            headers = {"Content-Type": "application/json"} if body else {}
            connection.request(endpoint.method, f"{path}?{query}" if query else path, body, headers)
            answer = connection.getresponse()
            self.settings = unquote(answer.getheader(SETTINGS_HEADER, ""))
            if answer.status >= 400:
                raise _refused(answer.status, answer.read(LARGEST_ANSWER))
            total = 0
            while part := answer.read1(1 << 16):
                total += len(part)
                if total > LARGEST_ANSWER and not endpoint.is_stream:
                    raise Unavailable("the daemon's answer is too large")
                yield part

    def _connected(self, endpoint: Endpoint, timeout: float) -> AbstractContextManager[http.client.HTTPConnection]:
        """A connection to whoever answers that endpoint."""
        return _connected(self._reads if endpoint.method == "GET" else self._acts, timeout)


def _unreadable(error: Exception) -> Unavailable:
    return Unavailable(f"the daemon's answer cannot be read: {error}", "is it of another version?")


def _text(value: Any) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _refused(status: int, body: bytes) -> Refused:
    of = NotNow if status == 503 else Refused
    try:
        said = json.loads(body)
        return of(status, str(said["error"]), str(said.get("hint", "")))
    except (ValueError, KeyError, TypeError, AttributeError):
        return of(status, f"the daemon answered {status}")


class _Connection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, within: float) -> None:
        super().__init__("localhost", timeout=within)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@contextmanager
def _connected(path: str, within: float) -> Iterator[http.client.HTTPConnection]:
    """A connection, whose errors are told in our words."""
    connection = _Connection(path, within)
    try:
        yield connection
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NotServed("the daemon does not run here", "systemctl status gitops-mvd") from error
    except PermissionError as error:
        group = READERS if os.path.basename(path) == os.path.basename(SOCKET) else ACTORS
        hint = f"run as root, or join the group {group}: usermod -aG {group} YOUR_NAME"
        raise Refused(403, f"cannot ask the daemon at {path}: permission denied", hint) from error
    except TimeoutError as error:
        raise Unavailable(f"the daemon did not answer within {within:g} s", "systemctl status gitops-mvd") from error
    except (OSError, http.client.HTTPException) as error:
        raise BrokenOff(f"the daemon broke off: {error}", "systemctl status gitops-mvd") from error
    finally:
        connection.close()
