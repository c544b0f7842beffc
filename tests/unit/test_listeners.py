"""Who listens on a port: in the kernel's tables, and as `ss` shows it."""

from __future__ import annotations

import socket
import sys

import pytest

from gitops_mvd.net.listeners import LISTENING, Listener, in_table, is_here, listening, shown


@pytest.mark.parametrize(
    ("kind", "protocol", "address", "is_found"),
    [
        (socket.SOCK_STREAM, "tcp", "127.0.0.1", True),
        (socket.SOCK_STREAM, "udp", "127.0.0.1", False),
        (socket.SOCK_STREAM, "sctp", "127.0.0.1", False),
        (socket.SOCK_DGRAM, "udp", "127.0.0.1", True),
        (socket.SOCK_DGRAM, "tcp", "127.0.0.1", False),
    ],
)
def test_a_socket_is_found_by_its_port_and_protocol(kind: int, protocol: str, address: str, is_found: bool) -> None:
    with socket.socket(socket.AF_INET, kind) as bound:
        bound.bind((address, 0))
        if kind == socket.SOCK_STREAM:
            bound.listen()
        port = bound.getsockname()[1]
        assert (Listener(address) in listening(port, protocol)) is is_found
    assert Listener(address) not in listening(port, protocol)


@pytest.mark.skipif(sys.byteorder == "big", reason="the kernel's tables are in the machine's own byte order")
def test_an_address_is_read_as_it_is_written() -> None:
    rows = {
        "0100007F:1F90": "127.0.0.1",
        "0000000000000000FFFF00000100007F:1F90": "127.0.0.1",
        "00000000000000000000000001000000:1F90": "::1",
        "00000000000000000000000000000000:1F90": "::",
        "B80D0120000000000000000001000000:1F90": "2001:db8::1",
        "0100007F:1F91": None,
    }
    lines = [f"   0: {local} 00000000:0000 {LISTENING} 00000000:00000000 00:00000000" for local in rows]
    assert [found.address for found in in_table(lines, 8080, LISTENING)] == [one for one in rows.values() if one]
    assert not list(in_table(lines, 8080, "01"))


@pytest.mark.parametrize(
    ("there", "wanted", "is_in_the_way"),
    [
        ("0.0.0.0", "", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("127.0.0.1", "", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.1", False),
        ("::1", "127.0.0.1", False),
        ("::", "127.0.0.1", False),  # it may be for IPv6 alone
        ("::", "", False),
        ("::1", "", False),
        ("*", "127.0.0.1", True),
        ("::", "::1", True),
        ("0.0.0.0", "::1", False),
    ],
)
def test_only_a_socket_at_the_same_address_is_in_the_way(there: str, wanted: str, is_in_the_way: bool) -> None:
    assert Listener(there).is_in_the_way(wanted) is is_in_the_way


def test_what_ss_shows_is_read_with_its_programs() -> None:
    printed = [
        'LISTEN 0      511          0.0.0.0:80        0.0.0.0:*    users:(("nginx",pid=12,fd=6),("nginx",pid=11,fd=6))',
        'LISTEN 0      4096               *:80              *:*    users:(("caddy",pid=13,fd=7))',
        "LISTEN 0      511             [::]:80           [::]:*",
        'UNCONN 0      0      127.0.0.53%lo:53        0.0.0.0:*    users:(("systemd-resolve",pid=14,fd=13))',
        "",
    ]
    assert shown(printed) == [
        Listener("0.0.0.0", "nginx", 12),
        Listener("*", "caddy", 13),
        Listener("::"),
        Listener("127.0.0.53", "systemd-resolve", 14),
    ]


@pytest.mark.parametrize(
    ("address", "is_one"), [("", True), ("0.0.0.0", True), ("127.0.0.1", True), ("192.0.2.1", False)]
)
def test_an_address_is_one_of_this_host(address: str, is_one: bool) -> None:
    assert is_here(address) is is_one
