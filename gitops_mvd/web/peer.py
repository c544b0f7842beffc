"""Who of this machine has opened a connection to a port here: the kernel knows the user of each socket."""

from __future__ import annotations

import asyncio
import grp
import ipaddress
import os
import pwd
import struct
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple

from gitops_mvd.web.signal import apart

ESTABLISHED = "01"  # as the kernel's net/tcp_states.h numbers it
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
WITHIN_SECONDS = 3.0
MOST_LOOKUPS = 4  # at once
Address = tuple[str, int]


class LocalUser(NamedTuple):
    """A user of this machine; `groups` are the names of those that it is in."""

    name: str
    groups: frozenset[str]
    is_root: bool


class Peers:
    """Who has opened connections.  It is looked up aside, as the names of users may be in a directory that hangs."""

    def __init__(self, look: Callable[[Address, Address], LocalUser | None] | None = None) -> None:
        self._look = look or local_user
        self._turns = asyncio.Semaphore(MOST_LOOKUPS)

    async def user(self, client: Address, server: Address) -> LocalUser | None:
        """Whose the client's end of a connection is; None if the kernel does not say.  Raises TimeoutError."""
        async with asyncio.timeout(WITHIN_SECONDS):
            await self._turns.acquire()
            return await apart(partial(self._look, client, server), self._turns.release)


def local_user(client: Address, server: Address) -> LocalUser | None:
    """Whose the client's end of a connection is; None if the kernel does not say."""
    for table in TABLES:
        try:
            with open(table) as file:
                number = owner(file, client, server)
        except OSError:
            continue
        if number is not None:
            return _named(number)
    return None


def owner(lines: Iterable[str], client: Address, server: Address) -> int | None:
    """The number of the user to whom the client's end belongs, in the lines of a table of the kernel's."""
    wanted = (_written(client), _written(server))
    port = f":{client[1]:04X} "
    for line in lines:
        if port not in line:  # there may be thousands
            continue
        words = line.split()
        if len(words) > 7 and words[3] == ESTABLISHED and (_end(words[1]), _end(words[2])) == wanted:
            return int(words[7])
    return None


def _written(address: Address) -> Address:
    return plain_address(address[0]), address[1]


def plain_address(written: str) -> str:
    """An address of IPv4 in its own form, though it is written in that of IPv6; whatever else is left as it is."""
    try:
        ip = ipaddress.ip_address(written)
    except ValueError:
        return written
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def _end(words: str) -> Address:
    """An end of a connection: the kernel shows its address in words of four bytes, in the byte order of the machine."""
    address, _, port = words.partition(":")
    packed = b"".join(struct.pack("=I", int(address[at : at + 8], 16)) for at in range(0, len(address), 8))
    return plain_address(str(ipaddress.ip_address(packed))), int(port, 16)


def _named(number: int) -> LocalUser | None:
    try:
        user = pwd.getpwuid(number)
        groups = os.getgrouplist(user.pw_name, user.pw_gid)
    except KeyError:
        return None
    names = frozenset(name for one in groups if (name := _group(one)))
    return LocalUser(user.pw_name, names, number == 0)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return ""
