"""The `docker run` that makes about the same container as a service's request does: for people, in its unit.  Pure.

`FLAGS` maps every Compose key to the flag that honours it; code stands only where Compose and the client do not speak
alike.  The client cannot say all that the engine can: it hands a healthcheck's command to a shell, always.
Source: `docker create --help` of 20.10.24 and 28.2.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from gitops_mvd.core.compose import (
    Blkio,
    DeviceRequest,
    Endpoint,
    Healthcheck,
    Mount,
    Port,
    Run,
    Ulimit,
)
from gitops_mvd.core.model import LABEL, Service
from gitops_mvd.docker.create import (
    Place,
    bind,
    is_plain,
    log_config_of,
    owner,
    rank,
    routed_port,
    source_of,
    source_of_file,
)


def equivalent(app: str, service: Service, name: str, place: Place) -> list[list[str]]:
    """The commands, each without the word `docker` in front: `run`, and a `network connect` for each further network.

    Every option is one word, `--flag=value`, so that no value can be taken for an option.  The environment is in the
    service's env file, as it may have secrets.  Raises KeyError for a key of `service.run` that no flag honours.
    """
    run: Run = service.run
    networks: list[tuple[str, Endpoint]] = sorted(service.endpoints(app).items(), key=rank)
    options = ["--detach", f"--name={name}", f"--env-file={place.files}/env"]
    for key, value in sorted(run.items()):
        options += FLAGS[key](value)
    logging = log_config_of(app, service, place)
    options += [f"--log-driver={logging['Type']}", *_pairs("log-opt")(logging["Config"])]
    options += _grace(service.stop_grace)
    options += _ports(routed_port(service, place))
    for mount in run.get("volumes", ()):
        options += _mount(app, mount, place)
    for number, file in enumerate(service.files):
        source = source_of_file(file, number, place)
        if file.options:
            options.append(f"--volume={source}:{file.target}:{','.join(('ro', *file.options))}")
        else:
            options.append(f"--mount={_fields('type=bind', f'source={source}', f'target={file.target}', 'readonly')}")
    for network, endpoint in networks[:1]:
        options += _first_network(network, endpoint)
    options += [f"--label={LABEL}{key}={value}" for key, value in owner(app, service, place).items()]
    connects = [["network", "connect", *_further(endpoint), network, name] for network, endpoint in networks[1:]]
    return [["run", *options, service.image, *_command(run)], *connects]


def rejoins(app: str, service: Service, name: str) -> list[list[str]]:
    """The `network connect` of each network whose names may move while the container keeps its address.

    To keep it, it has to be asked for, and from then on it belongs to the container.  At its next start another one may
    have it, so that it joins anew before that, with its names and any address.
    """
    if service.update.order == "stop-first" or service.schedule:  # their names never move
        return []
    joined = service.run.get("networks", {})
    free = {network: it for network, it in joined.items() if not ("ipv4_address" in it or "ipv6_address" in it)}
    return [["network", "connect", *_further(endpoint), network, name] for network, endpoint in sorted(free.items())]


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


def _ports(ports: Iterable[Port]) -> Iterator[str]:
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


def _mount(app: str, mount: Mount, place: Place) -> Iterator[str]:
    if is_plain(app, mount, place):
        yield f"--volume={bind(app, mount, place)}"
        return
    source = source_of(app, mount, place.folders)
    fields = [f"type={mount['type']}", *([f"source={source}"] if source else []), f"target={mount['target']}"]
    if mount.get("read_only"):
        fields.append("readonly")
    for key, value in sorted(mount.get(mount["type"], {}).items()):
        text = f"{value:o}" if key == "mode" else str(value).lower() if isinstance(value, bool) else value
        if key in MOUNT_OPTIONS:
            fields.append(f"{MOUNT_OPTIONS[key]}={text}")
    yield f"--mount={_fields(*fields)}"


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
        yield f"--driver-opt=com.docker.network.endpoint.macaddress={endpoint['mac_address']}"


def _addresses(endpoint: Endpoint) -> Iterator[str]:
    if "ipv4_address" in endpoint:
        yield f"--ip={endpoint['ipv4_address']}"
    if "ipv6_address" in endpoint:
        yield f"--ip6={endpoint['ipv6_address']}"
    yield from _each("link-local-ip")(endpoint.get("link_local_ips", []))


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
        if request.get("driver") == "cdi":
            yield from (f"--device={name}" for name in devices or ())
            continue
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
    "logging": _elsewhere,
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
    "stop_grace_period": _elsewhere,
    "stop_signal": _value("stop-signal"),
    "storage_opt": _pairs("storage-opt"),
    "sysctls": _pairs("sysctl"),
    "tmpfs": _each("tmpfs"),
    "tty": _switch("tty"),
    "ulimits": _ulimits,
    "user": _value("user"),
    "userns_mode": _value("userns"),
    "uts": _value("uts"),
    "volumes": _elsewhere,
    "working_dir": _value("workdir"),
}
