"""The server that a command works on: its settings, and what they connect to."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gitops_mvd.config import settings
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.redact import told_line, told_text
from gitops_mvd.core.text import LONGEST_TEXT

if TYPE_CHECKING:
    from gitops_mvd.daemon.wiring import Wired

TRACEBACK = "\nTraceback (most recent call last):"


def read_settings(config: Path) -> settings.Settings:
    """Raises Unavailable for a file that cannot be read, ManifestError for mistakes in it."""
    try:
        return settings.read(str(config), config.read_bytes())
    except FileNotFoundError:
        raise Unavailable(f"cannot read {config}: no such file", "`mvd install --repository URL` writes it") from None
    except PermissionError:
        raise Unavailable(f"cannot read {config}: permission denied", "Run as root: sudo mvd ...") from None
    except OSError as error:
        raise Unavailable(f"cannot read {config}: {error.strerror}") from None


def connect(config: Path) -> Wired:
    """The wiring of this server.  Raises Unavailable for a secret file that cannot be read."""
    from gitops_mvd.daemon.wiring import wire

    return wire(read_settings(config), config)


def log_to_stderr(form: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(form))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


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
