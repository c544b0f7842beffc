"""Whether an address is this machine's, by the kernel's own lists."""

from pathlib import Path

import pytest

from gitops_mvd.net.own_address import is_own_address

ROUTES = """Local:
  +-- 0.0.0.0/0 3 0 4
     +-- 10.9.0.0/24 2 0 2
        |-- 10.9.0.5
           /32 host LOCAL
        |-- 10.9.0.6
           /32 host LOCAL
        |-- 10.9.0.255
           /32 link BROADCAST
     |-- 192.168.1.60
        /32 host LOCAL
"""
INTERFACES = "fd000000000000000000000000000001 02 40 00 80     eth0\n"


@pytest.mark.parametrize(
    ("address", "is_own"),
    [
        ("10.9.0.5", True),
        ("10.9.0.6", True),
        ("10.9.0.255", False),
        ("10.9.0.8", False),
        ("192.168.1.6", False),
        ("fd00::1", True),
        ("fd00::1%eth0", True),
        ("fd00::2", False),
        ("", False),
        ("shop", False),
    ],
)
def test_all_addresses_of_the_machine_are_its_own(tmp_path: Path, address: str, is_own: bool) -> None:
    (tmp_path / "routes").write_text(ROUTES)
    (tmp_path / "interfaces").write_text(INTERFACES)
    assert is_own_address(address, tmp_path / "routes", tmp_path / "interfaces") is is_own


def test_the_kernel_writes_them_so() -> None:
    assert is_own_address("127.0.0.1")
    assert not is_own_address("192.0.2.1")
