"""Which addresses are this machine's own."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path

ROUTES, INTERFACES = Path("/proc/net/fib_trie"), Path("/proc/net/if_inet6")
_ELSEWHERE = "192.0.2.1", 9  # of no machine (RFC 5737); nothing is sent there
_LOCAL = r"\|-- {}\n\s+/32 host LOCAL"


def is_own_address(address: str, routes: Path = ROUTES, interfaces: Path = INTERFACES) -> bool:
    """Does this machine have that IP address, on any interface and beside any other one?  False for what is none.

    The kernel's own lists say so: one can bind to an address of others, and one's second is never a source.
    """
    try:
        asked = ipaddress.ip_address(address.partition("%")[0])
        if asked.version == 4:
            return bool(re.search(_LOCAL.format(re.escape(str(asked))), routes.read_text()))
        return asked.packed.hex() in {line.partition(" ")[0] for line in interfaces.read_text().splitlines()}
    except (OSError, ValueError):
        return False


def source_address() -> str:
    """The IPv4 address by which this machine is known to others, that of its default route; "" without such a route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(_ELSEWHERE)
            return str(asking.getsockname()[0])
        except OSError:
            return ""
