"""The log of the daemon as JSON in the Elastic Common Schema, for whoever searches it: one object a line.

Source: https://www.elastic.co/docs/reference/ecs and, for the fields that every line has,
https://github.com/elastic/ecs-logging/tree/main/spec
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gitops_mvd.cli.log_lines import TRACEBACK
from gitops_mvd.core.model import Operation
from gitops_mvd.core.redact import told_line, told_text
from gitops_mvd.core.text import LONGEST_TEXT

VERSION = "8.11.0"  # of the schema
DATASET = "gitops-mvd"
OUTCOMES = {  # of an operation, in the three words that `event.outcome` may have
    Operation.SUCCEEDED: "success",
    Operation.FAILED: "failure",
    Operation.ROLLED_BACK: "failure",
    Operation.ROLLBACK_FAILED: "failure",
}
_NAMED = re.compile(r"(?:(\w+)=)?%[-+ #0-9.]*[a-zA-Z]")
_RENAMED = {"commit": "revision"}  # as the lines of the containers have it


class Ecs(logging.Formatter):
    """A line of JSON for each message, without any known secret.

    A message such as `revision fetched commit=1a2b3c4` becomes the action `revision-fetched` with the label `revision`.
    """

    def __init__(self, host: str) -> None:
        super().__init__()
        self._host = host

    def format(self, record: logging.LogRecord) -> str:
        message, begins, trace = record.getMessage().partition(TRACEBACK)
        if record.exc_info:
            begins, trace = "", self.formatException(record.exc_info)
        labels = _labels(record)
        event: dict[str, str] = {"dataset": DATASET, "action": _action(record)}
        if operation := labels.get("operation"):
            event["outcome"] = OUTCOMES.get(Operation(operation), "unknown")
        line: dict[str, Any] = {
            "@timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "log.level": record.levelname.lower(),
            "message": told_line(message, LONGEST_TEXT),
            "ecs.version": VERSION,
            "log.logger": record.name,
            "service": {"name": DATASET},
            "host": {"name": self._host},
            "event": event,
            "labels": labels,
        }
        if trace:
            line["error.stack_trace"] = told_text(f"{begins}{trace}".strip())
        return json.dumps({key: value for key, value in line.items() if value}, ensure_ascii=False)


def _action(record: logging.LogRecord) -> str:
    """The words in front of all values: `revision-fetched`."""
    first = re.split(r"\w+=%|%", str(record.msg), maxsplit=1)[0]
    return "-".join(re.findall(r"[a-z0-9]+", first.lower()))


def _labels(record: logging.LogRecord) -> dict[str, str]:
    """The values that have a name in the message, if they are not empty."""
    args = record.args
    if not args or isinstance(args, Mapping):
        return {}
    found = zip(_NAMED.findall(str(record.msg)), args, strict=False)
    labels = {_RENAMED.get(name, name): told_line(str(value)) for name, value in found if name}
    return {name: value for name, value in labels.items() if value}
