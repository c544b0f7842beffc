"""What goes in and out of a container, as the kernel counts it: read from /proc, on this host alone."""

from __future__ import annotations

import os
from collections.abc import Iterator

ESTABLISHED, SYN_RECEIVED, LISTENING = "01", "03", "0A"  # as the kernel's net/tcp_states.h numbers them
LOOPBACK = "lo"
V4_IN_V6, V6_LOOPBACK = f"{0:016}FFFF0000", f"{0:024}01000000"


def is_there(pid: int) -> bool:
    """Is there such a process?"""
    return os.path.exists(f"/proc/{pid}")


def received(pid: int) -> int | None:
    """Bytes that reached the network of that process so far; None if that is unknown, as of one that ended."""
    lines = list(_lines(pid, "dev"))[2:]
    counted = [
        fields.split() for name, _, fields in (line.partition(":") for line in lines) if name.strip() != LOOPBACK
    ]
    return sum(int(fields[0]) for fields in counted) if lines else None


def inbound(pid: int) -> int | None:
    """Connections that others hold to ports on which something listens there; None if that is unknown.

    A connection that Kong keeps for later, and one that it waits for an answer on, look alike.
    """
    sockets = list(_sockets(pid))
    if not sockets:
        return 0 if any(_lines(pid, "tcp")) else None
    ports = {_port(local) for local, _, state in sockets if state == LISTENING}
    return sum(
        state in {ESTABLISHED, SYN_RECEIVED} and _port(local) in ports and not is_loopback(remote)
        for local, remote, state in sockets
    )


def to_loopback(port: int) -> int:
    """Connections that programs of this host, Kong among them, hold to a port of its loopback address."""
    return sum(
        state == ESTABLISHED and _port(remote) == f"{port:04X}" and is_loopback(remote)
        for _, remote, state in _sockets("self")
    )


def is_loopback(address: str) -> bool:
    """Is it 127.0.0.0/8, as it is or inside of IPv6, or ::1?  The kernel shows words, the last byte first."""
    host = address.rpartition(":")[0].removeprefix(V4_IN_V6)
    return host == V6_LOOPBACK or (len(host) == 8 and host.endswith("7F"))


def _sockets(process: int | str) -> Iterator[list[str]]:
    """Local address, remote address and state of each TCP socket in the network of a process."""
    return (line.split()[1:4] for table in ("tcp", "tcp6") for line in list(_lines(process, table))[1:])


def _port(address: str) -> str:
    return address.rpartition(":")[2]


def _lines(process: int | str, table: str) -> Iterator[str]:
    try:
        with open(f"/proc/{process}/net/{table}") as file:
            yield from file
    except OSError:
        return
