"""Limits, what is asked for, and devices → `resources` of a container.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gitops_mvd.core.compose import DeviceRequest, Run
from gitops_mvd.exports.remarks import Body, lost, without_empty
from gitops_mvd.exports.storage import quantity

SHARES_OF_A_CORE = 1024  # `cpu_shares`, as Kubernetes itself makes them of a request
_VENDORS = {"": "nvidia.com/gpu", "nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}
_CDI_VENDORS = {"nvidia.com": "nvidia.com/gpu", "amd.com": "amd.com/gpu"}


def resources(run: Run) -> Body:
    """The value of `resources`, with remarks; what is not asked for is what the limit is, as Kubernetes has it."""
    remarks: Body = {}
    limits: Body = {}
    requests: Body = {}
    cores = run.get("cpus", 0.0)
    if not cores and run.get("cpu_quota", 0) > 0:
        cores = run["cpu_quota"] / (run.get("cpu_period", 0) or 100_000)
    if cores:
        limits["cpu"] = _cores(cores)
    if (shares := run.get("cpu_shares", 0)) > 0:
        wanted = shares / SHARES_OF_A_CORE
        requests["cpu"] = _cores(min(wanted, cores) if cores else wanted)
    if (memory := run.get("mem_limit", 0)) > 0:
        limits["memory"] = quantity(memory)
    if (reserved := run.get("mem_reservation", 0)) > 0:
        requests["memory"] = quantity(min(reserved, memory) if memory > 0 else reserved)
    remarks |= _gpus(run.get("gpus", ()), limits)
    for device in run.get("devices", ()):
        vendor, _, kind = device.partition("/")
        if vendor in _CDI_VENDORS and kind.startswith("gpu="):
            limits[_CDI_VENDORS[vendor]] = str(int(limits.get(_CDI_VENDORS[vendor], 0)) + 1)
            remarks |= lost(f"devices {device}", "which of the GPUs it gets is not said here")
        else:
            remarks |= lost(f"devices {device}", "it takes a device plugin, and a resource of that name")
    found = without_empty({"requests": requests, "limits": limits})
    return remarks | ({"resources": found} if found else {})


def _gpus(requests: Iterable[DeviceRequest], limits: Body) -> Body:
    remarks: Body = {}
    for wanted in requests:
        name = _VENDORS.get(wanted.get("driver", ""))
        if not name:
            remarks |= lost(f"gpus: driver {wanted['driver']}", "it takes a device plugin, and a resource of that name")
            continue
        ids, count = wanted.get("device_ids", []), wanted.get("count", "all")
        if ids:
            number = len(ids)
            remarks |= lost(f"gpus: device_ids {', '.join(ids)}", "how many is said here, not which")
        elif isinstance(count, int):
            number = count
        else:
            number = 1
            remarks |= lost("gpus: all", "a number is needed here, and 1 is taken")
        limits[name] = str(int(limits.get(name, 0)) + number)
        for key in ("options", "capabilities"):
            if strange := [it for it in wanted.get(key, ()) if it != "gpu"]:  # type: ignore[attr-defined]
                remarks |= lost(f"gpus: {key} {', '.join(strange)}", "the device plugin has settings of its own")
    return remarks


def _cores(cores: float) -> str:
    """Processor cores as Kubernetes writes them: `1500m`, at least `1m`."""
    thousandths = max(1, round(cores * 1000))
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"
