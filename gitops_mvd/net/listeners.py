"""Who listens on a port of this host: in the kernel's tables, and by name as `ss` shows it."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

LISTENING, UNCONNECTED = "0A", "07"  # as the kernel's net/tcp_states.h numbers them; the latter is a bound UDP socket
TABLES = {"tcp": LISTENING, "udp": UNCONNECTED}
ANY = {"0.0.0.0", "::"}
_USER = re.compile(r'\("([^"]*)",pid=(\d+)')


class Listener(NamedTuple):
    """A socket that others may connect to: its address, and the program behind it, "" and 0 if that is unknown.

    `*` is any address of both families, as far as that is known: the kernel's tables show it as `::`.
    """

    address: str
    program: str = ""
    pid: int = 0

    def is_in_the_way(self, address: str) -> bool:
        """Can nothing else listen on its port at that address, "" for any of IPv4?  False in doubt."""
        wanted = address or "0.0.0.0"
        if self.address == "*":
            return True
        return _family(self.address) == _family(wanted) and (
            self.address == wanted or not ANY.isdisjoint((self.address, wanted))
        )


def listening(port: int, protocol: str) -> list[Listener]:
    """The sockets of that port, without their programs; of `udp` or `tcp`, and none of another protocol."""
    tables = (protocol, f"{protocol}6") if protocol in TABLES else ()
    return [found for table in tables for found in in_table(_lines(table), port, TABLES[protocol])]


def in_table(lines: Iterable[str], port: int, state: str) -> Iterator[Listener]:
    """The sockets of that port and state in the lines of a table of the kernel's."""
    for line in lines:
        local, _, its_state = line.split()[1:4]
        address, _, number = local.partition(":")
        if its_state == state and int(number, 16) == port:
            yield Listener(_address(address))


def is_here(address: str) -> bool:
    """Has this host that address, "" for any?  True in doubt."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, 0))
        except OSError as error:
            return error.errno != errno.EADDRNOTAVAIL
    return True


def command(port: int, protocol: str) -> tuple[str, ...]:
    """What shows the programs behind a port, to whoever may see them."""
    return ("ss", "--no-header", "--numeric", "--processes", "--listening", f"--{protocol}", f"sport = :{port}")


def shown(lines: Iterable[str]) -> list[Listener]:
    """The sockets in the output of `command`."""
    found = []
    for line in lines:
        words = line.split()
        if len(words) < 5:
            continue
        address = words[3].rpartition(":")[0].partition("%")[0].strip("[]")
        user = _USER.search(line)
        found.append(Listener(address, user[1], int(user[2])) if user else Listener(address))
    return found


def _family(address: str) -> int:
    return 6 if ":" in address else 4


def _address(words: str) -> str:
    """The kernel shows an address in words of four bytes, in the byte order of the machine."""
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    address = ipaddress.ip_address(packed)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _lines(table: str) -> Iterator[str]:
    try:
        with open(f"/proc/net/{table}") as file:
            yield from list(file)[1:]
    except OSError:
        return
