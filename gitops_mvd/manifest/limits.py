"""Limits of resources as an engine on Linux accepts them, alone and together.  Pure.

Source: verifyPlatformContainerResources of moby 28, daemon/daemon_unix.go; the smallest limit of memory since 20.10.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gitops_mvd.config.tables import Place
from gitops_mvd.core.compose import Run

LEAST_MEMORY = 6 << 20  # bytes
LEAST_CPUS = 0.01
LEAST_QUOTA = 1000  # microseconds
PERIODS = (1000, 1_000_000)  # microseconds
_IN_DEPLOY = {
    "cpus": ("limits", "cpus"),
    "mem_limit": ("limits", "memory"),
    "mem_reservation": ("reservations", "memory"),
}


def check_limits(entries: Mapping[str, Place], run: Run) -> None:
    """Report limits that an engine would refuse, at the key that they were read from."""
    for key, why in _refused(run):
        _place(entries, key).report(why)
    for key, why in _at_odds(run):
        _place(entries, key).note(f"is refused by engines together with {why}: remove one")


def _place(entries: Mapping[str, Place], key: str) -> Place:
    if key in entries:
        return entries[key]
    section, name = _IN_DEPLOY[key]
    return entries["deploy"].entries()["resources"].entries()[section].entries()[name]


def _refused(run: Run) -> Iterator[tuple[str, str]]:
    memory, reserved, swap = run.get("mem_limit", 0), run.get("mem_reservation", 0), run.get("memswap_limit", 0)
    for key, size in (("mem_limit", memory), ("mem_reservation", reserved)):
        if 0 < size < LEAST_MEMORY:
            yield key, f"is {size} bytes: an engine needs at least {LEAST_MEMORY >> 20} MiB"
    if 0 < memory < reserved:
        yield "mem_reservation", "is more than the limit of memory"
    if swap > 0 and not memory:
        yield "memswap_limit", "needs `mem_limit`: it is memory and swap together"
    elif 0 < swap < memory:
        yield "memswap_limit", "is less than the limit of memory: it is memory and swap together"
    cpus, period, quota = run.get("cpus", 0.0), run.get("cpu_period", 0), run.get("cpu_quota", 0)
    if 0 < cpus < LEAST_CPUS:
        yield "cpus", f"must be at least {LEAST_CPUS:g}, or 0 for no limit"
    if period and not PERIODS[0] <= period <= PERIODS[1]:
        yield "cpu_period", f"must be from {PERIODS[0]} to {PERIODS[1]} microseconds"
    if 0 < quota < LEAST_QUOTA:
        yield "cpu_quota", f"must be at least {LEAST_QUOTA} microseconds"
    if 0 < run.get("cpu_rt_period", 0) < run.get("cpu_rt_runtime", 0):
        yield "cpu_rt_runtime", "is more than `cpu_rt_period`"


def _at_odds(run: Run) -> Iterator[tuple[str, str]]:
    for key in ("cpu_period", "cpu_quota"):
        if run.get("cpus") and run.get(key):
            yield key, "a limit of `cpus`"
    if run.get("uts") == "host" and "hostname" in run:
        yield "hostname", "`uts: host`"
