"""The keys of a service: one table, supported or refused, each with its sentence.  Pure."""

from __future__ import annotations

import re
from typing import cast

from gitops_mvd.config.readers import (
    FILLED,
    PAIRS,
    STRING,
    WORD,
    boolean,
    command,
    duration,
    each,
    either,
    filled,
    integer,
    list_of,
    mapping_of,
    microseconds,
    number,
    one_of,
    pairs,
    placed,
    size,
    size_or_unlimited,
    string_map,
    string_or_strings,
    strings,
    text,
    word,
    words,
)
from gitops_mvd.config.tables import (
    Ignored,
    Key,
    Place,
    Reader,
    Table,
    Unsupported,
    accepts,
    fields,
    mapping_schema,
    or_empty,
    record,
)
from gitops_mvd.core.compose import (
    Blkio,
    Healthcheck,
    Rate,
    Ulimit,
    Weight,
)
from gitops_mvd.manifest import deploy, extensions, network, storage
from gitops_mvd.manifest.composition import ANYTHING, EXTENDS
from gitops_mvd.manifest.images import image
from gitops_mvd.manifest.logs import read_logging
from gitops_mvd.manifest.names import named
from gitops_mvd.manifest.values import DependencyKeys, EnvFileKeys, ServiceKeys

_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
LONGEST_ALIAS = 255  # of a name that DNS finds; each of its parts may have 63
_RESTART = re.compile(r"no|always|unless-stopped|on-failure(?::[0-9]{1,4})?")
_CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
RESERVED = "io.gitops-mvd."


@accepts({"type": "string", "pattern": f"^({_RESTART.pattern})$"})
def _restart(place: Place) -> str:
    value = text(place)
    if not _RESTART.fullmatch(value):
        place.fail(f'must be "no", always, unless-stopped, on-failure or on-failure:5, not {value!r}')
    return value


@accepts({"enum": ["always", "missing", "never", "if_not_present"]})
def _pull_policy(place: Place) -> str:
    policy = text(place)
    if policy == "build":
        place.fail("build time is separate from deploy time: build in CI and name the image")
    if policy in ("daily", "weekly", "refresh") or policy.startswith("every_"):
        place.fail(f"{policy} is not supported: `always` looks for a new image at every pass")
    return {"if_not_present": "missing"}.get(policy) or one_of("always", "missing", "never")(place)


@accepts(FILLED)
def _joined(place: Place) -> str:
    """A namespace to share: of the host, of another service, or of a container that is not managed."""
    value = filled(place)
    kind, colon, name = value.partition(":")
    if colon and kind in ("service", "container") and not name:
        place.fail(f"must name a {kind}, such as {kind}:vpn")
    return value


@accepts({"type": "string", "pattern": "^(bridge|host|none|(container|service):.+)$"})
def _network_mode(place: Place) -> str:
    value = _joined(place)
    if value not in ("bridge", "host", "none") and not value.startswith(("container:", "service:")):
        place.fail(
            f"must be bridge, host, none, service:<name> or container:<name>, not {value!r}: "
            "other networks go into `networks`"
        )
    return value


@accepts({"type": "string", "pattern": f"^{_CONTAINER_NAME.pattern}$"})
def _container_name(place: Place) -> str:
    return named(place, _CONTAINER_NAME, "two or more letters, digits, `_`, `.` and `-`", LONGEST_ALIAS)


@accepts(FILLED)
def _link(place: Place) -> tuple[str, str]:
    """The service of a link, and the further name that it gets."""
    service, _, alias = filled(place).partition(":")
    if not service or ":" in alias:
        place.fail('must be the name of a service, or like "db:database"')
    return service, alias or service


@accepts(PAIRS)
def _labels(place: Place) -> dict[str, str]:
    for at, name, _ in pairs(place):
        if name.startswith(RESERVED):
            at.report(f"labels that begin with {RESERVED} are reserved for gitops-mvd")
    return string_map(place)


@accepts(
    either(
        {"type": "object", "additionalProperties": either(WORD, words.schema)},
        {"type": "array", "items": FILLED},
    )
)
def _extra_hosts(place: Place) -> list[str]:
    if isinstance(place.value(), dict):
        hosts = {
            name: words(at) if isinstance(at.node.value, list) else [word(at)] for name, at in place.entries().items()
        }
        return [f"{name}:{ip.strip('[]')}" for name, some in hosts.items() for ip in some]

    def read(item: Place) -> str:
        name, *ip = re.split("[=:]", filled(item), maxsplit=1)
        return f"{name}:{ip[0].strip('[]')}" if name and ip else item.fail('must be like "db.local:10.0.0.7"')

    return [value for _, value in each(place, read)]


_DEVICE: Table = {
    "source": Key("The device on the host.", filled),
    "target": Key("Its path in the container.", filled),
    "permissions": Key("Some of `rwm`.", filled),
}


@accepts(either(FILLED, mapping_schema(_DEVICE, ("source",))))
def _device(place: Place) -> str:
    if isinstance(place.value(), dict):
        parts = fields(place, _DEVICE, required=("source",))
        source = parts.get("source", "")
        return ":".join((source, parts.get("target", source), parts.get("permissions", "rwm")))
    device = filled(place)
    if device.startswith("/"):
        source, target, permissions, *more = *device.split(":"), *[""] * (2 - device.count(":"))
        if more or set(permissions) - set("rwm"):
            place.fail("must be like /dev/ttyS0:/dev/ttyS0:rwm")
        return ":".join((source, target or source, permissions or "rwm"))
    return (
        device if "=" in device else place.fail("must be a path such as /dev/ttyS0, or a name such as vendor.com/gpu=0")
    )


_BOTH: Table = {"soft": Key("The soft limit.", integer(-1)), "hard": Key("The hard limit.", integer(-1))}
_both = record(Ulimit, _BOTH, _BOTH)


@accepts(either(integer(-1).schema, _both.schema))
def _ulimit(place: Place) -> Ulimit:
    if isinstance(place.value(), dict):
        return _both(place)
    limit = integer(-1)(place)
    return {"soft": limit, "hard": limit}


@accepts(either(FILLED, strings.schema))
def _test(place: Place) -> list[str]:
    if not isinstance(place.value(), list):
        return ["CMD-SHELL", filled(place)]
    test = strings(place)
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        place.fail("must begin with NONE, CMD or CMD-SHELL")
    return test


HEALTHCHECK: Table = {
    "test": Key("The command: a string for a shell, or a list that begins with NONE, CMD or CMD-SHELL.", _test),
    "interval": Key("The pause between two tests.", duration),
    "timeout": Key("How long one test may take.", duration),
    "start_period": Key("How long failures do not count after the start.", duration),
    "start_interval": Key("The pause between tests in that time.", duration),
    "retries": Key("How many failures in a row make it unhealthy.", integer(0, 10000)),
    "disable": Key("`true` switches off the health check of the image.", boolean),
}


_healthcheck_keys = record(Healthcheck, HEALTHCHECK)


@accepts(_healthcheck_keys.schema)
def _healthcheck(place: Place) -> Healthcheck:
    check = _healthcheck_keys(place)
    if check.pop("disable", False) or check.get("test") == ["NONE"]:
        return {"disable": True}
    if check.get("test") == []:  # that of the image
        del check["test"]
    return check


_BYTE_RATE: Table = {"path": Key("A block device.", filled), "rate": Key("Bytes a second.", size)}
_IO_RATE: Table = {"path": Key("A block device.", filled), "rate": Key("Operations a second.", integer(0))}
_WEIGHT: Table = {"path": Key("A block device.", filled), "weight": Key("10 to 1000.", integer(10, 1000))}


_weights = list_of(record(Weight, _WEIGHT, _WEIGHT))
_byte_rates = list_of(record(Rate, _BYTE_RATE, _BYTE_RATE))
_io_rates = list_of(record(Rate, _IO_RATE, _IO_RATE))


BLKIO: Table = {
    "weight": Key("10 to 1000.", integer(10, 1000)),
    "weight_device": Key("`path` and `weight`.", _weights),
    "device_read_bps": Key("`path` and `rate` in bytes a second.", _byte_rates),
    "device_write_bps": Key("`path` and `rate` in bytes a second.", _byte_rates),
    "device_read_iops": Key("`path` and `rate` in operations a second.", _io_rates),
    "device_write_iops": Key("`path` and `rate` in operations a second.", _io_rates),
}


@accepts({"enum": [False, "false"]})
def _no_restart(place: Place) -> bool:
    return boolean(place) and place.fail("is not supported: make the service retry its connections")


DEPENDENCY: Table = {
    "condition": Key(f"`{'`, `'.join(_CONDITIONS)}`.", one_of(*_CONDITIONS)),
    "required": Key("`false`: the service may be missing on this host.", boolean),
    "restart": Key("Only `false` is allowed.", _no_restart),
}


_dependency = record(DependencyKeys, DEPENDENCY)


@accepts(
    either(
        {"type": "array", "items": FILLED},
        {"type": "object", "additionalProperties": or_empty(_dependency.schema)},
    )
)
def _depends_on(place: Place) -> dict[str, tuple[Place, str, bool]]:
    """Each dependency's place, condition, and whether it is required."""
    if isinstance(place.value(), list):
        return {name: (at, "service_started", True) for at, name in each(place, filled)}
    found = {}
    for name, at in place.entries().items():
        options: DependencyKeys | None = {} if at.empty else at.attempt(_dependency)
        if options is not None:
            found[name] = at, options.get("condition", "service_started"), options.get("required", True)
    return found


ENV_FILE: Table = {
    "path": Key("The file.", filled),
    "required": Key("`false`: it may be missing.", boolean),
    "format": Key("`raw`: taken literally, without quotes and variables.", one_of("raw")),
}


_env_file_keys = record(EnvFileKeys, ENV_FILE, ("path",))
_ONE_ENV_FILE = either(FILLED, _env_file_keys.schema)


@accepts(either(_ONE_ENV_FILE, {"type": "array", "items": _ONE_ENV_FILE}))
def _env_file(place: Place) -> list[tuple[Place, EnvFileKeys]]:
    def read(item: Place) -> EnvFileKeys:
        return _env_file_keys(item) if isinstance(item.value(), dict) else {"path": filled(item)}

    return each(place, read) if isinstance(place.value(), list) else [(place, read(place))]


RUN: Table = {
    "user": Key('The user that the process runs as, such as `"1000:1000"`.', filled),
    "working_dir": Key("The folder that the process starts in.", filled),
    "hostname": Key("The container's host name.", filled),
    "domainname": Key("The container's domain name.", filled),
    "mac_address": Key("A fixed MAC address; the service then stops before its successor starts.", filled),
    "ipc": Key(
        "The IPC namespace: `host`, `private`, `shareable`, `none`, `service:<name>`, `container:<name>`.", _joined
    ),
    "pid": Key("The PID namespace: `host`, `service:<name>`, `container:<name>`.", _joined),
    "uts": Key("The UTS namespace: `host`.", one_of("host")),
    "userns_mode": Key("The user namespace: `host`.", filled),
    "cgroup": Key("The cgroup namespace: `host` or `private`.", one_of("host", "private")),
    "cgroup_parent": Key("The parent cgroup of the container.", filled),
    "runtime": Key("The engine's runtime, such as `nvidia`.", filled),
    "platform": Key("The platform of the image, such as `linux/amd64`.", filled),
    "stop_signal": Key("The signal that asks the process to stop.", filled),
    "stop_grace_period": Key("How long the process may take to stop before it is killed.", duration),
    "network_mode": Key(
        "`bridge`, `host`, `none`, `service:<name>` or `container:<name>`; not together with `networks`.", _network_mode
    ),
    "cpuset": Key("The processors that the container may use, such as `0-2`.", filled),
    "restart": Key(
        '`"no"`, `always`, `on-failure[:n]` or `unless-stopped`; systemd does it. Left out, a container that has ended '
        "with code 0 is done, and one that has ended with another code is started again.",
        _restart,
    ),
    "init": Key("`true`: an init process that reaps zombies and forwards signals. Off unless asked for.", boolean),
    "privileged": Key("All rights on the host, if the host's policy allows that.", boolean),
    "read_only": Key("The container's own file system is read-only.", boolean),
    "tty": Key("Give it a terminal.", boolean),
    "stdin_open": Key("Keep its standard input open.", boolean),
    "oom_kill_disable": Key("Never kill it when it runs out of memory.", boolean),
    "oom_score_adj": Key("How readily the kernel kills it if memory runs out: -1000 to 1000.", integer(-1000, 1000)),
    "mem_limit": Key("Memory at most, such as `512m`.", size),
    "memswap_limit": Key("Memory and swap together; -1 for no limit.", size_or_unlimited),
    "mem_reservation": Key("A soft limit of memory.", size),
    "mem_swappiness": Key("0 to 100.", integer(0, 100)),
    "shm_size": Key("The size of /dev/shm.", size),
    "cpus": Key("Processor cores at most, such as `1.5`.", number),
    "cpu_shares": Key("The weight for processor time, relative to other containers.", integer(0)),
    "cpu_quota": Key("Microseconds of processor time in each period.", microseconds),
    "cpu_period": Key("The length of a period, in microseconds.", microseconds),
    "cpu_rt_runtime": Key("Real-time microseconds in each period.", microseconds),
    "cpu_rt_period": Key("The length of a period, in microseconds.", microseconds),
    "pids_limit": Key("Processes at most; -1 for no limit.", integer(-1)),
    "command": Key("Instead of the image's command: a list, or a string that is split into words.", command),
    "entrypoint": Key("Instead of the image's entry point: a list, or a string that is split into words.", command),
    "cap_add": Key("Capabilities to add.", strings),
    "cap_drop": Key("Capabilities to drop.", strings),
    "security_opt": Key("Security options.", strings),
    "group_add": Key("Further groups of the user.", words),
    "dns": Key("DNS servers.", string_or_strings),
    "dns_search": Key("DNS search domains.", string_or_strings),
    "dns_opt": Key("DNS options.", strings),
    "device_cgroup_rules": Key("Rules for devices, such as `c 1:3 mr`.", strings),
    "devices": Key("Devices of the host: `source[:target[:rwm]]`, the long form, or a CDI name.", list_of(_device)),
    "expose": Key("Ports that the service listens on, for `x-kong` and `x-mvd`.", network.expose),
    "extra_hosts": Key("Lines for /etc/hosts.", _extra_hosts),
    "annotations": Key("Annotations of the container.", string_map),
    "sysctls": Key("Kernel parameters of the container.", string_map),
    "storage_opt": Key("Options of the storage driver.", mapping_of(word)),
    "ulimits": Key("Limits: `name: 1024` or `name: {soft: , hard: }`.", mapping_of(_ulimit)),
    "logging": Key("`driver` and `options`.", read_logging),
    "healthcheck": Key("A health check inside the container.", _healthcheck),
    "blkio_config": Key("Block device weights and rates.", record(Blkio, BLKIO)),
    "gpus": Key("`all`, or a list of requests as under `deploy.resources.reservations.devices`.", deploy.gpus),
}
"""Keys that become a container's in one shape, whatever stands beside them."""

SERVICE: Table = {
    **RUN,
    "image": Key("The image; run by its digest.", image),
    "environment": Key("Environment variables; one without a value takes it from the host's variables.", pairs),
    "env_file": Key("Files of environment variables: a name, a list, or `path`, `required`, `format`.", _env_file),
    "labels": Key("Labels of the container.", _labels),
    "label_file": Key("Files of labels.", _env_file),
    "ports": Key(
        "Ports of the host: `[[host_ip:]published:]target[/protocol]`, ranges, or the long form.", network.ports
    ),
    "volumes": Key(
        "Volumes, paths of the host, files of the repository (read-only), folders of the app: `source:target[:ro]` or "
        "the long form.",
        placed(storage.mount),
    ),
    "tmpfs": Key("Folders in memory: `path[:options]`, one or several.", storage.tmpfs),
    "configs": Key("Configs of the top level, as files.", placed(storage.grant)),
    "secrets": Key("Secrets of the top level, as files.", placed(storage.grant)),
    "networks": Key("Networks to join: a list, or a mapping with `aliases` and addresses.", network.attachments),
    "depends_on": Key("Services to start first: a list, or a mapping with `condition`.", _depends_on),
    "deploy": Key("Replicas, placement, updates, resources.", deploy.deploy),
    "scale": Key("The same as `deploy.replicas`.", integer(0, 1000)),
    "profiles": Key(
        "The service is off unless the host's variable `COMPOSE_PROFILES` names one of these profiles.", strings
    ),
    "pull_policy": Key("`missing` (the default; also `if_not_present`), `always` or `never`.", _pull_policy),
    "x-mvd": Key("An extension of gitops-mvd: `health`, `schedule` and `canary`.", extensions.read_x_mvd),
    "x-kong": Key("An extension of gitops-mvd: the routes to the service, through Kong.", extensions.read_x_kong),
    "extends": Key(
        "Start from another service: its name, or `service` and `file`.",
        Reader(text, either(STRING, mapping_schema(EXTENDS, ("service",)))),
    ),
    "container_name": Key(
        "A further name of the service on its networks; the container itself is named after its version.",
        _container_name,
    ),
    "links": Key(
        "Services to start first, `service` or `service:name`, with that further name on the networks of both.",
        placed(_link),
    ),
    "build": Ignored("the image is built in CI, and `image` names it, which is required.", ANYTHING),
    "develop": Ignored("it is for `docker compose watch`.", ANYTHING),
    "attach": Ignored("it is for a terminal.", boolean),
    "credential_spec": Ignored("it is for Windows.", ANYTHING),
    "isolation": Ignored("on Linux there is only `default`.", one_of("default")),
    "cpu_count": Ignored("it is for Windows; use `cpus`.", number),
    "cpu_percent": Ignored("it is for Windows; use `cpus`.", number),
    "external_links": Unsupported("is not supported: join the other app's network with `external: true`"),
    "volumes_from": Unsupported(
        "is not supported: containers come and go with each version; name the volume in both services"
    ),
    "provider": Unsupported("is not supported: no program of the repository runs on the host; name an image"),
    "models": Unsupported("is not supported: run the model as a service with an image of its own"),
    "pre_start": Unsupported(
        "is not supported: put it into the image's entry point, or into a service that others name in `depends_on`"
    ),
    "post_start": Unsupported("is not supported: put it into the image's entry point"),
    "pre_stop": Unsupported("is not supported: let the program handle `stop_signal`"),
    "use_api_socket": Unsupported(
        "is not supported: it gives away the engine; mount what is needed, where the host's policy allows that"
    ),
    "umask": Unsupported("is not supported: an engine cannot set it; set it in the image's entry point"),
    "pull_refresh_after": Unsupported("is not supported: `pull_policy: always` looks for a new image at every pass"),
}

read_service = record(ServiceKeys, SERVICE)
_PLACING = {name: key.read for name in ("deploy", "scale", "profiles") if isinstance(key := SERVICE[name], Key)}


def read_placement(place: Place) -> ServiceKeys:
    """Of a service only the keys that say whether a host runs it."""
    entries = place.entries()
    found = {name: entries[name].attempt(read) for name, read in _PLACING.items() if place.has(name)}
    return cast(ServiceKeys, {name: value for name, value in found.items() if value is not None})
