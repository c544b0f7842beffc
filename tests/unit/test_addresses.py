"""What leads to this machine is known however it is written, and nothing else is taken for it."""

from __future__ import annotations

import pytest

from gitops_mvd.core.addresses import address_of, is_reachable_here_only, leads_here, split_url


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.9.9.9", "127.1", "127.0.1", "0x7f000001", "0x7f.1", "0177.0.0.1", "017700000001"),
        *("2130706433", "0.0.0.0", "0", "localhost", "LocalHost.", "a.localhost", "ip6-localhost", "::1", "[::1]"),
        *("::", "::1%lo", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"),
        *("\uff11\uff12\uff17.0.0.1", "127\u30020.0.1", "\u24db\u24decalhost", "host.docker.internal"),
    ],
)
def test_this_machine_is_known_in_every_spelling(host: str) -> None:
    assert leads_here(host)


@pytest.mark.parametrize(
    "host",
    [
        *("", "10.0.0.1", "example.org", "localhost.example.org", "notlocalhost", "2001:db8::1", "::ffff:10.0.0.1"),
        *("127.0.0.1.nip.io", "1.2.3.4.5", "256.1.1.1", "0x", "beef", "8.8.8.8", "9" * 400, "0x" + "f" * 400, "127.-1"),
    ],
)
def test_nothing_else_is_taken_for_it(host: str) -> None:
    assert leads_here(host) is (host == "0x")  # a C library reads that as 0


@pytest.mark.parametrize("host", ["169.254.169.254", "fe80::1", "fd00:ec2::254", "Metadata.google.internal."])
def test_the_metadata_of_a_cloud_is_reached_from_here_only(host: str) -> None:
    assert is_reachable_here_only(host)
    assert not leads_here(host)


def test_an_address_within_an_address_is_the_inner_one() -> None:
    assert str(address_of("::ffff:10.0.0.1")) == str(address_of("64:ff9b::a00:1")) == "10.0.0.1"


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://a.org/x", "a.org", 80),
        ("https://a.org", "a.org", 443),
        ("redis://a.org", "a.org", 0),
        ("a.org:6379", "a.org", 6379),
        ("[::1]:53", "::1", 53),
        ("http://a:b@127.0.0.1:8001", "127.0.0.1", 8001),
        ("http://[", "", 0),
        ("http://a:99999", "", 0),
    ],
)
def test_a_url_has_a_host_and_a_port(url: str, host: str, port: int) -> None:
    assert split_url(url) == (host, port)
