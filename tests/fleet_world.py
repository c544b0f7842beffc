"""A fleet in memory: each host has its real daemon, history, outbox and waves, and nothing runs on it."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import yaml

from gitops_mvd import forges
from gitops_mvd.core.model import Revision
from gitops_mvd.core.waves import Question
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.mailbox import Mailbox
from gitops_mvd.daemon.moves import Moves
from gitops_mvd.daemon.preview import AppPreview, preview
from gitops_mvd.daemon.waves import Waves
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.forges.api import Account
from gitops_mvd.git.branch import Source
from gitops_mvd.host.turns import Turns
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.notices import Notices
from gitops_mvd.status.notifier import Notifier
from gitops_mvd.status.outbox import Outbox
from gitops_mvd.status.statuses import Statuses, StatusOptions
from tests.fakes import FakeClock, FakeHost
from tests.lab.forge import Forge, Repository
from tests.onlookers import onlookers

POLL = frozenset({"poll"})


class Running(FakeHost):
    """A host in memory that can be looked at as a pass does.  One app is worked on at a time: it is for one thread."""

    def __init__(self, history: Any) -> None:
        super().__init__(history)
        self.turns = Turns(1)

    def refresh(self) -> None:
        pass

    def to_watch(self) -> list[Any]:
        return []


class Member:
    """One server of the fleet.  Its state outlives `restart`, as on a disk."""

    def __init__(
        self,
        name: str,
        folder: Path,
        source: Any,
        forge: Any,
        now: Callable[[], float] = time.time,
        beside: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> None:
        self.name, self.folder, self.source, self.forge, self._now = name, folder, source, forge, now
        self.more = more  # of its waves
        self.beside = beside  # what members share, in place of parts of their own
        self.clock_behind = self.later = 0.0  # seconds that pass at once: by the forge's clock, and by its own
        self.closed = ""  # why a gate that asks is closed
        folder.mkdir(exist_ok=True)
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(folder / "notify"))
        self.systemd.setblocking(False)
        self.host = Running(cast(Any, None))
        self.host.name = name
        self.start()

    def start(self) -> None:
        """The daemon begins, with what is on its disk."""
        self.history = SqliteHistory(self.folder / "history.db")
        self.host._history = cast(Any, self.history)
        self.outbox = Outbox(self.history, self.forge, now=self.now)
        beside = self.beside or {"notices": Notices(self.folder / "notices.db"), **onlookers(self.folder)}
        self.notices, self.operations = beside["notices"], beside["operations"]
        clock = FakeClock()
        clock.resume = lambda: None  # type: ignore[attr-defined]  # nobody interrupts it
        ahead, ask = (lambda url: -self.clock_behind), self._ask
        self.waves = Waves(self.name, self.source, self.forge, "", ask, self.now, ahead, **self.more)
        wired = SimpleNamespace(
            settings=SimpleNamespace(allow_empty=True, interval=60.0),
            follow=lambda revision, fetched: None,
            heed=lambda facts: None,
            settings_path=self.folder / "config.yaml",
            tools=SimpleNamespace(kong=None),
            fit=SimpleNamespace(require=lambda: None),
            disruptions=SimpleNamespace(since_pass=lambda began: ""),
            manager=None,
            source=self.source,
            waves=self.waves,
            moves=Moves(self.waves),
            host=self.host,
            history=self.history,
            outbox=self.outbox,
            statuses=Statuses(self.name, self.history, StatusOptions(), clock.now, self.outbox.wake, self.waves.peers),
            notifier=Notifier(self.notices, [], clock.now),
            mailbox=Mailbox(),
            monitor=SimpleNamespace(pause_all=lambda: None, follow=lambda there: None),
            clock=clock,
            cache={},
            **{name: part for name, part in beside.items() if name != "notices"},
        )
        os.environ["NOTIFY_SOCKET"] = str(self.folder / "notify")
        self.daemon = Daemon(cast(Wired, wired))
        del os.environ["NOTIFY_SOCKET"]

    def now(self) -> float:
        return self._now() + self.later

    def _ask(self, question: Question) -> str:
        return self.closed

    def end(self) -> None:
        self.daemon._retry = None
        self.daemon._notify.socket.close()
        self.history.close()
        if not self.beside:
            self.notices.close()
            self.operations.close()

    def close(self) -> None:
        """The server is gone for good."""
        self.end()
        self.systemd.close()

    def restart(self) -> None:
        self.end()
        self.start()

    def poll(self) -> None:
        """One pass, and what it has to post."""
        self.daemon.reconcile_pass(POLL)
        self.daemon._retry = None
        self.outbox.deliver()
        with contextlib.suppress(BlockingIOError):
            while self.systemd.recv(4096):
                pass

    def images(self, app: str = "web") -> list[str]:
        """The images of an app that run here."""
        return self.host.images(app)

    def plan(self, app: str) -> AppPreview:
        """What a pass would do about an app, as `mvd plan` says."""
        [found] = [it for it in preview(self.daemon._wired).apps if it.name == app]
        return found

    def held(self) -> str:
        """What a newer commit waits for, as `mvd status` says."""
        hold = self.history.hold()
        return f"{hold.revision.short} {hold.why}" if hold else ""

    def followed(self) -> Revision | None:
        return self.history.revisions().get("attempted")


def compose(image: str, *constraints: str) -> str:
    """The Compose file of an app of one service, `web`."""
    service: dict[str, Any] = {"image": image}
    if constraints:
        service["deploy"] = {"placement": {"constraints": [*constraints]}}
    return yaml.safe_dump({"services": {"web": service}})


class World:
    """Servers that follow one repository at a forge of the lab, and know of each other by its statuses alone."""

    def __init__(self, server: Forge, folder: Path, names: Iterable[str]) -> None:
        assert server.token
        self.server, self.folder, self.token = server, folder, server.token
        self.repository: Repository = server.create("acme/config")
        self.members = {name: self._member(name) for name in names}

    def _member(self, name: str) -> Member:
        source = Source(str(self.repository.path), "main", self.folder / f"{name}-mirror")
        account = Account("acme/config", lambda: self.token, f"{self.server.url}/api/v3")
        return Member(name, self.folder / name, source, forges.connect("github", account))

    def close(self) -> None:
        for member in self.members.values():
            member.close()
            member.source.close()

    def poll(self, *names: str) -> None:
        for name in names or self.members:
            self.members[name].poll()

    def told(self, commit: str) -> dict[str, tuple[str, str]]:
        """What stands at a commit: host -> state and description."""
        latest = self.repository.latest(commit)
        return {it.context.removeprefix("mvd/"): (it.state, it.description) for it in latest}
