"""Notices, in SQLite beside the history: what is remembered of each trouble, and what waits for each receiver.

All of it may be lost: then what is not as it should be is told once more.  What is written here has no secret in it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from gitops_mvd.core.model import Json
from gitops_mvd.core.notice import Notice
from gitops_mvd.core.redact import told_line
from gitops_mvd.state.database import Database, Schema

log = logging.getLogger(__name__)

MOST_WAITING = 100  # notices for one receiver
SCHEMA = Schema(
    version=1,
    readable_by=1,
    tables="""
CREATE TABLE IF NOT EXISTS memory (
    name TEXT PRIMARY KEY, json TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS waiting (
    id INTEGER PRIMARY KEY AUTOINCREMENT, receiver TEXT NOT NULL, json TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS receiver (
    name TEXT PRIMARY KEY, sent INTEGER NOT NULL DEFAULT 0, failures INTEGER NOT NULL DEFAULT 0,
    failing_since REAL, why TEXT NOT NULL DEFAULT '', dropped INTEGER NOT NULL DEFAULT 0
) STRICT;
""",
)
NEWS = "news"  # the name of what is remembered


@dataclass(frozen=True, slots=True)
class Receiver:
    """How one receiver is: messages `sent`, notices that are `waiting`, and those `dropped` since it last took one.

    `failures` counts the attempts that failed in a row, the first of them at `failing_since` in Unix time; `why` is the
    reason of the last.
    """

    name: str
    sent: int = 0
    failures: int = 0
    failing_since: float | None = None
    why: str = ""
    dropped: int = 0
    waiting: int = 0


class Notices:
    """Any thread may use it.  Every method raises Unavailable where the file cannot be written, as on a full disk."""

    def __init__(self, path: Path) -> None:
        self._file = Database("notices", path, SCHEMA, lambda database: None)
        self._ask = self._file.ask

    def close(self) -> None:
        self._file.close()

    def memory(self) -> Json | None:
        """What was kept last; None for nothing, and for what cannot be read."""
        for (text,) in self._ask("SELECT json FROM memory WHERE name = ?", NEWS):
            try:
                value = json.loads(text)
            except (ValueError, RecursionError):
                log.warning("what is remembered of notices cannot be read, and is begun anew")
            else:
                return value if isinstance(value, dict) else None
        return None

    def keep(self, memory: Json, notices: Iterable[tuple[str, Notice]]) -> None:
        """Keep what is remembered by now, and queue notices, each for a receiver: both or neither."""
        with self._file.transaction():
            self._ask("INSERT OR REPLACE INTO memory VALUES (?, ?)", NEWS, json.dumps(memory))
            for receiver, notice in notices:
                self._ask("INSERT INTO waiting (receiver, json) VALUES (?, ?)", receiver, json.dumps(notice.as_json()))
                self._drop_oldest(receiver)

    def _drop_oldest(self, receiver: str) -> None:
        too_many = self._ask(
            """DELETE FROM waiting WHERE receiver = ? AND id NOT IN
            (SELECT id FROM waiting WHERE receiver = ? ORDER BY id DESC LIMIT ?) RETURNING 1""",
            *(receiver, receiver, MOST_WAITING),
        )
        if too_many:
            self._ask(
                """INSERT INTO receiver (name, dropped) VALUES (?, ?)
                ON CONFLICT (name) DO UPDATE SET dropped = dropped + excluded.dropped""",
                *(receiver, len(too_many)),
            )

    def waiting(self, receiver: str) -> tuple[list[Notice], int]:
        """The notices that wait for a receiver, the oldest first, and the id of the last, 0 if there is none."""
        rows = self._ask("SELECT id, json FROM waiting WHERE receiver = ? ORDER BY id", receiver)
        found = []
        for _, text in rows:
            try:
                found.append(Notice.from_json(json.loads(text)))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                log.warning("a notice cannot be read, and is not sent receiver=%s", receiver)
        return found, rows[-1][0] if rows else 0

    def receiver(self, name: str) -> Receiver:
        rows = self._ask("SELECT name, sent, failures, failing_since, why, dropped FROM receiver WHERE name = ?", name)
        [(waiting,)] = self._ask("SELECT count(*) FROM waiting WHERE receiver = ?", name)
        return replace(Receiver(*(rows[0] if rows else (name,))), waiting=waiting)

    def mark_sent(self, receiver: str, last: int) -> None:
        """It has taken the notices up to the one of that id."""
        with self._file.transaction():
            self.discard(receiver, last)
            self._ask(
                """INSERT INTO receiver (name, sent) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET
                sent = sent + 1, failures = 0, failing_since = NULL, why = '', dropped = 0""",
                receiver,
            )

    def discard(self, receiver: str, last: int) -> None:
        """Nothing is left to tell of the notices up to the one of that id."""
        self._ask("DELETE FROM waiting WHERE receiver = ? AND id <= ?", receiver, last)

    def mark_failed(self, receiver: str, why: str, now: float) -> None:
        """It has not taken them, for that reason."""
        self._ask(
            """INSERT INTO receiver (name, failures, failing_since, why) VALUES (?, 1, ?, ?)
            ON CONFLICT (name) DO UPDATE SET failures = failures + 1, why = excluded.why,
            failing_since = coalesce(failing_since, excluded.failing_since)""",
            *(receiver, now, told_line(why)),
        )

    def keep_only(self, names: Collection[str]) -> None:
        """Forget the receivers that the settings no longer have, with what waits for them."""
        for table, column in (("receiver", "name"), ("waiting", "receiver")):
            for (name,) in self._ask(f"SELECT DISTINCT {column} FROM {table}"):
                if name not in names:
                    self._ask(f"DELETE FROM {table} WHERE {column} = ?", name)
