"""What belongs to an app: volumes, networks and secrets by their names, and where its images come from.  Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gitops_mvd.core.compose import Network, Volume
from gitops_mvd.core.model import App, Service
from gitops_mvd.core.policy.paths import forbidden_path, private_option
from gitops_mvd.core.policy.rules import Policy, Server

NETWORK_OPTIONS = frozenset({"com.docker.network.driver.mtu", "com.docker.network.bridge.enable_icc"})
BIND_OPTIONS = frozenset(
    {"bind", "rbind", "ro", "rw", "nosuid", "nodev", "noexec", "noatime", "relatime", "nodiratime"}
)
POOLS = ("172.16.0.0/12", "fd00::/8")  # of private addresses, from which an engine takes subnets itself
DOCKER_HUB = "docker.io"
OF_THE_REPOSITORY = ("sops:", "sops-raw:")  # a secret that is in the repository, encrypted


def forbidden_name(policy: Policy, what: str, name: str, own: str, options: Mapping[str, Any]) -> Iterator[str]:
    """A name is the app's own if the app makes it, and it begins as the names do that follow from the app's."""
    if name not in policy.shared and (options.get("external") or not name.startswith(own)):
        yield f"{what} {name}, which is not the app's own"


def forbidden_volume(policy: Policy, server: Server, app: App, name: str, volume: Volume) -> Iterator[str]:
    """With options, a volume of the local driver may be any file system: one of the host, or the kernel's own."""
    yield from forbidden_name(policy, "volume", name, f"{app.name}_", volume)
    driver, options = volume.get("driver") or "local", volume.get("driver_opts") or {}
    if why := private_option(server, options):
        yield f"volume {name}: {why}"
    elif driver in policy.volume_drivers or policy.level == "privileged":
        return
    elif driver != "local":
        yield f"volume {name}: driver {driver}"
    elif not _is_bind(options):
        yield f"volume {name}: driver_opts"
    elif options and (why := forbidden_path(policy, server, str(options.get("device", "")))):
        yield f"volume {name}: {why}"


def _is_bind(options: Mapping[str, Any]) -> bool:
    """Is it a folder of the host and nothing more, or has it no options at all?"""
    words = {*str(options.get("o", "")).split(",")}
    kind = options.get("type", "none") in ("", "none", "bind")
    return not options or (
        kind and options.keys() <= {"type", "o", "device"} and words <= BIND_OPTIONS and bool(words & {"bind", "rbind"})
    )


def forbidden_network(policy: Policy, app: App, name: str, network: Network) -> Iterator[str]:
    yield from forbidden_name(policy, "network", name, f"mvd-{app.name}-", network)
    if policy.level == "privileged":
        return
    if (driver := network.get("driver") or "bridge") != "bridge":
        yield f"network {name}: driver {driver}"
    if more := sorted(network.get("driver_opts", {}).keys() - NETWORK_OPTIONS):
        yield f"network {name}: {', '.join(more)}"
    ipam = network.get("ipam", {})
    if (driver := ipam.get("driver") or "default") != "default":
        yield f"network {name}: ipam driver {driver}"
    if options := sorted(ipam.get("options", {})):
        yield f"network {name}: ipam options {', '.join(options)}"
    for pool in ipam.get("config", ()):
        if "subnet" in pool and not _is_within(pool["subnet"], (*POOLS, *policy.subnets)):
            yield f"network {name}: subnet {pool['subnet']}, by which this host would lose what it reaches there"


def _is_within(subnet: str, pools: Iterable[str]) -> bool:
    inner = ipaddress.ip_network(subnet, strict=False)
    networks = [ipaddress.ip_network(pool, strict=False) for pool in pools]
    return any(
        inner.subnet_of(outer)
        if isinstance(inner, ipaddress.IPv4Network) and isinstance(outer, ipaddress.IPv4Network)
        else isinstance(inner, ipaddress.IPv6Network)
        and isinstance(outer, ipaddress.IPv6Network)
        and inner.subnet_of(outer)
        for outer in networks
    )


def forbidden_secrets(policy: Policy, app: str, names: Iterable[str]) -> Iterator[str]:
    """The secrets of the host, by their names, that an app may not use.

    `vault://...` is one of Kong's own vaults, and `PROVIDER:PATH` that of a provider of this host.
    """
    for name in sorted(set(names)):
        is_listed = any(_is_listed(name, it) for it in policy.secrets)
        if not (is_listed or owner_of(name) == app or name.startswith(OF_THE_REPOSITORY)):
            own = "" if ":" in name else f": call it {app}.{name}, or list it under `secrets`"
            yield f"the secret {name}, which is not the app's own{own}"


def _is_listed(name: str, listed: str) -> bool:
    """Is it that secret, or one below it in a vault or at a provider?"""
    is_below = ":" in listed and name.startswith((f"{listed}/", f"{listed}#")) and ".." not in name.split("/")
    return name == listed or is_below


def owner_of(secret: str) -> str:
    """The app that a secret of the host is named after, "" for none: `shop` for `shop.db_password` and `shop_db`.

    It is one app alone, as no app's name has a dot: `shop_eu_db` belongs to the app `shop_eu`, and not to `shop`.
    """
    if "." in secret:
        return secret.partition(".")[0]
    return secret.rpartition("_")[0]


def forbidden_image(policy: Policy, service: Service) -> Iterator[str]:
    found = registry_of(service.tag or service.image)
    if policy.registries and found not in {registry_of(f"{name}/x") for name in policy.registries}:
        yield f"images from {found}"


def registry_of(image: str) -> str:
    """The registry in a reference, by Docker's rule: the first part, if it looks like a host.

    An engine takes what has only hex digits for the ID of an image that it has, whatever registry that came from.
    """
    if re.fullmatch(r"(sha256:)?[0-9a-fA-F]+", image):
        return "this host alone, by their ID"
    first, slash, _ = image.partition("/")
    is_host = slash and ({*first} & {*".:["} or first == "localhost" or first != first.lower())
    host = first.lower() if is_host else DOCKER_HUB
    return DOCKER_HUB if host in ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com") else host
