"""Nothing is asked of an engine that it does not know and would ignore: its version is looked at before all else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import App, Service
from gitops_mvd.docker.create import KEYS, NEEDS, Place, request, too_new
from tests.unit.test_command_line import TABLE
from tests.unit.test_host import machine

# What POST /containers/create of API 1.41 (Docker 20.10) documents, as far as it is asked for.
DOCUMENTED = """
Image Env StopTimeout Cmd Entrypoint Domainname Hostname User WorkingDir Tty OpenStdin StopSignal Labels ExposedPorts
Healthcheck MacAddress NetworkingConfig HostConfig EndpointsConfig Test Interval Timeout StartPeriod Retries
RestartPolicy Name LogConfig Type Config Binds SecurityOpt NetworkMode PortBindings HostIp HostPort Mounts Target
Source ReadOnly BindOptions Propagation NonRecursive VolumeOptions NoCopy TmpfsOptions SizeBytes Mode BlkioWeight
BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceReadIOps BlkioDeviceWriteBps BlkioDeviceWriteIOps Path Weight Rate
CapAdd CapDrop CgroupnsMode CgroupParent CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpuShares CpusetCpus
NanoCpus DeviceCgroupRules Devices PathOnHost PathInContainer CgroupPermissions DeviceRequests Driver Count DeviceIDs
Capabilities Options Dns DnsOptions DnsSearch ExtraHosts GroupAdd Init IpcMode Memory MemoryReservation
MemorySwappiness MemorySwap OomKillDisable OomScoreAdj PidMode PidsLimit Privileged ReadonlyRootfs Runtime ShmSize
StorageOpt Sysctls Tmpfs Ulimits Soft Hard UsernsMode UTSMode MaskedPaths ReadonlyPaths Aliases IPAMConfig IPv4Address
IPv6Address LinkLocalIPs DriverOpts
"""
KNOWN = set(DOCUMENTED.split())
FREE = {"Labels", "ExposedPorts", "PortBindings", "EndpointsConfig", "Config", "StorageOpt", "Sysctls", "Tmpfs"}
FREE |= {"Options", "DriverOpts", "Annotations"}  # what is in these is named by somebody else
# Refused as a container is made, before anything stops, and only where the folder is missing.
LENIENT = {"CreateMountpoint"}
OLD, NEW = (1, 41), (1, 51)
MORE: list[dict[str, Any]] = [
    {"annotations": {"a": "b"}},
    {"healthcheck": {"test": ["CMD", "true"], "start_interval": 1.0}},
    {"devices": ["vendor.com/gpu=0"]},
    {"networks": {"a": {"gw_priority": 1}, "b": {}}},
    {"networks": {"a": {"mac_address": "92:d0:c6:0a:29:33"}, "b": {"mac_address": "92:d0:c6:0a:29:34"}}},
    {
        "volumes": [
            {"type": "volume", "source": "v", "target": "/v", "read_only": False, "volume": {"subpath": "x"}},
        ]
    },
    *(
        {
            "volumes": [
                {"type": "bind", "source": "/a", "target": "/b", "read_only": True, "bind": {"recursive": recursive}}
            ]
        }
        for recursive in ("disabled", "writable", "readonly")
    ),
]


def fields(value: Any, name: str = "") -> Iterator[str]:
    match value:
        case dict():
            for key, below in value.items():
                if name not in FREE:
                    yield key
                yield from fields(below, "" if name in ("EndpointsConfig",) else key)
        case list():
            for below in value:
                yield from fields(below, name)


@pytest.mark.parametrize("run", [run for run, _ in TABLE] + MORE, ids=str)
def test_what_an_old_engine_would_ignore_is_known_to_be_too_new_for_it(run: Any) -> None:
    asked = set(fields(request("shop", Service("web", "image", run), Place("/files", "/srv"), NEW).body))
    unknown = asked - KNOWN - LENIENT
    assert not unknown or too_new(run, OLD), f"{unknown} came with a later version: have it in NEEDS"
    assert not too_new(run, NEW)


def test_every_need_is_tried() -> None:
    assert {too_new(run, OLD).partition("`")[2].partition("`")[0] for run in MORE} - {""} == NEEDS.keys()
    assert {key for run, _ in TABLE for key in run} <= KEYS.keys()


@pytest.mark.parametrize("run", [run for run in MORE if too_new(run, OLD)], ids=str)
def test_a_version_that_needs_a_newer_engine_is_refused_before_anything_is_done(run: Any) -> None:
    with pytest.raises(StepFailed, match=r"web: `.*` needs Docker 2\d.0 or newer, and this is Docker 20.10.24"):
        machine().pin(App("shop", (Service("web", "image", run),)))
