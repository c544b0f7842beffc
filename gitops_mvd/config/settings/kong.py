"""`kong`: the Kong of this server.  Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from gitops_mvd.config.readers import absolute, boolean, filled, one_of
from gitops_mvd.config.settings.section import address, is_this_machine, section
from gitops_mvd.config.tables import Key, Place, accepts


@dataclass(frozen=True, slots=True)
class KongSettings:
    """The Kong of this server, or of all servers that have the same name for it in `shared`."""

    admin: str = "http://127.0.0.1:8001"
    proxy: str = "http://127.0.0.1:8000"
    address: str = "127.0.0.1"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    token_file: str = ""
    token_header: str = "Kong-Admin-Token"
    insecure: bool = False
    boot_file: str = ""
    drift: str = "repair"
    shared: str = ""

    @property
    def files(self) -> tuple[str, ...]:
        return (self.ca_file, self.cert_file, self.key_file, self.token_file)


_HEADER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SHARED = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


@accepts({"type": "string", "pattern": f"^{_HEADER}$"})
def _header(place: Place) -> str:
    value = filled(place)
    if not re.fullmatch(_HEADER, value):
        place.fail("must be the name of a header, such as `Authorization`")
    return value


@accepts({"type": "string", "pattern": r"^/.*\.(yaml|yml|json)$"})
def _boot_file(place: Place) -> str:
    value = absolute(place)
    if not value.endswith((".yaml", ".yml", ".json")):
        place.fail("must end in .yaml, .yml or .json: Kong reads no other file")
    return value


@accepts({"type": "string", "pattern": f"^{_SHARED}$"})
def _shared(place: Place) -> str:
    value = filled(place)
    if not re.fullmatch(_SHARED, value):
        place.fail(f"must be a name of letters, digits, dots, dashes and underscores, not {value!r}")
    return value


KONG_SECTION = section(
    KongSettings,
    {
        "admin": Key(
            "The Admin API: `http://HOST:PORT`, `https://HOST:PORT`, either with a path behind it, or `unix:///PATH`.",
            address("http", "https", "unix"),
        ),
        "proxy": Key(
            "The proxy, `http://` or `https://`. It is asked whether a new route works.", address("http", "https")
        ),
        "address": Key(
            "The address of this server that routed services are published on, and where Kong reaches them. The "
            "default is for a Kong on the same server.",
            filled,
        ),
        "ca_file": Key(
            "The file with the certificate of the authority that signed the certificate of the Admin API.",
            absolute,
            "the authorities that this server trusts",
        ),
        "cert_file": Key("The file with the client certificate for the Admin API.", absolute),
        "key_file": Key("The file with the key of `cert_file`, unencrypted.", absolute),
        "token_file": Key("The file with the value of the header `token_header`.", absolute),
        "token_header": Key(
            "The header that authenticates at the Admin API. The default is the one of Kong's RBAC; `apikey` for a "
            "key-auth plugin before it; `Authorization`, with `Bearer ...` or `Basic ...` in the file.",
            _header,
        ),
        "insecure": Key(
            "`true` sends the token over plain http to another machine. For a private network only.", boolean
        ),
        "boot_file": Key(
            "Kong's declarative start file, for a Kong without a database. It is kept up to date.", _boot_file
        ),
        "drift": Key(
            "What is done about a change that somebody made in Kong by hand: it is undone (`repair`) or only reported "
            "(`report`).",
            one_of("repair", "report"),
        ),
        "shared": Key(
            "A name, the same on all servers that share this Kong. Such a Kong must have a database, and reach "
            "`address`.",
            _shared,
            "none, this Kong routes to this server only",
        ),
    },
)


@accepts(KONG_SECTION.schema)
def read_kong(place: Place) -> KongSettings:
    found = KONG_SECTION(place)
    scheme, host = urlsplit(found.admin).scheme, urlsplit(found.admin).hostname or ""
    for key, other in (("cert_file", "key_file"), ("key_file", "cert_file")):
        if place.has(key) and not place.has(other):
            place.entries()[key].report(f"needs `{other}`")
    if found.cert_file and scheme != "https":
        place.entries()["cert_file"].report("is only used with an `admin` that begins with https://")
    if found.token_file and scheme == "http" and not found.insecure and not is_this_machine(host):
        told = "would be sent over plain http to another machine: use https, or set `insecure: true`"
        place.entries()["token_file"].report(told)
    if place.has("token_header") and not found.token_file:
        place.entries()["token_header"].report("needs `token_file`")
    if found.shared and not _is_reached(found.address):
        at = place.entries()["address" if place.has("address") else "shared"]
        at.report(f"needs an `address` of this server that a shared Kong reaches, which {found.address} is not")
    if found.shared and found.boot_file:
        place.entries()["boot_file"].report("is for a Kong without a database, and a shared one needs a database")
    return found


def _is_reached(address: str) -> bool:
    """May another server reach that address?"""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address.rstrip(".").rpartition(".")[2] != "localhost"
    return not (ip.is_loopback or ip.is_unspecified)
