"""A rollout over a large fleet, simulated: each host has its real daemon, history, outbox and waves; time is made up.

What it costs the forge and the Git host, and how long it takes until the last host is green.
"""

from __future__ import annotations

import heapq
import os
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gitops_mvd.core.errors import RateLimited, Unavailable
from gitops_mvd.core.model import CommitStatus, Health, Operation, PostedStatus, Revision
from gitops_mvd.core.waves import Choice
from gitops_mvd.daemon.waves import Readings, Waves
from gitops_mvd.git.branch import Source
from gitops_mvd.state.notices import Notices
from tests.fleet_world import Member
from tests.lab.bench.figure import Figure
from tests.lab.repository import Repository, git
from tests.onlookers import onlookers

LARGE, SERVICES_OF_LARGE = 1000, 50  # of which one host decides
HOSTS, SERVICES = 200, 10  # of which all do, and deploy
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # or the disk is waited for all the time
PART_OF_WAVE = (0.01, 0.09, 0.3, 0.6)  # of the hosts
INTERVAL_SECONDS, BAKE_SECONDS = 60.0, 300.0
PAGE = 100  # statuses
HOUR = 3600.0
GITHUB = ((60.0, 80), (HOUR, 500))  # seconds, and what makes something that it takes in them
LONGEST = 12 * HOUR


@dataclass
class Forge:
    """Statuses in memory, with the limits of one account; `down` is when it does not answer."""

    clock: list[float]
    limits: Sequence[tuple[float, int]]
    down: tuple[float, float] = (0.0, 0.0)
    posted: dict[str, dict[str, PostedStatus]] = field(default_factory=lambda: defaultdict(dict))
    posts: list[float] = field(default_factory=list)
    reads: list[float] = field(default_factory=list)  # each page
    changed: dict[tuple[int, str], int] = field(default_factory=dict)
    read_anew: list[float] = field(default_factory=list)  # each page that was another one than the asker knew

    def of(self, asker: int) -> Connection:
        return Connection(self, asker)

    def is_down(self) -> None:
        if self.down[0] <= self.clock[0] < self.down[1]:
            raise Unavailable("the forge does not answer")

    def publish(self, commit: str, status: CommitStatus) -> None:
        self.is_down()
        now = self.clock[0]
        for seconds, most in self.limits:
            if len(self.posts) >= most and self.posts[-most] > now - seconds:
                raise RateLimited("too many requests", self.posts[-most] + seconds - now)
        self.posts.append(now)
        is_green = (status.operation, status.health) == (Operation.SUCCEEDED, Health.HEALTHY)
        state = "green" if is_green else "pending" if status.operation is Operation.RUNNING else "red"
        shown = PostedStatus(status.context, state, status.description, "", now)  # type: ignore[arg-type]
        self.posted[commit][status.context] = shown

    def statuses(self, commit: str, asker: int) -> Sequence[PostedStatus]:
        self.is_down()
        found = [*self.posted[commit].values()]
        pages = max(1, -(-len(found) // PAGE))
        self.reads += [self.clock[0]] * pages
        last = max((it.at for it in found), default=0.0)
        version = hash((len(found), last))
        if self.changed.get((asker, commit)) != version:
            self.changed[asker, commit] = version
            self.read_anew += [self.clock[0]] * pages
        return found


@dataclass(frozen=True)
class Connection:
    forge: Forge
    asker: int

    def publish(self, commit: str, status: CommitStatus) -> None:
        self.forge.publish(commit, status)

    def statuses(self, commit: str) -> Sequence[PostedStatus]:
        return self.forge.statuses(commit, self.asker)


class Tip:
    """One mirror for all hosts, which see a tip; how often they ask for it is counted."""

    def __init__(self, source: Source, clock: list[float]) -> None:
        self._source, self._clock = source, clock
        self.asked: list[float] = []
        self.tip = source.fetch()
        self._lines: dict[str, Any] = {}
        self._trees: dict[str, Any] = {}

    def fetch(self, *, expected: bool = False) -> Revision:
        self.asked.append(self._clock[0])
        return self.tip

    def last(self) -> Revision:
        return self.tip

    def tree(self, revision: Revision) -> Any:
        if revision.commit not in self._trees:
            self._trees[revision.commit] = self._source.tree(revision)
        return self._trees[revision.commit]

    def line(self, tip: Revision, most: int) -> Any:
        if tip.commit not in self._lines:
            self._lines[tip.commit] = self._source.line(tip, most)
        return self._lines[tip.commit]

    def trailers(self, revision: Revision) -> Mapping[str, str]:
        return self._source.trailers(revision)

    def since(self, known: Revision, tip: Revision) -> Any:
        return self._source.since(known, tip)


class Fleet:
    """Hosts that poll, each at its own time."""

    def __init__(self, folder: Path, hosts: int, services: int, limits: Sequence[tuple[float, int]]) -> None:
        self.clock = [1_790_000_000.0]  # in the past: what a history puts off for a minute has ended before
        self.random = random.Random(15)
        repository = Repository("acme/config", folder / "config.git", (folder / "config.git").as_uri())
        git("init", "--quiet", "--bare", "--initial-branch=main", str(repository.path), at=folder)
        repository.commit(files(hosts, services), "Begin")
        self.repository, self.forge = repository, Forge(self.clock, limits)
        self.source = Source(str(repository.path), "main", folder / "mirror")
        self.tip = Tip(self.source, self.clock)
        beside = {"notices": Notices(folder / "notices.db"), **onlookers(folder)}
        readings = Readings(self.tip)  # type: ignore[arg-type]  # as far as it is asked here
        self.members = []
        for number in range(hosts):
            member = Member(
                f"host-{number:04}",
                folder / f"{number}",
                self.tip,
                self.forge.of(number),
                lambda: self.clock[0],
                beside,
                monotonic=lambda: self.clock[0],
                shared=readings,  # what is the same for all is read once
            )
            self.members.append(member)
        self.beside = beside
        self.passes = 0
        self.green: dict[int, float] = {}

    def close(self) -> None:
        for member in self.members:
            member.close()
        self.beside["notices"].close()
        self.beside["operations"].close()
        self.source.close()

    def begin(self) -> None:
        """Every host runs the first commit, as if it always had."""
        for member in self.members:
            member.waves.pick = lambda tip, followed: Choice(tip)  # type: ignore[method-assign]
            member.daemon.reconcile_pass(frozenset({"poll"}))
            del member.waves.pick
            for entry in member.history.due(self.clock[0]):
                member.history.mark_sent(entry)
        self.tip.asked.clear()

    def push(self, changes: Mapping[str, str | None]) -> str:
        commit = self.repository.commit(changes, "Deploy")
        self.tip.tip = self.source.fetch()
        return commit

    def run(self, commit: str) -> float:
        """Let time pass until every host is green on a commit; returns the seconds that it took."""
        began, wanted = self.clock[0], self.tip.tip
        heap = [(began + self.random.uniform(0, INTERVAL_SECONDS), n, "poll") for n in range(len(self.members))]
        heapq.heapify(heap)
        left = set(range(len(self.members)))
        while left and self.clock[0] < began + LONGEST:
            self.clock[0], n, what = heapq.heappop(heap)
            member = self.members[n]
            if what == "poll":
                self._poll(member, wanted)
                pause = INTERVAL_SECONDS * self.random.uniform(0.8, 1.2)
                heapq.heappush(heap, (self.clock[0] + pause, n, "poll"))
            member.outbox.deliver()
            if (due := member.outbox._pause(self.clock[0])) is not None:
                heapq.heappush(heap, (self.clock[0] + max(due, 1.0), n, "outbox"))
            shown = self.forge.posted[commit].get(f"mvd/{member.name}")
            if shown and shown.state == "green":
                left.discard(n)
        assert not left, f"{len(left)} hosts are not green"
        return self.clock[0] - began

    def _poll(self, member: Member, wanted: Revision) -> None:
        daemon = member.daemon
        if daemon._revision == wanted:
            self.tip.fetch()
            return
        before = daemon._revision
        daemon._fetch(frozenset({"poll"}))
        if daemon._revision != before:
            member.outbox.deliver()  # while it deploys
            daemon.reconcile_pass(frozenset({"reconciled"}))
            self.passes += 1


def files(hosts: int, services: int) -> dict[str, str]:
    """A fleet with waves, and as many apps of one service as a host has services."""
    listed, number = {}, 0
    for wave, part in enumerate(PART_OF_WAVE):
        for _ in range(max(1, round(hosts * part))):
            if number < hosts:
                listed[f"host-{number:04}"] = {"labels": {"wave": f"w{wave}"}}
                number += 1
    waves = [[f"wave=w{wave}"] for wave in range(len(PART_OF_WAVE))]
    rollout = {"waves": waves, "bake": f"{BAKE_SECONDS:.0f}s"}
    apps = {f"apps/app-{n:02}/compose.yaml": app("1.0") for n in range(services)}
    return {"fleet.yaml": yaml.safe_dump({"hosts": listed, "rollout": rollout}), **apps}


def app(version: str) -> str:
    return yaml.safe_dump({"services": {"web": {"image": f"registry.example/web:{version}"}}})


def busiest(times: Sequence[float], within: float) -> int:
    """The most of these in any such window that begins at one of them."""
    most = first = 0
    for last, at in enumerate(times):
        while times[first] <= at - within:
            first += 1
        most = max(most, last - first + 1)
    return most


def figures(
    hosts: int = HOSTS, services: int = SERVICES, large: int = LARGE, of_large: int = SERVICES_OF_LARGE
) -> Iterator[Figure]:
    yield from _decision(large, of_large)
    for name, limits, outage in (
        ("a forge of one's own", (), False),
        ("a forge of one's own, an hour down", (), True),
        ("GitHub, one account", GITHUB, False),
    ):
        with tempfile.TemporaryDirectory(prefix="mvd-bench-", dir=MEMORY) as folder:
            fleet = Fleet(Path(folder), hosts, services, limits)
            fleet.begin()
            commit = fleet.push({"apps/app-07/compose.yaml": app("1.1")})
            if outage:
                fleet.forge.down = (fleet.clock[0] + 120, fleet.clock[0] + 120 + HOUR)
            took = fleet.run(commit)
            yield from _told(f"{hosts:,} hosts × {services}, {name}: ", fleet, took, outage)
            fleet.close()


def _told(what: str, fleet: Fleet, took: float, outage: bool) -> Iterator[Figure]:
    forge, hosts = fleet.forge, len(fleet.members)
    bakes = (len(PART_OF_WAVE) - 1) * BAKE_SECONDS / 60 + (60 if outage else 0)
    yield Figure(f"{what}the last host is green", took / 60, "min", "the bakes" + " and the outage" * outage, bakes)
    yield Figure(f"{what}statuses posted for each host", len(forge.posts) / hosts, "posts")
    yield Figure(f"{what}questions to the forge, in its busiest hour", busiest(forge.reads, HOUR), "requests")
    yield Figure(f"{what}of these with an answer that is not known yet", busiest(forge.read_anew, HOUR), "requests")
    yield Figure(f"{what}questions to Git, in its busiest hour", busiest(fleet.tip.asked, HOUR), "requests")
    if outage:
        back = [at for at in forge.posts if forge.down[1] <= at < forge.down[1] + 60]
        yield Figure(f"{what}posts in the first minute after it", len(back), "posts", "evenly", hosts)
        each = Counter(int(at - forge.down[1]) for at in back)
        yield Figure(f"{what}posts in the busiest second of that", max(each.values(), default=0), "posts")


def _decision(hosts: int, services: int) -> Iterator[Figure]:
    """What one host takes to decide, with nothing remembered and at the next pass."""
    with tempfile.TemporaryDirectory(prefix="mvd-bench-", dir=MEMORY) as folder:
        clock = [1_790_000_000.0]
        repository = Repository("acme/config", Path(folder) / "config.git", "")
        git("init", "--quiet", "--bare", "--initial-branch=main", str(repository.path), at=Path(folder))
        repository.commit(files(hosts, services), "Begin")
        source = Source(str(repository.path), "main", Path(folder) / "mirror")
        known = source.fetch()
        repository.commit({"apps/app-07/compose.yaml": app("1.1")}, "Deploy")
        tip = source.fetch()
        forge = Forge(clock, ())
        for number in range(round(hosts * sum(PART_OF_WAVE[:-1])) - 1):  # all of earlier waves but one host
            context = f"mvd/host-{number:04}"
            forge.publish(tip.commit, CommitStatus(context, Operation.SUCCEEDED, Health.HEALTHY, "1 app healthy"))
        own, ahead = f"host-{hosts - 1:04}", 0.0
        clock[0] += HOUR
        waves = Waves(own, source, forge.of(0), "", now=lambda: clock[0], clock_ahead=lambda url: ahead)  # type: ignore[arg-type]
        for when in ("with nothing remembered", "at the next pass"):
            began = time.process_time()
            [held] = waves.pick(tip, known).held
            assert held.why == f"wave {len(PART_OF_WAVE) - 1} (wave=w{len(PART_OF_WAVE) - 2}) is not green yet"
            spent = (time.process_time() - began) * 1000
            what = f"a host of {hosts:,} × {services} decides what it may follow, {when}: CPU"
            yield Figure(what, spent, "ms")
        source.close()
