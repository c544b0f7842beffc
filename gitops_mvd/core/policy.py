"""What this host lets the repository do with it: the host has the last word, not Git.  Pure.

It is an allow-list: a key of the manifest that nothing here names is forbidden.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from gitops_mvd.core.compose import Mount, Network, Volume
from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Service
from gitops_mvd.core.xkong import Declaration

HARMLESS = frozenset(  # they change nothing outside of the container, whatever they say
    {"user", "working_dir", "hostname", "domainname", "mac_address", "platform", "command", "entrypoint", "labels"}
    | {"stop_signal", "stop_grace_period", "restart", "init", "read_only", "tty", "stdin_open", "healthcheck"}
    | {"mem_limit", "memswap_limit", "mem_reservation", "mem_swappiness", "shm_size", "pids_limit", "ulimits"}
    | {"cpus", "cpuset", "cpu_shares", "cpu_quota", "cpu_period", "blkio_config", "storage_opt", "sysctls"}
    | {"cap_drop", "group_add", "dns", "dns_search", "dns_opt", "expose", "extra_hosts", "tmpfs"}
)
FORBIDDEN = frozenset(  # they reach out of it, whatever they say
    {"privileged", "devices", "device_cgroup_rules", "gpus", "cgroup_parent", "runtime", "annotations"}
    | {"oom_kill_disable", "cpu_rt_runtime", "cpu_rt_period"}
)
CAPABILITIES = frozenset(  # those that Docker gives to every container; source: oci/caps/defaults.go of moby 28
    {"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "NET_RAW"}
    | {"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
)
OWN_NAMESPACES = frozenset({"", "none", "private", "shareable", "bridge", "default"})
NETWORK_OPTIONS = frozenset({"com.docker.network.driver.mtu", "com.docker.network.bridge.enable_icc"})
RUNS_CODE = frozenset({"pre-function", "post-function"})  # plugins of Kong that are programs


@dataclass(frozen=True, slots=True)
class Policy:
    """What apps may do that reaches out of their containers; `trusted` ones may do anything.

    `mounts` are host folders, `registries` those of images, where any are named; `shared` are names of volumes and
    networks that are not the app's own; `volume_drivers` may be used with any option; and `ports`, each a first and a
    last one, may be published on other addresses than the loopback ones.
    """

    trusted: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    registries: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()
    volume_drivers: tuple[str, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()


def enforce(policy: Policy | None, app: App) -> None:
    """Raise StepFailed with all that this host does not let `app` do.  Without a policy, everything is allowed."""
    if policy is None or app.name in policy.trusted:
        return
    broken = [why for service in app.services for why in _service(policy, app, service)]
    broken += [why for name, volume in app.volumes.items() for why in _volume(policy, app, name, volume)]
    broken += [why for name, network in app.networks.items() for why in _network(policy, app, name, network)]
    broken += _gateway(app.kong_entities)
    if broken:
        raise StepFailed(f"this host's policy forbids {'; '.join(broken)}", "`policy` in the settings of the host")


def _service(policy: Policy, app: App, service: Service) -> Iterator[str]:
    image = service.tag or service.image
    for key, value in service.run.items():
        if key in HARMLESS or value in (None, False, 0, "", [], {}):
            continue
        if key in FORBIDDEN:
            yield f"{service.name}: {key}"
        elif key in CHECKED:
            yield from (f"{service.name}: {why}" for why in CHECKED[key](policy, app, value))
        else:
            yield f"{service.name}: {key}, which it does not know"
    if policy.registries and _registry(image) not in policy.registries:
        yield f"{service.name}: images from {_registry(image)}"
    for plugin in service.kong["plugins"] if service.kong else ():
        if plugin.get("name") in RUNS_CODE:
            yield f"{service.name}: the plugin {plugin['name']}"


Check = Callable[[Policy, App, Any], Iterator[str]]


def _namespace(key: str) -> Check:
    """A container has its own, or that of another service of its app."""

    def check(policy: Policy, app: App, value: str) -> Iterator[str]:
        is_own = value in OWN_NAMESPACES or value.startswith("service:")
        if not is_own and not (key == "network_mode" and value in app.networks):
            yield f"{key}: {value}"

    return check


def _cap_add(policy: Policy, app: App, names: list[str]) -> Iterator[str]:
    if more := [name for name in names if name.upper().removeprefix("CAP_") not in CAPABILITIES]:
        yield f"cap_add: {', '.join(more)}"


def _security_opt(policy: Policy, app: App, options: list[str]) -> Iterator[str]:
    hardening = re.compile(r"no-new-privileges([:=]true)?")
    yield from (f"security_opt: {option}" for option in options if not hardening.fullmatch(option))


def _oom_score_adj(policy: Policy, app: App, score: int) -> Iterator[str]:
    if score < 0:
        yield f"oom_score_adj: {score}"


def _logging(policy: Policy, app: App, logging: Mapping[str, Any]) -> Iterator[str]:
    """The engine itself opens what a log goes to."""
    for name, value in logging["options"].items():
        if str(value).startswith(("/", "unix")):
            yield f"logging: {name}={value}"


def _ports(policy: Policy, app: App, ports: list[Mapping[str, Any]]) -> Iterator[str]:
    for port in ports:
        if not port["published"] or _is_loopback(port["host_ip"]):
            continue
        first, _, last = port["published"].partition("-")
        if not any(low <= int(first) and int(last or first) <= high for low, high in policy.ports):
            yield f"port {port['published']} of the host"


def _mounts(policy: Policy, app: App, mounts: list[Mount]) -> Iterator[str]:
    for mount in mounts:
        is_own = mount["source"].startswith("./")  # a folder of the app, which is never outside of it
        if mount["type"] == "bind" and not is_own and not _is_below(mount["source"], policy.mounts):
            yield f"mounting {mount['source']}"


def _joined(policy: Policy, app: App, networks: Mapping[str, Any]) -> Iterator[str]:
    for name in networks.keys() - app.networks.keys():
        yield from _name(policy, "network", name, f"mvd-{app.name}-")


CHECKED: Mapping[str, Check] = {
    **{key: _namespace(key) for key in ("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup")},
    "cap_add": _cap_add,
    "security_opt": _security_opt,
    "oom_score_adj": _oom_score_adj,
    "logging": _logging,
    "ports": _ports,
    "volumes": _mounts,
    "networks": _joined,
}


def _volume(policy: Policy, app: App, name: str, volume: Volume) -> Iterator[str]:
    """With options, a volume of the local driver may be any file system: one of the host, or the kernel's own."""
    yield from _name(policy, "volume", name, f"{app.name}_")
    driver, options = volume.get("driver") or "local", volume.get("driver_opts") or {}
    if driver in policy.volume_drivers:
        return
    if driver != "local":
        yield f"volume {name}: driver {driver}"
    elif options:
        device = str(options.get("device", ""))
        is_bind = options.get("type", "none") in ("", "none", "bind") and "bind" in str(options.get("o")).split(",")
        if not is_bind:
            yield f"volume {name}: driver_opts"
        elif not _is_below(device, policy.mounts):
            yield f"volume {name}: mounting {device}"


def _network(policy: Policy, app: App, name: str, network: Network) -> Iterator[str]:
    yield from _name(policy, "network", name, f"mvd-{app.name}-")
    if (driver := network.get("driver") or "bridge") != "bridge":
        yield f"network {name}: driver {driver}"
    if more := sorted(network.get("driver_opts", {}).keys() - NETWORK_OPTIONS):
        yield f"network {name}: {', '.join(more)}"
    if (driver := network.get("ipam", {}).get("driver") or "default") != "default":
        yield f"network {name}: ipam driver {driver}"


def _name(policy: Policy, what: str, name: str, own: str) -> Iterator[str]:
    if not name.startswith(own) and name not in policy.shared:
        yield f"{what} {name}, which is not the app's own"


def _gateway(entities: Mapping[str, list[Declaration]]) -> Iterator[str]:
    """Kong would lead the world to what listens on this host alone, such as its own Admin API."""
    for service in entities.get("services", ()):
        host = urlsplit(str(service.get("url", ""))).hostname or str(service.get("host", ""))
        if _is_here(host):
            yield f"kong: the service {service.get('name', host)} to {host}"
    targets = [(str(entity.get("target", "")), entity) for entity in entities.get("targets", ())]
    for upstream in entities.get("upstreams", ()):
        targets += [(str(target.get("target", "")), upstream) for target in upstream.get("targets", ())]
    for target, entity in targets:
        if _is_here(target.rpartition(":")[0] or target):
            yield f"kong: the target {target} of {entity.get('name') or entity.get('upstream')}"
    for plugin in _plugins(entities):
        yield f"kong: the plugin {plugin}"


def _plugins(entities: Any) -> Iterator[str]:
    """The plugins that run code, at any depth."""
    if isinstance(entities, Mapping):
        for key, value in entities.items():
            if key == "plugins":
                yield from (p["name"] for p in value if isinstance(p, Mapping) and p.get("name") in RUNS_CODE)
            yield from _plugins(value)
    elif isinstance(entities, list | tuple):
        for value in entities:
            yield from _plugins(value)


def _is_here(host: str) -> bool:
    """Is that an address that leads to this host itself, whichever it is?"""
    address = _address(host)
    return address is not None and (address.is_loopback or address.is_unspecified or address.is_link_local)


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that is written there, None for a name."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        host = "127.0.0.1"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_below(path: str, folders: tuple[str, ...]) -> bool:
    path = posixpath.normpath(path)
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)


def _registry(image: str) -> str:
    """The registry in a reference, by Docker's rule: the first part, if it looks like a host."""
    if re.fullmatch(r"(sha256:)?[0-9a-f]{64}", image):
        return "this host alone, by their ID"
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first or first == "localhost") else "docker.io"
