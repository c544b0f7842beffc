"""The keys of a part of the settings as a reader of a dataclass, and the readers that several parts use.  Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, replace
from dataclasses import fields as fields_of
from typing import TypeVar
from urllib.parse import urlsplit

from gitops_mvd.config.readers import duration, filled
from gitops_mvd.config.tables import Invalid, Key, Place, Reader, accepts, fields, mapping_schema

T = TypeVar("T")


@dataclass(frozen=True)
class Section(Reader[T]):
    """The keys of a part of the settings, as a reader of the dataclass that it becomes.  See `section`."""

    keys: Mapping[str, Key]
    required: tuple[str, ...]


def section(cls: type[T], keys: Mapping[str, Key], derived: Iterable[str] = ()) -> Section[T]:
    """The reader of `cls` from a mapping of `keys`.  Raises TypeError if `cls` and `keys` do not match.

    A field without a default is a required key, unless it is `derived` from other settings.  The defaults of `cls`
    go into the keys, for the manual and the schema.
    """
    parts = {part.name: part for part in fields_of(cls)}  # type: ignore[arg-type]
    if different := parts.keys() ^ keys.keys():
        raise TypeError(f"{cls.__name__} and its keys do not match: {', '.join(sorted(different))}")
    without = [name for name, part in parts.items() if part.default is MISSING and part.default_factory is MISSING]
    required = tuple(name for name in keys if name in without and name not in derived)
    shown = {name: replace(key, default=key.default or _shown(parts[name].default)) for name, key in keys.items()}

    def read(place: Place) -> T:
        values = fields(place, shown, required)
        if missing := set(required) - values.keys():
            raise Invalid(missing)
        return cls(**values)

    return Section(read, mapping_schema(shown, required), shown, required)


def _shown(default: object) -> str:
    """A default as the file would say it; "" for none."""
    match default:
        case bool():
            return f"`{str(default).lower()}`"
        case float():
            return f"`{default:g}s`"
        case str() if default:
            return f"`{default}`"
    return ""


def address(*schemes: str) -> Reader[str]:
    """A reader of addresses of these schemes, without a login, query or fragment."""

    @accepts({"type": "string", "pattern": f"^({'|'.join(schemes)})://"})
    def read(place: Place) -> str:
        value = filled(place)
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError as error:
            place.fail(f"is not an address: {error}")
        written = [f"{scheme}:///path" if scheme == "unix" else f"{scheme}://" for scheme in schemes]
        if parts.scheme not in schemes or not (parts.path if parts.scheme == "unix" else parts.hostname):
            place.fail(f"must be an address that begins with {' or '.join(written)}")
        if parts.username is not None or parts.password is not None:
            place.fail("contains a login: put a header with it into `token_file`, with `token_header: Authorization`")
        if parts.query or parts.fragment or (parts.scheme == "unix" and parts.netloc):
            place.fail("must be an address alone: no query, and a socket with three slashes, unix:///run/kong.sock")
        return value

    return read


@accepts(duration.schema)
def interval(place: Place) -> float:
    seconds = duration(place)
    return seconds if seconds >= 1 else place.fail("must be at least 1s")


@accepts({"type": "string", "pattern": ":[0-9]{1,5}$"})
def listening(place: Place) -> str:
    """An IP address of this server with a port; an address of IPv6 is in brackets."""
    value = filled(place)
    host, _, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        is_written_well = (ipaddress.ip_address(bare).version == 6) is (bare != host)
    except ValueError:
        is_written_well = False
    if not is_written_well:
        place.fail(f"must be an IP address of this server and a port, such as `127.0.0.1:9180`, not {value!r}")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65535):
        place.fail(f"must have a port from 1 to 65535, not {port!r}")
    return value


def host_and_port(listen: str) -> tuple[str, int]:
    """What `listen` says, without the brackets of an IPv6 address."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
