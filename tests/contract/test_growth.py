"""Hundreds of deploys through the real loop, over real git: neither the daemon nor what it keeps on disk grows."""

from __future__ import annotations

import gc
import linecache
import tracemalloc
import urllib.parse
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gitops_mvd.config.settings.notify import NotifySettings
from gitops_mvd.core.model import Operation
from gitops_mvd.core.notice import What
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.mailbox import Interruptible, Mailbox
from gitops_mvd.daemon.moves import Moves
from gitops_mvd.daemon.triggers import SYNC
from gitops_mvd.daemon.waves import Waves
from gitops_mvd.git.branch import Source
from gitops_mvd.git.mirror import Mirror
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.notices import Notices
from gitops_mvd.status.deliveries import Deliveries
from gitops_mvd.status.notifier import Notifier
from gitops_mvd.status.statuses import Statuses, StatusOptions
from tests.contract.test_hostile_repositories import Objects
from tests.fakes import FakeHost
from tests.onlookers import onlookers

KIB = 1 << 10


class World:
    """A server with a host in memory; Git, the history and the loop are real."""

    def __init__(self, path: Path) -> None:
        self.objects = Objects(path / "config.git")
        self.source = Source(str(self.objects.place), "main", path / "state" / "mirror")
        self.history = SqliteHistory(path / "state" / "history.db")
        self.host = FakeHost(cast(Any, self.history))
        self.deploys = 0
        fake = cast(Any, self.host)
        fake.refresh, fake.to_watch, fake.health_reason = lambda: None, list, lambda app: ""
        monitor = SimpleNamespace(follow=lambda watched: None, pause_all=lambda: None)
        self.notices = Notices(path / "state" / "notices.db")
        receiver = Deliveries(NotifySettings("x", on=tuple(What)), "h1", self.notices, cast(Any, None))
        wired = SimpleNamespace(
            settings_path=path / "config.yaml",
            settings=SimpleNamespace(allow_empty=False, repository=str(self.objects.place)),
            manager=None,
            mailbox=Mailbox(),
            clock=Interruptible(),
            source=self.source,
            waves=(waves := Waves("h1", self.source, None, "")),
            moves=Moves(waves),
            host=self.host,
            history=self.history,
            statuses=Statuses("h1", self.history, StatusOptions(apps=True), lambda: 0.0),
            notifier=Notifier(self.notices, [receiver]),
            monitor=monitor,
            fit=SimpleNamespace(require=lambda: None),
            disruptions=SimpleNamespace(since_pass=lambda began: ""),
            tools=SimpleNamespace(kong=None),
            cache={},
            pull_requests=None,
            follow=lambda revision, fetched: None,
            heed=lambda facts: None,
            **onlookers(path),
        )
        self.daemon = Daemon(cast(Any, wired))

    def deploy(self) -> None:
        """One more commit, which changes one app of three, and the pass that it leads to."""
        self.deploys += 1
        files = "".join(
            f"M 100644 inline apps/{name}/compose.yaml\ndata <<.\nservices: {{web: {{image: 'n:{n}'}}}}\n.\n"
            for name, n in (("a", self.deploys // 2), ("b", (self.deploys + 1) // 2), ("c", 0))
        )
        commit = f"commit refs/heads/main\ncommitter x <x@x> {self.deploys} +0000\ndata <<.\nDeploy\n.\n"
        behind = "from refs/heads/main^0\n" if self.deploys > 1 else ""
        self.objects.git("fast-import", "--quiet", data=f"{commit}{behind}{files}\n".encode())
        report = self.daemon.reconcile_pass(frozenset({SYNC}))
        self.daemon._pack()
        assert report
        assert {outcome.operation for outcome in report.outcomes} == {Operation.SUCCEEDED}
        for entry in self.history.due(0.0):
            self.history.mark_sent(entry)
        self.notices.mark_sent("x", self.notices.waiting("x")[1])
        self.host.log.clear()
        self.host.starts.clear()
        self.host.forget_gone()


def size(folder: Path) -> int:
    """Bytes on the disk, in blocks of 4 KiB."""
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.rglob("*") if path.is_file())


def loose(world: World) -> list[Path]:
    return sorted(world.source.mirror.glob("objects/??/*"))


def memory() -> int:
    """What is kept, without what Python bounds: its last addresses, and the one table of names, which doubles."""
    urllib.parse.clear_cache()
    gc.collect()
    return sum(trace.size for trace in tracemalloc.take_snapshot().traces if not is_table_of_names(trace))


def is_table_of_names(trace: tracemalloc.Trace) -> bool:
    """Is it the table of all interned names of Python, which has doubled as one more came?"""
    [made] = trace.traceback
    return trace.size > KIB * KIB and "intern(" in linecache.getline(made.filename, made.lineno)


def test_nothing_grows_with_the_number_of_deploys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each app is deployed again and again; what an earlier version was is forgotten."""
    monkeypatch.setattr("sdnotify.SystemdNotifier", lambda: SimpleNamespace(notify=lambda told: None))
    monkeypatch.setattr("gitops_mvd.git.mirror.MOST_LOOSE", 30)
    world = World(tmp_path)
    tracemalloc.start()
    try:
        for _ in range(20):
            world.deploy()
        before, sizes = memory(), []
        for _ in range(40):
            world.deploy()
            sizes.append(size(world.source.mirror))
        grown = memory() - before
    finally:
        tracemalloc.stop()
    assert grown < 40 * KIB // 2, "half a kibibyte a deploy"
    assert max(sizes) < 600 * KIB, "it is packed by itself"
    assert min(sizes[-20:]) < min(sizes[:20]) + 100 * KIB


def test_it_is_not_packed_while_there_is_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdnotify.SystemdNotifier", lambda: SimpleNamespace(notify=lambda told: None))
    monkeypatch.setattr("gitops_mvd.git.mirror.MOST_LOOSE", 0)
    world = World(tmp_path)
    world.objects.commit()
    tip = world.source.fetch()
    before = loose(world)
    assert before
    world.source.pack(lambda: True)
    with Mirror(world.source.mirror, cast(Any, SimpleNamespace(timeout=1.0))).alone():  # as in a fetch
        world.source.pack(lambda: False)
    assert loose(world) == before
    world.source.pack(lambda: False)
    assert not loose(world)
    assert Source(str(world.objects.place), "main", world.source.mirror).fetch() == tip


def test_a_mirror_that_cannot_be_packed_is_told_once_and_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sdnotify.SystemdNotifier", lambda: SimpleNamespace(notify=lambda told: None))
    monkeypatch.setattr("gitops_mvd.git.mirror.MOST_LOOSE", 10)
    monkeypatch.setattr("gitops_mvd.git.mirror.GC", ("gc", "--no-such-option"))
    world = World(tmp_path)
    for _ in range(8):
        world.deploy()
    assert 1 <= len([it for it in caplog.records if "cannot pack the mirror" in it.message]) <= 3
