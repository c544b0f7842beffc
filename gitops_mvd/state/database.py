"""A SQLite file whose loss stops nothing: what is damaged in it is begun anew, and the rest is kept.

Any thread may use it, and several processes at once.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from gitops_mvd.core.errors import Unavailable

log = logging.getLogger(__name__)

BUSY_SECONDS = 5.0


class Schema(NamedTuple):
    """The tables of a file, in their version; `readable_by` is the oldest version that can use them, the one before.

    The file's `user_version` is that oldest version.  So the program before this one goes on with the file, and
    whatever this one finds as an older one writes it, it brings up to date at each start.
    """

    tables: str  # CREATE ... IF NOT EXISTS
    version: int
    readable_by: int


class Database:
    """The file at `path`; `what` it is called in messages.  `upgrade` is called once with each file that is opened.

    Every method raises Unavailable if the file cannot be written, as on a full disk, or if a newer version wrote it.
    """

    def __init__(self, what: str, path: Path, schema: Schema, upgrade: Callable[[sqlite3.Connection], None]) -> None:
        self._what = what
        self._path = path
        self._schema = schema
        self._upgrade = upgrade
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None
        self._cursor: sqlite3.Cursor | None = None  # of the database
        self._file: tuple[int, int] | None = None  # that it is

    def close(self) -> None:
        with self._lock:
            if self._database:
                self._database.close()
            self._database = self._cursor = None

    def __del__(self) -> None:
        if database := getattr(self, "_database", None):  # nobody has this file any more
            database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction: all that is written inside is written, or nothing; the disk is waited for once."""
        with self._lock:
            self.ask("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._end("ROLLBACK")
                raise
            self._end("COMMIT")

    def _end(self, how: str) -> None:
        if self._database and self._database.in_transaction:  # not if the file was begun anew in between
            self.ask(how)

    def ask(self, statement: str, *values: str | float | None) -> list[Any]:
        """The rows of one statement.  If it meets damage, that is mended, and the statement carried out again."""
        with self._lock, self._telling():
            try:
                return self._rows(statement, values)
            except sqlite3.DatabaseError as error:
                if _is_damage(error):
                    self._put_aside(error)
                elif _is_misshapen(error):
                    self.close()  # a table is gone or another one: opening the file mends it
                else:
                    raise
            return self._rows(statement, values)

    def _rows(self, statement: str, values: Sequence[str | float | None]) -> list[Any]:
        """All rows at once, by the one cursor: a connection keeps up to 200 of them in mind that were dropped."""
        self._open()
        assert self._cursor
        return self._cursor.execute(statement, [_storable(value) for value in values]).fetchall()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            hint = _HINTS.get(_code(error), "")
            raise Unavailable(f"cannot use the {self._what} {self._path}: {error}", hint) from error
        except OSError as error:
            raise Unavailable(f"cannot use the {self._what} {self._path}: {error.strerror}") from error

    def _open(self) -> sqlite3.Connection:
        if self._database and self._on_disk() != self._file:
            self.close()  # somebody removed the state, or another process began the file anew
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # its companions take its mode
            database = _connect(self._path)
            try:
                self._prepare(database)
            except BaseException:
                database.close()
                raise
            self._database, self._cursor, self._file = database, database.cursor(), self._on_disk()
        return self._database

    def _on_disk(self) -> tuple[int, int] | None:
        """Which file is at the path now, None if there is none."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _prepare(self, database: sqlite3.Connection) -> None:
        tables, version, readable_by = self._schema
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("PRAGMA secure_delete = ON")  # what is deleted is gone from the disk, too
        if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("quick_check found damage")
        [found] = database.execute("PRAGMA user_version").fetchone()
        if found > version:
            raise Unavailable(
                f"cannot use the {self._what} {self._path}: a newer gitops-mvd wrote it (format {found}, and this one "
                f"knows {version})",
                "install that version again; or, to begin without what it remembers, move the file away",
            )
        for table in _misshapen(database, tables):
            log.warning("%s: a table is another one, and begun anew path=%s table=%s", self._what, self._path, table)
            database.execute(f"DROP TABLE {table}")
        database.executescript(f"{tables}; PRAGMA user_version = {max(found, readable_by)}")
        self._upgrade(database)

    def _put_aside(self, error: sqlite3.Error) -> None:
        """Begin the file anew, with what can still be read of the old one, which stays beside it."""
        log.warning("%s is damaged and begun anew path=%s: %s", self._what, self._path, error)
        self.close()
        for end in ("-wal", "-shm"):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)
        aside = self._path.with_name(f"{self._path.name}.damaged")
        self._path.replace(aside)
        with closing(_connect(aside)) as old:
            kept = sum(_copied(old, self._open(), table) for table in _columns(self._open()))
        self.close()  # so that what an older version wrote is brought up to date
        log.warning("%s: rows that could still be read=%d", self._what, kept)


def _connect(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    database.text_factory = lambda raw: raw.decode(errors="replace")  # a row of garbage is for who reads the row
    return database


def _storable(value: str | float | None) -> str | float | None:
    """A value that SQLite can store: half a character is written as its number."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value


def _columns(database: sqlite3.Connection) -> dict[str, set[tuple[str, str, int, int]]]:
    """Table -> its columns: name, type, whether it must have a value, its place in the key."""
    tables = database.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {
        table: {(name, type, required, key) for _, name, type, required, _, key in _info(database, table)}
        for (table,) in tables.fetchall()
    }


def _info(database: sqlite3.Connection, table: str) -> list[Any]:
    return database.execute(f'PRAGMA table_info("{table}")').fetchall()


def _misshapen(database: sqlite3.Connection, tables: str) -> list[str]:
    """The tables that lack a column; more columns than that are those of the next version."""
    with closing(sqlite3.connect(":memory:")) as pattern:
        pattern.executescript(tables)
        wanted, found = _columns(pattern), _columns(database)
    return [table for table in wanted.keys() & found.keys() if not wanted[table] <= found[table]]


def _copied(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> int:
    """How many rows of a table could be copied, up to the first that cannot be read."""
    copied = 0
    with suppress(sqlite3.Error):
        names = ", ".join(sorted(name for name, *_ in _columns(new)[table]))
        for row in old.execute(f"SELECT {names} FROM {table}"):
            new.execute(f"INSERT OR IGNORE INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", row)
            copied += 1
    return copied


_HINTS = {sqlite3.SQLITE_FULL: "make room on its disk", sqlite3.SQLITE_BUSY: "another process holds it"}


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html), 0 where it is none of its."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or type(error) is sqlite3.DatabaseError


def _is_misshapen(error: sqlite3.DatabaseError) -> bool:
    return str(error).startswith(("no such table", "no such column")) or "has no column" in str(error)
