"""The file of the history: older and newer versions of it, damage, and that no secret is at rest in it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import (
    App,
    Check,
    CommitStatus,
    Failure,
    File,
    Gate,
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
from gitops_mvd.state.history import SCHEMA, SqliteHistory

RECORDED = Path(__file__).parent / "fixtures" / "history-1.sql"  # by version 1 of the schema, never recorded anew
COMMIT = "c" * 40
DONE = CommitStatus("mvd/srv1", Operation.SUCCEEDED, Health.HEALTHY, "well")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "history.db"


@pytest.fixture
def recorded(path: Path) -> Path:
    """A history as version 1 wrote it."""
    path.parent.mkdir()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.executescript(RECORDED.read_text())
        database.execute("DELETE FROM good WHERE app = 'nobody'")
    return path


@contextlib.contextmanager
def opened(path: Path) -> Iterator[SqliteHistory]:
    with contextlib.closing(SqliteHistory(path)) as history:
        yield history


def sql(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(";".join(statements))


def shop(version: int, name: str = "shop") -> App:
    environment = {"DB_PASSWORD": f"clear-text-{version}", "VERSION": str(version)}
    cert = File("/run/secrets/cert", {"": f"line one\nclear-line-{version}\n"}, mode=0o400)
    return App(name, (Service("web", f"web@sha256:{version}", environment=environment, files=(cert,), tag="web:1"),))


def report(version: int, why: str = "") -> Report:
    operation = Operation.ROLLED_BACK if why else Operation.SUCCEEDED
    revision = Revision(f"{version:040x}", "main", f"Commit {version}")
    return Report("srv1", revision, (Outcome("shop", Sync.SYNCED, Health.HEALTHY, operation, why=why),))


def in_clear(folder: Path) -> list[str]:
    """The files that hold a secret, but for those that are there to hold them."""
    return [it.name for it in folder.iterdir() if it.is_file() and b"clear-" in it.read_bytes()]


# ---- an older version ------------------------------------------------------------------------------------------------


def test_what_version_1_wrote_is_all_there(recorded: Path) -> None:
    with opened(recorded) as history:
        assert history.last_good("shop") == shop(3)
        assert history.last_good("shop").to_json() == shop(3).to_json()  # type: ignore[union-attr]
        assert history.good_before(shop(3)) == shop(2)
        assert history.failure_of(shop(4)) == Failure("web: http 503 for 3 s", "pause")
        blog = history.last_good("blog")
        assert blog
        assert history.is_job_done(blog.services[0].instances("blog")[0])
        assert [event.operation for event in history.events(9, "shop")] == ["RolledBack", *3 * ["Succeeded"]]
        assert history.revisions()["attempted"].subject == "Commit 4"
        assert history.subjects().keys() == {"mvd/srv1"}
        assert [entry.status.operation for entry in history.due(2e9)] == [Operation.ROLLED_BACK]
        assert history.deliveries() == {("github", "posted"): 1}
        assert history.pull_request_plan(7).comment == "12"


def test_what_version_1_had_in_clear_is_gone_from_the_disk(recorded: Path) -> None:
    sql(recorded, "CREATE TABLE big (x)", *[f"INSERT INTO big VALUES ('clear-old-{n}')" for n in range(500)])
    sql(recorded, "DROP TABLE big")  # what was deleted is still in the file
    recorded.with_name("history.db.damaged").write_bytes(recorded.read_bytes())
    assert in_clear(recorded.parent)
    with opened(recorded) as history:
        assert history.last_good("shop") == shop(3)
        assert in_clear(recorded.parent) == []
    assert in_clear(recorded.parent) == []


def test_nothing_is_in_clear_but_what_may_run_again(path: Path) -> None:
    with opened(path) as history:
        for version in (1, 2, 3):
            history.approve(shop(version), COMMIT)
            history.mark_failed(shop(9), Failure("no"))
        gate = Gate(
            Resource("unit", "u", "shop", "web"), Check("http", {"headers": {"Authorization": "clear-header1"}})
        )
        outcome = dataclasses.replace(report(1).outcomes[0], did=Plan((gate,)))
        history.save_report(dataclasses.replace(report(1), outcomes=(outcome,)), 1.0)
        files = {it.name: it for it in (path.parent / "versions").iterdir()}
        assert files.keys() == {f"{shop(version).version}.json" for version in (2, 3)}
        assert {stat.S_IMODE(it.stat().st_mode) for it in files.values()} == {0o600}
        assert in_clear(path.parent) == []
        history.approve(App("shop"), COMMIT)  # it was removed
        assert history.last_good("shop") == App("shop")
        assert list((path.parent / "versions").iterdir()) == []
        history.approve(shop(1), COMMIT)
        history.forget("shop")
        assert list((path.parent / "versions").iterdir()) == []


def test_a_version_whose_content_is_lost_is_not_remembered_until_it_works_again(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as history:
        history.approve(shop(1), COMMIT)
        history.approve(shop(1, "blog"), COMMIT)
    (path.parent / "versions" / f"{shop(1).version}.json").write_text("garbage")
    with opened(path) as history:
        assert history.last_good("shop") is None
        assert "cannot read a version" in caplog.text
        assert history.last_good("blog") == shop(1, "blog")
        history.approve(shop(1), COMMIT)
        assert history.last_good("shop") == shop(1)
    with opened(path) as history:
        assert history.last_good("shop") == shop(1)


# ---- one version back, and forward again -----------------------------------------------------------------------------


def test_the_version_before_can_use_the_file(recorded: Path) -> None:
    """It refuses any file whose `user_version` it does not know, and reads and writes columns by these names."""
    with opened(recorded) as history:
        history.approve(shop(5), COMMIT)
    text = RECORDED.read_text()
    with contextlib.closing(sqlite3.connect(":memory:")) as old, contextlib.closing(sqlite3.connect(recorded)) as new:
        old.executescript(text)
        for database in (old, new):
            assert database.execute("PRAGMA user_version").fetchone() == (1,)
        tables = [name for (name,) in old.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        assert tables
        for table in tables:
            columns = old.execute(f"PRAGMA table_info({table})").fetchall()
            assert set(columns) <= set(new.execute(f"PRAGMA table_info({table})").fetchall())
        [(good,)] = new.execute("SELECT json FROM good WHERE app = 'shop'")
        with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):  # all of which it takes for no memory
            App.from_json(json.loads(good))


def test_what_the_version_before_writes_into_it_is_taken_out_again(recorded: Path) -> None:
    with opened(recorded) as history:
        assert history.last_good("shop") == shop(3)
    content = json.dumps(shop(6).to_json()).replace("'", "''")
    sql(
        recorded, f"UPDATE good SET previous = json, json = '{content}', version = '{shop(6).version}' WHERE app='shop'"
    )
    assert in_clear(recorded.parent)
    with opened(recorded) as history:
        assert history.last_good("shop") == shop(6)
        assert history.good_before(shop(6)) == shop(3)
        assert in_clear(recorded.parent) == []


def test_a_file_of_a_newer_version_is_left_alone(path: Path) -> None:
    with opened(path) as history:
        history.approve(shop(1), COMMIT)
    newer = SCHEMA.version + 1
    sql(path, f"PRAGMA user_version = {newer}")
    before = path.read_bytes()
    with opened(path) as history, pytest.raises(Unavailable, match=f"a newer gitops-mvd wrote it .format {newer}"):
        history.last_good("shop")
    assert path.read_bytes() == before
    assert not path.with_name("history.db.damaged").exists()
    sql(path, f"PRAGMA user_version = {SCHEMA.version}")  # as the version after this one leaves it
    with opened(path) as history:
        assert history.last_good("shop") == shop(1)
    with contextlib.closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA.version,)


# ---- damage ----------------------------------------------------------------------------------------------------------

TABLES = ["good", "condemned", "ran", "job", "event", "value", "status", "proposal", "delivery"]


def fill(history: SqliteHistory) -> None:
    history.approve(shop(1), COMMIT)
    history.mark_failed(shop(2), Failure("no"))
    history.mark_job_done("mvd-job")
    history.record_report(report(1))
    history.save_report(report(1), 1.0)
    history.save_subjects({"mvd/srv1": report(1).revision})
    history.save_last_error("no answer")
    history.post("a", DONE)
    history.count_delivery("github", "posted")


def use(history: SqliteHistory) -> dict[str, object]:
    """All that it is asked for, by table."""
    return {
        "good": history.last_good("shop"),
        "condemned": history.failure_of(shop(2)),
        "ran": history.reverted_to(shop(1), "d"),
        "job": history.is_job_done("mvd-job"),
        "event": (history.events(9), history.last_event("shop")),
        "value": (history.revisions(), history.subjects(), history.last_report(), history.last_error(0.0)),
        "status": (
            history.due(2e9),
            history.next_due(0),
            history.last_status("a", DONE),
            history.pending_commits(DONE),
        ),
        "proposal": history.pull_request_plan(1),
        "delivery": history.deliveries(),
    }


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("shape", ["", " (app TEXT, other TEXT)"])
@pytest.mark.parametrize("is_open", [True, False])
def test_a_table_that_is_gone_or_another_one_is_begun_anew_alone(
    table: str, shape: str, is_open: bool, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as history:
        fill(history)
        before = use(history)
    with opened(path) as history:
        if is_open:
            history.events(1)
        sql(path, f"DROP TABLE {table}", *([f"CREATE TABLE {table}{shape}"] if shape else []))
        after = use(history)
        assert {name: after[name] for name in TABLES if name != table} == {
            name: before[name] for name in TABLES if name != table
        }
        fill(history)
        assert use(history).keys() == before.keys()
    assert not path.with_name("history.db.damaged").exists()
    assert not shape or f"table={table}" in caplog.text


GARBAGE = ["", "garbage", "{}", "[]", "5", "null", '"x"', '{"why": 5}', "[" * 100_000, '{"name": {"a": 1}, "why": []}']


@pytest.mark.parametrize("text", GARBAGE, ids=range(len(GARBAGE)))
@pytest.mark.parametrize(
    ("table", "column"),
    [("good", "json"), ("condemned", "why"), ("event", "json"), ("value", "json"), ("status", "wanted")],
)
def test_a_row_of_garbage_is_removed_alone(
    table: str, column: str, text: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(path) as history:
        fill(history)
        history.approve(shop(1, "blog"), COMMIT)
        history.mark_failed(shop(2, "blog"), Failure("no"))
        history.post("b", DONE)
        before = use(history)
        with contextlib.closing(sqlite3.connect(path)) as database:
            database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = (SELECT min(rowid) FROM {table})", [text])
            if table == "value":
                database.execute(f"UPDATE {table} SET {column} = ?", [text])
            database.commit()
        after = use(history)
        assert {name: after[name] for name in TABLES if name != table} == {
            name: before[name] for name in TABLES if name != table
        }
        assert history.last_good("blog") == shop(1, "blog")
        assert history.failure_of(shop(2, "blog")) == Failure("no")
        fill(history)
        assert use(history).keys() == before.keys()
        history.record_report(report(2, "no"))
        assert history.events(1)[0].why == "no"


@pytest.mark.parametrize("table", TABLES)
def test_a_row_that_is_no_text_is_removed_alone(table: str, path: Path) -> None:
    with opened(path) as history:
        fill(history)
        with contextlib.closing(sqlite3.connect(path)) as database:
            for _, column, type, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                if type == "TEXT":
                    with contextlib.suppress(sqlite3.IntegrityError):
                        database.execute(f"UPDATE {table} SET {column} = CAST(x'fffe' AS TEXT)")
            database.commit()
        use(history)
        fill(history)
        use(history)


def test_what_can_still_be_read_of_a_damaged_file_is_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path) as history:
        fill(history)
        with history.transaction():
            for number in range(900):
                history.mark_job_done(f"mvd-job-{number}")
    size, page = path.stat().st_size, 4096
    with path.open("r+b") as file:  # the last page, with some of the jobs
        file.seek(size - page)
        file.write(b"\xff" * page)
    with opened(path) as history:
        assert history.failure_of(shop(2)) == Failure("no")
        assert history.last_good("shop") == shop(1)
    assert path.with_name("history.db.damaged").exists()
    assert "damaged and begun anew" in caplog.text


@pytest.mark.parametrize("companion", ["history.db-wal", "history.db-shm", "history.db.damaged"])
def test_garbage_beside_the_file_stops_nothing(companion: str, path: Path) -> None:
    with opened(path) as history:
        fill(history)
        before = use(history)
    path.with_name(companion).write_bytes(b"garbage" * 5000)
    with opened(path) as history:
        assert use(history) == before


def test_a_version_that_cannot_be_read_just_now_is_not_forgotten(tmp_path: Path) -> None:
    history = SqliteHistory(tmp_path / "history.db")
    history.approve(shop(1), "1" * 40)
    history.close()
    [version] = (tmp_path / "versions").iterdir()
    version.rename(tmp_path / "away")
    version.mkdir()  # as with too many open files: the file is there, and cannot be read
    history = SqliteHistory(tmp_path / "history.db")
    with pytest.raises(Unavailable, match="Is a directory"):
        history.last_good("shop")
    version.rmdir()
    (tmp_path / "away").rename(version)
    assert history.last_good("shop") == shop(1)


def test_a_version_before_the_last_that_is_gone_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    history = SqliteHistory(tmp_path / "history.db")
    for number in (1, 2):
        history.approve(shop(number), str(number) * 40)
    history.close()
    (tmp_path / "versions" / f"{shop(1).version}.json").unlink()
    history = SqliteHistory(tmp_path / "history.db")
    assert [history.good_before(shop(2)) for _ in range(3)] == [None] * 3
    assert len([it for it in caplog.records if "cannot read a version" in it.message]) == 1
    assert history.last_good("shop") == shop(2)


def test_a_file_that_another_process_began_anew_is_the_one_that_is_used_from_then_on(path: Path) -> None:
    """As `mvd plan` does, which reads what is damaged before the daemon, that still knows it, has to."""
    with opened(path) as daemon:
        for version in ("v1", "v2", "v3"):
            daemon.approve(App("web", (Service("web", version),)), COMMIT)
        assert daemon.last_good("web")
        os.truncate(path, 4096)
        with opened(path) as other:
            assert other.last_good("web") is None, "it was lost"
        assert daemon.last_good("web") is None
        daemon.approve(App("api", (Service("web", "v1"),)), COMMIT)
        with opened(path) as other:
            assert other.last_good("api")
