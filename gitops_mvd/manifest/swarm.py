"""A service on a host that is a Swarm: what it is there, and what a Swarm cannot give it.  Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

from gitops_mvd.config.tables import Place
from gitops_mvd.core.compose import Mount, Tasks, Volume
from gitops_mvd.core.model import Service
from gitops_mvd.manifest.asked import Asked
from gitops_mvd.manifest.compose import RESERVED
from gitops_mvd.manifest.placement import Constraint
from gitops_mvd.manifest.update_order import FIXED
from gitops_mvd.manifest.values import DeployKeys, ServiceKeys, replicas
from gitops_mvd.probes import known

INSTEAD = "place the service on a host that is none, by `deploy.placement.constraints`"
BIND = (
    "bind it to a node by `node.hostname == NODE` in `deploy.placement.constraints`, with that among the `nodes` of "
    "the Swarm in fleet.yaml"
)
REFUSED: Mapping[str, str] = {
    "devices": "its nodes do not hand out devices by path",
    "gpus": "its nodes do not hand out GPUs this way",
    "network_mode": "its tasks are on networks of the Swarm",
    "privileged": "its tasks have no more rights than others",
    "security_opt": "its tasks have the security options of their node",
    "platform": "the platform is that of the node",
    "ipc": "its tasks share nothing with others",
    "pid": "its tasks share nothing with others",
}
TAKEN = frozenset(
    (
        *("cap_add", "cap_drop", "command", "cpus", "dns", "dns_opt", "dns_search", "entrypoint", "expose"),
        *("extra_hosts", "group_add", "healthcheck", "hostname", "init", "labels", "logging", "mem_limit"),
        *("mem_reservation", "networks", "pids_limit", "ports", "read_only", "restart", "stdin_open"),
        *("stop_grace_period", "stop_signal", "sysctls", "tmpfs", "tty", "ulimits", "user", "volumes", "working_dir"),
    )
)
"""The keys of `Service.run` that a service of a Swarm has: `docker/swarm_request.py` honours them."""
MOST_BYTES = 1_023_999  # of a config, which has one at least; older engines may take less
ASKED_FROM_OUTSIDE = frozenset({"http", "tcp", "grpc", "docker", "running", "not_failed", "completed"})


def on_swarm(
    place: Place, values: ServiceKeys, service: Service, asked: Asked, declared: Mapping[str, Volume]
) -> Service:
    """The service as a Swarm runs it, with the `declared` volumes; what it cannot have there is reported."""
    for at, why in _refused(place, values, service):
        at.report(f"a Swarm cannot give it that: {why}; {INSTEAD}", by_host=True)
    at = place.entries().get("volumes", place)
    for mount in service.run.get("volumes", ()):
        if why := _unkept(mount, declared.get(mount["source"], {})):
            at.report(f"a Swarm cannot give it that: {why}; {INSTEAD}", by_host=True)
        elif mount["type"] == "volume" and not any(it.is_one_node(asked) for it in _constraints(values)):
            why = f"the data in {mount['target']} would stay behind on one node when a task moves to another"
            at.report(f"a Swarm cannot give it that: {why}; {BIND}", by_host=True)
    probe, deploy = known().get(service.check.probe), values.get("deploy", {})
    port = int(service.check.spec.get("port", 0)) if probe and probe.connects else 0
    tasks = Tasks(replicas=replicas(values) or 1, everywhere=deploy.get("mode") == "global", probed=port)
    used = {mount["source"] for mount in service.run.get("volumes", ())}
    if volumes := {name: options for name, options in declared.items() if name in used and options}:
        tasks["volumes"] = volumes
    return replace(service, swarm={**tasks, **_placed(deploy, asked)}, replicas=1)


def _constraints(values: ServiceKeys) -> Iterator[Constraint]:
    yield from (it for _, it in values.get("deploy", {}).get("placement", {}).get("constraints", ()))


def _unkept(mount: Mount, volume: Volume) -> str:
    """Why no node of a Swarm has what is mounted, wherever its tasks are; "" if one may."""
    if mount["type"] == "tmpfs":
        return ""
    if mount["type"] == "bind":
        return f"{mount['source']} would be another one on each node"
    if not mount["source"]:
        return f"the data in {mount['target']} would go with its task: give the volume a name"
    if volume.get("external"):
        return f"nobody can say whether its node has {mount['source']}: without `external` it is used if it is there"
    if (driver := volume.get("driver", "local")) != "local":
        return f"nobody can say whether its node has the driver {driver}"
    return "its nodes do not relabel volumes" if "bind" in mount else ""


def _placed(deploy: DeployKeys, asked: Asked) -> Tasks:
    """What else `deploy` says of the tasks; nothing for what it does not say."""
    placement, reserved = deploy.get("placement", {}), deploy.get("resources", {}).get("reservations", {})
    said = {
        "constraints": [str(it) for _, it in placement.get("constraints", ()) if it.is_for_nodes(asked)],
        "spread": placement.get("preferences"),
        "most": placement.get("max_replicas_per_node"),
        "cpus": reserved.get("cpus"),
        "resources": dict(reserved.get("generic_resources", ())),
        "labels": deploy.get("labels"),
    }
    return cast(Tasks, {name: value for name, value in said.items() if value})


def _refused(place: Place, values: ServiceKeys, service: Service) -> Iterator[tuple[Place, str]]:
    entries = place.entries()

    def at(*keys: str) -> Place:
        """Where the first of these keys is, or the service itself: a value may come by another way."""
        return next((entries[key] for key in keys if key in entries), place)

    for key in service.run:
        if key not in TAKEN:
            yield at(key, "deploy"), REFUSED.get(key, f"its tasks know no `{key}`")
    for file in service.files:
        where = at("configs", "volumes", "secrets")
        if file.options:
            yield where, f"{file.target} cannot have mount options"
        sizes = [len(text.encode("utf-8", "surrogateescape")) for text in file.files.values()]
        if sizes and not 1 <= min(sizes) <= max(sizes) <= MOST_BYTES:
            what = "an empty file" if not min(sizes) else f"a file of {max(sizes):,} bytes"
            yield where, f"{file.target} has {what}, and a config is of 1 to {MOST_BYTES:,} bytes"
    if service.pull_policy == "never":
        yield at("pull_policy"), "each node pulls the image by itself"
    if service.canary:
        yield at("x-mvd"), "requests are counted by addresses, and those of its tasks are not known before they run"
    if service.schedule:
        yield at("x-mvd"), "its tasks run all the time, or once"
    elif service.check.probe not in ASKED_FROM_OUTSIDE:
        yield at("x-mvd"), f"`{service.check.probe}` is asked in the container, which may be on another node"
    for port in service.run.get("ports", ()):
        if port.get("host_ip"):
            yield at("ports"), f"its nodes publish on all of their addresses, and not on {port['host_ip']}"
    for endpoint in service.run.get("networks", {}).values():
        for key in FIXED:
            if key in endpoint:
                yield at("networks"), f"its tasks have no {key} of their own"
    if any(name.startswith(RESERVED) for name in values.get("deploy", {}).get("labels", ())):
        yield at("deploy"), f"labels that begin with {RESERVED} are reserved for gitops-mvd"
    if any(":" in line for line in service.run.get("tmpfs", ())):
        yield at("tmpfs"), "a folder in memory has no options there"
