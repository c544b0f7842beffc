"""The latest lines of the daemon's own log, kept in memory for those who look on."""

from __future__ import annotations

import logging
import threading
from collections import deque

from gitops_mvd.api.views import EventsView, EventView
from gitops_mvd.core.redact import told_line
from gitops_mvd.daemon.changes import Changes

MOST_EVENTS = 1000
LOGGER = "gitops_mvd"


class Events(logging.Handler):
    """Keeps what is logged while it is open; any thread may look."""

    def __init__(self, changes: Changes) -> None:
        super().__init__(logging.INFO)
        self._changes = changes
        self._kept: deque[EventView] = deque(maxlen=MOST_EVENTS)
        self._next = 1
        self._guard = threading.Lock()

    def __enter__(self) -> Events:
        logging.getLogger(LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = told_line(record.getMessage().partition("\n")[0])
        except Exception:
            self.handleError(record)
            return
        with self._guard:
            self._kept.append(EventView(self._next, record.created, record.levelname.lower(), text))
            self._next += 1
        self._changes.note()

    def behind(self, after: int, limit: int) -> EventsView:
        """The newest events behind that id; from the start if that is of a daemon before."""
        with self._guard:
            last = self._next - 1
            wanted = last - (after if after <= last else 0)
            found = [event for event in self._kept if event.id > last - wanted][-limit:]
        return EventsView(tuple(found), last, max(0, wanted - len(found)))
