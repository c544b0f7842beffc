"""What a container, a network or a service of a Swarm has that no other one can have, as a listing shows it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import PurePath

from gitops_mvd.core.claims import ADDRESS, FOLDER, SUBNET, VOLUME, Claim, port_claim
from gitops_mvd.docker.types import ListedContainer, ListedNetwork, ServiceSpec, ServiceTask

_ADDRESSES = ("IPv4Address", "IPv6Address")


def claims(container: ListedContainer, folders: PurePath) -> frozenset[Claim]:
    """The ports that it publishes now, its fixed addresses, and what it may write to.

    `folders` is where the folders of apps are.  A container that does not run publishes nothing.
    """
    return frozenset(_claims(container, folders))


def claims_of_service(spec: ServiceSpec) -> frozenset[Claim]:
    """The ports of nodes that a service of a Swarm asks for, and the volumes that it writes to."""
    ports = spec.get("EndpointSpec", {}).get("Ports") or ()
    fixed = {port_claim(it["PublishedPort"], it.get("Protocol", "tcp"), "") for it in ports if it.get("PublishedPort")}
    volumes = {Claim(VOLUME, name, is_shared=True) for name in written(spec.get("TaskTemplate", {}))}
    return frozenset(fixed | volumes)


def written(task: ServiceTask) -> frozenset[str]:
    """The volumes that a task writes to."""
    mounts = task.get("ContainerSpec", {}).get("Mounts") or ()
    return frozenset(
        it["Source"] for it in mounts if it["Type"] == "volume" and "Source" in it and not it.get("ReadOnly")
    )


def subnets(network: ListedNetwork) -> frozenset[Claim]:
    """The subnets of a network, or the parts of them that addresses are given out from."""
    pools = network["IPAM"]["Config"] or ()
    parts = (pool.get("IPRange") or pool.get("Subnet") for pool in pools)
    return frozenset(Claim(SUBNET, str(ip_network(part, strict=False))) for part in parts if part)


def _claims(container: ListedContainer, folders: PurePath) -> Iterator[Claim]:
    for port in container.get("Ports") or ():
        if "PublicPort" in port:
            yield port_claim(port["PublicPort"], port["Type"], port.get("IP", ""))
    for network, endpoint in (container["NetworkSettings"]["Networks"] or {}).items():
        asked = endpoint.get("IPAMConfig") or {}
        yield from (Claim(ADDRESS, f"{asked[key]} on {network}") for key in _ADDRESSES if asked.get(key))
    for mount in container.get("Mounts") or ():
        if mount.get("RW") and mount["Type"] == "volume" and mount.get("Name"):
            yield Claim(VOLUME, mount["Name"], is_shared=True)
        elif mount.get("RW") and mount["Type"] == "bind":
            source = PurePath(mount.get("Source", "/"))
            inside = source.is_relative_to(folders)
            yield Claim(FOLDER, str(source.relative_to(folders) if inside else source), is_shared=True)
