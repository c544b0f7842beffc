"""What the kernel says of the network of a process."""

from __future__ import annotations

import os
import socket

import pytest

from gitops_mvd.net.traffic import inbound, is_loopback, received, to_loopback


@pytest.mark.parametrize(
    ("address", "loopback"),
    [
        ("0100007F:1F90", True),  # 127.0.0.1
        ("010011AC:1F90", False),  # 172.17.0.1
        ("0000000000000000FFFF00000100007F:1F90", True),  # ::ffff:127.0.0.1
        ("0000000000000000FFFF0000010011AC:1F90", False),  # ::ffff:172.17.0.1
        ("00000000000000000000000001000000:1F90", True),  # ::1
        ("B80D012000000000000000000100007F:1F90", False),  # 2001:db8::7f00:1, which only ends like one
    ],
)
def test_only_a_connection_from_inside_is_none_of_others(address: str, loopback: bool) -> None:
    assert is_loopback(address) is loopback


def test_a_connection_of_its_own_is_not_counted() -> None:
    """Others may connect to this machine at any time, so it takes one moment in which nobody did."""
    counted = []
    for _ in range(100):
        before = inbound(os.getpid())
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_connection(listening.getsockname()):
            counted.append((before, inbound(os.getpid())))
        if before is not None and before == counted[-1][1]:
            return
    pytest.fail(f"counted before and during its own connection: {counted}")


def test_of_a_process_that_ended_nothing_can_be_told() -> None:
    nobody = 2**22 + 1  # beyond the most that a kernel gives
    assert (inbound(nobody), received(nobody)) == (None, None)
    assert received(os.getpid()) is not None


def test_what_this_host_holds_to_a_port_of_its_loopback_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert to_loopback(port) == 0
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            assert to_loopback(port) == 2
