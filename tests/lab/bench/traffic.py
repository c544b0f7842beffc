"""What the clients of a gateway see while the app behind it is deployed, scaled, rolled back and reverted.

For each mode of Kong, a server of its own is put under as much load as its gateway carries, and the whole story is told
on it.  A request that fails, or that an older version answers after a newer one was reported, is shown and not hidden.
"""

from __future__ import annotations

import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from rich.console import Console
from rich.table import Table

from tests.lab import service
from tests.lab.bench.figure import Figure, show
from tests.lab.bench.server import BARE, look_seldom, measured
from tests.lab.lab import Lab
from tests.lab.load import Load, Summary
from tests.lab.service import Service
from tests.lab.stage import NotTrue, Stage, until

MODES = {"off": "without a database", "postgres": "with a database"}
# Of each kind: as many as keep two cores busy, and no more than can wait at one busybox, which has nine places.
CLIENTS = 4
AT_LEAST = 100_000  # requests
LONGEST_SECONDS = 480.0
DEPLOYS = 10
REPLICAS, MORE = 2, 4
RUNS = 3
COMPOSE = """\
services:
  web:
    image: {image}
    stop_grace_period: 2s
    deploy:
      replicas: {replicas}
      update_config: {{order: start-first}}
    x-mvd: {{health: {{http: /health, port: 7799, within: {within}}}}}
    x-kong: {{port: 7799, routes: [{{paths: [/web]}}]}}
"""


@dataclass
class App:
    """The app behind the gateway, and the version of it that is merged and healthy."""

    lab: Lab
    stage: Stage
    version: str = ""

    def merge(
        self,
        version: str,
        replicas: int = REPLICAS,
        kind: Callable[[str, str], Service] = service.web,
        within: str = "60s",
        *,
        pulled: bool = False,
    ) -> str:
        """Commit a version; what is `pulled` lies on the server already."""
        image = self.lab.registry.push("web", version, kind("web", version))
        if pulled:
            self.stage.server.exec("docker", "pull", "--quiet", image)
        text = COMPOSE.format(image=image, replicas=replicas, within=within)
        return self.stage.merge({"apps/web/compose.yaml": text}, f"Version {version}, {replicas} replicas")

    def deploy(self, version: str, replicas: int = REPLICAS) -> None:
        self.stage.ends(self.merge(version, replicas), "success")
        self.version = version
        running = self.stage.containers("web")
        if len(running) != replicas:
            raise NotTrue(f"not {replicas} but {len(running)} containers run: {', '.join(running)}")

    def begin_sick(self, version: str, old: dict[str, str], *, wake: bool = False) -> str:
        """Commit a version that never gets healthy, and wait until it runs beside the `old` containers."""
        commit = self.merge(version, kind=service.sick, pulled=True)
        if wake:
            self.stage.server.exec("systemctl", "kill", "--signal=USR1", "--kill-who=main", "gitops-mvd")
        until(lambda: self.stage.containers("web").keys() - old.keys() or None, f"a container of {version}", 30)
        return commit

    def are_the_only(self, old: dict[str, str]) -> None:
        """See that nothing runs but the `old` containers, the very same."""
        running = self.stage.containers("web")
        if running != old:
            raise NotTrue(f"{', '.join(running)} run, not {', '.join(old)} as before")


@dataclass
class Story:
    """What is done to the app under load; `right` says from when on which versions may answer."""

    console: Console
    app: App
    load: Load
    right: list[tuple[float, Collection[str]]]
    chapters: list[tuple[float, str]] = field(default_factory=list)

    @contextmanager
    def chapter(self, title: str) -> Iterator[None]:
        """A part of the story, and what became of the requests meanwhile."""
        before, failed_before = self.load.so_far()
        began = time.monotonic()
        self.chapters.append((began, title))
        with self.console.status(f"{title} ..."):
            yield
        took = time.monotonic() - began
        requests, failed = self.load.so_far()
        asked = f"{requests - before:>7,} asked, {failed - failed_before} failed"
        self.console.print(f"  {title:<43} {took:5.1f} s {asked}", highlight=False)

    def tell(self) -> None:
        """All of it.  Raises NotTrue."""
        app, stage = self.app, self.app.stage
        for number in range(1, DEPLOYS + 1):
            with self.chapter(f"deploy {number} of {DEPLOYS}"):
                self.right.append((time.monotonic(), {app.version, str(number)}))
                app.deploy(str(number))
                self.right.append((time.monotonic(), {app.version}))
        for replicas in (MORE, REPLICAS):
            with self.chapter(f"{replicas} replicas"):
                app.deploy(app.version, replicas)
        old = stage.containers("web")
        with self.chapter("one that never gets healthy, rolled back"):
            bad = app.merge("sick-1", kind=service.sick, within="5s")
            stage.ends(bad, "failure")
            app.are_the_only(old)
        with self.chapter("its git revert"):
            stage.ends(stage.revert(bad), "success")
        with self.chapter("another, and its git revert amid the deploy"):
            stage.ends(stage.revert(app.begin_sick("sick-2", old)), "success")
            app.are_the_only(old)

    def during(self, moment: float) -> str:
        """What was being told then."""
        place = bisect_right([began for began, _ in self.chapters], moment)
        return self.chapters[place - 1][1] if place else "the beginning"


def figures(console: Console) -> Iterator[Figure]:
    """Told on the terminal as it goes.  Raises LabUnavailable, CommandFailed or NotTrue."""
    with Lab.open(console.print) as lab:
        for mode, database in MODES.items():
            server = lab.server(f"traffic-{mode}")
            stage = Stage.set_up(lab, server, lab.forge.create(f"acme/traffic-{mode}"), mode=mode)
            gateway = f"{stage.gateway} {database}"
            app = App(lab, stage)
            app.deploy("0")
            yield from _of_the_load(console, app, gateway)
            with console.status("the way back ..."):
                back = list(_of_the_way_back(app))
            show(console, f"The way back: {gateway}", back)
            yield from (replace(figure, what=f"{gateway}, {figure.what}") for figure in back)
            server.destroy()


def _of_the_load(console: Console, app: App, gateway: str) -> Iterator[Figure]:
    console.print(f"\nUnder load: {gateway}, {CLIENTS} clients of each kind", highlight=False)
    url = f"http://{app.stage.server.ip}:8000/web"
    with Load(url, "web", kept=CLIENTS, fresh=CLIENTS, within=LONGEST_SECONDS) as load:
        story = Story(console, app, load, [(time.monotonic(), {app.version})])
        story.tell()
        told = time.monotonic()
        with console.status(f"until {AT_LEAST:,} requests were answered ..."):
            summaries = load.finish(AT_LEAST)
        wrong = load.wrong(story.right)
    for summary in summaries:
        if summary.until < told:
            raise NotTrue(f"the load ({summary.clients}) came to its bounds before the story was told")
    columns = ("clients", "requests", "failed\ntarget: 0", "wrong\ntarget: 0", "p99", "slowest", "rate")
    table = Table(*columns, title=f"Deploys under load: {gateway}", title_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    for summary in summaries:
        others = sum(wrong.get(summary.clients, {}).values())
        counts = (f"{count:,}" for count in (summary.requests, summary.failures, others))
        times = (f"{seconds * 1000:.0f} ms" for seconds in (summary.p99, summary.slowest))
        table.add_row(summary.clients, *counts, *times, f"{summary.rate:.0f} /s")
        yield from _of_clients(summary, others, f"{gateway}, {summary.clients}")
    console.print(table)
    for summary in summaries:
        amid = story.during(summary.slowest_at)
        console.print(f"  {summary.clients}: the slowest was asked amid: {amid}", highlight=False)
        for why, count in summary.why.items():
            when = story.during(summary.first[why])
            console.print(f"  {summary.clients}: {count} × {why}; first amid: {when}", highlight=False, markup=False)
        for version, count in wrong.get(summary.clients, {}).items():
            console.print(f"  {summary.clients}: {count} answers of version {version} when it was wrong")


def _of_clients(summary: Summary, wrong: int, what: str) -> Iterator[Figure]:
    yield Figure(f"{what}: requests", summary.requests, "requests", target=f">= {AT_LEAST:,} in all")
    yield Figure(f"{what}: failed", summary.failures, "requests", target="0")
    yield Figure(f"{what}: answers of a wrong version", wrong, "requests", target="0")
    for name, seconds in (("p50", summary.p50), ("p99", summary.p99), ("slowest", summary.slowest)):
        yield Figure(f"{what}: {name}", seconds * 1000, "ms")
    yield Figure(f"{what}: rate", summary.rate, "requests/s")


def _of_the_way_back(app: App) -> Iterator[Figure]:
    """Without load, and with all images on the server: what is measured is the daemon beside the bare engine."""
    stage = app.stage
    look_seldom(stage)
    old = stage.containers("web")
    image = f"{app.lab.registry.address}/web:{app.version}"
    rolled, reverted, alone = [], [], []
    for run in range(RUNS):
        bad = app.merge(f"crashing-{run}", kind=service.crashing, pulled=True)
        rolled.append(float(measured(stage, "rolls_back", bad)))
        app.are_the_only(old)
        stage.ends(bad, "failure")
        measured(stage, "settles", stage.revert(bad))
        bad = app.begin_sick(f"sick-again-{run}", old, wake=True)
        reverted.append(float(measured(stage, "settles", stage.revert(bad))))
        app.are_the_only(old)
        alone.append(float(measured(stage, "bare", str(REPLICAS), image, str(service.PORT))))
    bare = statistics.median(alone) * 1000
    for what, took in (
        ("woken after the merge of a version that crashes → the old one alone again, and reported", rolled),
        ("woken after a git revert, amid the bad deploy → healthy", reverted),
    ):
        yield Figure(what, statistics.median(took) * 1000, "ms", f"{BARE}, {REPLICAS} containers", bare)
