"""`deploy`: how many, where, how updated, with what limits; what only a cluster can do is refused.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from gitops_mvd.config.readers import (
    duration,
    each,
    either,
    integer,
    list_of,
    number,
    one_of,
    placed,
    size,
    string_map,
    strings,
    text,
)
from gitops_mvd.config.tables import Ignored, Key, Place, Table, Unsupported, accepts, record
from gitops_mvd.core.compose import DeviceRequest
from gitops_mvd.manifest.composition import ANYTHING
from gitops_mvd.manifest.placement import constraint
from gitops_mvd.manifest.values import (
    DeployKeys,
    LimitKeys,
    PlacementKeys,
    ReservationKeys,
    ResourceKeys,
    RestartPolicyKeys,
    UpdateKeys,
)

T = TypeVar("T")


@accepts({"enum": ["replicated", "global"]})
def _mode(place: Place) -> str:
    mode = text(place)
    if mode in ("replicated-job", "global-job"):
        place.fail("jobs are not supported: a service that ends is one with `restart: on-failure`")
    return one_of("replicated", "global")(place)


@accepts(either({"enum": ["all"]}, integer(1, 1024).schema))
def count(place: Place) -> int | str:
    """How many devices: a number or `all`."""
    return "all" if place.node.value == "all" else integer(1, 1024)(place)


UPDATE: Table = {
    "order": Key(
        "`start-first` or `stop-first`; left out, start-first if the service has a route, and no fixed port or data.",
        one_of("start-first", "stop-first"),
    ),
    "failure_action": Key(
        "What a failed update leads to: `rollback` (the default), `pause` or `continue`.",
        one_of("rollback", "pause", "continue"),
    ),
    "parallelism": Key("How many instances are replaced at a time; 0 for all, 1 if left out.", integer(0, 1000)),
    "delay": Key("How long replaced instances must stay healthy before the next ones are replaced.", duration),
    "monitor": Key("How long a new instance must stay healthy before the update counts as done.", duration),
    "max_failure_ratio": Ignored("it is for Swarm; an update with any failure has failed.", number),
}
DEVICE: Table = {
    "capabilities": Key("What the device can do, such as `[gpu]`.", strings),
    "driver": Key("Such as `nvidia`.", text),
    "count": Key("The number of devices, or `all`.", count),
    "device_ids": Key("The ids of the devices; not together with `count`.", strings),
    "options": Key("Options of the driver.", string_map),
}


_device = record(DeviceRequest, DEVICE)


@accepts(_device.schema)
def device(place: Place) -> DeviceRequest:
    """A request for devices, all its parts there."""
    wanted = _device(place)
    if "count" in wanted and "device_ids" in wanted:
        place.fail("has both `count` and `device_ids`: choose one")
    if "device_ids" not in wanted and "count" not in wanted:
        wanted["count"] = "all"
    return {"driver": "", "device_ids": [], "capabilities": ["gpu"], "options": {}, **wanted}


@accepts({"type": "array", "items": device.schema})
def devices(place: Place) -> list[DeviceRequest]:
    """Requests for devices, each with `capabilities`."""

    def read(item: Place) -> DeviceRequest:
        if not _device(Place(item.node, item.path, [])).get("capabilities"):
            item.report("has no `capabilities`, such as [gpu]")
        return device(item)

    return [value for _, value in each(place, read)]


@accepts({"type": "object", "properties": {"spread": {"type": "string"}}, "additionalProperties": False})
def _spread(place: Place) -> str:
    """The label of nodes over whose values tasks are spread."""
    return _only(place, "spread", text)


_SPEC = {"type": "object", "properties": {"kind": {"type": "string"}, "value": integer(1).schema}}


@accepts({"type": "object", "properties": {"discrete_resource_spec": _SPEC}, "additionalProperties": False})
def _resource(place: Place) -> tuple[str, int]:
    """A kind of resource that nodes have, and how many are needed."""

    def spec(at: Place) -> tuple[str, int]:
        entries = at.entries()
        if entries.keys() != {"kind", "value"}:
            at.fail("must have `kind` and `value`, such as {kind: gpu, value: 1}")
        return text(entries["kind"]), integer(1)(entries["value"])

    return _only(place, "discrete_resource_spec", spec)


def _only(place: Place, key: str, read: Callable[[Place], T]) -> T:
    entries = place.entries()
    if entries.keys() != {key}:
        place.fail(f"must have the key `{key}` and no other")
    return read(entries[key])


LIMITS: Table = {
    "cpus": Key("Processor cores, such as `1.5`.", number),
    "memory": Key("Such as `512M`.", size),
    "pids": Key("Processes.", integer(-1)),
}
RESERVATIONS: Table = {
    "memory": Key("A soft limit, kept to when the host runs short.", size),
    "devices": Key("GPUs and the like: `capabilities`, `driver`, `count`, `device_ids`, `options`.", devices),
    "cpus": Key("On a Swarm, processor cores that a node must have free. An engine itself reserves none.", number),
    "generic_resources": Key(
        "On a Swarm, what a node must have free of what its daemon.json lists as `node-generic-resources`, such as "
        "GPUs. Elsewhere it has no effect; use `devices`.",
        list_of(_resource),
    ),
}
RESOURCES: Table = {
    "limits": Key("`cpus`, `memory` and `pids` at most.", record(LimitKeys, LIMITS)),
    "reservations": Key("`memory` and `devices` at least.", record(ReservationKeys, RESERVATIONS)),
}
PLACEMENT: Table = {
    "constraints": Key(
        "The hosts it runs on: `node.hostname` and `node.labels.<name>` with `==` and `!=`; all must hold.",
        placed(constraint),
    ),
    "preferences": Key(
        "On a Swarm, `spread` with the label of nodes over whose values the tasks are spread, such as "
        "`{spread: node.labels.zone}`. Elsewhere a service runs on every host that its constraints allow.",
        list_of(_spread),
    ),
    "max_replicas_per_node": Key(
        "On a Swarm, how many tasks a node has at most. Elsewhere `replicas` is the number on each host.", integer(0)
    ),
}
_CONDITIONS = {
    "any": "always",
    "always": "always",
    "unless-stopped": "unless-stopped",
    "on-failure": "on-failure",
    "none": "no",
    "no": "no",
}
"""Each `condition` that Compose knows, as a value of `restart`."""

RESTART_POLICY: Table = {
    "condition": Key("`any` (the default; also `always`), `on-failure` or `none`.", one_of(*_CONDITIONS)),
    "max_attempts": Key("With `on-failure`, how often it is restarted.", integer(1, 1000)),
    "delay": Ignored("Compose does not use it; systemd waits two seconds before each restart.", duration),
    "window": Ignored("Compose does not use it; see `update_config: {monitor: }`.", duration),
}


_restart_policy = record(RestartPolicyKeys, RESTART_POLICY)


@accepts(_restart_policy.schema)
def restart_policy(place: Place) -> str:
    """The same as a value of `restart`."""
    policy = _restart_policy(place)
    condition = policy.get("condition", "any")
    if "max_attempts" in policy:
        if condition != "on-failure":
            place.fail("has `max_attempts`, which only goes with `condition: on-failure`")
        return f"on-failure:{policy['max_attempts']}"
    return _CONDITIONS[condition]


DEPLOY: Table = {
    "mode": Key("`replicated` (the default), or `global`, which is one on each host.", _mode),
    "replicas": Key("How many instances on each host; 0 for none.", integer(0, 1000)),
    "update_config": Key("How a new version takes the place of the old one.", record(UpdateKeys, UPDATE)),
    "placement": Key("The hosts that the service runs on.", record(PlacementKeys, PLACEMENT)),
    "resources": Key("Limits and reservations.", record(ResourceKeys, RESOURCES)),
    "restart_policy": Key("The same as `restart`, in other words.", restart_policy),
    "limits": Unsupported("goes under `resources`"),
    "reservations": Unsupported("goes under `resources`"),
    "constraints": Unsupported("goes under `placement`"),
    **{name: Unsupported("goes under `update_config`") for name in UPDATE},
    "rollback_config": Ignored("it is for Swarm; a rollback is an update to the last good version.", ANYTHING),
    "endpoint_mode": Ignored("it is for Swarm.", one_of("vip", "dnsrr")),
    "labels": Key("On a Swarm, labels of the service. Elsewhere it has none: see `labels`.", string_map),
}


deploy = record(DeployKeys, DEPLOY)


@accepts(either({"enum": ["all"]}, {"type": "array", "items": device.schema}))
def gpus(place: Place) -> list[DeviceRequest]:
    """`all`, or a list of requests."""
    if place.node.value == "all":
        return [{"driver": "", "count": "all", "device_ids": [], "capabilities": ["gpu"], "options": {}}]
    return list_of(device)(place)
