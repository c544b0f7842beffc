"""The daemon's loop outlives what it meets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import Health, Operation, Outcome, Report, Revision, Sync
from gitops_mvd.core.waves import Choice
from gitops_mvd.daemon.loop import FETCH_REASONS, Daemon
from gitops_mvd.daemon.mailbox import Mailbox
from gitops_mvd.daemon.supervisor import Run
from gitops_mvd.daemon.triggers import PUSH, RELOAD, STOP, SYNC
from gitops_mvd.state import suspension
from gitops_mvd.state.notices import Notices
from gitops_mvd.state.suspension import Suspension
from gitops_mvd.status.notifier import Notifier
from gitops_mvd.status.outbox import Outbox
from tests.onlookers import onlookers
from tests.threads import kept


@pytest.fixture(autouse=True)
def _no_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdnotify.SystemdNotifier", lambda: SimpleNamespace(notify=lambda told: None))


def wired(error: Exception, told: list[str], tmp_path: Any) -> Any:
    """A server whose repository raises that at every question."""

    def fetch(*, expected: bool = False) -> Revision:
        raise error

    return SimpleNamespace(
        manager=None,
        settings=SimpleNamespace(interval=60, repository="/srv/git"),
        host=SimpleNamespace(name="h1", refresh=lambda: None),
        mailbox=Mailbox(),
        clock=SimpleNamespace(resume=lambda: None),
        source=SimpleNamespace(fetch=fetch),
        waves=SimpleNamespace(pick=lambda tip, followed: Choice(tip)),
        moves=SimpleNamespace(keeping=lambda *_: tuple),
        statuses=SimpleNamespace(wait=told.append, suspend=lambda suspension: None, hold=lambda held: None),
        monitor=SimpleNamespace(pause_all=lambda: None),
        notifier=Notifier(Notices(tmp_path / "notices.db"), []),
        history=SimpleNamespace(
            save_last_error=lambda why, *, awaited: told.append(why),
            save_threads=lambda states: None,
            threads=list,
            revisions=dict,
            save_hold=lambda hold: None,
            forget_good=lambda: None,
        ),
        settings_path=tmp_path / "config.yaml",
        **onlookers(tmp_path),
    )


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (StepFailed("Docker refused"), "Docker refused"),
        (KeyError("Attributes"), "internal error, see the log of gitops-mvd: KeyError"),
        (RecursionError(), "internal error, see the log of gitops-mvd: RecursionError"),
    ],
)
def test_a_pass_that_breaks_is_told_and_is_not_the_last(error: Exception, sentence: str, tmp_path: Any) -> None:
    told: list[str] = []
    daemon = Daemon(wired(error, told, tmp_path))
    for _ in range(3):
        assert daemon.reconcile_pass(frozenset({SYNC})) is None
    assert told == [sentence, sentence] * 3


@pytest.mark.parametrize(
    ("faults", "at_once"), [([""], True), (["", ""], True), (["", "unanswered"], False), (["not_now"], False)]
)
def test_what_is_on_its_way_has_the_next_pass_at_once_and_what_is_hindered_has_it_later(
    faults: list[str], at_once: bool, tmp_path: Path
) -> None:
    daemon = Daemon(wired(StepFailed("unused"), [], tmp_path))
    outcomes = (
        Outcome(f"app{n}", Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.RUNNING, fault=it) for n, it in enumerate(faults)
    )
    daemon._back_off(Report("h1", Revision("a" * 40, "main"), tuple(outcomes)))
    assert daemon._retry
    assert (daemon._retry.at <= time.monotonic()) is at_once
    assert (daemon._retry.reason in FETCH_REASONS) is not at_once


def test_the_next_pass_is_no_later_than_the_end_of_a_suspension(tmp_path: Path) -> None:
    server = wired(Unavailable("Git does not answer"), [], tmp_path)
    server.source.last = lambda: None
    server.history.save_git_failure = lambda why, *, is_refused: None
    daemon, now = Daemon(server), suspension.now()
    suspension.suspend(server.settings_path, Suspension("anna", until=now + timedelta(seconds=30)))
    suspension.suspend(server.settings_path, Suspension("anna", until=now + timedelta(days=1)), "shop")
    pauses = []
    for _ in range(20):  # each of which comes to nothing, and the next would be later and later
        daemon.reconcile_pass(frozenset({SYNC}))
        assert daemon._retry is not None
        pauses.append(daemon._retry.at - time.monotonic())
    assert max(pauses) <= 30
    suspension.resume(server.settings_path)


def test_the_end_of_a_suspension_that_an_earlier_pass_has_found_causes_no_pass_after_pass(tmp_path: Path) -> None:
    server = wired(StepFailed("Docker refused"), [], tmp_path)
    daemon, now = Daemon(server), suspension.now()
    fetch, server.source.fetch = server.source.fetch, lambda *, expected=False: Revision("a" * 40, "main")
    server.follow = lambda revision, *, fetched: None
    server.history.clear_git_failure = lambda: None
    daemon._revision = Revision("a" * 40, "main")
    suspension.suspend(server.settings_path, Suspension("anna", until=now + timedelta(seconds=1)))
    daemon.reconcile_pass(frozenset({SYNC}))
    server.source.fetch = fetch
    daemon.reconcile_pass(frozenset({SYNC}))
    assert daemon._retry is not None
    assert daemon._retry.at - time.monotonic() > 1
    suspension.resume(server.settings_path)


def test_a_server_that_is_suspended_is_ready_and_one_whose_first_pass_has_failed_is_not(tmp_path: Path) -> None:
    server = wired(StepFailed("Docker refused"), [], tmp_path)
    server.history.git_failure = lambda: None
    daemon = Daemon(server)
    with pytest.raises(Unavailable, match="there was no pass yet"):
        daemon.answers.ready()
    daemon.reconcile_pass(frozenset({SYNC}))
    with pytest.raises(Unavailable, match="Docker refused"):
        daemon.answers.ready()
    daemon._revision = Revision("a" * 40, "main")
    suspension.suspend(server.settings_path, Suspension("anna"))
    daemon.reconcile_pass(frozenset())
    assert daemon.answers.ready().what == "Git answers, and there was a pass"
    looked = daemon.answers.last.at
    daemon.reconcile_pass(frozenset({SYNC}))
    assert (daemon.answers.last.at, daemon.answers.last.error) == (looked, "Docker refused")
    suspension.resume(server.settings_path)


class Busy(Daemon):
    """One that is asked for something newer in the middle of each pass; all commits change something here."""

    def _commits(self, known: Revision | None, tip: Revision) -> Any:
        return [SimpleNamespace(changed=frozenset({"web"}))]

    def _reconcile(self) -> Any:
        self._read_mail_meanwhile(0.0)


def test_what_was_fetched_during_a_pass_is_not_fetched_again_by_the_next_one(tmp_path: Any) -> None:
    followed: list[str] = []
    interrupted: list[str] = []
    commits = iter("abcdef")
    server = wired(KeyError(), [], tmp_path)
    server.source.fetch = lambda *, expected=False: Revision(next(commits) * 40, "main")
    server.follow = lambda revision, *, fetched: followed.append(revision.commit[0])
    server.clock.interrupt = interrupted.append
    server.history.clear_git_failure = lambda: None
    server.history.revisions = dict
    server.statuses.add_commits = lambda commits: None
    daemon = Busy(server)
    server.mailbox.post(PUSH)
    daemon.reconcile_pass(frozenset({SYNC}))
    assert interrupted == [f"superseded by {'b' * 7}"]
    daemon.reconcile_pass(frozenset({PUSH}))
    daemon.reconcile_pass(frozenset({SYNC}))
    assert followed == ["a", "b", "c"], "each commit was taken, and the third question is the third"


def test_the_outbox_goes_on_after_what_nobody_thought_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gitops_mvd.daemon.supervisor.BACKOFF", Backoff(0.01, 0.02))
    asked: list[float] = []

    def due(now: float) -> list[Any]:
        asked.append(now)
        if len(asked) == 1:
            raise ValueError("garbage")
        return []

    history = SimpleNamespace(requeue_rejected=lambda: None, next_due=lambda now: None, due=due)
    outbox = Outbox(history, SimpleNamespace())  # type: ignore[arg-type]
    with kept(outbox.run, outbox.wake) as at_work:
        assert at_work.wait(10)
    assert len(asked) >= 2
    assert "internal error" in caplog.text


class Late(Daemon):
    """One whose settings change while it ends."""

    def threads(self) -> Iterator[tuple[str, Run, Callable[[], None]]]:
        def run(stop: threading.Event, up: Callable[[], None]) -> None:
            stop.wait(30)
            self._mail.post(RELOAD)

        yield "late", run, lambda: None


@pytest.mark.parametrize(("told", "again"), [(STOP, False), (RELOAD, True)])
def test_who_is_told_to_stop_stops_whatever_comes_after_it(
    told: str, again: bool, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitops_mvd.daemon.loop.EVENT_DEBOUNCE_SECONDS", 0.01)
    server = wired(KeyError(), [], tmp_path)
    server.mailbox.post(told)
    assert Late(server).run() is again


# ---- a Swarm, of which one manager leads -----------------------------------------------------------------------------


class Leading(Daemon):
    """One of the managers; `led_by` is who leads, or why nobody does, and `passes` is what it has done about it."""

    def __init__(self, server: Any) -> None:
        self.led_by: str | Exception = ""
        self.passes: list[str] = []
        server.statuses.next_check_in = lambda: None
        server.manager = SimpleNamespace(leader=self._leader)
        server.host.name = "prod"
        super().__init__(server)

    def _leader(self) -> str:
        if isinstance(self.led_by, Exception):
            raise self.led_by
        return self.led_by

    def _fetch(self, reasons: frozenset[str]) -> None:
        self.passes.append("fetch")
        self._revision = Revision("a" * 40, "main")
        self._lead.begin()

    def _reconcile(self) -> Any:
        self.passes.append("reconcile")
        return SimpleNamespace(outcomes=())


def test_only_the_daemon_on_the_leader_of_a_swarm_acts(tmp_path: Path) -> None:
    told: list[str] = []
    daemon = Leading(wired(KeyError(), told, tmp_path))
    daemon.led_by = "two"
    assert daemon.reconcile_pass(frozenset({SYNC})) is None
    assert daemon.passes == []
    assert told == ["prod is led by two, which acts and reports"]  # as the last error, and to no commit
    assert daemon._retry is not None
    assert daemon._retry.at - time.monotonic() < 3  # it takes over soon
    daemon.led_by = ""
    daemon.reconcile_pass(frozenset({daemon._retry.reason}))
    assert daemon.passes == ["fetch", "reconcile"]


def test_without_a_leader_who_acted_last_says_so_to_new_commits_and_others_say_nothing(tmp_path: Path) -> None:
    why = "could not list the nodes of the Swarm: the swarm does not have a leader"
    of_commits: list[str] = []
    for acted in (True, False):
        server = wired(KeyError(), [], tmp_path)
        server.statuses.wait = of_commits.append
        daemon = Leading(server)
        if acted:
            daemon.reconcile_pass(frozenset({SYNC}))
        daemon.led_by = Unavailable(why)
        assert daemon.reconcile_pass(frozenset({SYNC})) is None
        assert daemon.passes == (["fetch", "reconcile", "fetch"] if acted else [])
    assert of_commits == [why]
