"""The operations that changed something, with their steps, and the commits they were about, in SQLite.

All of it may be lost, which stops nothing: it is there to be looked at.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import msgspec
from msgspec.structs import replace

from gitops_mvd.api.views import OperationView, StepView
from gitops_mvd.core.model import Revision
from gitops_mvd.state.database import Database, Schema

MOST_OPERATIONS = 300
MOST_REVISIONS = 1000

SCHEMA = Schema(
    version=1,
    readable_by=1,
    tables="""
CREATE TABLE IF NOT EXISTS operation (
    id INTEGER PRIMARY KEY, commit_id TEXT NOT NULL, apps TEXT NOT NULL, head TEXT NOT NULL, steps TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS revision (
    commit_id TEXT PRIMARY KEY, json TEXT NOT NULL, at REAL NOT NULL
) STRICT;
""",
)


class OperationsFile:
    """The operations in a file.  Any thread may use it.  Every method raises Unavailable where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._file = Database("record of operations", path, SCHEMA, lambda database: None)
        self._ask = self._file.ask

    def close(self) -> None:
        self._file.close()

    def last_id(self) -> int:
        """The id of the newest operation, 0 without one."""
        [(last,)] = self._ask("SELECT max(id) FROM operation")
        return int(last or 0)

    def save(self, operation: OperationView) -> None:
        """Keep an operation that is over; the oldest ones go."""
        head = msgspec.json.encode(replace(operation, steps=())).decode()
        steps = msgspec.json.encode(operation.steps).decode()
        names = dict.fromkeys(
            [step.app for step in operation.steps] + [it.app for it in operation.results if it.changed]
        )
        apps = "".join(f"\n{name}\n" for name in names)
        with self._file.transaction():
            self._ask(
                "INSERT OR REPLACE INTO operation VALUES (?, ?, ?, ?, ?)",
                *(operation.id, operation.commit.commit, apps, head, steps),
            )
            self._ask(
                "DELETE FROM operation WHERE id NOT IN (SELECT id FROM operation ORDER BY id DESC LIMIT ?)",
                MOST_OPERATIONS,
            )

    def operation(self, id: int) -> OperationView | None:
        """One operation with its steps."""
        for head, steps in self._ask("SELECT head, steps FROM operation WHERE id = ?", id):
            try:
                read = msgspec.json.decode(head, type=OperationView)
                return replace(read, steps=msgspec.json.decode(steps, type=tuple[StepView, ...]))
            except msgspec.MsgspecError:  # somebody has changed it by hand, or another version wrote it
                return None
        return None

    def operations(self, limit: int, *, commit: str = "", app: str = "") -> list[OperationView]:
        """The newest operations, the newest first, without their steps; of a commit, or of an app."""
        rows = self._ask(
            """SELECT head FROM operation WHERE substr(commit_id, 1, length(?)) = ? AND (? = '' OR instr(apps, ?))
            ORDER BY id DESC LIMIT ?""",
            *(commit, commit, app, f"\n{app}\n", limit),
        )
        found = []
        for (head,) in rows:
            try:
                found.append(msgspec.json.decode(head, type=OperationView))
            except msgspec.MsgspecError:
                continue
        return found

    def save_revision(self, revision: Revision) -> None:
        """Keep who wrote a commit, and what it says; nothing is written if that is kept already."""
        if self.revision(revision.commit) == revision:
            return
        self._ask(
            "INSERT OR REPLACE INTO revision VALUES (?, ?, ?)",
            revision.commit,
            json.dumps(asdict(revision)),
            time.time(),
        )
        self._ask(
            "DELETE FROM revision WHERE commit_id NOT IN (SELECT commit_id FROM revision ORDER BY at DESC LIMIT ?)",
            MOST_REVISIONS,
        )

    def revision(self, commit: str) -> Revision:
        """A commit with its author and subject, as far as they are known."""
        for (text,) in self._ask("SELECT json FROM revision WHERE commit_id = ?", commit):
            try:
                return Revision(**json.loads(text))
            except (ValueError, TypeError):
                break
        return Revision(commit, "")
