"""The log of the daemon in the Elastic Common Schema."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from gitops_mvd.cli.ecs import Ecs
from gitops_mvd.cli.log_lines import OneLine
from gitops_mvd.cli.server import daemon_format
from gitops_mvd.config import settings
from gitops_mvd.core import redact
from gitops_mvd.core.model import Operation


def line(message: str, *args: Any, level: int = logging.INFO, error: BaseException | None = None) -> dict[str, Any]:
    """The object that a message becomes."""
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("gitops_mvd.daemon.loop", level, __file__, 1, message, args, info)
    text = Ecs("uk-web-1").format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_message_is_an_action_with_labels() -> None:
    found = line("revision fetched commit=%s subject=%s", "1a2b3c4", 'Say "hello"')
    assert found.pop("@timestamp").endswith("+00:00")
    assert found == {
        "log.level": "info",
        "message": 'revision fetched commit=1a2b3c4 subject=Say "hello"',
        "ecs.version": "8.11.0",
        "log.logger": "gitops_mvd.daemon.loop",
        "service": {"name": "gitops-mvd"},
        "host": {"name": "uk-web-1"},
        "event": {"dataset": "gitops-mvd", "action": "revision-fetched"},
        "labels": {"revision": "1a2b3c4", "subject": 'Say "hello"'},
    }


@pytest.mark.parametrize(
    ("message", "args", "action", "labels"),
    [
        ("step app=%s %s %s %s", ("shop", "create", "unit", "mvd-shop"), "step", {"app": "shop"}),
        ("webhook %s from=%s", ("push", "10.0.0.1"), "webhook", {"from": "10.0.0.1"}),
        ("cannot pack the mirror path=%s: %s", ("/m", "why"), "cannot-pack-the-mirror", {"path": "/m"}),
        ("pulled image %s in %.1f s", ("nginx", 1.5), "pulled-image", {}),
        ("%s", ("anything at all",), "", {}),
        ("rows=%d of 100%%", (3,), "", {"rows": "3"}),
        ("outcome app=%s why=%s", ("shop", ""), "outcome", {"app": "shop"}),
    ],
)
def test_only_values_that_have_a_name_are_labels(
    message: str, args: tuple[Any, ...], action: str, labels: dict[str, str]
) -> None:
    found = line(message, *args)
    assert (found["event"].get("action", ""), found.get("labels", {})) == (action, labels)


def test_an_operation_has_an_outcome_in_the_words_of_the_schema() -> None:
    ends = {operation: line("outcome operation=%s", operation)["event"]["outcome"] for operation in Operation}
    assert ends == {
        Operation.RUNNING: "unknown",
        Operation.SUCCEEDED: "success",
        Operation.FAILED: "failure",
        Operation.ROLLED_BACK: "failure",
        Operation.ROLLBACK_FAILED: "failure",
        Operation.SUPERSEDED: "unknown",
    }


def test_a_traceback_is_a_field_of_its_own() -> None:
    try:
        raise ValueError("no such thing")
    except ValueError as error:
        found = line("internal error thread=%s", "outbox", level=logging.ERROR, error=error)
        said = line("internal error %s\n%s", "pass", "Traceback (most recent call last):\n  File x\nValueError: no")
    assert found["log.level"] == "error"
    assert found["error.stack_trace"].endswith("ValueError: no such thing")
    assert (said["message"], said["error.stack_trace"][:9]) == ("internal error pass", "Traceback")


def test_no_secret_is_in_any_field() -> None:
    redact.learn("a test of the log", "hunter2-and-more")
    try:
        raise ValueError("no hunter2-and-more")
    except ValueError as error:
        found = line("waiting for=%s reason=%s", "host", "login hunter2-and-more failed", error=error)
    assert "hunter2" not in json.dumps(found)
    assert found["labels"]["reason"] == "login *** failed"


def test_a_line_of_anything_is_one_object() -> None:
    found = line("waiting for=%s reason=%s", "host", "a\nb\x1b[31m\ud800\0 <script>" + "x" * 100_000)
    assert "\n" not in found["message"]
    assert len(json.dumps(found)) < 100_000


def test_the_settings_choose_the_form() -> None:
    def form(text: str) -> logging.Formatter:
        return daemon_format(settings.read("config.yaml", f"repository: /srv/config.git\n{text}".encode()))

    assert isinstance(form(""), OneLine)
    assert isinstance(form("log: {format: text}"), OneLine)
    assert isinstance(form("log: {format: ecs}"), Ecs)
    assert isinstance(daemon_format(), OneLine)
