"""Parts of a Compose file in normal form: what `Service.run` and an app's networks and volumes have.  Pure.

Names and meanings are Compose's.  Durations are seconds, sizes bytes.  Stored apps and digests are made of these keys:
none is ever renamed.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


class Port(TypedDict):
    """A port of the container on the host; `published` is "" for any free one, `host_ip` "" for all addresses."""

    target: int
    published: str
    host_ip: str
    protocol: str


class BindOptions(TypedDict, total=False):
    """Options of a bind; `create_host_path` is only ever False: left out, a missing folder of the host is made."""

    propagation: str
    selinux: str
    recursive: str
    create_host_path: bool


class VolumeMountOptions(TypedDict, total=False):
    nocopy: bool
    subpath: str


class TmpfsOptions(TypedDict, total=False):
    size: int
    mode: int


class Mount(TypedDict):
    """A mount; `source` is a volume's real name, a path of the host, or "" for a tmpfs or an anonymous volume.

    A `source` that begins with `./` is a folder of the app on the host, such as `./data`: relative to where the host
    keeps the folders of that app, and never outside of it.
    """

    type: Literal["volume", "bind", "tmpfs"]
    source: str
    target: str
    read_only: bool
    bind: NotRequired[BindOptions]
    volume: NotRequired[VolumeMountOptions]
    tmpfs: NotRequired[TmpfsOptions]


class Tasks(TypedDict):
    """How a Swarm runs a service: so many tasks on all of its nodes together, or, if it is `everywhere`, one on each.

    `probed` is the port in the container that its probe asks, 0 if it asks none.  `constraints` are those on its nodes,
    as Swarm writes them, `spread` the labels of nodes over whose values tasks are spread, and `most` the tasks on a
    node at most.  `cpus` and `resources` (number by kind) are reserved; `labels` are those of the service itself.
    `volumes` has the options of its volumes, by their real names: its node makes one that it has not.
    """

    replicas: int
    everywhere: bool
    probed: int
    constraints: NotRequired[list[str]]
    spread: NotRequired[list[str]]
    most: NotRequired[int]
    cpus: NotRequired[float]
    resources: NotRequired[dict[str, int]]
    labels: NotRequired[dict[str, str]]
    volumes: NotRequired[dict[str, Volume]]


class Endpoint(TypedDict, total=False):
    """How a container is attached to a network."""

    aliases: list[str]
    ipv4_address: str
    ipv6_address: str
    link_local_ips: list[str]
    mac_address: str
    driver_opts: dict[str, str]
    priority: int
    gw_priority: int


class Ulimit(TypedDict):
    soft: int
    hard: int


class Logging(TypedDict):
    driver: str
    options: dict[str, str]


class Healthcheck(TypedDict, total=False):
    test: list[str]
    interval: float
    timeout: float
    start_period: float
    start_interval: float
    retries: int
    disable: bool


class Weight(TypedDict):
    path: str
    weight: int


class Rate(TypedDict):
    path: str
    rate: int


class Blkio(TypedDict, total=False):
    weight: int
    weight_device: list[Weight]
    device_read_bps: list[Rate]
    device_write_bps: list[Rate]
    device_read_iops: list[Rate]
    device_write_iops: list[Rate]


class DeviceRequest(TypedDict):
    """A request for devices such as GPUs, with either `count` or `device_ids`."""

    driver: str
    device_ids: list[str]
    capabilities: list[str]
    options: dict[str, str]
    count: NotRequired[int | str]


class RunKeys(TypedDict, total=False):
    """The keys of a service that go to its container as they are, whatever else the service has."""

    user: str
    working_dir: str
    hostname: str
    domainname: str
    mac_address: str
    ipc: str
    pid: str
    uts: str
    userns_mode: str
    cgroup: str
    cgroup_parent: str
    runtime: str
    platform: str
    stop_signal: str
    stop_grace_period: float
    network_mode: str
    cpuset: str
    restart: str
    init: bool
    privileged: bool
    read_only: bool
    tty: bool
    stdin_open: bool
    oom_kill_disable: bool
    oom_score_adj: int
    mem_limit: int
    memswap_limit: int
    mem_reservation: int
    mem_swappiness: int
    shm_size: int
    cpus: float
    cpu_shares: int
    cpu_quota: int
    cpu_period: int
    cpu_rt_runtime: int
    cpu_rt_period: int
    pids_limit: int
    command: list[str]
    entrypoint: list[str]
    cap_add: list[str]
    cap_drop: list[str]
    security_opt: list[str]
    group_add: list[str]
    dns: list[str]
    dns_search: list[str]
    dns_opt: list[str]
    device_cgroup_rules: list[str]
    devices: list[str]
    expose: list[str]
    extra_hosts: list[str]
    annotations: dict[str, str]
    sysctls: dict[str, str]
    storage_opt: dict[str, str]
    ulimits: dict[str, Ulimit]
    logging: Logging
    healthcheck: Healthcheck
    blkio_config: Blkio
    gpus: list[DeviceRequest]


class Run(RunKeys, total=False):
    """`Service.run`: all keys that the container is created with, by their real names on the host.

    `network_mode`, `ipc` and `pid` may be `service:<name>`, another service of the app, whose namespace is shared.
    """

    labels: dict[str, str]
    ports: list[Port]
    volumes: list[Mount]
    tmpfs: list[str]
    networks: dict[str, Endpoint]


class Pool(TypedDict, total=False):
    subnet: str
    ip_range: str
    gateway: str
    aux_addresses: dict[str, str]


class Ipam(TypedDict, total=False):
    driver: str
    config: list[Pool]
    options: dict[str, str]


class Network(TypedDict, total=False):
    """A network of the app; `external` alone for one that exists already."""

    external: bool
    driver: str
    driver_opts: dict[str, str]
    ipam: Ipam
    internal: bool
    attachable: bool
    enable_ipv4: bool
    enable_ipv6: bool
    labels: dict[str, str]


class Volume(TypedDict, total=False):
    """A volume of the app; `external` alone for one that exists already."""

    external: bool
    driver: str
    driver_opts: dict[str, str]
    labels: dict[str, str]


LOG_DRIVER = "journald"  # the driver of a container whose service names none
LABELLED = frozenset(  # drivers that put labels beside each line
    {"journald", "json-file", "gelf", "fluentd", "splunk", "gcplogs"}
)
TAGGED = frozenset({"syslog", "splunk"})  # drivers that have the name of the container in the tag alone
_FILTERS = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
FILE_LOG_OPTIONS = frozenset({"max-size", "max-file", "compress"})  # how large the files of a log may grow
ANY_LOG_OPTIONS = frozenset(  # the engine's own, whatever the driver
    {"mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}
)
LOG_OPTIONS = {
    "journald": _FILTERS,
    "json-file": _FILTERS | FILE_LOG_OPTIONS,
    "local": FILE_LOG_OPTIONS,
    "gelf": _FILTERS
    | {
        "gelf-address",
        "gelf-compression-level",
        "gelf-compression-type",
        "gelf-tcp-max-reconnect",
        "gelf-tcp-reconnect-delay",
    },
    "syslog": _FILTERS
    | {
        "syslog-address",
        "syslog-facility",
        "syslog-format",
        "syslog-tls-ca-cert",
        "syslog-tls-cert",
        "syslog-tls-key",
        "syslog-tls-skip-verify",
    },
}
"""The options of a driver; an engine refuses any other.  Source: `ValidateLogOpt` in daemon/logger of moby 28."""


def log_config(run: Run) -> tuple[str, dict[str, str]]:
    """The logging driver of a container and its options.

    A service that names no driver has no log files: options that limit them are left out, for the journal has its own
    limits.
    """
    logging = run.get("logging", Logging(driver="", options={}))
    if logging["driver"]:
        return logging["driver"], dict(logging["options"])
    known = LOG_OPTIONS[LOG_DRIVER] | ANY_LOG_OPTIONS
    return LOG_DRIVER, {name: value for name, value in logging["options"].items() if name in known}
