"""The default of `update_config.order`: start-first or stop-first, and why.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from gitops_mvd.core.claims import is_fixed
from gitops_mvd.core.compose import Mount
from gitops_mvd.core.model import Service

FIXED = ("ipv4_address", "ipv6_address", "mac_address")
START_FIRST = "it has a route, and nothing that two versions could not share"


def default_order(service: Service, joined_by: str = "") -> tuple[str, str]:
    """The order, and why; `joined_by` is a service that shares a namespace of it."""
    why = f"{joined_by} shares a namespace of it, and moves to the new version" if joined_by else ""
    why = why or next(_hindrances(service), "")
    return ("stop-first", why) if why else ("start-first", START_FIRST)


def explained(service: Service, joined_by: str = "") -> str:
    """The reason for the update order of a service."""
    order, why = default_order(service, joined_by)
    return why if order == service.update.order else "set in its manifest"


def _hindrances(service: Service) -> Iterator[str]:
    run = service.run
    for port in run.get("ports", ()):
        if is_fixed(port):
            yield f"two versions cannot share the port {port['published']} of the host"
    if run.get("network_mode") == "host":
        yield "two versions cannot share the ports of the host's own network"
    if (mode := run.get("network_mode", "")).startswith(("service:", "container:")):
        yield f"two versions cannot share the ports of {mode.partition(':')[2]}, whose network it is on"
    if any(key in endpoint for endpoint in run.get("networks", {}).values() for key in FIXED) or "mac_address" in run:
        yield "two versions cannot share a fixed address"
    for mount in run.get("volumes", ()):
        if is_anonymous(mount):
            yield f"its data in {mount['target']} goes over to a new version only once the old one has stopped"
        elif _writes(mount):
            yield f"two versions should not write to {mount['source']} at once"
    if service.kong is None:
        yield "it has no route, so traffic cannot be moved without a stop"


def is_anonymous(mount: Mount) -> bool:
    """Is it a volume without a name, which belongs to one container?"""
    return mount["type"] == "volume" and not mount["source"]


def _writes(mount: Mount) -> bool:
    """Is it data that the service writes?"""
    return mount["type"] != "tmpfs" and not mount["read_only"] and bool(mount["source"])
