"""A suspended server: a file beside the settings, with the reason, tells the daemon to change nothing.

A file, because an operator sees it, and because it outlives the state directory: a suspended
server must not change because a history was lost.
"""

from __future__ import annotations

from pathlib import Path

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.redact import told_line
from gitops_mvd.core.text import LONGEST_LINE
from gitops_mvd.state.files import Entry, write

SUSPENDED = "this server is suspended"  # how the daemon's report of it begins, by which others know it


def path(settings: Path) -> Path:
    """The file, for the settings at that path."""
    return settings.with_name("suspended")


def reason(settings: Path) -> str:
    """Why the server is suspended, "" if it is not."""
    file = path(settings)
    try:
        with file.open(errors="replace") as reading:
            return told_line(reading.read(LONGEST_LINE).strip()) or "no reason given"
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Unavailable(f"cannot read {file}: {error.strerror}") from error


def suspend(settings: Path, why: str) -> None:
    """Raises Unavailable or StepFailed if the file cannot be written."""
    write(path(settings), Entry(f"{why}\n".encode(), 0o644))


def resume(settings: Path) -> bool:
    """False if it was not suspended."""
    try:
        path(settings).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Unavailable(f"cannot remove {path(settings)}: {error.strerror}") from error
    return True
