"""A service becomes the request that creates a service of a Swarm.  Pure.

`KEYS` and `LIMITS` map every Compose key that a task can have to what it puts into the request; `manifest/swarm.py`
refuses the others.  Its ports are those of the nodes that its tasks are on (host mode): Kong is led to these, and no
mesh is between.
Source: https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Service/operation/ServiceCreate
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from gitops_mvd.core.compose import LOG_DRIVER, Healthcheck, Tasks, Ulimit, Volume, log_config
from gitops_mvd.core.model import LABEL, File, Service, digest
from gitops_mvd.core.secrets import filled
from gitops_mvd.docker.answers import APP, parts, strings
from gitops_mvd.docker.create import DURATIONS, MOUNT_OPTIONS, NANOSECONDS, Body

RESTART_DELAY_SECONDS = 2.0  # as a unit on a plain host has it
NOTHING: Mapping[str, str] = MappingProxyType({})


Kept = Literal["config", "secret"]  # what a Swarm keeps, and brings to the nodes that it is needed on
KEPT: tuple[Kept, ...] = ("config", "secret")


class Mounted(NamedTuple):
    """A file that tasks mount: `digest` is that of its content, `source` the text itself or, of a secret, its name."""

    what: Kept
    source: str
    digest: str
    target: str
    file: File

    @property
    def key(self) -> str:
        """What it is named after.

        A container has one file of each config and secret, however often it mounts it: so that is of one owner, too.
        """
        return digest([self.digest, self.file.uid, self.file.gid, self.file.mode])

    def name(self, app: str) -> str:
        return kept_name(app, self.key)


def mounted_by(service: Service) -> Iterator[Mounted]:
    """Each file of the repository and each secret that a service mounts; of a folder, each file in it."""
    for file in service.files:
        for path, text in sorted(file.files.items()):
            yield Mounted("config", text, hashlib.sha256(encoded(text)).hexdigest(), _target(file, path), file)
        for path, name in sorted(file.secrets.items()):
            yield Mounted("secret", name, service.secrets[name], _target(file, path), file)


def _target(file: File, path: str) -> str:
    return file.target if file.is_single else f"{file.target.rstrip('/')}/{path}"


def encoded(text: str) -> bytes:
    """The bytes of a file of the repository, in which undecodable ones are surrogate escapes."""
    return text.encode("utf-8", "surrogateescape")


def kept_name(app: str, key: str) -> str:
    """The name of a config or secret of that key, which no other one has."""
    return f"mvd-{app}-{key[:16]}"


def request(
    app: str,
    service: Service,
    revision: str = "",
    *,
    journal: bool = False,
    ids: Mapping[str, str] = NOTHING,
    secrets: Mapping[str, str] = NOTHING,
) -> Body:
    """The request for a service of a Swarm.

    `ids` has those of its configs and secrets, by name, and `secrets` what its environment refers to.  With `journal`,
    nodes write what its tasks print into their journals, where `journalctl -t app/service` finds it.  Raises KeyError
    for a config, a secret or a reference that these lack, and for a key of `service.run` that nothing here honours.
    """
    swarm = service.swarm
    assert swarm, "a service of a plain host"
    run = service.run
    container: Body = {
        "Image": service.image,
        "Env": [f"{key}={_filled(value, secrets)}" for key, value in sorted(service.environment.items())],
        "StopGracePeriod": round(service.stop_grace * NANOSECONDS),
        "Labels": dict(run.get("labels", {})),
    }
    if mounts := [*_mounts(app, service, swarm.get("volumes", {}))]:
        container["Mounts"] = mounts
    for it in mounted_by(service):
        container.setdefault(f"{it.what.capitalize()}s", []).append(_mounted(app, it, ids))
    limits, reservations = Body(), Body()
    for key, value in sorted(run.items()):
        if key in LIMITS:
            limits[LIMITS[key]] = value
        else:
            KEYS[key](container, value)
    if "cpus" in run:
        limits["NanoCPUs"] = round(run["cpus"] * NANOSECONDS)
    if "mem_reservation" in run:
        reservations["MemoryBytes"] = run["mem_reservation"]
    networks = [
        {"Target": name, "Aliases": list(endpoint.get("aliases") or ())}
        for name, endpoint in service.endpoints(app).items()
    ]
    template: Body = {
        "ContainerSpec": container,
        "Resources": {"Limits": limits, "Reservations": reservations},
        "RestartPolicy": _restart_policy(service.restart),
        "Placement": _placement(swarm),
        "Networks": networks,
    }
    if "cpus" in swarm:
        reservations["NanoCPUs"] = round(swarm["cpus"] * NANOSECONDS)
    if kinds := swarm.get("resources"):
        made = [{"DiscreteResourceSpec": {"Kind": kind, "Value": value}} for kind, value in sorted(kinds.items())]
        reservations["GenericResources"] = made
    driver, options = log_config(run)
    if driver == LOG_DRIVER:
        options = {"tag": f"{app}/{service.name}", **options}
    if journal or run.get("logging", {}).get("driver"):
        template["LogDriver"] = {"Name": driver, "Options": dict(options)}
    mode = {"Global": {}} if swarm["everywhere"] else {"Replicated": {"Replicas": swarm["replicas"]}}
    return {
        "Name": service.instances(app)[0],
        "Labels": {
            **swarm.get("labels", {}),
            **{LABEL + key: value for key, value in labels(app, service, revision).items()},
        },
        "TaskTemplate": template,
        "Mode": mode,
        "EndpointSpec": {"Mode": "dnsrr", "Ports": [*_ports(service)]},
    }


def _mounts(app: str, service: Service, volumes: Mapping[str, Volume]) -> Iterator[Body]:
    """Folders in memory and volumes, which a node makes with these options when it first needs them."""
    for target in service.run.get("tmpfs", ()):
        yield {"Type": "tmpfs", "Target": target}
    for mount in service.run.get("volumes", ()):
        options, access = MOUNT_OPTIONS[mount["type"]](mount), {"ReadOnly": True} if mount["read_only"] else {}
        body: Body = {"Type": mount["type"], "Target": mount["target"], **access}
        if mount["type"] == "volume":
            volume = volumes.get(mount["source"], {})
            body["Source"] = mount["source"]
            options["Labels"] = {**strings(volume.get("labels")), APP: app}
            options["DriverConfig"] = {"Name": "local", "Options": strings(volume.get("driver_opts"))}
        yield {**body, f"{mount['type'].capitalize()}Options": options} if options else body


def _mounted(app: str, it: Mounted, ids: Mapping[str, str]) -> Body:
    name, file, what = it.name(app), it.file, it.what.capitalize()
    where = {"Name": it.target, "UID": str(file.uid), "GID": str(file.gid), "Mode": file.mode}
    return {f"{what}ID": ids[name], f"{what}Name": name, "File": where}


def _filled(value: str, secrets: Mapping[str, str]) -> str:
    return filled(value, secrets.__getitem__)


def labels(app: str, service: Service, revision: str = "") -> dict[str, str]:
    """The labels of a service of a Swarm, without their prefix: whose it is, and what it was made as."""
    repository, tag, _ = parts(service.tag or service.image)
    return {
        "app": app,
        "service": service.name,
        "digest": service.digest,
        "port": str(service.kong["port"] if service.kong else 0),
        "grace": f"{service.stop_grace:g}",
        "tag": f"{repository}:{tag}",
        "image": service.image,
        **({"replicas": str(service.swarm["replicas"])} if service.swarm and not service.swarm["everywhere"] else {}),
        **({"revision": revision} if revision else {}),
    }


def _ports(service: Service) -> Iterator[Body]:
    """Those of the manifest, and a free one of the node for each that Kong or the probe asks and that is not one."""
    known = set()
    for port in service.run.get("ports", ()):
        protocol = port.get("protocol", "tcp")
        known.add((port["target"], protocol))
        published = {"PublishedPort": int(port["published"])} if port.get("published") else {}
        yield {"Protocol": protocol, "TargetPort": port["target"], "PublishMode": "host", **published}
    routed = service.kong["port"] if service.kong else 0
    for target in dict.fromkeys((routed, service.swarm["probed"] if service.swarm else 0)):
        if target and (target, "tcp") not in known:
            yield {"Protocol": "tcp", "TargetPort": target, "PublishMode": "host"}


def _placement(swarm: Tasks) -> Body:
    placement: Body = {}
    if constraints := swarm.get("constraints"):
        placement["Constraints"] = list(constraints)
    if spread := swarm.get("spread"):
        placement["Preferences"] = [{"Spread": {"SpreadDescriptor": label}} for label in spread]
    if most := swarm.get("most"):
        placement["MaxReplicas"] = most
    return placement


def _restart_policy(restart: str) -> Body:
    name, _, attempts = restart.partition(":")
    condition = {"no": "none", "on-failure": "on-failure"}.get(name, "any")
    most = {"MaxAttempts": int(attempts)} if attempts else {}
    return {"Condition": condition, "Delay": round(RESTART_DELAY_SECONDS * NANOSECONDS), **most}


Maker = Callable[[Body, Any], None]


def _as(name: str) -> Maker:
    def make(body: Body, value: Any) -> None:
        body[name] = value

    return make


def _elsewhere(body: Body, value: object) -> None:
    """Honoured, but not by a field of its own."""


def _command(body: Body, words: Sequence[str]) -> None:
    if words:
        body["Args"] = list(words)


def _entrypoint(body: Body, words: Sequence[str]) -> None:
    body["Command"] = list(words) or [""]


def _healthcheck(body: Body, check: Healthcheck) -> None:
    if check.get("disable"):
        body["Healthcheck"] = {"Test": ["NONE"]}
        return
    made: Body = {"Test": list(check["test"])} if check.get("test") else {}
    made |= {name: round(check[key] * NANOSECONDS) for key, name in DURATIONS.items() if key in check}  # type: ignore[literal-required]
    if "retries" in check:
        made["Retries"] = check["retries"]
    body["Healthcheck"] = made


def _ulimits(body: Body, limits: Mapping[str, Ulimit]) -> None:
    body["Ulimits"] = [
        {"Name": name, "Soft": limit["soft"], "Hard": limit["hard"]} for name, limit in sorted(limits.items())
    ]


def _dns(name: str) -> Maker:
    def make(body: Body, value: Any) -> None:
        body.setdefault("DNSConfig", {})[name] = value

    return make


def _extra_hosts(body: Body, hosts: Sequence[str]) -> None:
    """`name:address` becomes a line of /etc/hosts."""
    parted = (host.partition(":") for host in hosts)
    body["Hosts"] = [f"{address.strip('[]')} {name}" for name, _, address in parted]


LIMITS = {"mem_limit": "MemoryBytes", "pids_limit": "Pids"}
KEYS: Mapping[str, Maker] = {
    "cap_add": _as("CapabilityAdd"),
    "cap_drop": _as("CapabilityDrop"),
    "command": _command,
    "cpus": _elsewhere,
    "dns": _dns("Nameservers"),
    "dns_opt": _dns("Options"),
    "dns_search": _dns("Search"),
    "entrypoint": _entrypoint,
    "expose": _elsewhere,
    "extra_hosts": _extra_hosts,
    "group_add": _as("Groups"),
    "healthcheck": _healthcheck,
    "hostname": _as("Hostname"),
    "init": _as("Init"),
    "labels": _elsewhere,
    "logging": _elsewhere,
    "mem_reservation": _elsewhere,
    "networks": _elsewhere,
    "ports": _elsewhere,
    "read_only": _as("ReadOnly"),
    "restart": _elsewhere,
    "stdin_open": _as("OpenStdin"),
    "stop_grace_period": _elsewhere,
    "stop_signal": _as("StopSignal"),
    "sysctls": _as("Sysctls"),
    "tmpfs": _elsewhere,
    "tty": _as("TTY"),
    "ulimits": _ulimits,
    "user": _as("User"),
    "volumes": _elsewhere,
    "working_dir": _as("Dir"),
}
