"""A container that asks for a GPU or a device of CDI is refused where the host is sure not to have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.docker.devices import Devices, devices_of

ACME = {"cdiVersion": "0.6.0", "kind": "acme.example/npu", "devices": [{"name": "0"}, {"name": "1"}]}
READS_CDI = {"CDISpecDirs": ["/etc/cdi", "/var/run/cdi"]}


class Engine:
    def __init__(self, **info: Any) -> None:
        self._info = info

    def info(self) -> dict[str, Any]:
        return self._info


def found(system: Path, info: Any = None) -> Devices:
    edge: Any = Engine(**(READS_CDI if info is None else info))
    return devices_of(edge, system)


def described(system: Path, text: str | None = None, name: str = "acme.json", folder: str = "etc/cdi") -> None:
    at = system / folder
    at.mkdir(parents=True, exist_ok=True)
    (at / name).write_text(json.dumps(ACME) if text is None else text)


def with_nvidia(system: Path, gpus: int = 1) -> None:
    """What NVIDIA's driver and container toolkit leave on a host."""
    hook = system / "usr/bin/nvidia-container-runtime-hook"
    hook.parent.mkdir(parents=True)
    hook.touch(0o755)
    for number in range(gpus):
        (system / f"proc/driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)


def named(*names: str) -> list[Any]:
    return [{"Driver": "cdi", "DeviceIDs": [*names]}]


def gpus(**more: Any) -> list[Any]:
    return [{"Driver": "", "Capabilities": [["gpu"]], **more}]


def test_a_device_that_is_described_is_let_through_and_another_one_is_refused_with_those_of_its_kind(
    tmp_path: Path,
) -> None:
    described(tmp_path)
    devices = found(tmp_path)
    assert devices.named == {"acme.example/npu=0", "acme.example/npu=1"}
    assert devices.refusal(named("acme.example/npu=1")) is None
    refused = devices.refusal(named("acme.example/npu=0", "acme.example/npu=7"))
    assert refused
    assert (refused.key, refused.message) == (
        "devices",
        "this host has no acme.example/npu=7: it has acme.example/npu=0, acme.example/npu=1",
    )
    other = devices.refusal(named("nvidia.com/gpu=all"))
    assert other
    assert other.message == "this host has no nvidia.com/gpu=all"
    assert "/etc/cdi" in other.hint


def test_an_engine_that_reads_no_descriptions_has_no_device_and_the_hint_turns_it_on(tmp_path: Path) -> None:
    described(tmp_path)
    for info in ({}, {"CDISpecDirs": None}, {"CDISpecDirs": []}):
        refused = found(tmp_path, info).refusal(named("acme.example/npu=0"))
        assert refused
        assert "Docker reads no descriptions of devices (CDI) on this host" in refused.message
        assert '"features": {"cdi": true}' in refused.hint


def test_an_engine_that_has_found_devices_is_believed(tmp_path: Path) -> None:
    info = {**READS_CDI, "DiscoveredDevices": [{"Source": "cdi", "ID": "acme.example/npu=5"}]}
    assert found(tmp_path, info).named == {"acme.example/npu=5"}


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"kind": "a/b"}', '{"kind": "a/b", "devices": [1]}'])
def test_a_description_that_cannot_be_read_leaves_it_to_the_engine(tmp_path: Path, text: str) -> None:
    described(tmp_path, text)
    assert found(tmp_path).named is None
    assert found(tmp_path).refusal(named("acme.example/npu=7")) is None


def test_descriptions_are_json_or_yaml_and_other_files_are_passed_over(tmp_path: Path) -> None:
    described(tmp_path, "kind: acme.example/tpu\ndevices: [{name: a}]\n", "acme.yaml", "var/run/cdi")
    described(tmp_path, "{", "acme.json.bak")
    assert found(tmp_path).named == {"acme.example/tpu=a"}


def test_a_gpu_without_a_name_needs_a_toolkit_or_a_description_of_one(tmp_path: Path) -> None:
    refused = found(tmp_path).refusal(gpus(Count=-1))
    assert refused
    assert refused.message == "Docker has no driver for GPUs on this host"
    described(tmp_path)
    assert found(tmp_path).refusal(gpus(Count=-1)), "an NPU is no GPU"
    described(tmp_path, json.dumps({"kind": "amd.com/gpu", "devices": [{"name": "all"}]}), "amd.json")
    assert found(tmp_path).refusal(gpus(Count=-1)) is None


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"Count": -1}, ""),
        ({"Count": 2}, ""),
        ({"Count": 3}, "this host has 2 GPUs, and `count` asks for 3"),
        ({"DeviceIDs": ["0", "1"]}, ""),
        ({"DeviceIDs": ["0", "2"]}, "this host has 2 GPUs, and none with the number 2"),
        ({"DeviceIDs": ["GPU-3a23c669-1f69-c64e-cf85-44e9b07e7a2a"]}, ""),
        ({"Driver": "other", "Count": 3}, ""),
    ],
)
def test_no_more_gpus_are_asked_for_than_the_driver_has(tmp_path: Path, asked: Any, told: str) -> None:
    with_nvidia(tmp_path, gpus=2)
    refused = found(tmp_path).refusal(gpus(**asked))
    assert (refused.message if refused else "") == told


def test_where_the_driver_does_not_count_its_gpus_the_engine_is_asked(tmp_path: Path) -> None:
    with_nvidia(tmp_path, gpus=0)
    assert found(tmp_path).refusal(gpus(Count=8)) is None
