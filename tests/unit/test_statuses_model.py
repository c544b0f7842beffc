"""Random events and outages, and two promises: pending, then exactly one true end for every commit that counts here;
and each trouble is told to people once, and once that it is over.

The daemon, its history, outbox, statuses and notices are the real ones; the host, the repository and the forge are in
memory.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import socket
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gitops_mvd.config.settings.notify import NotifySettings
from gitops_mvd.core.errors import Interrupted, MvdError, RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import App, CommitStatus, Health, Operation, Revision, Step
from gitops_mvd.core.notice import What
from gitops_mvd.core.waves import Choice
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.mailbox import Mailbox
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.state import suspension
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.notices import Notices
from gitops_mvd.status.changes import Contents, contents
from gitops_mvd.status.debounce import DEBOUNCE_SECONDS
from gitops_mvd.status.deliveries import Deliveries
from gitops_mvd.status.notifier import Notifier
from gitops_mvd.status.outbox import LONGEST_PAUSE_SECONDS, Outbox
from gitops_mvd.status.statuses import Statuses, StatusOptions, is_green
from tests.fakes import FakeClock, FakeHost, Killed
from tests.onlookers import onlookers
from tests.unit.memory_tree import MemoryTree

HOST = "mvd/h1"
APPS = ("web", "api")
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # or the disk is waited for ten thousand times


class Repository:
    """The branch, as a list of commits, each with all its files."""

    def __init__(self) -> None:
        self.commits: list[tuple[Revision, Mapping[str, str]]] = []
        self.error: MvdError | None = None

    def commit(self, files: Mapping[str, str | None]) -> Revision:
        before = self.commits[-1][1] if self.commits else {}
        after = {path: text for path, text in {**before, **files}.items() if text is not None}
        revision = Revision(f"{len(self.commits) + 1:07x}{0:033}", "main")
        self.commits.append((revision, after))
        return revision

    def fetch(self, *, expected: bool = False) -> Revision:
        if self.error:
            raise self.error
        return self.commits[-1][0]

    def last(self) -> Revision | None:
        return None

    def tree(self, revision: Revision) -> MemoryTree:
        return MemoryTree(self.commits[self.place(revision)][1])

    def since(self, known: Revision, tip: Revision) -> Sequence[Revision]:
        return tuple(revision for revision, _ in self.commits[self.place(known) + 1 : self.place(tip) + 1])

    def place(self, revision: Revision) -> int:
        return int(revision.short, 16) - 1


class Forge:
    """Keeps what it is told, in order; out of order where `error` or `chokes` say so."""

    def __init__(self) -> None:
        self.shown: dict[tuple[str, str], list[CommitStatus]] = defaultdict(list)
        self.error: BaseException | None = None
        self.dies_after = False
        self.calls = 0

    def publish(self, commit: str, status: CommitStatus) -> None:
        self.calls += 1
        if self.error:
            raise self.error
        self.shown[commit, status.context].append(status)
        if self.dies_after:
            self.dies_after = False
            raise Killed


class Host(FakeHost):
    """A host whose apps may fall ill, whatever their version."""

    def __init__(self, history: SqliteHistory) -> None:
        super().__init__(cast(Any, history))
        self.ill: set[str] = set()
        self.dies = False

    def refresh(self) -> None:
        if self.dies:
            self.dies = False
            raise Killed

    def to_watch(self) -> list[Any]:
        return []

    def health(self, app: App) -> Health:
        return Health.DEGRADED if app.name in self.ill and app.services else super().health(app)


class Story(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY))
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(self.folder / "notify"))
        self.repository, self.forge, self.clock = Repository(), Forge(), FakeClock()
        self.clock.resume = lambda: None  # type: ignore[attr-defined]  # nobody interrupts it
        self.host = Host(SqliteHistory(self.folder / "history.db"))
        self.first = 0
        self.open: dict[tuple[str, str, str], str] = {}  # what people were told, and not yet that it is over
        self.start()

    def teardown(self) -> None:
        try:
            self.calm_down()
        finally:
            self.end()
            self.systemd.close()
            shutil.rmtree(self.folder)

    def start(self) -> None:
        self.history = SqliteHistory(self.folder / "history.db")
        self.host._history = cast(Any, self.history)
        self.outbox = Outbox(self.history, cast(Any, self.forge), now=self.clock.now)
        self.history.requeue_rejected()
        self.notices = Notices(self.folder / "notices.db")
        receiver = Deliveries(NotifySettings("x", on=tuple(What)), "h1", self.notices, cast(Any, None))
        wired = SimpleNamespace(
            manager=None,
            settings=SimpleNamespace(allow_empty=True, interval=60.0),
            follow=lambda revision, fetched: None,
            heed=lambda facts: None,
            settings_path=self.folder / "config.yaml",
            tools=SimpleNamespace(kong=None),
            fit=SimpleNamespace(require=lambda: None),
            disruptions=SimpleNamespace(since_pass=lambda began: ""),
            source=self.repository,
            waves=SimpleNamespace(pick=lambda tip, followed: Choice(tip)),
            moves=SimpleNamespace(keeping=lambda *_: tuple),
            host=self.host,
            history=self.history,
            outbox=self.outbox,
            statuses=Statuses("h1", self.history, StatusOptions(apps=True), self.clock.now, self.outbox.wake),
            notifier=Notifier(self.notices, [receiver], self.clock.now),
            mailbox=Mailbox(),
            monitor=SimpleNamespace(pause_all=lambda: None, follow=lambda there: None),
            clock=self.clock,
            cache={},
            **onlookers(self.folder),
        )
        os.environ["NOTIFY_SOCKET"] = str(self.folder / "notify")
        self.daemon = Daemon(cast(Wired, wired))
        del os.environ["NOTIFY_SOCKET"]
        self.systemd.setblocking(False)

    def look(self) -> None:
        try:
            self.daemon.reconcile_pass(frozenset({"poll"}))
        except Killed:
            self.restart()
        self.daemon._retry = None
        self.host.fault = lambda step: None
        with contextlib.suppress(BlockingIOError):
            while self.systemd.recv(4096):
                pass
        self.read_notices()

    def read_notices(self) -> None:
        """Each is a trouble that is not open, or one of another commit, or the end of one that is."""
        found, last = self.notices.waiting("x")
        for it in found:
            key, commit = (it.app, it.about, it.over or it.what), it.revision.commit if it.revision else ""
            if it.over:
                assert key in self.open, f"{it} was never told"
                del self.open[key]
            elif it.what is not What.DEPLOYED:
                assert self.open.get(key, "none") != f"{commit} {it.why}", f"{it} is told again"
                self.open[key] = f"{commit} {it.why}"
        self.notices.mark_sent("x", last)

    # ---- what happens ------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.repository.commit(compose("web", "v1"))
        self.look()

    @rule(app=st.sampled_from(APPS), image=st.sampled_from(["v1", "v2", "v3", "sick", "gone", None, "broken"]))
    def commit(self, app: str, image: str | None) -> None:
        self.repository.commit(compose(app, image))

    @rule()
    def commit_what_changes_nothing(self) -> None:
        self.repository.commit({"README.md": f"{len(self.repository.commits)}"})

    @rule(text=st.sampled_from(["hosts: [", None]))
    def commit_a_fleet(self, text: str | None) -> None:
        self.repository.commit({"fleet.yaml": text})

    @rule(fault=st.sampled_from(["", "", "unreachable", "interrupted", "overtaken", "git", "killed"]))
    def look_again(self, fault: str) -> None:
        faults = {"unreachable": Unavailable("no answer"), "interrupted": Interrupted("something newer")}
        if fault in faults:
            self.host.fault = raises(faults[fault])
        if fault == "overtaken":
            self.host.fault = self.overtake
        self.repository.error = Unavailable("no answer") if fault == "git" else None
        self.host.dies = fault == "killed"
        self.look()
        self.repository.error = None

    def overtake(self, step: Step) -> None:
        self.host.fault = lambda step: None
        self.repository.commit(compose("api", "v3"))
        raise Interrupted("superseded")

    @rule()
    def restart(self) -> None:
        self.end()
        self.start()

    def end(self) -> None:
        self.daemon._retry = None
        self.daemon._notify.socket.close()
        self.notices.close()
        self.history.close()

    @rule(is_suspended=st.booleans())
    def suspend(self, is_suspended: bool) -> None:
        path = self.folder / "suspended"
        path.write_text("I am at it") if is_suspended else path.unlink(missing_ok=True)

    @rule(app=st.sampled_from(APPS), how=st.sampled_from(["", "left", "stopped"]))
    def suspend_app(self, app: str, how: str) -> None:
        settings = self.folder / "config.yaml"
        if how:
            suspension.suspend(settings, suspension.Suspension("anna", stop=how == "stopped"), app)
        else:
            suspension.resume(settings, app)

    @rule(app=st.sampled_from(APPS))
    def fall_ill(self, app: str) -> None:
        self.host.ill ^= {app}

    @rule(seconds=st.sampled_from([1.0, DEBOUNCE_SECONDS / 2, DEBOUNCE_SECONDS, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.time += seconds

    @rule(error=st.sampled_from([None, None, Unavailable("502"), RateLimited("slowly", 100), StepFailed("no")]))
    def let_the_forge(self, error: MvdError | None) -> None:
        self.forge.error = error

    @rule(dies=st.booleans())
    def deliver(self, dies: bool) -> None:
        self.forge.dies_after = dies
        try:
            self.outbox.deliver()
        except Killed:
            self.restart()
        self.forge.dies_after = False

    # ---- what is promised --------------------------------------------------------------------------------------------

    @invariant()
    def an_end_is_an_end(self) -> None:
        for (commit, context), shown in self.forge.shown.items():
            told = [is_green(status) for status in shown]
            over = next((n for n, well in enumerate(told) if well is not None), len(told))
            assert None not in told[over:], f"{commit} is pending again in {context}: {shown}"
            overtaken = [status.description.startswith("superseded by") for status in shown]
            assert overtaken == sorted(overtaken), f"{commit} went on after it was overtaken: {shown}"

    @rule()
    def calm_down(self) -> None:
        """All that was wrong is mended, and everything has come to its end."""
        self.forge.error, self.host.ill, self.host.dies = None, set(), False
        self.suspend(False)
        for app in APPS:
            self.suspend_app(app, "")
        self.restart()  # after which what was refused is tried again
        for _ in range(4):
            self.look()
            self.clock.time += DEBOUNCE_SECONDS
        self.clock.time += LONGEST_PAUSE_SECONDS
        self.outbox.deliver()
        assert self.history.count_waiting() == 0
        calls = self.forge.calls
        self.look()
        self.outbox.deliver()
        assert self.forge.calls == calls, "something is told again and again"
        assert self.notices.receiver("x").waiting == 0
        self.what_is_open_is_what_is_wrong()
        self.everything_has_come_to_its_end()

    def what_is_open_is_what_is_wrong(self) -> None:
        files = self.repository.commits[-1][1]
        if "hosts: [" in files.get("fleet.yaml", ""):
            assert ("", "revision", What.FAILED) in self.open
            return
        bad = ("sick", "gone", "broken")
        wrong = {app for app in APPS if any(word in files.get(f"apps/{app}/compose.yaml", "") for word in bad)}
        assert set(self.open) == {(app, "", What.FAILED) for app in wrong}

    def everything_has_come_to_its_end(self) -> None:
        seen = [read(tuple(files.items())) for _, files in self.repository.commits]
        subject = 0
        for n, (revision, _) in enumerate(self.repository.commits):
            shown = self.forge.shown[revision.commit, HOST]
            if n == 0 or seen[n] != seen[n - 1]:
                subject = n
                assert shown, f"{revision.short} was never told of"
            if shown:
                assert shown[-1].operation is not Operation.RUNNING, f"{revision.short} is pending for ever"
        files = self.repository.commits[subject][1]
        wrong = any(word in text for text in files.values() for word in ("sick", "gone", "broken", "hosts: ["))
        last = self.forge.shown[self.repository.commits[subject][0].commit, HOST][-1]
        assert is_green(last) == (not wrong), last


@functools.cache  # the same few commits come again and again
def read(files: tuple[tuple[str, str], ...]) -> Contents:
    return contents(MemoryTree(dict(files)), "h1")


def compose(app: str, image: str | None) -> dict[str, str | None]:
    text = None if image is None else f"services: {{{app}: {{image: {image}}}}}\n"
    return {f"apps/{app}/compose.yaml": "services: [broken\n" if image == "broken" else text}


def raises(error: MvdError) -> Any:
    def fault(step: Step) -> None:
        raise error

    return fault


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=settings.default.max_examples * 3 // 5)
