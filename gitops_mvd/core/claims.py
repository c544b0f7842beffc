"""Claims: what a service has of the host, and no other service can have at the same time.  Pure.

A port that passes from one service to another is let go of before it is taken, and so is a volume: two services write
to one only if a commit wants both to.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from weakref import WeakKeyDictionary

from gitops_mvd.core.compose import Mount, Network, Port
from gitops_mvd.core.matches import combinations
from gitops_mvd.core.model import App, Service

EVERYWHERE = ("", "0.0.0.0", "::")  # addresses that stand for all of the host
PORT, FOLDER, VOLUME, ROUTE, SUBNET = "port", "folder", "volume", "route", "subnet"
ADDRESS, MAC = "address", "MAC address"  # on a network
DATA = (VOLUME, FOLDER)
ADDRESSES = ("ipv4_address", "ipv6_address")


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """Something of the host: of the same `kind` and `name` for two services that want the same.

    `address` is where on the host a port is, "" for everywhere.  Several services may want what `is_shared`, as a
    volume; but it never passes from one to another while both run.
    """

    kind: str
    name: str
    address: str = ""
    is_shared: bool = False
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        if self.text:
            return self.text
        name = self.name.removesuffix("/tcp") if self.kind == PORT else self.name
        return f"{self.kind} {name}" + (f" at {self.address}" if self.address else "")

    @property
    def key(self) -> tuple[str, str]:
        """The same for all claims that may meet this one."""
        return self.kind, "" if self.kind in _OVERLAPS else self.name

    def meets(self, other: Claim) -> bool:
        """Can only one of them be had?"""
        if self.kind != other.kind or (self.address and other.address and self.address != other.address):
            return False
        overlaps = _OVERLAPS.get(self.kind)
        return self.name == other.name or bool(overlaps and overlaps(self.name, other.name))


def is_fixed(port: Port) -> bool:
    """Does it take one certain port of the host?"""
    return bool(port["published"]) and "-" not in port["published"]


def port_claim(published: int | str, protocol: str, address: str) -> Claim:
    return Claim(PORT, f"{published}/{protocol}", "" if address in EVERYWHERE else address)


def of_port(port: Port) -> Claim:
    return port_claim(port["published"], port["protocol"], port["host_ip"])


def of_service(app: str, service: Service) -> frozenset[Claim]:
    """All that a service of an app claims."""
    return frozenset(_of_service(app, service))


def _of_service(app: str, service: Service) -> Iterator[Claim]:
    run = service.run
    yield from (of_port(port) for port in run.get("ports", ()) if is_fixed(port))
    if run.get("network_mode") == "host":
        yield from (Claim(PORT, f"{port}/tcp") for port in sorted(known_ports(service)))
    yield from filter(None, (_of_mount(app, mount) for mount in run.get("volumes", ())))
    for network, endpoint in run.get("networks", {}).items():
        yield from (Claim(ADDRESS, f"{endpoint[key]} on {network}") for key in ADDRESSES if key in endpoint)  # type: ignore[literal-required]
        if mac := endpoint.get("mac_address"):
            yield Claim(MAC, mac.lower())
    if "mac_address" in run:
        yield Claim(MAC, run["mac_address"].lower())
    for device in run.get("devices", ()):
        yield Claim("device", device.partition(":")[0], is_shared=True)
    for request in run.get("gpus", ()):
        yield from (Claim("GPU", id, is_shared=True) for id in request["device_ids"])


def known_ports(service: Service) -> set[int]:
    """The ports on which a service on the host's own network surely listens; what it exposes is a mere remark."""
    spec = service.check.spec
    found = {service.kong["port"]} if service.kong else set()
    return found | ({spec["port"]} if isinstance(spec.get("port"), int) else set())


def _of_mount(app: str, mount: Mount) -> Claim | None:
    """The volume or the folder of the host that a mount lets its service write to."""
    if mount["read_only"] or not mount["source"] or mount["type"] == "tmpfs":
        return None
    if mount["type"] == "volume":
        return Claim(VOLUME, mount["source"], is_shared=True)
    source = mount["source"]
    return Claim(FOLDER, posixpath.normpath(source if source.startswith("/") else f"{app}/{source}"), is_shared=True)


def _is_below(one: str, other: str) -> bool:
    """Is one folder below the other, or the other way round?"""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


def _share_addresses(one: str, other: str) -> bool:
    subnets = ip_network(one), ip_network(other)
    return subnets[0].version == subnets[1].version and subnets[0].overlaps(subnets[1])


_OVERLAPS: Mapping[str, Callable[[str, str], bool]] = {FOLDER: _is_below, SUBNET: _share_addresses}


def of_network(network: Network) -> Iterator[Claim]:
    """The parts of subnets that an engine gives out addresses from; other drivers of addresses have their own."""
    ipam = network.get("ipam", {})
    for pool in ipam.get("config", ()) if ipam.get("driver", "default") == "default" else ():
        if "subnet" in pool:
            yield Claim(SUBNET, str(ip_network(pool.get("ip_range", pool["subnet"]), strict=False)))


def passing(given: Iterable[Claim], taken: Iterable[Claim]) -> list[Claim]:
    """The claims among those `taken` that cannot be had beside those `given`."""
    held: defaultdict[tuple[str, str], list[Claim]] = defaultdict(list)
    for claim in given:
        held[claim.key].append(claim)
    return sorted(claim for claim in taken if any(claim.meets(other) for other in held.get(claim.key, ())))


@dataclass(frozen=True, slots=True)
class Claims:
    """The claims of an app: all of them, those of each instance by its name, and the requests that its routes match."""

    all: frozenset[Claim]
    by_instance: Mapping[str, frozenset[Claim]]
    routes: frozenset[Claim]


def of_app(app: App) -> Claims:
    """All that a version of an app claims; worked out once."""
    if (known := _known.get(app)) is None:
        services = {service.name: of_service(app.name, service) for service in app.services}
        networks = (claim for options in app.networks.values() for claim in of_network(options))
        routes = _routes_of(app)
        by_instance = {name: services[it.name] for it in app.services for name in it.instances(app.name)}
        known = _known[app] = Claims(routes.union(*services.values(), networks), by_instance, routes)
    return known


_known: WeakKeyDictionary[App, Claims] = WeakKeyDictionary()


def _routes_of(app: App) -> frozenset[Claim]:
    of_services = (route for service in app.services if service.kong for route in service.kong["routes"])
    nested = (route for it in app.kong_entities.get("services", ()) for route in it.get("routes", ()))
    routes = (*of_services, *nested, *app.kong_entities.get("routes", ()))
    matched = (found for route in routes for found in combinations(route))
    return frozenset(Claim(ROUTE, " ".join(map(str, key)), text=what.removeprefix("the ")) for what, key in matched)
