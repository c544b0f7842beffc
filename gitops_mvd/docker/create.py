"""A service becomes the request that creates its container.  Pure.

`KEYS` maps every Compose key to what it puts into the request; code stands only where Compose and the engine do not
speak alike.  An engine ignores what it does not know, so what needs a newer one is checked by `too_new`.
Source: https://docs.docker.com/reference/api/engine/version/v1.51/#tag/Container/operation/ContainerCreate
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from gitops_mvd.core.compose import (
    LABELLED,
    LOG_DRIVER,
    TAGGED,
    Blkio,
    DeviceRequest,
    Endpoint,
    Healthcheck,
    Mount,
    Port,
    Run,
    Ulimit,
    log_config,
)
from gitops_mvd.core.model import LABEL, File, Service
from gitops_mvd.core.secrets import filled, reference
from gitops_mvd.docker.types import DeviceRequest as EngineRequest

NANOSECONDS = 10**9
Body: TypeAlias = dict[str, Any]
ENDPOINTS_AT_CREATE = (1, 44)  # API versions: from here on, a container joins all of its networks as it is made
MAC_PER_ENDPOINT = (1, 44)

# What an engine with an older API would ignore: the first version, in the API's numbers and in Docker's.  All else that
# a request may have is known to API 1.41, that of Docker 20.10.
# Source: https://docs.docker.com/reference/api/engine/version-history/
NEEDS: Mapping[str, tuple[tuple[int, int], str]] = {
    "annotations": ((1, 43), "24.0"),
    "healthcheck.start_interval": ((1, 44), "25.0"),
    "volumes.bind.recursive": ((1, 44), "25.0"),
    "devices by their CDI name": ((1, 44), "25.0"),
    "networks.mac_address on a second network": (MAC_PER_ENDPOINT, "25.0"),
    "volumes.volume.subpath": ((1, 45), "26.0"),
    "networks.gw_priority": ((1, 48), "28.0"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What creates a container: `body` for `POST /containers/create`, and what is asked for beside it.

    `networks` has the endpoint of every network, the one that is joined first in front; `platform` is "" for any.
    """

    body: Body
    platform: str = ""
    networks: tuple[tuple[str, Body], ...] = ()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container is made: what follows from the host, and not from the service.

    The routed port of the service, if it has one, is published on `address:port`.  `files` is the folder of its mounted
    files, as `kinds/config.py` lays them out; `folders` the one of the app's folders.  `inherited` has the anonymous
    volumes that it takes over from the container before it, by their path in the container.  What is `staged` is on
    its networks, but has no other name there than its own.  `follows` is who follows the container, as a label.
    `seccomp` has the content of the profiles that the service names by a path, `secrets` what its environment refers
    to.  `revision` is the commit that the instance is of, a label that no digest is made of; "" if it is not known.
    """

    files: str
    folders: str
    port: int = 0
    address: str = ""
    staged: bool = False
    follows: str = ""
    inherited: Mapping[str, str] = field(default_factory=dict)
    seccomp: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    revision: str = ""


def request(app: str, service: Service, place: Place, api: tuple[int, int]) -> Request:
    """The request for a container of a service, in the words of that version of the API.

    Raises KeyError for a key of `service.run` that nothing here honours.
    """
    run = service.run
    networks = endpoints(service.endpoints(app), run.get("mac_address", ""), staged=place.staged)
    host: Body = {"RestartPolicy": {"Name": "no"}, "LogConfig": log_config_of(app, service, place)}
    body: Body = {
        "Image": service.image,
        "Env": [f"{key}={_filled(value, place)}" for key, value in sorted(service.environment.items())],
        "StopTimeout": math.ceil(service.stop_grace),
        "HostConfig": host,
    }
    for key, value in sorted(run.items()):
        KEYS[key](body, value)
    _publish(body, [*run.get("ports", ()), *routed_port(service, place)])
    _mount(host, _mounts(app, service, place))
    host["Binds"] = [*_binds(app, service, place)]
    if profiles := place.seccomp:
        host["SecurityOpt"] = [_with_profile(option, profiles) for option in host["SecurityOpt"]]
    if networks:
        first, endpoint = networks[0]
        host["NetworkMode"] = first
        every = networks if api >= ENDPOINTS_AT_CREATE else networks[:1]
        body["NetworkingConfig"] = {"EndpointsConfig": dict(every)}
        if api < MAC_PER_ENDPOINT and "MacAddress" in endpoint:
            body["MacAddress"] = endpoint.pop("MacAddress")
    elif "mac_address" in run:
        _mac_address(body, run["mac_address"], api)
    body["Labels"] = {**run.get("labels", {}), **{LABEL + key: it for key, it in owner(app, service, place).items()}}
    return Request(body, run.get("platform", ""), tuple(networks))


def _filled(value: str, place: Place) -> str:
    return filled(value, lambda name: place.secrets.get(name, reference(name)))


def too_new(run: Run, api: tuple[int, int]) -> str:
    """The first thing in `run` that an engine of that API version would ignore, and what knows it; "" if none."""
    for what in _needs(run):
        needed, docker = NEEDS[what]
        if api < needed:
            return f"`{what}` needs Docker {docker} or newer"
    return ""


def _needs(run: Run) -> Iterator[str]:
    if run.get("annotations"):
        yield "annotations"
    if "start_interval" in run.get("healthcheck", {}):
        yield "healthcheck.start_interval"
    for mount in run.get("volumes", ()):
        if mount.get("bind", {}).get("recursive") in ("writable", "readonly"):
            yield "volumes.bind.recursive"
        if "subpath" in mount.get("volume", {}):
            yield "volumes.volume.subpath"
    of_cdi = [it for it in run.get("gpus", ()) if it.get("driver") == "cdi"]
    if of_cdi or not all(device.startswith("/") for device in run.get("devices", ())):
        yield "devices by their CDI name"
    networks = sorted(run.get("networks", {}).items(), key=rank)
    if any("mac_address" in endpoint for _, endpoint in networks[1:]):
        yield "networks.mac_address on a second network"
    if any("gw_priority" in endpoint for _, endpoint in networks):
        yield "networks.gw_priority"


def owner(app: str, service: Service, place: Place) -> dict[str, str]:
    """The labels of a container, without their prefix: whose it is, and what it was made as."""
    labels = {"app": app, "service": service.name, "digest": service.digest, "port": str(place.port)}
    if place.follows:
        labels["follows"] = place.follows
    if place.revision:
        labels["revision"] = place.revision
    networks = [name for name, _ in sorted(service.endpoints(app).items(), key=rank)]
    if place.staged:
        labels["staged"] = ",".join(networks)
    elif len(networks) > 1:  # of one network, the engine itself knows that the container belongs on it
        labels["networks"] = ",".join(networks)
    return labels


def log_config_of(app: str, service: Service, place: Place) -> Body:
    """The logging driver and its options.  Where no client follows the container, the engine writes to the journal.

    A line can be told by its app, service, instance and revision: by the labels beside it, or by the tag, which is all
    that syslog has.  `awslogs` and the drivers of plugins have what they have.  None of it is part of a digest.
    """
    driver, options = log_config(service.run)
    is_named = bool(service.run.get("logging", {}).get("driver"))
    if driver == LOG_DRIVER and (place.follows or is_named):
        options = {"tag": f"{app}/{service.name}", **options}
    elif not is_named:
        driver, options = "local", {}
    elif driver in TAGGED:
        options = {"tag": "/".join(filter(None, (app, service.name, "{{.Name}}", place.revision))), **options}
    if driver in LABELLED:
        options = {**options, "labels": ",".join(filter(None, (options.get("labels"), *LOG_LABELS)))}
    return {"Type": driver, "Config": {**ROTATION, **options} if driver == "local" else options}


LOG_LABELS = tuple(LABEL + key for key in ("app", "service", "revision"))
ROTATION = {"max-size": "10m", "max-file": "2"}  # of the driver `local`


# ---- networks --------------------------------------------------------------------------------------------------------


def endpoints(joined: Mapping[str, Endpoint], mac_address: str, *, staged: bool = False) -> list[tuple[str, Body]]:
    """The networks to join with how, that of the highest `priority` first; if `staged`, without any alias.

    Before API 1.44 only the first can have a MAC address, and so the one that has it comes first among equals.
    """
    networks = sorted(joined.items(), key=rank)
    made = [(name, endpoint_body({**endpoint, "aliases": []} if staged else endpoint)) for name, endpoint in networks]
    if made and mac_address:
        made[0][1].setdefault("MacAddress", mac_address)
    return made


def rank(network: tuple[str, Endpoint]) -> tuple[int, bool, str]:
    """The place of a network among those of a container."""
    name, endpoint = network
    return -(endpoint.get("priority") or 0), "mac_address" not in endpoint, name


def endpoint_body(endpoint: Endpoint) -> Body:
    """How a container is attached to a network, in the engine's words."""
    body: Body = {}
    if aliases := endpoint.get("aliases"):
        body["Aliases"] = list(aliases)
    addresses: Body = {}
    for key, name in (("ipv4_address", "IPv4Address"), ("ipv6_address", "IPv6Address")):
        if key in endpoint:
            addresses[name] = endpoint[key]  # type: ignore[literal-required]
    if local := endpoint.get("link_local_ips"):
        addresses["LinkLocalIPs"] = list(local)
    if addresses:
        body["IPAMConfig"] = addresses
    if options := endpoint.get("driver_opts"):
        body["DriverOpts"] = dict(options)
    if "gw_priority" in endpoint:
        body["GwPriority"] = endpoint["gw_priority"]
    if "mac_address" in endpoint:
        body["MacAddress"] = endpoint["mac_address"]
    return body


def routed_port(service: Service, place: Place) -> Iterator[Port]:
    """The port on which Kong finds the service, if it has a route."""
    if service.kong and place.port:
        yield Port(host_ip=place.address, published=str(place.port), target=service.kong["port"], protocol="tcp")


def _mac_address(body: Body, address: str, api: tuple[int, int]) -> None:
    """That of a container on the network that the engine has by default."""
    if api < MAC_PER_ENDPOINT:
        body["MacAddress"] = address
    else:
        body["NetworkingConfig"] = {"EndpointsConfig": {"default": {"MacAddress": address}}}


def _publish(body: Body, ports: Iterable[Port]) -> None:
    bindings: dict[str, list[Body]] = {}
    for port in ports:
        binding = {"HostIp": port.get("host_ip", ""), "HostPort": port.get("published", "")}
        bindings.setdefault(f"{port['target']}/{port.get('protocol', 'tcp')}", []).append(binding)
    if bindings:
        body.setdefault("ExposedPorts", {}).update({port: {} for port in bindings})
        body["HostConfig"]["PortBindings"] = bindings


def _expose(body: Body, ports: Iterable[str]) -> None:
    exposed = body.setdefault("ExposedPorts", {})
    for written in ports:
        numbers, _, protocol = written.partition("/")
        first, _, last = numbers.partition("-")
        for port in range(int(first), int(last or first) + 1):
            exposed[f"{port}/{protocol or 'tcp'}"] = {}


# ---- mounts ----------------------------------------------------------------------------------------------------------


def source_of(app: str, mount: Mount, folders: str) -> str:
    """The path of the host behind a bind; that of a folder of the app lies below `folders`."""
    source = mount["source"]
    return f"{folders}/{app}{source[1:]}" if source.startswith("./") else source


def is_plain(app: str, mount: Mount, place: Place) -> bool:
    """Is it written as a `Bind`?  Those make a missing folder and change SELinux labels, and know no more than that."""
    options = mount.get("bind", {})
    if mount["type"] == "volume":
        return "selinux" in options
    plain = "recursive" not in options and "create_host_path" not in options
    paths = f"{source_of(app, mount, place.folders)}{mount['target']}"
    return mount["type"] == "bind" and plain and ":" not in paths


def bind(app: str, mount: Mount, place: Place) -> str:
    """`source:target:options` of a mount that `is_plain`."""
    options, volume = mount.get("bind", {}), mount.get("volume", {})
    words = [options.get("selinux"), options.get("propagation"), "nocopy" if volume.get("nocopy") else None]
    access = "ro" if mount.get("read_only") else "rw"
    source = source_of(app, mount, place.folders)
    return ":".join((source, mount["target"], ",".join([access, *filter(None, words)])))


def _binds(app: str, service: Service, place: Place) -> Iterator[str]:
    for mount in service.run.get("volumes", ()):
        if is_plain(app, mount, place):
            yield bind(app, mount, place)
    for number, file in enumerate(service.files):
        if file.options:
            yield f"{source_of_file(file, number, place)}:{file.target}:{','.join(('ro', *file.options))}"


def source_of_file(file: File, number: int, place: Place) -> str:
    """The path of the host where a mounted file of the repository lies, or the folder of several."""
    return f"{place.files}/files/{number}" + ("/file" if file.is_single else "")


def _mounts(app: str, service: Service, place: Place) -> Iterator[Body]:
    targets = {file.target for file in service.files} | {
        line.partition(":")[0] for line in service.run.get("tmpfs", ())
    }
    for mount in service.run.get("volumes", ()):
        targets.add(mount["target"])
        if not is_plain(app, mount, place):
            yield _mount_body(app, mount, place)
    for number, file in enumerate(service.files):
        if not file.options:
            source = source_of_file(file, number, place)
            yield {"Type": "bind", "Source": source, "Target": file.target, "ReadOnly": True}
    for target, volume in sorted(place.inherited.items()):  # of the image: nothing in the manifest speaks of these
        if target not in targets:
            yield {"Type": "volume", "Source": volume, "Target": target}


def _mount_body(app: str, mount: Mount, place: Place) -> Body:
    body: Body = {"Type": mount["type"], "Target": mount["target"]}
    source = source_of(app, mount, place.folders)
    if mount["type"] == "volume":
        source = source or place.inherited.get(mount["target"], "")
    if source:
        body["Source"] = source
    if mount.get("read_only"):
        body["ReadOnly"] = True
    if options := MOUNT_OPTIONS[mount["type"]](mount):
        body[f"{mount['type'].capitalize()}Options"] = options
    return body


def _bind_options(mount: Mount) -> Body:
    options, body = mount.get("bind", {}), Body()
    if "propagation" in options:
        body["Propagation"] = options["propagation"]
    if (recursive := options.get("recursive", "enabled")) != "enabled":
        body[RECURSIVE[recursive]] = True
    if options.get("create_host_path", True):
        body["CreateMountpoint"] = True
    return body


RECURSIVE = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}


def _volume_options(mount: Mount) -> Body:
    volume, body = mount.get("volume", {}), Body()
    if volume.get("nocopy"):
        body["NoCopy"] = True
    if "subpath" in volume:
        body["Subpath"] = volume["subpath"]
    return body


def _tmpfs_options(mount: Mount) -> Body:
    tmpfs = mount.get("tmpfs", {})
    names = {"size": "SizeBytes", "mode": "Mode"}
    return {names[key]: value for key, value in tmpfs.items()}


MOUNT_OPTIONS: Mapping[str, Callable[[Mount], Body]] = {
    "bind": _bind_options,
    "volume": _volume_options,
    "tmpfs": _tmpfs_options,
}


def _mount(host: Body, mounts: Iterable[Body]) -> None:
    if every := list(mounts):
        host["Mounts"] = every


# ---- one shape of value, one maker -----------------------------------------------------------------------------------

Maker = Callable[[Body, Any], None]


def _config(name: str) -> Maker:
    def make(body: Body, value: Any) -> None:
        body[name] = value

    return make


def _host(name: str) -> Maker:
    def make(body: Body, value: Any) -> None:
        body["HostConfig"][name] = value

    return make


def _elsewhere(body: Body, value: object) -> None:
    """Honoured, but not by a field of its own."""


# ---- the odd ones ----------------------------------------------------------------------------------------------------


def _cpus(body: Body, cores: float) -> None:
    body["HostConfig"]["NanoCpus"] = round(cores * NANOSECONDS)


def _command(body: Body, words: Sequence[str]) -> None:
    if words:
        body["Cmd"] = list(words)


def _entrypoint(body: Body, words: Sequence[str]) -> None:
    body["Entrypoint"] = list(words) or [""]  # the empty one takes the image's own away


def _ulimits(body: Body, limits: Mapping[str, Ulimit]) -> None:
    body["HostConfig"]["Ulimits"] = [
        {"Name": name, "Soft": limit["soft"], "Hard": limit["hard"]} for name, limit in sorted(limits.items())
    ]


def _tmpfs(body: Body, lines: Iterable[str]) -> None:
    parted = (line.partition(":") for line in lines)
    body["HostConfig"]["Tmpfs"] = {path: options for path, _, options in parted}


def _devices(body: Body, devices: Iterable[str]) -> None:
    plain = [device.split(":") for device in devices if device.startswith("/")]
    named = [device for device in devices if not device.startswith("/")]
    body["HostConfig"]["Devices"] = [
        {"PathOnHost": source, "PathInContainer": target, "CgroupPermissions": permissions}
        for source, target, permissions in plain
    ]
    if named:
        _requests(body).append(_of_cdi(named))


def _of_cdi(names: Sequence[str]) -> Body:
    return {"Driver": "cdi", "DeviceIDs": list(names)}


def _gpus(body: Body, requests: Iterable[DeviceRequest]) -> None:
    for wanted in requests:
        if wanted.get("driver") == "cdi":
            _requests(body).append(_of_cdi(wanted.get("device_ids", ())))
            continue
        capabilities = list(dict.fromkeys(["gpu", *wanted.get("capabilities", ())]))
        count = wanted.get("count", "all")
        made: Body = {"Driver": wanted.get("driver", ""), "Capabilities": [capabilities]}
        if devices := wanted.get("device_ids"):
            made["DeviceIDs"] = list(devices)
        else:
            made["Count"] = -1 if count == "all" else count
        if options := wanted.get("options"):
            made["Options"] = dict(options)
        _requests(body).append(made)


def device_requests(run: Run) -> list[EngineRequest]:
    """The devices that a service asks an engine's drivers for."""
    body: Body = {"HostConfig": {}}
    _gpus(body, run.get("gpus", ()))
    _devices(body, run.get("devices", ()))
    return cast("list[EngineRequest]", _requests(body))


def _requests(body: Body) -> list[Body]:
    found: list[Body] = body["HostConfig"].setdefault("DeviceRequests", [])
    return found


def _healthcheck(body: Body, check: Healthcheck) -> None:
    if check.get("disable"):
        body["Healthcheck"] = {"Test": ["NONE"]}
        return
    made: Body = {"Test": list(check["test"])} if check.get("test") else {}
    for key, name in DURATIONS.items():
        if key in check:
            made[name] = round(check[key] * NANOSECONDS)  # type: ignore[literal-required]
    if "retries" in check:
        made["Retries"] = check["retries"]
    body["Healthcheck"] = made


DURATIONS = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
}


def _blkio(body: Body, config: Blkio) -> None:
    host = body["HostConfig"]
    if "weight" in config:
        host["BlkioWeight"] = config["weight"]
    if "weight_device" in config:
        host["BlkioWeightDevice"] = [{"Path": it["path"], "Weight": it["weight"]} for it in config["weight_device"]]
    rates = {
        "BlkioDeviceReadBps": config.get("device_read_bps", []),
        "BlkioDeviceReadIOps": config.get("device_read_iops", []),
        "BlkioDeviceWriteBps": config.get("device_write_bps", []),
        "BlkioDeviceWriteIOps": config.get("device_write_iops", []),
    }
    host.update(
        {name: [{"Path": it["path"], "Rate": it["rate"]} for it in some] for name, some in rates.items() if some}
    )


def _security_opt(body: Body, options: Iterable[str]) -> None:
    host, kept = body["HostConfig"], []
    for option in options:
        if option in ("systempaths=unconfined", "systempaths:unconfined"):  # a word of the client's own
            host["MaskedPaths"], host["ReadonlyPaths"] = [], []
        else:
            kept.append(option)
    host["SecurityOpt"] = kept


def seccomp_profiles(run: Run) -> list[str]:
    """The paths of the host from which `security_opt` has profiles read."""
    named = (option.replace(":", "=", 1).partition("=") for option in run.get("security_opt", ()))
    return [value for key, _, value in named if key == "seccomp" and value not in ("unconfined", "builtin")]


def _with_profile(option: str, profiles: Mapping[str, str]) -> str:
    key, _, value = option.replace(":", "=", 1).partition("=")
    return f"seccomp={profiles[value]}" if key == "seccomp" and value in profiles else option


KEYS: Mapping[str, Maker] = {
    "annotations": _host("Annotations"),
    "blkio_config": _blkio,
    "cap_add": _host("CapAdd"),
    "cap_drop": _host("CapDrop"),
    "cgroup": _host("CgroupnsMode"),
    "cgroup_parent": _host("CgroupParent"),
    "command": _command,
    "cpu_period": _host("CpuPeriod"),
    "cpu_quota": _host("CpuQuota"),
    "cpu_rt_period": _host("CpuRealtimePeriod"),
    "cpu_rt_runtime": _host("CpuRealtimeRuntime"),
    "cpu_shares": _host("CpuShares"),
    "cpus": _cpus,
    "cpuset": _host("CpusetCpus"),
    "device_cgroup_rules": _host("DeviceCgroupRules"),
    "devices": _devices,
    "dns": _host("Dns"),
    "dns_opt": _host("DnsOptions"),
    "dns_search": _host("DnsSearch"),
    "domainname": _config("Domainname"),
    "entrypoint": _entrypoint,
    "expose": _expose,
    "extra_hosts": _host("ExtraHosts"),
    "gpus": _gpus,
    "group_add": _host("GroupAdd"),
    "healthcheck": _healthcheck,
    "hostname": _config("Hostname"),
    "init": _host("Init"),
    "ipc": _host("IpcMode"),
    "labels": _elsewhere,
    "logging": _elsewhere,
    "mac_address": _elsewhere,
    "mem_limit": _host("Memory"),
    "mem_reservation": _host("MemoryReservation"),
    "mem_swappiness": _host("MemorySwappiness"),
    "memswap_limit": _host("MemorySwap"),
    "network_mode": _host("NetworkMode"),
    "networks": _elsewhere,
    "oom_kill_disable": _host("OomKillDisable"),
    "oom_score_adj": _host("OomScoreAdj"),
    "pid": _host("PidMode"),
    "pids_limit": _host("PidsLimit"),
    "platform": _elsewhere,
    "ports": _elsewhere,
    "privileged": _host("Privileged"),
    "read_only": _host("ReadonlyRootfs"),
    "restart": _elsewhere,  # systemd's task: see systemd/unit.py
    "runtime": _host("Runtime"),
    "security_opt": _security_opt,
    "shm_size": _host("ShmSize"),
    "stdin_open": _config("OpenStdin"),
    "stop_grace_period": _elsewhere,
    "stop_signal": _config("StopSignal"),
    "storage_opt": _host("StorageOpt"),
    "sysctls": _host("Sysctls"),
    "tmpfs": _tmpfs,
    "tty": _config("Tty"),
    "ulimits": _ulimits,
    "user": _config("User"),
    "userns_mode": _host("UsernsMode"),
    "uts": _host("UTSMode"),
    "volumes": _elsewhere,
    "working_dir": _config("WorkingDir"),
}
