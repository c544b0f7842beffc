"""A pass that finds nothing to do, and the manifest reader: what it costs to look, at several sizes.

The pass is the daemon's own, as after an event of Docker's: everything is read again, nothing is fetched.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from gitops_mvd.core.model import HostFacts, Operation, Report, Sync
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.manifest import load
from tests.lab.bench.figure import Figure, median
from tests.lab.bench.world import HOST, World, manifests, recorded

SIZES = (10, 100, 1000)
MODES = {"off": "without a database", "postgres": "with a database"}
RUNS = 7
TRIES = 10
AT_ONCE = 50  # services in one file
BARE_LOOK = "parse Docker's list, stat the unit files"
BARE_PARSE = "parse its YAML"


def figures() -> Iterator[Figure]:
    """Nothing but a few processes on this machine: no lab."""
    yield from reading()
    for services in SIZES:
        for mode, database in MODES.items():
            with (
                tempfile.TemporaryDirectory(prefix="mvd-bench-") as folder,
                recorded(Path(folder), services, mode) as world,
            ):
                yield from _of_a_pass(world, f"no-op pass, {services:,} services, Kong {database}")


def _of_a_pass(world: World, what: str) -> Iterator[Figure]:
    daemon = Daemon(world.wired)
    _warm_up(daemon)
    before = world.calls()
    look(daemon)
    calls = {who: count - before[who] for who, count in world.calls().items()}
    took = median(RUNS, lambda: look(daemon))
    bare = median(RUNS, world.bare_look)
    yield Figure(f"{what}: CPU", took.cpu * 1000, "ms", BARE_LOOK, bare.cpu * 1000, "< 100 ms at 1,000")
    yield Figure(f"{what}: by the clock", took.wall * 1000, "ms", BARE_LOOK, bare.wall * 1000)
    yield Figure(f"{what}: calls to Docker", calls["docker"], "calls", target="1")
    yield Figure(f"{what}: calls to systemd", calls["systemd"], "calls", target="1")
    yield Figure(f"{what}: calls to Kong", calls["kong"], "calls", target="<= 4")


def _warm_up(daemon: Daemon) -> None:
    """Look for the first time, which may take more than one try: the stand-in is slow to tell a big document."""
    for _ in range(TRIES):
        with contextlib.suppress(AssertionError):
            look(daemon, "sync")
            break
    look(daemon)


def look(daemon: Daemon, reason: str = "docker") -> Report:
    """One pass.  Raises AssertionError where it found anything to do."""
    report = daemon.reconcile_pass(frozenset({reason}))
    assert report, "the pass came to no end"
    for outcome in report.outcomes:
        assert (outcome.sync, outcome.operation) == (Sync.SYNCED, Operation.SUCCEEDED), outcome
        assert not outcome.did, outcome
    return report


def reading() -> Iterator[Figure]:
    """The manifest reader alone, with nothing remembered."""
    with tempfile.TemporaryDirectory(prefix="mvd-bench-") as folder:
        for path, text in manifests(AT_ONCE, of_an_app=AT_ONCE).items():
            (Path(folder) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / path).write_text(text)
        [compose] = Path(folder).glob("apps/*/compose.yaml")
        tree = FolderTree(Path(folder))
        took = median(RUNS, lambda: load(tree, HostFacts(HOST)))
        bare = median(RUNS, lambda: yaml.load(compose.read_bytes(), yaml.CSafeLoader))
    what = f"read a file of {AT_ONCE} services: CPU"
    yield Figure(what, took.cpu * 1000, "ms", BARE_PARSE, bare.cpu * 1000, "< 100 ms")
