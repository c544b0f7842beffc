"""The history in SQLite: what it remembers, and that losing it stops nothing."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import (
    App,
    Change,
    CommitStatus,
    Failure,
    Health,
    Operation,
    Outcome,
    Plan,
    Report,
    Resource,
    Revision,
    Service,
    Sync,
)
from gitops_mvd.core.ports import History
from gitops_mvd.state.history import MOST_EVENTS, MOST_FAILED_VERSIONS, MOST_STATUSES, Entry, SqliteHistory
from tests.fakes import FakeHistory

CONTEXT = "mvd/srv1"
COMMIT = "c" * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.db"


@pytest.fixture
def history(path: Path) -> Iterator[SqliteHistory]:
    kept = SqliteHistory(path)
    yield kept
    kept.close()


def app(version: int, name: str = "web") -> App:
    environment = {"ODD": "\udcff", "VERSION": str(version)}
    return App(name, (Service("web", f"web@sha256:{version}", {"user": "1"}, environment),))


def revision(n: int) -> Revision:
    return Revision(f"{n:040x}", "main", f"Commit {n}")


def status(operation: Operation, description: str = "", context: str = CONTEXT) -> CommitStatus:
    return CommitStatus(context, operation, Health.UNKNOWN, description)


RUNNING, DONE, FAILED = (status(o) for o in (Operation.RUNNING, Operation.SUCCEEDED, Operation.FAILED))
A_STEP = Plan((Change(None, Resource("unit", "mvd-web", "web", payload={"password": "hunter2"})),))


def report(n: int, *outcomes: Outcome) -> Report:
    return Report("srv1", revision(n), outcomes)


def well(name: str = "web", did: Plan | None = None, health: Health = Health.HEALTHY) -> Outcome:
    return Outcome(name, Sync.SYNCED, health, Operation.SUCCEEDED, did or Plan())


def bad(name: str = "web", why: str = "exit code 1") -> Outcome:
    return Outcome(name, Sync.OUT_OF_SYNC, Health.HEALTHY, Operation.ROLLED_BACK, why=why)


# ---- versions --------------------------------------------------------------------------------------------------------


def test_the_last_good_version_is_remembered_across_restarts(history: SqliteHistory, path: Path) -> None:
    port: History = history
    assert port.last_good("web") is None
    port.approve(app(1), COMMIT)
    assert port.last_good("web") == app(1)
    history.close()
    again = SqliteHistory(path)
    assert again.last_good("web") == app(1)
    assert again.last_good("api") is None
    again.close()


def test_the_version_before_is_kept_until_the_next_one(history: SqliteHistory) -> None:
    assert history.good_before(app(1)) is None
    history.approve(app(1), COMMIT)
    assert history.good_before(app(1)) is None
    assert history.good_before(app(2)) == app(1)
    history.approve(app(2), COMMIT)
    history.approve(app(2), COMMIT)
    assert (history.last_good("web"), history.good_before(app(2))) == (app(2), app(1))
    history.approve(app(3), COMMIT)
    assert (history.last_good("web"), history.good_before(app(3)), history.good_before(app(4))) == (
        app(3),
        app(2),
        app(3),
    )


def test_a_version_is_marked_failed_by_itself_and_cleared_by_its_app(history: SqliteHistory) -> None:
    history.mark_failed(app(1), Failure("exit code 1\nlast line \udcff"))
    history.mark_failed(app(2), Failure("exit code 2"))
    history.mark_failed(app(1, "api"), Failure("exit code 3"))
    assert history.failure_of(app(1)) == Failure("exit code 1\nlast line \udcff")
    assert history.failure_of(app(3)) is None
    assert history.clear_failure("web")
    assert not history.clear_failure("web")
    assert (history.failure_of(app(1)), history.failure_of(app(2))) == (None, None)
    assert history.failure_of(app(1, "api")) == Failure("exit code 3")


def test_what_is_approved_is_no_longer_marked_failed(history: SqliteHistory) -> None:
    history.mark_failed(app(1), Failure("exit code 1"))
    history.mark_failed(app(2), Failure("exit code 2"))
    history.approve(app(1), COMMIT)
    assert (history.failure_of(app(1)), history.failure_of(app(2))) == (None, Failure("exit code 2"))


@pytest.fixture(params=["sqlite", "fake"])
def port(request: pytest.FixtureRequest, history: SqliteHistory) -> History:
    """The real one and the one of the unit tests, which keep the same promises."""
    return history if request.param == "sqlite" else FakeHistory()


def test_a_failure_says_what_follows_from_it(port: History) -> None:
    port.mark_failed(app(1), Failure("http 503", "pause"))
    assert port.failure_of(app(1)) == Failure("http 503", "pause")
    port.mark_failed(app(1), Failure("http 503", "continue"))
    assert port.failure_of(app(1)) == Failure("http 503", "continue")
    port.approve(app(1), COMMIT)
    assert port.failure_of(app(1)) is None


def test_a_failure_in_the_words_of_an_older_version_is_understood(history: SqliteHistory, path: Path) -> None:
    history.mark_failed(app(1), Failure("http 503"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE condemned SET why = '\"exit code 1\"'")
    assert history.failure_of(app(1)) == Failure("exit code 1", "rollback")


def test_what_is_forgotten_is_not_known_to_have_worked(port: History) -> None:
    port.approve(app(1), COMMIT)
    port.forget("web")
    assert port.last_good("web") is None


def test_a_job_that_is_finished_stays_finished(port: History) -> None:
    assert not port.is_job_done("mvd-web-migrate-12345678")
    port.mark_job_done("mvd-web-migrate-12345678")
    port.mark_job_done("mvd-web-migrate-12345678")
    assert port.is_job_done("mvd-web-migrate-12345678")
    assert not port.is_job_done("mvd-web-migrate-87654321")


def test_content_that_comes_back_is_recalled_by_the_commit_that_ran_it(port: History) -> None:
    for version, commit in ((1, "a"), (2, "b"), (1, "c")):
        port.approve(app(version), commit)
        assert port.reverted_to(app(version), commit) == ("a" if commit == "c" else "")
    port.approve(app(1), "d")
    assert port.reverted_to(app(1), "d") == "", "it was there already"


def test_content_that_outlives_a_bad_commit_is_recalled_too(history: SqliteHistory) -> None:
    history.approve(app(1), revision(1).commit)
    history.record_report(report(1, well()))
    history.record_report(report(2, bad()))
    history.record_report(report(3, well()))
    assert history.reverted_to(app(1), revision(3).commit) == revision(1).commit
    assert history.reverted_to(app(1), revision(3).commit) == revision(1).commit
    history.record_report(report(4, well()))
    assert history.reverted_to(app(1), revision(4).commit) == ""


def test_only_what_is_new_about_an_app_is_told(history: SqliteHistory) -> None:
    told = [history.record_report(report(n, outcome, well("api"))) for n, outcome in enumerate((well(), well(), bad()))]
    assert [[(event.app, event.operation) for event in events] for events in told] == [
        [(outcome.app, outcome.operation) for outcome in (well(), well("api"))],
        [],
        [(bad().app, bad().operation)],
    ]


def test_the_oldest_failed_versions_are_dropped(history: SqliteHistory) -> None:
    for version in range(MOST_FAILED_VERSIONS + 5):
        history.mark_failed(app(version), Failure("no"))
    assert [history.failure_of(app(n)) for n in (0, 4, 5, MOST_FAILED_VERSIONS + 4)] == [
        None,
        None,
        Failure("no"),
        Failure("no"),
    ]


def test_an_app_that_another_version_wrote_is_no_memory(history: SqliteHistory, path: Path) -> None:
    history.approve(app(1), COMMIT)
    with sqlite3.connect(path) as database:
        database.execute("UPDATE good SET json = ?", [json.dumps({"name": "web", "of_the_future": 1})])
    database.close()
    assert history.last_good("web") is None


# ---- events ----------------------------------------------------------------------------------------------------------


def test_an_event_is_kept_when_something_was_done_or_came_out_otherwise(history: SqliteHistory) -> None:
    for n, outcome in enumerate([well(did=A_STEP), well(), well(), bad(), bad(), bad(why="exit code 2"), well()]):
        history.record_report(report(n, outcome, well("api")))
    events = history.events(10, "web")
    assert [int(event.commit, 16) for event in events] == [6, 5, 3, 0]
    assert [event.why for event in events[:3]] == ["", "exit code 2", "exit code 1"]
    assert events[-1].did == ("create unit mvd-web",)
    assert [event.app for event in history.events(2)] == ["web", "web"]
    assert len(history.events(10, "api")) == 1
    assert history.last_event("web") == events[0]
    assert history.last_event("nobody") is None


def test_what_fails_again_and_again_for_one_reason_is_told_once_for_each_commit(history: SqliteHistory) -> None:
    tried = replace(bad("web"), did=A_STEP)
    for n in (1, 1, 1, 2, 2):
        history.record_report(report(n, tried))
    assert [event.commit for event in history.events(9)] == [revision(2).commit, revision(1).commit]


def test_old_events_are_dropped_but_the_last_of_every_app(history: SqliteHistory) -> None:
    history.record_report(report(0, well("quiet")))
    for n in range(6):
        history.record_report(report(n, *(bad(f"app-{i}", f"why {n}") for i in range(300))))
    assert len(history.events(10_000)) <= MOST_EVENTS + 1
    assert len(history.events(10, "quiet")) == 1
    before = history.events(10_000)
    history.record_report(report(7, well("quiet"), *(bad(f"app-{i}", "why 5") for i in range(300))))
    assert history.events(10_000) == before


def test_why_there_was_no_report_is_told_to_those_who_ask(history: SqliteHistory) -> None:
    assert history.last_error(since=0) == ""
    history.save_last_error("Docker does not answer")
    assert history.last_error(since=0) == "Docker does not answer"
    assert history.last_error(since=4e9) == ""


def test_what_is_the_same_at_each_pass_is_not_written_again(history: SqliteHistory, path: Path) -> None:
    status = CommitStatus("mvd/web1", Operation.SUCCEEDED, Health.HEALTHY, "1 app")

    def one_pass(at: float) -> dict[str, bytes]:
        history.record_report(report(1, well()))
        history.save_report(report(1, well()), asked_git=at, awaited=False)
        history.save_last_error("Docker does not answer", awaited=False)
        history.save_threads([])
        history.post("1" * 40, status)
        return {file.name: file.read_bytes() for file in path.parent.iterdir() if not file.name.endswith("-shm")}

    assert one_pass(1000.0) == one_pass(2000.0)
    assert history.last_report(since=1500.0) is None


def test_a_report_that_is_awaited_is_kept_with_its_time_though_it_is_the_same(history: SqliteHistory) -> None:
    history.save_report(report(1, well()), asked_git=1000.0)
    history.save_report(report(1, well()), asked_git=2000.0, awaited=True)
    assert history.last_report(since=1500.0) == report(1, well())


def test_the_last_report_is_there_for_those_who_ask(history: SqliteHistory, path: Path) -> None:
    assert history.last_report() is None
    told = report(1, well(did=A_STEP), bad("api"))
    history.save_report(told, asked_git=1000.0)
    assert history.last_report(since=999.0) == told
    assert history.last_report(since=1001.0) is None
    history.close()
    assert SqliteHistory(path).last_report() == told
    assert not [file for file in path.parent.iterdir() if b"hunter2" in file.read_bytes()]


def test_how_far_a_revision_came_is_remembered(history: SqliteHistory) -> None:
    assert history.revisions() == {}
    history.save_attempt(revision(1))
    history.record_report(report(1, well(), well("api")))
    history.save_attempt(revision(2))
    history.record_report(report(2, well(health=Health.PROGRESSING), well("api")))
    history.save_attempt(revision(3))
    history.record_report(report(3, bad(), well("api")))
    assert history.revisions() == {"attempted": revision(3), "applied": revision(2), "healthy": revision(1)}


# ---- the outbox ------------------------------------------------------------------------------------------------------


def due(history: SqliteHistory, now: float = 1000.0) -> list[tuple[str, Operation]]:
    return [(entry.commit, entry.status.operation) for entry in history.due(now)]


def test_statuses_wait_in_order_and_across_restarts(history: SqliteHistory, path: Path) -> None:
    assert history.next_due(1000) is None
    history.post("b", RUNNING)
    history.post("a", status(Operation.FAILED, "why \udcff"))
    history.close()
    again = SqliteHistory(path)
    assert [(entry.commit, entry.status) for entry in again.due(1000)] == [
        ("b", RUNNING),
        ("a", status(Operation.FAILED, "why \udcff")),
    ]
    assert (again.next_due(1000), again.count_waiting()) == (0, 2)
    again.close()


def test_only_the_last_word_on_a_commit_is_posted(history: SqliteHistory) -> None:
    history.post("a", RUNNING)
    history.post("a", DONE)
    history.post("a", status(Operation.RUNNING, context="mvd/srv1/web"))
    assert due(history) == [("a", Operation.SUCCEEDED), ("a", Operation.RUNNING)]


def test_what_was_posted_is_not_posted_again(history: SqliteHistory) -> None:
    for n in range(3):
        history.post("a", DONE)
        entries = history.due(1000)
        assert len(entries) == (n == 0)
        for entry in entries:
            history.mark_sent(entry)
    history.post("a", FAILED)
    history.post("a", DONE)
    assert due(history) == []
    assert (history.next_due(1000), history.count_waiting()) == (None, 0)


def test_what_changes_while_it_is_on_its_way_is_posted_after(history: SqliteHistory) -> None:
    history.post("a", RUNNING)
    [entry] = history.due(1000)
    history.post("a", DONE)
    history.mark_sent(entry)
    assert due(history) == [("a", Operation.SUCCEEDED)]


def test_what_failed_is_tried_again_at_its_time(history: SqliteHistory) -> None:
    history.post("a", RUNNING)
    for tries in range(3):
        [entry] = history.due(1000 + 10 * tries)
        assert entry == Entry("a", RUNNING, tries)
        history.put_off(entry, retry_at=1010 + 10 * tries)
        assert due(history, 1009 + 10 * tries) == []
    assert history.next_due(1000) == 30
    [entry] = history.due(1030)
    history.mark_sent(entry)
    history.post("a", DONE)
    assert history.due(1030) == [Entry("a", DONE, 0)]


def test_what_was_refused_is_dropped_and_holds_up_nothing(history: SqliteHistory) -> None:
    history.post("a", RUNNING)
    history.post("b", RUNNING)
    history.mark_rejected(history.due(1000)[0])
    history.post("a", RUNNING)
    assert due(history) == [("b", Operation.RUNNING)]
    history.post("a", DONE)
    assert due(history) == [("a", Operation.SUCCEEDED), ("b", Operation.RUNNING)]


def test_the_commits_that_are_not_at_their_end_are_known(history: SqliteHistory) -> None:
    for commit in "abc":
        history.post(commit, RUNNING)
    history.mark_sent(history.due(1000)[0])
    history.post("b", FAILED)
    history.post("d", status(Operation.RUNNING, context="mvd/other"))
    assert history.pending_commits(RUNNING) == ["a", "c"]
    assert history.last_status("b", RUNNING) == FAILED
    assert history.last_status("z", RUNNING) is None


def test_old_statuses_are_dropped_but_those_that_wait(history: SqliteHistory) -> None:
    history.post("waits", DONE)
    with history.transaction():  # or the disk is waited for two thousand times
        for n in range(MOST_STATUSES + 10):
            history.post(str(n), DONE)
            history.mark_sent(Entry(str(n), DONE, 0))
    assert due(history) == [("waits", Operation.SUCCEEDED)]
    history.post("0", DONE)  # so long ago that nobody remembers
    assert due(history) == [("waits", Operation.SUCCEEDED), ("0", Operation.SUCCEEDED)]


# ---- the file --------------------------------------------------------------------------------------------------------


def test_nobody_else_may_read_it(history: SqliteHistory, path: Path) -> None:
    history.approve(app(1), COMMIT)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.rglob("*")}
    files = ("history.db", "history.db-wal", "history.db-shm", f"{app(1).version}.json")
    assert modes == {"versions": 0o700, **dict.fromkeys(files, 0o600)}


def garble_all(path: Path) -> None:
    path.write_bytes(b"not a database, not at all" * 1000)


def garble_a_page(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def cut_it_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


DAMAGES = [garble_all, garble_a_page, cut_it_short]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_put_aside_and_begun_anew(
    damage: Callable[[Path], None], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = SqliteHistory(path)
    for n in range(50):
        first.approve(app(n, f"app-{n}"), COMMIT)
    first.close()
    damage(path)
    second = SqliteHistory(path)
    assert second.last_good("app-1") is None
    second.approve(app(1), COMMIT)
    assert second.last_good("web") == app(1)
    assert path.with_name("history.db.damaged").exists()
    assert "begun anew" in caplog.text
    second.close()
    third = SqliteHistory(path)
    assert third.last_good("web") == app(1)
    third.close()


def test_damage_in_the_middle_stops_nothing(history: SqliteHistory, path: Path) -> None:
    history.approve(app(1), COMMIT)
    database = sqlite3.connect(path)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    garble_all(path)
    history.record_report(report(1, well(), bad("api")))
    history.record_report(report(2, bad(), well("api")))
    assert history.events(10)


def test_a_file_that_is_removed_under_it_is_begun_anew(history: SqliteHistory, path: Path) -> None:
    history.approve(app(1), COMMIT)
    shutil.rmtree(path.parent)
    assert history.last_good("web") is None
    history.approve(app(2), COMMIT)
    other = SqliteHistory(path)
    assert other.last_good("web") == app(2)
    other.close()


def test_a_place_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=r"cannot use the history"):
        SqliteHistory(tmp_path / "file" / "history.db").last_good("web")


def test_a_full_disk_is_told_and_changes_nothing(history: SqliteHistory, path: Path) -> None:
    history.approve(app(1), COMMIT)
    # A process may write no file larger than that: what a full disk says, without one.
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("history.db-wal").stat().st_size, before[1]))
    try:
        with pytest.raises(Unavailable, match="cannot use"):
            history.approve(app(2), COMMIT)
        assert history.last_good("web") == app(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    history.approve(app(2), COMMIT)
    assert history.last_good("web") == app(2)


def test_threads_may_use_itat_once(history: SqliteHistory) -> None:
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for version in range(10):
                history.approve(app(version, name), COMMIT)
                history.record_report(report(version, well(name, A_STEP)))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"app-{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert [history.last_good(f"app-{n}") for n in range(6)] == [app(9, f"app-{n}") for n in range(6)]
    assert len(history.events(1000)) == 60


def test_processes_may_use_itat_once(history: SqliteHistory, path: Path) -> None:
    history.approve(app(0), COMMIT)
    program = (
        "import sys; from pathlib import Path; from gitops_mvd.state.history import SqliteHistory;"
        "from gitops_mvd.core.model import App, Failure; h = SqliteHistory(Path(sys.argv[1]));"
        "[h.mark_failed(App(sys.argv[2]), Failure(str(n))) for n in range(20)]"
    )
    others = [subprocess.Popen([sys.executable, "-c", program, str(path), name]) for name in ("a", "b")]
    for n in range(20):
        history.mark_failed(App("c"), Failure(str(n)))
    assert [other.wait(60) for other in others] == [0, 0]
    assert [history.failure_of(App(name)) for name in "abc"] == [Failure("19")] * 3


def test_what_waits_is_due_after_a_while_that_gets_longer_and_is_over_once_it_worked(
    path: Path, history: SqliteHistory
) -> None:
    def due() -> float:
        with sqlite3.connect(path) as database:
            [(text,)] = database.execute("SELECT why FROM condemned").fetchall()
        return float(json.loads(text)["due"])

    history.mark_failed(app(1), failure := Failure("the port is taken", "wait"))
    first = due()
    assert history.failure_of(app(1)) == failure
    assert not any(it.is_due for it in [history.failure_of(app(1))] if it)
    for _ in range(3):
        history.mark_failed(app(1), failure)
    assert due() > first + 10
    with sqlite3.connect(path) as database:
        database.execute("UPDATE condemned SET why = json_set(why, '$.due', 1)")
    assert [it.is_due for it in [history.failure_of(app(1))] if it] == [True]
    history.approve(app(1), "1" * 40)
    assert history.failure_of(app(1)) is None
