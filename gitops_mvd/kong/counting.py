"""What Kong tells of the requests of a service: by its plugin udp-log, to a socket of this process.

Kong sends a datagram when a request is over, and nothing waits for it: if nobody listens any more, it is lost, and so
are those that come faster than they are read.  What is counted is then a sample, which is as good to compare by.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias

from gitops_mvd.core.canary import Numbers, latency_key
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.kong.entities import Entity, Fields

PLUGIN = "udp-log"
TAG = "counts-requests"
BUFFER_BYTES = 8 << 20  # that the kernel keeps until they are read, if its net.core.rmem_max allows so many
LARGEST_DATAGRAM = 65_536
MOST_AT_ONCE = 50_000  # datagrams
KEY = "mvd"
# What Kong would tell, too, and nobody here needs: who asked for what, with which headers, cookies and keys.
LEFT_OUT = ("request", "upstream_uri", "response.headers", "route", "service", "consumer", "authenticated_entity")
SERVER_ERROR = 500
Try: TypeAlias = tuple[int, bool, float | None]
"""The port that a request went to, whether it failed there, and after how many milliseconds an answer came, if any."""


class Watch:
    """What has come of the requests of one service since it was made, by the addresses that they went to.

    They are known by their ports: all instances of a host have the same address.
    """

    def __init__(self, counting: Counting, service: str, addresses: Iterable[str]) -> None:
        self.service = service
        self._counting = counting
        self._ports = {int(address.rpartition(":")[2]): address for address in addresses}
        self._is_heard = False
        self._requests: Counter[int] = Counter()
        self._errors: Counter[int] = Counter()
        self._answered: defaultdict[int, Counter[int]] = defaultdict(Counter)

    def is_heard(self) -> bool:
        """Has Kong told of a request of that service, wherever it went?"""
        with self._counting.reading():
            return self._is_heard

    def numbers(self) -> Mapping[str, Numbers]:
        """By address."""
        with self._counting.reading():
            return {
                address: Numbers(self._requests[port], self._errors[port], dict(self._answered[port]))
                for port, address in self._ports.items()
            }

    def add(self, tries: Iterable[Try]) -> None:
        """One request that is over, with each target that it went to."""
        self._is_heard = True
        for port, failed, milliseconds in tries:
            if port in self._ports:
                self._requests[port] += 1
                self._errors[port] += failed
                if milliseconds is not None:
                    self._answered[port][latency_key(milliseconds)] += 1


class Counting:
    """The socket at an `address` of this host, where Kong reaches the instances, too.  It is opened when needed.

    What does not bring the secret that only Kong was told is not counted.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._secret = secrets.token_hex(16)
        self._socket: socket.socket | None = None
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._lock = threading.RLock()

    def plugin(self, service: str) -> dict[str, Any]:
        """The plugin of that service in Kong, without its service.  Raises Unavailable."""
        host, port = self._opened().getsockname()[:2]
        fields = {**dict.fromkeys(LEFT_OUT, "return nil"), KEY: f'return "{self._secret} {service}"'}
        config = {"host": host, "port": port, "custom_fields_by_lua": fields}
        return {"name": PLUGIN, "config": config, "tags": [TAG]}

    def is_told(self, plugin: Entity, service: str) -> bool:
        """Does that plugin tell this process of the requests?"""
        if not self._socket:
            return False
        found, wanted = plugin.fields.get("config"), self.plugin(service)["config"]
        return isinstance(found, Mapping) and all(found.get(key) == wanted[key] for key in wanted)

    def watch(self, service: str, addresses: Iterable[str]) -> Watch:
        """Raises Unavailable."""
        self._opened()
        made = Watch(self, service, addresses)
        with self._lock:
            self._read()  # what came before is no part of it
            self._watches.add(made)
        return made

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, what has come until now is counted, and nothing else is added."""
        with self._lock:
            self._read()
            yield

    def _opened(self) -> socket.socket:
        with self._lock:
            if not self._socket:
                try:
                    self._socket = _listen(self._address)
                except OSError as error:
                    why = f"cannot listen at {self._address} for what Kong tells of requests: {error.strerror}"
                    raise Unavailable(why, "`kong.address` must be an address of this server") from error
                weakref.finalize(self, self._socket.close)
            return self._socket

    def _read(self) -> None:
        """Count what has come, and what is well-formed and of Kong."""
        for _ in range(MOST_AT_ONCE):
            try:
                content = self._opened().recv(LARGEST_DATAGRAM)
            except OSError:  # there is nothing more
                return
            with suppress(ValueError, RecursionError, TypeError, AttributeError, LookupError):
                self._count(json.loads(content))

    def _count(self, entry: Mapping[str, Any]) -> None:
        secret, _, service = str(entry[KEY]).partition(" ")
        if not hmac.compare_digest(secret.encode(), self._secret.encode()):
            return
        tries = list(_tries(entry))
        for watch in self._watches:
            if watch.service == service:
                watch.add(tries)


def _listen(address: str) -> socket.socket:
    """A socket at a free port of that address.  Raises OSError."""
    family, kind, _, _, at = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)[0]
    with ExitStack() as unless_done:
        made = unless_done.enter_context(socket.socket(family, kind))
        made.setblocking(False)
        made.bind(at)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        unless_done.pop_all()
    return made


def _tries(entry: Mapping[str, Any]) -> Iterator[Try]:
    """Where a request went, and what became of it there.

    If Kong asked another target after one that gave no answer, it went to both, and failed at the first.
    """
    tries = entry.get("tries") or ()
    waited = entry["latencies"]["proxy"]  # until the answer began, -1 if none did
    for number, one in enumerate(tries, 1):
        if number < len(tries):
            yield int(one["port"]), True, None
        else:
            yield int(one["port"]), entry["response"]["status"] >= SERVER_ERROR, waited if waited >= 0 else None


def is_counting(fields: Fields) -> bool:
    """Is that the plugin by which Kong tells of requests, of whichever process?"""
    tags = fields.get("tags")
    return fields.get("name") == PLUGIN and isinstance(tags, list) and TAG in tags
