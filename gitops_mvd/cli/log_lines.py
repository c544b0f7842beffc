"""The daemon's own log as text; `ecs` has it as JSON."""

from __future__ import annotations

import logging
from typing import Any

from gitops_mvd.core.redact import told_line, told_text
from gitops_mvd.core.text import LONGEST_TEXT

TRACEBACK = "\nTraceback (most recent call last):"


class OneLine(logging.Formatter):
    """A line of the log for each message, however many it has; the lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        first, begins, rest = record.message.partition(TRACEBACK)
        record.message = told_line(first, LONGEST_TEXT) + (_indented(begins + rest) if begins else "")
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        return _indented("\n" + super().formatException(ei)).removeprefix("\n")


def _indented(text: str) -> str:
    return told_text(text).replace("\n", "\n  ")
