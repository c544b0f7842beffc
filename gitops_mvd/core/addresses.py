"""Where a host leads, however it is written: to this machine, or elsewhere.  Pure."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_LOCAL_NAMES = frozenset(  # as /etc/hosts of the usual distributions and Docker's own name service have them
    {"localhost", "localhost4", "localhost6", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
    | {"host.docker.internal", "gateway.docker.internal", "host.containers.internal"}
)
_METADATA = frozenset(  # where clouds hand out what a server may do, beside the link-local addresses
    {"metadata.google.internal", "fd00:ec2::254", "100.100.100.200"}
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")


def plain_host(host: str) -> str:
    """The host in lower case, without brackets, zone and final dot; full-width letters become plain ones."""
    host = unicodedata.normalize("NFKC", host).replace("\u3002", ".").strip().lower()
    return host.strip("[]").partition("%")[0].rstrip(".")


def address_of(host: str) -> Address | None:
    """The address that is written there, None for a name.  An IPv4 address within IPv6 is the IPv4 address.

    A C library takes `127.1`, `0x7f000001` and `2130706433` for 127.0.0.1, and so does this.
    """
    host = plain_host(host)
    if host in _LOCAL_NAMES or host.endswith(".localhost"):
        return ipaddress.IPv4Address("127.0.0.1")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _from_numbers(host.split("."))
    return address if isinstance(address, ipaddress.IPv4Address) else _embedded(address) or address


def is_loopback(host: str) -> bool:
    """Does it lead to this machine, and is it reached from there alone?"""
    address = address_of(host)
    return address is not None and address.is_loopback


def leads_here(host: str) -> bool:
    """Does it lead to this machine, whichever it is?"""
    address = address_of(host)
    return address is not None and (address.is_loopback or address.is_unspecified)


def is_reachable_here_only(host: str) -> bool:
    """Does it lead to this machine, or to what only this machine reaches, such as the metadata of its cloud?"""
    address = address_of(host)
    is_link_local = address is not None and address.is_link_local
    return leads_here(host) or is_link_local or plain_host(host) in _METADATA


def split_url(url: str) -> tuple[str, int]:
    """The host and the port of a URL or of `host:port`; "" and 0 for what is not there."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        usual = {"https": 443, "grpcs": 443, "http": 80, "grpc": 80}.get(parts.scheme, 0)
        return parts.hostname or "", parts.port or usual
    except ValueError:
        return "", 0


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for."""
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address in _NAT64 or (address in _COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def _from_numbers(parts: list[str]) -> ipaddress.IPv4Address | None:
    """The address of one to four numbers, as inet_aton reads it: the last number fills what is left."""
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        *first, last = (_number(part) for part in parts)
        if any(number > 255 for number in first) or last >= 256 ** (5 - len(parts)):
            return None
    except ValueError:
        return None
    head = sum(number << 8 * (3 - index) for index, number in enumerate(first))
    return ipaddress.IPv4Address(head + last)


def _number(written: str) -> int:
    if len(written) > 20:
        raise ValueError(written)
    if written.lower().startswith("0x"):
        return int(written[2:] or "0", 16)
    return int(written, 8 if written.startswith("0") else 10)
