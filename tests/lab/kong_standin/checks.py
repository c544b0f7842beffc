"""Checks of single values, by the name that the tables give them; each returns Kong's sentence, or None."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache
from urllib.parse import quote, urlsplit

REMEMBERED = 10_000  # addresses: the data path asks the same few again and again
HOSTNAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
PATH = r"/[\w.\-~/%:@!$&'()*+,;=]*"
NUMBERS = re.compile(r"[\d.]+")  # what consists of these is an IPv4 address, or nothing
RESERVED = b"!*'();:@&=+$,/?%#[]"  # stays encoded in a path
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s+([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")
BAD_PEM = "error:680008E:asn1 encoding routines:asn1_d2i_read_bio:not enough data:crypto/asn1/a_d2i_fp.c:155:"


@lru_cache(REMEMBERED)
def split_address(text: str) -> tuple[str, int | None] | None:
    """A host and its port, if any: `name`, `name:80`, `10.0.0.1:80`, `[::1]:80`, `::1`; None if it is none of these."""
    host, port = text, ""
    if match := re.fullmatch(r"\[(.*)\](?::(\d+))?|([^:]*)(?::(\d+))?", text):
        host, port = match[1] or match[3] or "", match[2] or match[4] or ""
    is_name = HOSTNAME.fullmatch(host) and not NUMBERS.fullmatch(host)
    if not (is_ip(host) or is_name) or (port and int(port) > 65535):
        return None
    return host, int(port) if port else None


@lru_cache(REMEMBERED)
def is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def host(text: str) -> str | None:
    found = split_address(text)
    if found is None:
        return f"invalid value: {text}"
    return "must not have a port" if found[1] is not None else None


def host_with_port(text: str) -> str | None:
    return None if split_address(text) else f"invalid hostname: {text}"


def sni(text: str) -> str | None:
    return "must not be an IP" if is_ip(text) else host(text)


def wildcard_host(text: str) -> str | None:
    if text.count("*") > 1:
        return "only one wildcard must be specified"
    if "*" in text[1:-1]:
        return "wildcard must be leftmost or rightmost character"
    return sni(text.replace("*", "wildcard"))


def route_host(text: str) -> str | None:
    if text.count("*") > 1:
        return "invalid wildcard: must have at most one wildcard"
    if "*" in text and not (text.startswith("*.") or text.endswith(".*")):
        return "invalid wildcard: must be placed at leftmost or rightmost label"
    return host_with_port(text.replace("*", "abc"))


def upstream_name(text: str) -> str | None:
    found = split_address(text)
    if found is None:
        return f"Invalid name ('{text}'); must be a valid hostname"
    if is_ip(found[0]):
        return f"Invalid name ('{text}'); no ip addresses allowed"
    return f"Invalid name ('{text}'); no port allowed" if found[1] is not None else None


def target(text: str) -> str | None:
    return None if split_address(text) else f"Invalid target ('{text}'); not a valid hostname or ip address"


def ip_or_cidr(text: str) -> str | None:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return f"invalid ip or cidr range: '{text}'"
    return None


def path(text: str) -> str | None:
    if not re.fullmatch(PATH, text, re.ASCII):
        return f"invalid path: '{text}' (characters outside of the reserved list of RFC 3986 found)"
    if bad := re.search(r"%(?![0-9A-Fa-f]{2}).{0,2}", text):
        return f"invalid url-encoded value: '{bad[0]}'"
    return None


def path_regex(text: str) -> re.Pattern[str]:
    """The regular expression of a path `~...`; PCRE has another word for a group with a name."""
    return re.compile(re.sub(r"\(\?<(?![=!])", "(?P<", text[1:]))


def normal_path(text: str) -> str:
    """A path as routes are compared with it: nothing is encoded that need not be, no dots and no empty segments.

    What is no UTF-8 is told by surrogates.
    """

    def decoded(match: re.Match[bytes]) -> bytes:
        byte = bytes.fromhex(match[1].decode())
        return match[0].upper() if byte in RESERVED else byte

    raw = re.sub(rb"%([0-9A-Fa-f]{2})", decoded, text.encode("utf-8", "surrogateescape"))
    kept: list[bytes] = []
    segments = re.sub(rb"/{2,}", b"/", raw).split(b"/")[1:]
    for number, segment in enumerate(segments, 1):
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
        if segment in (b".", b"..") and number == len(segments):
            kept.append(b"")
    return (b"/" + b"/".join(kept)).decode("utf-8", "surrogateescape")


def escaped_path(text: str) -> str:
    """A path as it is sent on."""
    return quote(text.encode("utf-8", "surrogateescape"), safe="!#$&'()*+,/:;=?@[]%")


def route_path(text: str) -> str | None:
    if re.fullmatch(PATH, text, re.ASCII) and (fault := path(text)):
        return fault
    if not text.startswith("~"):
        normal = normal_path(text)
        return None if text == normal else f"non-normalized path, consider use '{normal}' instead"
    try:
        path_regex(text)
    except re.error as error:
        return f"invalid regex: '{text[1:]}' ({error})"
    return None


def url(text: str) -> str | None:
    parts = urlsplit(text)
    if not parts.hostname:
        return "missing host in url"
    return None if parts.scheme else "missing scheme in url"


def header_name(text: str) -> str | None:
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        return None
    return f"bad header name '{text}', allowed characters are A-Z, a-z, 0-9, '_', and '-'"


def cookie_name(text: str) -> str | None:
    if not re.search(r"""[\x00-\x20\x7f()<>@,;:\\"/?={}[\]]""", text):
        return None
    return (
        "contains one or more invalid characters. ASCII control characters (0-31;127), space, tab and the characters "
        '()<>@,;:\\"/?={}[] are not allowed.'
    )


def tag(text: str) -> str | None:
    if re.search(r"[\x00-\x1f\x7f,/]", text):
        return f"invalid tag '{text}': expected printable ascii (except `,` and `/`) or valid utf-8 sequences"
    return None


def utf8_name(text: str) -> str | None:
    if re.fullmatch(r"[A-Za-z0-9.\-_~\u0080-\U0010ffff]+", text):
        return None
    return f"invalid value '{text}': the only accepted ascii characters are alphanumerics or ., -, _, and ~"


def certificate(text: str) -> str | None:
    return None if CERTIFICATE.search(text) else f"invalid certificate: x509.new: {BAD_PEM}"


def private_key(text: str) -> str | None:
    return None if "PRIVATE KEY-----" in text else f"invalid key: pkey.new:load_key: {BAD_PEM}"


CHECKS: dict[str, Callable[[str], str | None]] = {
    check.__name__: check
    for check in (
        host, host_with_port, sni, wildcard_host, route_host, upstream_name, target, ip_or_cidr, path, route_path, url,
        header_name, cookie_name, tag, utf8_name, certificate, private_key,
    )
}  # fmt: skip
