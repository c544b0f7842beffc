"""What Kong tells of the requests of a service: by its plugin udp-log, to a socket of this process.

Kong sends a datagram when a request is over, and nothing waits for it: if nobody listens any more, it is lost, and so
are those that come faster than they are read.  What is counted is then a sample, which is as good to compare by.
"""

from __future__ import annotations

import errno
import hmac
import ipaddress
import json
import secrets
import socket
import threading
import weakref
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TypeAlias

from gitops_mvd.core.canary import Numbers, latency_key
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.route import INSTANCE_PORTS, Counted
from gitops_mvd.kong.counted import PLUGIN, counting_tags
from gitops_mvd.kong.entities import Entity

BUFFER_BYTES = 8 << 20  # that the kernel keeps until they are read, if its net.core.rmem_max allows so many
LARGEST_DATAGRAM = 65_536
MOST_AT_ONCE = 50_000  # datagrams
KEY = "mvd"
# What Kong would tell, too, and nobody here needs: who asked for what, with which headers, cookies and keys.
LEFT_OUT = ("request", "upstream_uri", "response.headers", "route", "service", "consumer", "authenticated_entity")
SERVER_ERROR = 500
Place: TypeAlias = tuple[str, int]
"""Where a request went: the IP address in its shortest form, and the port."""
Try: TypeAlias = tuple[Place, bool, float | None]
"""Where a request went, whether it failed there, and after how many milliseconds an answer came, if any."""


class Watch:
    """What has come of the requests of one service since it was made, by the addresses that they went to."""

    def __init__(self, counting: Counting, service: str, addresses: Iterable[str]) -> None:
        self.service = service
        self._counting = counting
        self._places = {counting.place(address): address for address in addresses}
        self._is_heard = False
        self._requests: Counter[Place] = Counter()
        self._errors: Counter[Place] = Counter()
        self._answered: defaultdict[Place, Counter[int]] = defaultdict(Counter)

    def is_heard(self) -> bool:
        """Has Kong told of a request of that service, wherever it went?"""
        with self._counting.reading():
            return self._is_heard

    def numbers(self) -> Mapping[str, Numbers]:
        """By address."""
        with self._counting.reading():
            return {
                address: Numbers(self._requests[place], self._errors[place], dict(self._answered[place]))
                for place, address in self._places.items()
            }

    def add(self, tries: Iterable[Try]) -> None:
        """One request that is over, with each target that it went to."""
        self._is_heard = True
        for place, failed, milliseconds in tries:
            if place in self._places:
                self._requests[place] += 1
                self._errors[place] += failed
                if milliseconds is not None:
                    self._answered[place][latency_key(milliseconds)] += 1


class Counting:
    """The socket at an `address` of this host, where Kong reaches the instances, too.  It is opened when needed.

    Its port is one of those that instances have, so that a firewall between Kong and this host has one rule for both.

    What does not bring the secret that only Kong was told is not counted.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._secret = secrets.token_hex(16)
        self._socket: socket.socket | None = None
        self._watches: weakref.WeakSet[Watch] = weakref.WeakSet()
        self._lock = threading.RLock()

    def plugin(self, service: str, counted: Counted) -> dict[str, Any]:
        """The plugin of that service in Kong, without its service, for a share.  Raises Unavailable."""
        return {"name": PLUGIN, "config": self._config(service), "tags": counting_tags(counted)}

    def _config(self, service: str) -> dict[str, Any]:
        host, port = self._opened().getsockname()[:2]
        fields = {**dict.fromkeys(LEFT_OUT, "return nil"), KEY: f'return "{self._secret} {service}"'}
        return {"host": host, "port": port, "custom_fields_by_lua": fields}

    def is_told(self, plugin: Entity, service: str) -> bool:
        """Does that plugin tell this process of the requests?"""
        if not self._socket:
            return False
        found, wanted = plugin.fields.get("config"), self._config(service)
        return isinstance(found, Mapping) and all(found.get(key) == wanted[key] for key in wanted)

    def place(self, address: str) -> Place:
        """Where Kong says that a request went which it sent to that address of this host.  Raises Unavailable."""
        host, _, port = address.rpartition(":")
        try:
            return _place(host.strip("[]"), port)
        except ValueError:  # a name, which is that of the socket, too
            return _place(self._opened().getsockname()[0], port)

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
    """A socket at that address, with the last free port of those that instances have.  Raises OSError."""
    family, kind, _, _, at = socket.getaddrinfo(address, 0, type=socket.SOCK_DGRAM)[0]
    with ExitStack() as unless_done:
        made = unless_done.enter_context(socket.socket(family, kind))
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        _bind(made, at)
        unless_done.pop_all()
    return made


def _bind(to: socket.socket, at: Sequence[Any]) -> None:
    """Raises OSError."""
    for port in reversed(INSTANCE_PORTS):
        try:
            return to.bind((at[0], port, *at[2:]))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, f"no free port is left in {INSTANCE_PORTS.start}-{INSTANCE_PORTS.stop - 1}")


def _place(ip: str, port: object) -> Place:
    """Raises ValueError."""
    return ipaddress.ip_address(ip).compressed, int(str(port))


def _tries(entry: Mapping[str, Any]) -> Iterator[Try]:
    """Where a request went, and what became of it there.

    If Kong asked another target after one that gave no answer, it went to both, and failed at the first.
    """
    tries = entry.get("tries") or ()
    waited = entry["latencies"]["proxy"]  # until the answer began, -1 if none did
    for number, one in enumerate(tries, 1):
        place = _place(one["ip"], one["port"])
        if number < len(tries):
            yield place, True, None
        else:
            yield place, entry["response"]["status"] >= SERVER_ERROR, waited if waited >= 0 else None
