"""Which addresses are this machine's own."""

from __future__ import annotations

import socket

ANY_PORT = 9  # nothing is sent there


def is_own_address(address: str) -> bool:
    """Does this machine have that IP address?  False for what is none.

    A datagram to it would then leave from that very address: the kernel says so without one being sent.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as asked:
            asked.connect((address, ANY_PORT))
            return str(asked.getsockname()[0]).partition("%")[0] == address
    except (OSError, ValueError):
        return False
