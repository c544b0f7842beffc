"""The default of `update_config.order`: start-first or stop-first, and why, in a sentence and in two words.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gitops_mvd.core.claims import is_fixed
from gitops_mvd.core.compose import Mount
from gitops_mvd.core.joins import shared
from gitops_mvd.core.model import App, Service

FIXED = ("ipv4_address", "ipv6_address", "mac_address")
START_FIRST = "it has a route, and nothing that two versions could not share"


Reason = tuple[str, str]
"""Why it is stop-first: in two words, and in a sentence."""


def default_order(service: Service, joined_by: str = "") -> tuple[str, str]:
    """The order, and why; `joined_by` is a service that shares a namespace of it."""
    _, why = _reason(service, joined_by)
    return ("stop-first", why) if why else ("start-first", START_FIRST)


def explained(service: Service, joined_by: str = "") -> str:
    """The reason for the update order of a service."""
    order, why = default_order(service, joined_by)
    return why if order == service.update.order else "set in its manifest"


def reasons(app: App) -> Mapping[str, str]:
    """Why services stop before their successors start, in two words, by service."""
    joined_by = {other: service.name for service in app.services for _, other in shared(service.run)}
    stopped = (service for service in app.services if service.update.order == "stop-first")
    return {it.name: _reason(it, joined_by.get(it.name, ""))[0] or "order: stop-first" for it in stopped}


def _reason(service: Service, joined_by: str) -> Reason:
    if joined_by:
        return f"shared with {joined_by}", f"{joined_by} shares a namespace of it, and moves to the new version"
    return next(_hindrances(service), ("", ""))


def _hindrances(service: Service) -> Iterator[Reason]:
    run = service.run
    for port in run.get("ports", ()):
        if is_fixed(port):
            published = port["published"]
            yield f"fixed port {published}", f"two versions cannot share the port {published} of the host"
    if run.get("network_mode") == "host":
        yield "the host's network", "two versions cannot share the ports of the host's own network"
    if (mode := run.get("network_mode", "")).startswith(("service:", "container:")):
        of = mode.partition(":")[2]
        yield "shared network", f"two versions cannot share the ports of {of}, whose network it is on"
    if any(key in endpoint for endpoint in run.get("networks", {}).values() for key in FIXED) or "mac_address" in run:
        yield "fixed address", "two versions cannot share a fixed address"
    for mount in run.get("volumes", ()):
        if is_anonymous(mount):
            why = f"its data in {mount['target']} goes over to a new version only once the old one has stopped"
            yield f"data in {mount['target']}", why
        elif _writes(mount):
            yield f"data in {mount['source']}", f"two versions should not write to {mount['source']} at once"
    if service.kong is None:
        yield "no route", "it has no route, so traffic cannot be moved without a stop"


def is_anonymous(mount: Mount) -> bool:
    """Is it a volume without a name, which belongs to one container?"""
    return mount["type"] == "volume" and not mount["source"]


def _writes(mount: Mount) -> bool:
    """Is it data that the service writes?"""
    return mount["type"] != "tmpfs" and not mount["read_only"] and bool(mount["source"])
