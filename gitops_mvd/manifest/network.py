"""`ports`, `expose` and `networks`, of a service and of the top level.  Pure."""

from __future__ import annotations

import ipaddress
import re

from gitops_mvd.config.readers import (
    FILLED,
    STRING,
    WORD,
    boolean,
    each,
    either,
    filled,
    integer,
    list_of,
    mapping_of,
    one_of,
    port_number,
    string_map,
    strings,
    text,
    word,
)
from gitops_mvd.config.tables import (
    Ignored,
    Key,
    Place,
    Table,
    Unsupported,
    accepts,
    fields,
    mapping_schema,
    or_empty,
    record,
)
from gitops_mvd.config.yamltree import Node
from gitops_mvd.core.claims import is_fixed
from gitops_mvd.core.compose import Ipam, Network, Pool, Port
from gitops_mvd.manifest.budget import MOST_PORTS, refuse_many
from gitops_mvd.manifest.subnets import is_within
from gitops_mvd.manifest.values import AttachmentKeys, NetworkKeys

PORT_PROTOCOLS = ("tcp", "udp", "sctp")
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


def split_port(text: str) -> tuple[str, str, str, str]:
    """`[[host_ip:]published:]target[/protocol]` in its four parts, "" and tcp for what is not there."""
    rest, _, protocol = text.partition("/")
    host, _, target = rest.rpartition(":")
    host_ip, _, published = host.rpartition(":")
    return host_ip.strip("[]"), published, target, protocol or "tcp"


def port_range(place: Place, written: str) -> range:
    """The ports of `3000` or `3000-3005`."""
    found = _PORTS.fullmatch(written)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last <= 65535:
        place.fail(f"has {written!r} instead of a port from 1 to 65535 or a range such as 3000-3005")
    return range(first, last + 1)


@accepts(STRING)
def address(place: Place) -> str:
    """An IP address."""
    value = text(place)
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        place.fail(f"must be an IP address, not {value!r}")


@accepts(STRING)
def _ipv4(place: Place) -> str:
    return _of_version(place, 4)


@accepts(STRING)
def _ipv6(place: Place) -> str:
    return _of_version(place, 6)


def _of_version(place: Place, version: int) -> str:
    found = address(place)
    if ipaddress.ip_address(found).version != version:
        place.fail(f"must be an IPv{version} address, not {found!r}")
    return found


def _port(place: Place) -> list[Port]:
    if isinstance(place.value(), dict):
        return _long_port(place)
    host_ip, published, target, protocol = split_port(word(place))
    if host_ip:
        host_ip = address(Place(Node(host_ip, place.node.file, place.node.line), place.path, place.sink))
    if protocol not in PORT_PROTOCOLS:
        place.fail(f"has the protocol {protocol!r}: it can be tcp, udp or sctp")
    targets = port_range(place, target)
    found = port_range(place, published) if published else None
    if found is not None and len(targets) not in (1, len(found)):
        place.fail(f"publishes {len(found)} ports for {len(targets)}: both ranges must be of one length")
    if found is not None and len(targets) == 1:
        fixed = [published]
    else:
        fixed = [str(port) for port in found] if found is not None else [""] * len(targets)
    return [
        {"target": port, "published": at, "host_ip": host_ip, "protocol": protocol}
        for port, at in zip(targets, fixed, strict=True)
    ]


@accepts(WORD)
def _published(place: Place) -> str:
    written = word(place)
    if written:
        port_range(place, written)
    return written


PORT_KEYS: Table = {
    "target": Key("The port in the container.", port_number),
    "published": Key("The port on the host, or a range to choose one from; left out: any free one.", _published),
    "host_ip": Key("The address on the host to listen at; left out: all.", address),
    "protocol": Key("`tcp` (the default), `udp` or `sctp`.", one_of(*PORT_PROTOCOLS)),
    "mode": Ignored("`host` and `ingress` are the same on a single host.", one_of("host", "ingress")),
    "name": Ignored("for readers only.", text),
    "app_protocol": Ignored("for readers only.", text),
}


_port_keys = record(Port, PORT_KEYS, ("target",))


def _long_port(place: Place) -> list[Port]:
    port = _port_keys(place)
    if "target" not in port:
        return []
    published, host_ip = port.get("published", ""), port.get("host_ip", "")
    protocol = port.get("protocol", "tcp")
    return [{"target": port["target"], "published": published, "host_ip": host_ip, "protocol": protocol}]


@accepts({"type": "array", "items": either(WORD, _port_keys.schema)})
def ports(place: Place) -> list[tuple[Place, Port]]:
    """Every port by itself, with the place that asked for it; the same port of the host twice is once.

    Raises ManifestError if there are too many.
    """
    count = 0

    def read(item: Place) -> list[Port]:
        nonlocal count
        some = _port(item)
        count += len(some)
        refuse_many(item, count, MOST_PORTS, "ports")
        return some

    found: list[tuple[Place, Port]] = []
    seen: set[tuple[object, ...]] = set()
    for at, port in ((at, port) for at, some in each(place, read) for port in some):
        values = (port["target"], port["published"], port["host_ip"], port["protocol"])
        if not is_fixed(port) or values not in seen:
            found.append((at, port))
        seen.add(values)
    return found


@accepts({"type": "array", "items": WORD})
def expose(place: Place) -> list[str]:
    """`3000`, `3000/udp` and ranges, as written."""

    def read(item: Place) -> str:
        written = word(item)
        ports, _, protocol = written.partition("/")
        port_range(item, ports)
        return written if protocol in ("", *PORT_PROTOCOLS) else item.fail(f"has the protocol {protocol!r}")

    return [value for _, value in each(place, read)]


ATTACHMENT: Table = {
    "aliases": Key("More names of the service on this network.", strings),
    "ipv4_address": Key("A fixed address; the service then stops before its successor starts.", _ipv4),
    "ipv6_address": Key("A fixed address; the service then stops before its successor starts.", _ipv6),
    "link_local_ips": Key("Link-local addresses.", list_of(address)),
    "mac_address": Key("A fixed MAC address; the service then stops before its successor starts.", filled),
    "driver_opts": Key("Options of the network's driver for this endpoint.", mapping_of(word)),
    "priority": Key("The network with the highest priority is connected first.", integer()),
    "gw_priority": Key(
        "The network with the highest priority is the default gateway (Docker 28 and later).", integer()
    ),
    "interface_name": Unsupported("is not supported: the engine names the interfaces; remove it"),
    "use_service_name_alias": Key("`false`: the service is not found by its own name on this network.", boolean),
}
_attachment = record(AttachmentKeys, ATTACHMENT)


@accepts(
    either(
        {"type": "array", "items": FILLED},
        {"type": "object", "additionalProperties": or_empty(_attachment.schema)},
    )
)
def attachments(place: Place) -> dict[str, tuple[Place, AttachmentKeys]]:
    """The networks that a service joins, by the name that the file knows them under."""
    if isinstance(place.value(), list):
        return {name: (at, {}) for at, name in each(place, filled)}
    joined = {}
    for name, at in place.entries().items():
        options: AttachmentKeys | None = {} if at.empty else at.attempt(_attachment)
        if options is not None:
            joined[name] = at, options
    return joined


_EXTERNAL: Table = {"name": Key("The name of what exists already.", filled)}


@accepts(either(boolean.schema, mapping_schema(_EXTERNAL)))
def external(place: Place) -> bool | str:
    """Does it exist already?  In the form of version 2, `{name: proxy}`, its name."""
    if isinstance(place.value(), dict):
        return str(fields(place, _EXTERNAL).get("name", "")) or True
    return boolean(place)


@accepts({"enum": [True, "true"]})
def _always(place: Place) -> bool:
    return boolean(place) or place.fail("can only be true: a network without IPv4 addresses is not supported")


@accepts(FILLED)
def _cidr(place: Place) -> str:
    """A network in CIDR notation, as written."""
    written = filled(place)
    try:
        network = ipaddress.ip_network(written, strict=False)
    except ValueError:
        place.fail(f"must be a network such as 172.20.0.0/16, not {written!r}")
    address, slash, size = written.partition("/")
    if not slash:
        place.fail(f"has no size: write {written}/24, or what it is")
    if not size.isdecimal():  # an engine knows no netmask
        place.fail(f"must be a network such as {network}, not {written!r}")
    if network.network_address != ipaddress.ip_address(address):
        place.note(f"is refused by newer engines, which want it as {network}")
    return written


_POOL: Table = {
    "subnet": Key("The subnet in CIDR notation.", _cidr),
    "ip_range": Key("The part of the subnet that addresses are given out from.", _cidr),
    "gateway": Key("The gateway's address.", address),
    "aux_addresses": Key("Addresses that are in use, by host name.", mapping_of(address)),
}
_pool_keys = record(Pool, _POOL)


@accepts(_pool_keys.schema)
def _pool(place: Place) -> Pool:
    """A pool whose parts are all in its subnet."""
    pool, entries = _pool_keys(place), place.entries()
    if "subnet" not in pool:
        if pool and not place.has("subnet"):
            place.report("has no `subnet`, which an engine needs beside the other keys")
        return pool
    subnet = ipaddress.ip_network(pool["subnet"], strict=False)
    if "ip_range" in pool and not is_within(ipaddress.ip_network(pool["ip_range"], strict=False), subnet):
        entries["ip_range"].report(f"is outside of the subnet {pool['subnet']}")
    inside = [(entries["gateway"], pool["gateway"])] if "gateway" in pool else []
    inside += [(entries["aux_addresses"].entries()[name], it) for name, it in pool.get("aux_addresses", {}).items()]
    for at, address in inside:
        if ipaddress.ip_address(address) not in subnet:
            at.report(f"is outside of the subnet {pool['subnet']}")
    return pool


_IPAM: Table = {
    "driver": Key("The driver of the address management.", filled),
    "config": Key("The address pools.", list_of(_pool)),
    "options": Key("Options of that driver.", mapping_of(word)),
}
NETWORK: Table = {
    "name": Key("The network's name on the host, instead of `mvd-<app>-<network>-<digest>`.", filled),
    "external": Key("`true`: the network exists already. It is used, and never created, changed or removed.", external),
    "driver": Key("`bridge` if left out.", filled),
    "driver_opts": Key("Options of the driver.", mapping_of(word)),
    "ipam": Key(
        "Address management: `driver`, `config` (`subnet`, `ip_range`, `gateway`, `aux_addresses`), `options`.",
        record(Ipam, _IPAM),
    ),
    "internal": Key("`true`: the network has no connection to the outside.", boolean),
    "attachable": Key("`true`: other containers may join.", boolean),
    "enable_ipv4": Key("Give out IPv4 addresses. Only `true` is allowed.", _always),
    "enable_ipv6": Key("Give out IPv6 addresses.", boolean),
    "labels": Key("Labels of the network.", string_map),
}
read_network = record(NetworkKeys, NETWORK)


def check_address(at: Place, network: Network) -> None:
    """Report a fixed address that an engine does not give on a network, as far as that can be told."""
    ipam, written = network.get("ipam", {}), at.node.value
    if network.get("external") or ipam.get("driver", "default") != "default" or not isinstance(written, str):
        return
    wanted = ipaddress.ip_address(written)
    pools = [pool for pool in ipam.get("config", ()) if "subnet" in pool]
    subnets = {ipaddress.ip_network(pool["subnet"], strict=False): pool for pool in pools}
    of_kind = [subnet for subnet in subnets if subnet.version == wanted.version]
    subnet = next((subnet for subnet in of_kind if wanted in subnet), None)
    if not of_kind:
        at.note(f"is refused by engines, unless the network has a `subnet` for IPv{wanted.version} in its `ipam`")
    elif subnet is None:
        at.report(f"is outside of the subnet {', '.join(map(str, of_kind))}")
    elif subnets[subnet].get("gateway") == str(wanted):
        at.report(f"is the gateway of the subnet {subnet}")
    elif wanted.version == 4 and subnet.num_addresses > 2 and wanted in (subnet[0], subnet[-1]):
        at.report(f"is the first or the last address of the subnet {subnet}, which no container can have")
