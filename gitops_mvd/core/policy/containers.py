"""What a container may be, by the levels of Kubernetes' Pod Security Standards.  Pure.

It is an allow-list: each key of `Run` is in one of the three tables, and any other key is forbidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gitops_mvd.core.addresses import is_loopback, is_reachable_here_only, split_url
from gitops_mvd.core.compose import ANY_LOG_OPTIONS, LOG_OPTIONS, Mount
from gitops_mvd.core.model import App, Service
from gitops_mvd.core.policy.names import forbidden_name
from gitops_mvd.core.policy.paths import forbidden_path
from gitops_mvd.core.policy.rules import Policy, Server

HARMLESS = frozenset(  # they change nothing outside of the container, whatever they say
    {"user", "working_dir", "hostname", "domainname", "platform", "command", "entrypoint", "labels"}
    | {"stop_signal", "stop_grace_period", "restart", "init", "read_only", "tty", "stdin_open", "healthcheck"}
    | {"mem_limit", "memswap_limit", "mem_reservation", "mem_swappiness", "shm_size", "pids_limit"}
    | {"cpus", "cpuset", "cpu_shares", "cpu_quota", "cpu_period", "blkio_config"}
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
SYSCTLS = frozenset(  # the safe ones of the Pod Security Standards in Kubernetes 1.32
    {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports"}
    | {"net.ipv4.ip_unprivileged_port_start", "net.ipv4.ping_group_range", "net.ipv4.tcp_syncookies"}
    | {"net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"}
    | {"net.ipv4.tcp_fin_timeout"}
)
_OWN_NAMESPACES = frozenset({"", "none", "private", "shareable", "bridge", "default"})
_NO_NEW_PRIVILEGES = re.compile(r"no-new-privileges([:=]true)?")
_HARDENING = re.compile(  # or what an engine does anyway
    rf"{_NO_NEW_PRIVILEGES.pattern}|seccomp=builtin|apparmor=docker-default"
    r"|label=type:container(_init|_kvm)?_t"
)
_NOT_ROOT = re.compile(r"0*[1-9][0-9]{0,9}(:.*)?")
_SCHEDULING = frozenset({"nice", "rtprio"})  # limits by which a process outranks those of the host
_LOG_ADDRESS = {"syslog": "syslog-address", "gelf": "gelf-address", "fluentd": "fluentd-address"}
_LOG_DRIVERS = frozenset({"", "none", "journald", "json-file", "local", *_LOG_ADDRESS})
_LOG_FILES = frozenset({"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key"})  # that the engine itself opens


def forbidden_keys(policy: Policy, server: Server, app: App, service: Service) -> Iterator[str]:
    """What the level of a policy does not let a service be."""
    of = Subject(policy, server, app, service.run)
    if policy.level == "privileged":
        yield from _mounts(of, service.run.get("volumes", []))
        return
    for key, value in service.run.items():
        if key in HARMLESS or value in (None, False, 0, "", [], {}):
            continue
        if key in FORBIDDEN:
            yield key
        elif key in CHECKED:
            yield from CHECKED[key](of, value)
        else:
            yield f"{key}, which it does not know"
    if policy.level == "restricted":
        yield from _missing(of.run)


def _missing(run: Mapping[str, Any]) -> Iterator[str]:
    """The hardening that `restricted` requires.  A name of a user may be that of root, as the image has it."""
    if not _NOT_ROOT.fullmatch(str(run.get("user", ""))):
        yield "running as root, or as nobody knows whom (write a number other than 0 as `user`)"
    if not any(map(_NO_NEW_PRIVILEGES.fullmatch, run.get("security_opt", []))):
        yield "gaining privileges (write `security_opt: [no-new-privileges:true]`)"
    if "ALL" not in map(_capability, run.get("cap_drop", [])):
        yield "keeping capabilities (write `cap_drop: [ALL]`)"


@dataclass(frozen=True, slots=True)
class Subject:
    """The container that is judged, and by what."""

    policy: Policy
    server: Server
    app: App
    run: Mapping[str, Any]


Check = Callable[[Subject, Any], Iterator[str]]


def _namespace(key: str) -> Check:
    """A container has its own, or that of another service of its app."""

    def check(of: Subject, value: str) -> Iterator[str]:
        is_own = value in _OWN_NAMESPACES or value.startswith("service:")
        if not is_own and not (key == "network_mode" and value in of.app.networks):
            yield f"{key}: {value}"

    return check


def _capability(name: str) -> str:
    return name.upper().removeprefix("CAP_")


def _cap_add(of: Subject, names: list[str]) -> Iterator[str]:
    allowed = CAPABILITIES if of.policy.level == "baseline" else {"NET_BIND_SERVICE"}
    if more := [name for name in names if _capability(name) not in allowed]:
        yield f"cap_add: {', '.join(more)}"


def _security_opt(of: Subject, options: list[str]) -> Iterator[str]:
    yield from (f"security_opt: {option}" for option in options if not _HARDENING.fullmatch(option))


def _oom_score_adj(of: Subject, score: int) -> Iterator[str]:
    if score < 0:
        yield f"oom_score_adj: {score}"


def _sysctls(of: Subject, values: Mapping[str, str]) -> Iterator[str]:
    if more := sorted(values.keys() - SYSCTLS - {*of.policy.sysctls}):
        yield f"sysctls: {', '.join(more)}"


def _ulimits(of: Subject, limits: Mapping[str, Any]) -> Iterator[str]:
    if more := sorted(limits.keys() & _SCHEDULING):
        yield f"ulimits: {', '.join(more)}"


def _storage_opt(of: Subject, options: Mapping[str, Any]) -> Iterator[str]:
    if more := sorted(options.keys() - {"size"}):
        yield f"storage_opt: {', '.join(more)}"


def _mac_address(of: Subject, address: str) -> Iterator[str]:
    """On the engine's own bridge it could be that of a container of another app."""
    if of.run.get("network_mode") in ("bridge", "default"):
        yield "mac_address, on a network that is not the app's own"


def _logging(of: Subject, logging: Mapping[str, Any]) -> Iterator[str]:
    """The engine itself opens what a log goes to, and connects to it from the host's own network."""
    driver = logging["driver"]
    if driver not in _LOG_DRIVERS:
        yield f"logging: driver {driver}"
    known = {*LOG_OPTIONS.get(driver, logging["options"]), *ANY_LOG_OPTIONS} - _LOG_FILES
    for name, value in logging["options"].items():
        if name == _LOG_ADDRESS.get(driver):
            scheme, separator, _ = str(value).partition("://")
            host, _ = split_url(str(value))
            is_remote = host and not is_reachable_here_only(host) and not of.server.is_own(host)
            if not is_remote or (separator and scheme not in ("tcp", "udp", "tcp+tls", "tls")):
                yield f"logging: {name}={value}"
        elif name not in known:
            yield f"logging: {name}={value}"


def _ports(of: Subject, ports: list[Mapping[str, Any]]) -> Iterator[str]:
    for port in ports:
        if not port["published"]:
            continue
        first, _, last = port["published"].partition("-")
        span = int(first), int(last or first)
        if any(low <= span[0] and span[1] <= high for low, high in of.policy.ports):
            continue
        taken = sorted(it for it in of.server.admin_ports if span[0] <= it <= span[1])
        if not is_loopback(port["host_ip"]):
            yield f"port {port['published']} of the host"
        elif taken:
            yield f"port {taken[0]} of the host, where Kong's Admin API is"


def _mounts(of: Subject, mounts: list[Mount]) -> Iterator[str]:
    for mount in mounts:
        if mount["type"] != "bind" or mount["source"].startswith("./"):
            continue  # a volume, or a folder of the app, which is never outside of it
        if why := forbidden_path(of.policy, of.server, mount["source"]):
            yield why
        elif of.policy.level != "privileged" and "shared" in (how := mount.get("bind", {}).get("propagation", "")):
            yield f"mounting {mount['source']} with the propagation {how}"


def _joined(of: Subject, networks: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """How it is attached to networks; those that its app declares are checked with the app."""
    for name, endpoint in networks.items():
        if name not in of.app.networks:
            yield from forbidden_name(of.policy, "network", name, f"mvd-{of.app.name}-", {})
        if options := endpoint.get("driver_opts"):
            yield f"network {name}: {', '.join(sorted(options))}"
        is_shared = name in of.policy.shared or of.app.networks.get(name, {}).get("external")
        if is_shared and (fixed := sorted({"mac_address", "link_local_ips"} & endpoint.keys())):
            yield f"network {name}: {', '.join(fixed)}, where others are"


CHECKED: Mapping[str, Check] = {
    **{key: _namespace(key) for key in ("network_mode", "pid", "ipc", "uts", "userns_mode", "cgroup")},
    "cap_add": _cap_add,
    "security_opt": _security_opt,
    "oom_score_adj": _oom_score_adj,
    "sysctls": _sysctls,
    "ulimits": _ulimits,
    "storage_opt": _storage_opt,
    "mac_address": _mac_address,
    "logging": _logging,
    "ports": _ports,
    "volumes": _mounts,
    "networks": _joined,
}
