"""A SQLite file whose loss stops nothing: one that is damaged is put aside, and begun anew.

Any thread may use it, and several processes at once.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gitops_mvd.core.errors import Unavailable

log = logging.getLogger(__name__)

BUSY_SECONDS = 5.0


class Database:
    """The file at `path`, with that schema in that version; `what` it is called in messages.

    Every method raises Unavailable if the file cannot be written, as on a full disk.
    """

    def __init__(self, what: str, path: Path, schema: str, version: int) -> None:
        self._what = what
        self._path = path
        self._schema = schema
        self._version = version
        self._lock = threading.RLock()
        self._database: sqlite3.Connection | None = None

    def close(self) -> None:
        with self._lock:
            if self._database:
                self._database.close()
            self._database = None

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
        """The rows of one statement.  If the file turns out to be damaged, it is carried out on a new one."""
        with self._lock:
            try:
                try:
                    return self._open().execute(statement, values).fetchall()
                except sqlite3.DatabaseError as error:
                    if not _is_damage(error):
                        raise
                    self._put_aside(error)
                    return self._open().execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise Unavailable(
                    f"cannot use the {self._what} {self._path}: {error}", _HINTS.get(_code(error), "")
                ) from error
            except OSError as error:
                raise Unavailable(f"cannot use the {self._what} {self._path}: {error.strerror}") from error

    def _open(self) -> sqlite3.Connection:
        if self._database and not self._path.exists():
            self.close()  # somebody removed the state
        if self._database is None:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))  # its companions take its mode
            database = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                    raise sqlite3.DatabaseError("quick_check found damage")
                if database.execute("PRAGMA user_version").fetchone()[0] not in (0, self._version):
                    raise sqlite3.DatabaseError("another version of mvd wrote it")
                database.executescript(f"{self._schema}; PRAGMA user_version = {self._version}")
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _put_aside(self, error: sqlite3.Error) -> None:
        """Nothing in it is worth stopping for: what runs is read from the host."""
        log.warning("%s is damaged and begun anew path=%s: %s", self._what, self._path, error)
        self.close()
        for end in ("-wal", "-shm"):
            self._path.with_name(self._path.name + end).unlink(missing_ok=True)
        self._path.replace(self._path.with_name(f"{self._path.name}.damaged"))


_HINTS = {sqlite3.SQLITE_FULL: "make room on its disk", sqlite3.SQLITE_BUSY: "another process holds it"}


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code (https://sqlite.org/rescode.html), 0 where it is none of its."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or type(error) is sqlite3.DatabaseError
