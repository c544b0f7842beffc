"""The devices that an engine can give to containers: GPUs, and those that CDI describes by name.

A driver's toolkit writes descriptions (CDI) into folders, which the engine reads whenever it starts a container.  For
what asks for a GPU without a name, an engine looks for the toolkit's own programs as it starts.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.types import DeviceRequest, EngineInfo

SYSTEM = Path("/")
CDI_FOLDERS = ("/etc/cdi", "/run/cdi", "/var/run/cdi")
NVIDIA_GPUS = "proc/driver/nvidia/gpus"  # a folder for each, of NVIDIA's driver
GPU_HOOKS = (
    *("nvidia-container-runtime-hook", "nvidia-container-runtime", "nvidia-container-toolkit", "nvidia-ctk"),
    *("nvidia-cdi-hook", "amd-container-runtime", "amd-ctk"),
)
PROGRAMS = (
    *("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin", "opt/bin", "snap/bin"),
    *("usr/local/nvidia/toolkit", "run/current-system/sw/bin"),
)
LARGEST_BYTES = 16 << 20  # of a description
MOST_SHOWN = 5
TOOLKIT = "install the container toolkit of its driver, and restart Docker"
ELSEWHERE = "or place it on a host that has one"


@dataclass(frozen=True, slots=True)
class Devices:
    """What an engine has for containers.

    `named` are the devices of CDI, such as `nvidia.com/gpu=0`; None if that is not known.  `reads_cdi` is False if the
    engine reads no descriptions, `folders` is where it reads them.  `gpus` counts those of NVIDIA's driver, `has_hook`
    is whether there is a program that gives a container a GPU that it does not name.
    """

    named: frozenset[str] | None
    reads_cdi: bool
    folders: tuple[str, ...]
    gpus: int
    has_hook: bool

    @property
    def gives_gpus(self) -> bool:
        """May a container have a GPU that it does not name?"""
        return self.has_hook or self.named is None or any(_is_of_gpu(name) for name in self.named)

    def refusal(self, requests: Iterable[DeviceRequest]) -> Refused | None:
        """Why the engine is sure to refuse a container that asks for these; None if it may start."""
        return next(filter(None, map(self._refusal, requests)), None)

    def _refusal(self, request: DeviceRequest) -> Refused | None:
        driver, ids = request.get("Driver") or "", request.get("DeviceIDs") or []
        if driver == "cdi":
            return self._of_names(ids)
        if driver not in ("", "nvidia"):
            return None
        if not self.gives_gpus:
            return Refused("gpus", "Docker has no driver for GPUs on this host", f"{TOOLKIT}, {ELSEWHERE}")
        numbers = [int(id) for id in ids if id.isdecimal()]
        wanted = max([request.get("Count") or 0, *(number + 1 for number in numbers)])
        if 0 < self.gpus < wanted:
            has = f"this host has {self.gpus} GPU{'s' if self.gpus > 1 else ''}"
            if numbers:
                return Refused(
                    "gpus", f"{has}, and none with the number {wanted - 1}", f"they begin with 0, {ELSEWHERE}"
                )
            return Refused("gpus", f"{has}, and `count` asks for {wanted}", f"ask for fewer, {ELSEWHERE}")
        return None

    def _of_names(self, names: Sequence[str]) -> Refused | None:
        if not names or self.named is None:
            return None
        if not self.reads_cdi:
            message = f"Docker reads no descriptions of devices (CDI) on this host, so there is no {names[0]}"
            hint = 'set "features": {"cdi": true} in /etc/docker/daemon.json, which needs Docker 25, and restart Docker'
            return Refused("devices", message, hint)
        missing = [name for name in names if name not in self.named]
        if not missing:
            return None
        vendor = [name for name in sorted(self.named) if name.partition("=")[0] == missing[0].partition("=")[0]]
        has = f": it has {some(vendor)}" if vendor else ""
        hint = f"have its toolkit describe it in {self.folders[0] if self.folders else CDI_FOLDERS[0]}, {ELSEWHERE}"
        return Refused("devices", f"this host has no {missing[0]}{has}", hint)


class Refused(NamedTuple):
    """Why a container could not start: the key of the manifest, a sentence, and what to do."""

    key: str
    message: str
    hint: str


def devices_of(engine: Engine, system: Path = SYSTEM) -> Devices:
    """What the engine of this machine can give.  Raises Unavailable."""
    info = engine.info()
    told = info.get("CDISpecDirs")
    folders = tuple(told or ())
    return Devices(
        named=_discovered(info) or _described([system / folder.lstrip("/") for folder in folders or CDI_FOLDERS]),
        reads_cdi=bool(folders),
        folders=folders,
        gpus=_number_of(system / NVIDIA_GPUS),
        has_hook=any(shutil.which(hook, path=_path(system)) for hook in GPU_HOOKS),
    )


def _discovered(info: EngineInfo) -> frozenset[str] | None:
    """The devices of CDI that an engine of 28.2 or newer has found; None for one that does not say."""
    found = info.get("DiscoveredDevices")
    return frozenset(it["ID"] for it in found if it.get("Source") == "cdi") if found else None


def _described(folders: Iterable[Path]) -> frozenset[str] | None:
    """The devices that the descriptions in some folders name; None if one of them cannot be read."""
    try:
        return frozenset(name for folder in folders for file in _entries(folder) for name in _names(folder / file))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return None


def _names(file: Path) -> Iterator[str]:
    if file.suffix not in (".json", ".yaml"):  # the others are not read by an engine, either
        return
    if file.stat().st_size > LARGEST_BYTES:
        raise ValueError(f"{file} is too large")
    text = file.read_text("utf-8")
    described = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    try:
        yield from (f"{described['kind']}={device['name']}" for device in described["devices"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{file} describes no devices") from error


def _entries(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _number_of(folder: Path) -> int:
    try:
        return len(_entries(folder))
    except OSError:
        return 0


def _path(system: Path) -> str:
    return ":".join(str(system / folder) for folder in PROGRAMS)


def _is_of_gpu(name: str) -> bool:
    return name.partition("=")[0].endswith("/gpu")


def some(names: Sequence[str]) -> str:
    """The first of these names, and how many there are besides."""
    more = len(names) - MOST_SHOWN
    return ", ".join(names[:MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
