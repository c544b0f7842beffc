"""What the kernel counts of each container: CPU and memory, read from its control group, of version 1 or 2.

A control group is found by the id of the container, whose name it bears wherever a manifest's `cgroup_parent` has put
it, and it has the same name after a restart: nobody need ask Docker about each container.  One that is gone has no
usage.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
LONGEST_SECONDS = 0.5  # for all containers; those that were not reached have no usage this time
SEARCH_SECONDS = 0.25  # of it, at most
SEARCH_EVERY_SECONDS = 5.0  # while there is a container whose group is not known
UNLIMITED = 1 << 60  # bytes; without a limit, version 1 says a number close to 2^63
_GROUP = re.compile(r"(?:docker-)?([0-9a-f]{64})(?:\.scope)?")  # of the drivers systemd and cgroupfs


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds so far, bytes of memory that cannot simply be dropped, and the most that it may have, 0 for all."""

    cpu: float
    memory: int
    limit: int = 0


class ContainerUsage:
    """Reads the usage of containers, below `root`; `now` is a monotonic clock, in seconds."""

    def __init__(self, root: Path = ROOT, now: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._now = now
        self._groups: dict[str, str] = {}  # id -> its group, below the root of its hierarchy
        self._searched = float("-inf")
        self._is_v2 = (root / "cgroup.controllers").exists()

    def __call__(self, ids: Mapping[str, str]) -> Mapping[str, Usage]:
        """The usage of these containers, whose ids are given by name; without those that do not run."""
        began, wanted = self._now(), set(ids.values())
        ends = began + LONGEST_SECONDS
        if wanted - self._groups.keys() and began - self._searched >= SEARCH_EVERY_SECONDS:
            self._search(wanted, began + SEARCH_SECONDS)
        found = {}
        for name, id in ids.items():
            if (group := self._groups.get(id)) and self._now() < ends:
                with suppress(OSError, ValueError, KeyError):  # it has just ended, or its controllers are off
                    found[name] = (_usage_v2 if self._is_v2 else _usage_v1)(str(self._root), group)
        return found

    def _search(self, ids: set[str], ends: float) -> None:
        root = str(self._root if self._is_v2 else self._root / "memory")
        known = {id: group for id, group in self._groups.items() if id in ids}
        self._groups = known | dict(_groups(root, ids - known.keys(), lambda: self._now() > ends))
        self._searched = self._now()


def _groups(root: str, ids: set[str], is_over: Callable[[], bool]) -> Iterator[tuple[str, str]]:
    """The ids of containers with the control group that bears each, until it `is_over`."""
    waiting = [root]
    while waiting and not is_over():
        folder = waiting.pop()
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    continue
                of = _GROUP.fullmatch(entry.name)
                if of and of[1] in ids:
                    yield of[1], entry.path.removeprefix(root)
                else:
                    waiting.append(entry.path)


def _usage_v2(root: str, group: str) -> Usage:
    folder = f"{root}{group}"
    cpu, memory = _fields(f"{folder}/cpu.stat"), _fields(f"{folder}/memory.stat")
    used, most = int(_text(f"{folder}/memory.current")), _text(f"{folder}/memory.max").strip()
    limit = 0 if most == "max" else int(most)
    return Usage(int(cpu["usage_usec"]) / 1e6, max(0, used - int(memory["inactive_file"])), limit)


def _usage_v1(root: str, group: str) -> Usage:
    folder = f"{root}/memory{group}"
    cpu, memory = int(_text(f"{root}/cpuacct{group}/cpuacct.usage")), _fields(f"{folder}/memory.stat")
    used, most = int(_text(f"{folder}/memory.usage_in_bytes")), int(_text(f"{folder}/memory.limit_in_bytes"))
    used -= int(memory["total_inactive_file"])
    return Usage(cpu / 1e9, max(0, used), most if most < UNLIMITED else 0)


def _fields(path: str) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in _text(path).splitlines())


def _text(path: str) -> str:
    """Files of the kernel are asked for by one read, without the layers of a text file: there are hundreds of them."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(file, 1 << 16).decode()
    finally:
        os.close(file)
