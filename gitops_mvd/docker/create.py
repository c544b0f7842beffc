"""A service becomes the words of `docker create`.  Pure.

`FLAGS` maps every Compose key to the flag that honours it; code stands only where Compose and the client do not speak
alike.  Every option is one word, `--flag=value`, so that no value can be taken for an option.  All words are known to
clients from Docker 20.10 on, but for `annotations` (23.0), a healthcheck's `start_interval` and a bind's `recursive`
(25.0), a volume's `subpath` (26.0) and a network's `gw_priority` (28.0): an older client refuses those by name.
Source: `docker create --help` of 20.10.24 and 28.2.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gitops_mvd.core.compose import (
    BindOptions,
    Blkio,
    DeviceRequest,
    Endpoint,
    Healthcheck,
    Logging,
    Mount,
    Port,
    Run,
    Ulimit,
)
from gitops_mvd.core.model import LABEL, STOP_GRACE_SECONDS, Service, made_of

ROTATION = {"max-size": "10m", "max-file": "2"}

DEFAULTS: Run = {"init": True, "logging": {"driver": "local", "options": {}}, "stop_grace_period": STOP_GRACE_SECONDS}


def create(
    app: str, service: Service, name: str, *, port: int, address: str, folder: str, named: bool = True
) -> list[list[str]]:
    """The commands that create, but do not start, the container `name`, each without the word `docker` in front.

    The first is `create`; a `network connect` follows for every network beyond the first.  The routed port of the
    service, if it has one, is published on `address:port`.  `folder` is where its env file and its files lie, as
    `kinds/config.py` lays them out.  One that is not `named` is on its networks, but has no other name there than its
    own.  Raises KeyError for a key of `service.run` that no flag honours.
    """
    run: Run = {**DEFAULTS, **made_of(service.run)}
    networks: list[tuple[str, Endpoint]] = sorted(run.get("networks", {}).items(), key=_place_of_network)
    if not named:
        networks = [(network, {**endpoint, "aliases": []}) for network, endpoint in networks]
    options = ["--pull=never", "--restart=no", f"--name={name}", f"--env-file={folder}/env"]
    for key, value in sorted(run.items()):
        options += FLAGS[key](value)
    if service.kong and port:
        options += _ports([Port(host_ip=address, published=str(port), target=service.kong["port"], protocol="tcp")])
    for number, file in enumerate(service.files):
        source = f"{folder}/files/{number}" + ("/file" if file.files.keys() == {""} else "")
        options += _mounts([Mount(type="bind", source=source, target=file.target, read_only=True)])
    for network, endpoint in networks[:1]:
        options += _first_network(network, endpoint)
    owner = {"app": app, "service": service.name, "digest": service.digest, "port": str(port)}
    if not named:
        owner["staged"] = ",".join(network for network, _ in networks)
    options += [f"--label={LABEL}{key}={value}" for key, value in owner.items()]  # the last of a label's values counts
    connects = [["network", "connect", *_further(endpoint), network, name] for network, endpoint in networks[1:]]
    return [["create", *options, service.image, *_command(run)], *connects]


def rejoin(name: str, network: str, endpoint: Endpoint) -> list[list[str]]:
    """The commands by which a container joins a network anew: with other names, for which Docker has no other way.

    Published ports stay.  So do its connections, where `endpoint` has the address that it had.
    """
    return [
        ["network", "disconnect", "--force", network, name],
        ["network", "connect", *_further(endpoint), network, name],
    ]


def _command(run: Run) -> list[str]:
    """The words behind the image: `--entrypoint` takes but one, so the others stand in front of the command."""
    return [*run.get("entrypoint", [])[1:], *run.get("command", [])]


# ---- one shape of value, one maker of flags --------------------------------------------------------------------------

Flag = Callable[[Any], Iterable[str]]


def _value(flag: str) -> Flag:
    return lambda value: [f"--{flag}={value}"]


def _switch(flag: str) -> Flag:
    return lambda on: [f"--{flag}"] if on else []


def _each(flag: str) -> Flag:
    return lambda values: [f"--{flag}={value}" for value in values]


def _pairs(flag: str) -> Flag:
    return lambda values: [f"--{flag}={key}={value}" for key, value in sorted(values.items())]


def _elsewhere(value: object) -> Iterable[str]:
    """Honoured, but not by a flag of its own."""
    return []


# ---- the odd ones ----------------------------------------------------------------------------------------------------


def _fields(*fields: str) -> str:
    """One value made of several, as Go's encoding/csv reads them."""
    special = re.compile(r'[",\r\n]')
    return ",".join('"' + field.replace('"', '""') + '"' if special.search(field) else field for field in fields)


def _decimal(value: float) -> str:
    """Go's parsers know no exponents: 1e-05 is 0.00001."""
    return f"{value:.9f}".rstrip("0").rstrip(".")


def _init(on: bool) -> Iterable[str]:
    return ["--init"] if on else ["--init=false"]  # `false` outranks an engine whose own default is an init


def _entrypoint(words: list[str]) -> Iterable[str]:
    return [f"--entrypoint={words[0] if words else ''}"]  # the empty one takes the image's own away


def _grace(seconds: float) -> Iterable[str]:
    return [f"--stop-timeout={math.ceil(seconds)}"]


def _ulimits(limits: Mapping[str, Ulimit]) -> Iterable[str]:
    return [f"--ulimit={name}={limit['soft']}:{limit['hard']}" for name, limit in sorted(limits.items())]


def _ports(ports: list[Port]) -> Iterator[str]:
    for port in ports:
        host = port.get("host_ip", "")
        host = f"[{host}]" if ":" in host else host
        published = f"{port['published']}:" if port.get("published") or host else ""
        yield f"--publish={host + ':' if host else ''}{published}{port['target']}/{port.get('protocol', 'tcp')}"


MOUNT_OPTIONS = {
    "propagation": "bind-propagation",
    "recursive": "bind-recursive",
    "nocopy": "volume-nocopy",
    "subpath": "volume-subpath",
    "size": "tmpfs-size",
    "mode": "tmpfs-mode",
}


def _mounts(mounts: list[Mount]) -> Iterator[str]:
    """`--mount` and not `--volume`, which makes a missing folder, as root, where `--mount` says what is missing."""
    for mount in mounts:
        if "selinux" in mount.get("bind", {}):
            yield _labelled_bind(mount, mount["bind"])
            continue
        fields = [f"type={mount['type']}", f"target={mount['target']}"]
        if mount.get("source"):
            fields.insert(1, f"source={mount['source']}")
        if mount.get("read_only"):
            fields.append("readonly")
        for key, value in sorted(mount.get(mount["type"], {}).items()):
            text = f"{value:o}" if key == "mode" else str(value).lower() if isinstance(value, bool) else value
            fields.append(f"{MOUNT_OPTIONS[key]}={text}")
        yield f"--mount={_fields(*fields)}"


def _labelled_bind(mount: Mount, options: BindOptions) -> str:
    """Only `--volume` can have SELinux labels changed."""
    modes = ["ro" if mount.get("read_only") else "rw", options["selinux"], *filter(None, [options.get("propagation")])]
    return f"--volume={mount['source']}:{mount['target']}:{','.join(modes)}"


def _place_of_network(network: tuple[str, Endpoint]) -> tuple[int, bool, str]:
    """The highest `priority` comes first, then the one with a MAC address, which only the first can be given."""
    name, endpoint = network
    return -(endpoint.get("priority") or 0), "mac_address" not in endpoint, name


def _first_network(name: str, endpoint: Endpoint) -> Iterator[str]:
    rare = [f"driver-opt={key}={value}" for key, value in sorted(endpoint.get("driver_opts", {}).items())]
    if "gw_priority" in endpoint:
        rare.append(f"gw-priority={endpoint['gw_priority']}")
    yield f"--network={_fields(f'name={name}', *rare) if rare else name}"
    yield from _each("network-alias")(endpoint.get("aliases", []))
    yield from _addresses(endpoint)
    if "mac_address" in endpoint:
        yield f"--mac-address={endpoint['mac_address']}"


def _further(endpoint: Endpoint) -> Iterator[str]:
    yield from _each("alias")(endpoint.get("aliases", []))
    yield from _addresses(endpoint)
    yield from _pairs("driver-opt")(endpoint.get("driver_opts", {}))
    if "gw_priority" in endpoint:
        yield f"--gw-priority={endpoint['gw_priority']}"
    if "mac_address" in endpoint:
        raise KeyError("mac_address on a second network")


def _addresses(endpoint: Endpoint) -> Iterator[str]:
    if "ipv4_address" in endpoint:
        yield f"--ip={endpoint['ipv4_address']}"
    if "ipv6_address" in endpoint:
        yield f"--ip6={endpoint['ipv6_address']}"
    yield from _each("link-local-ip")(endpoint.get("link_local_ips", []))


def _logging(logging: Logging) -> Iterator[str]:
    driver = logging.get("driver") or "local"
    yield f"--log-driver={driver}"
    yield from _pairs("log-opt")({**(ROTATION if driver == "local" else {}), **logging.get("options", {})})


def _healthcheck(check: Healthcheck) -> Iterator[str]:
    test = list(check.get("test", []))
    if check.get("disable") or test == ["NONE"]:
        yield "--no-healthcheck"
        return
    if test:  # the client hands its word to a shell, always
        yield f"--health-cmd={shlex.join(test[1:]) if test[0] == 'CMD' else test[1]}"
    for key in ("interval", "timeout", "start_period", "start_interval"):
        if key in check:
            yield f"--health-{key.replace('_', '-')}={_decimal(check[key])}s"
    if "retries" in check:
        yield f"--health-retries={check['retries']}"


def _blkio(config: Blkio) -> Iterator[str]:
    if "weight" in config:
        yield f"--blkio-weight={config['weight']}"
    for weight in config.get("weight_device", []):
        yield f"--blkio-weight-device={weight['path']}:{weight['weight']}"
    rates = {
        "device-read-bps": config.get("device_read_bps", []),
        "device-read-iops": config.get("device_read_iops", []),
        "device-write-bps": config.get("device_write_bps", []),
        "device-write-iops": config.get("device_write_iops", []),
    }
    for flag, devices in rates.items():
        yield from (f"--{flag}={device['path']}:{device['rate']}" for device in devices)


def _gpus(requests: list[DeviceRequest]) -> Iterator[str]:
    for request in requests:
        devices = request.get("device_ids")
        fields = [f"device={','.join(devices)}" if devices else f"count={request.get('count', 'all')}"]
        if request.get("driver"):
            fields.append(f"driver={request['driver']}")
        if capabilities := [name for name in request.get("capabilities", []) if name != "gpu"]:  # which it always adds
            fields.append(f"capabilities={','.join(capabilities)}")
        if options := request.get("options"):
            fields.append(f"options={_fields(*(f'{key}={value}' for key, value in sorted(options.items())))}")
        yield f"--gpus={_fields(*fields)}"


FLAGS: Mapping[str, Flag] = {
    "annotations": _pairs("annotation"),
    "blkio_config": _blkio,
    "cap_add": _each("cap-add"),
    "cap_drop": _each("cap-drop"),
    "cgroup": _value("cgroupns"),
    "cgroup_parent": _value("cgroup-parent"),
    "command": _elsewhere,
    "cpu_period": _value("cpu-period"),
    "cpu_quota": _value("cpu-quota"),
    "cpu_rt_period": _value("cpu-rt-period"),
    "cpu_rt_runtime": _value("cpu-rt-runtime"),
    "cpu_shares": _value("cpu-shares"),
    "cpus": lambda number: [f"--cpus={_decimal(number)}"],
    "cpuset": _value("cpuset-cpus"),
    "device_cgroup_rules": _each("device-cgroup-rule"),
    "devices": _each("device"),
    "dns": _each("dns"),
    "dns_opt": _each("dns-option"),
    "dns_search": _each("dns-search"),
    "domainname": _value("domainname"),
    "entrypoint": _entrypoint,
    "expose": _each("expose"),
    "extra_hosts": _each("add-host"),
    "gpus": _gpus,
    "group_add": _each("group-add"),
    "healthcheck": _healthcheck,
    "hostname": _value("hostname"),
    "init": _init,
    "ipc": _value("ipc"),
    "labels": _pairs("label"),
    "logging": _logging,
    "mac_address": _value("mac-address"),
    "mem_limit": _value("memory"),
    "mem_reservation": _value("memory-reservation"),
    "mem_swappiness": _value("memory-swappiness"),
    "memswap_limit": _value("memory-swap"),
    "network_mode": _value("network"),
    "networks": _elsewhere,
    "oom_kill_disable": _switch("oom-kill-disable"),
    "oom_score_adj": _value("oom-score-adj"),
    "pid": _value("pid"),
    "pids_limit": _value("pids-limit"),
    "platform": _value("platform"),
    "ports": _ports,
    "privileged": _switch("privileged"),
    "read_only": _switch("read-only"),
    "restart": _elsewhere,  # systemd's task: see systemd/unit.py
    "runtime": _value("runtime"),
    "security_opt": _each("security-opt"),
    "shm_size": _value("shm-size"),
    "stdin_open": _switch("interactive"),
    "stop_grace_period": _grace,
    "stop_signal": _value("stop-signal"),
    "storage_opt": _pairs("storage-opt"),
    "sysctls": _pairs("sysctl"),
    "tmpfs": _each("tmpfs"),
    "tty": _switch("tty"),
    "ulimits": _ulimits,
    "user": _value("user"),
    "userns_mode": _value("userns"),
    "uts": _value("uts"),
    "volumes": _mounts,
    "working_dir": _value("workdir"),
}
