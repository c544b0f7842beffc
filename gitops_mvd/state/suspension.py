"""What is suspended on this server: a file beside the settings for the server, and one for each app.

`suspended` tells the daemon to change nothing at all, `suspended.shop` to leave the app shop alone.  Files, because an
operator sees them, and because they outlive the state directory: nothing must change because a history was lost.
Each is a small JSON object; any other text, such as the one that older versions wrote, is the reason alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gitops_mvd.config.readers import seconds_of
from gitops_mvd.core.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.core.suspension import Suspension, Suspensions
from gitops_mvd.core.text import LONGEST_LINE
from gitops_mvd.state.files import Entry, readable, remove, write

__all__ = ["Suspension", "Suspensions", "now", "resume", "suspend", "suspended", "until"]

SUSPENDED = "this server is suspended"  # how the daemon's report of it begins, by which others know it
NAME = "suspended"  # how the name of each file begins
LONGEST_FILE = 4 * LONGEST_LINE  # characters that are read of one
ENDS = "an end is a duration such as 30m, 2h or 1d, or a time such as 2026-12-24T18:00"


def now() -> datetime:
    """The time, in the zone of this server, without parts of seconds."""
    return datetime.now(UTC).astimezone().replace(microsecond=0)


def until(written: str, since: datetime) -> datetime:
    """When something ends that began then, from a duration or a time.  Raises MvdError for what is no time to come."""
    seconds = seconds_of(written)
    try:
        end = datetime.fromisoformat(written) if seconds is None else since + timedelta(seconds=round(seconds))
        end = end.astimezone(since.tzinfo)  # a time without a zone is that of this server
    except (ValueError, OverflowError) as error:
        raise MvdError(f"not a time: {written}", ENDS) from error
    if end <= since:
        raise MvdError(f"{written} is over already", ENDS)
    return end


def path(settings: Path, app: str = "") -> Path:
    """The file that suspends an app, or the server, for the settings at that path.

    Raises StepFailed for what is no name of a file there.
    """
    if "/" in app or "\0" in app or app.startswith("."):
        raise StepFailed(f"not the name of an app: {app}")
    return _file(settings, app)


def _file(settings: Path, app: str) -> Path:
    return settings.with_name(f"{NAME}.{app}" if app else NAME)


def suspended(settings: Path) -> Suspensions:
    """What is suspended now.  Raises Unavailable if that cannot be read, as then nothing may be changed."""
    return _lasting(_every(settings))


def suspend(settings: Path, suspension: Suspension, app: str = "") -> None:
    """Suspend an app, or the server.  Raises StepFailed for what is no name, Unavailable if it cannot be written."""
    text = json.dumps(suspension.as_json(), indent=2, ensure_ascii=False)
    write(path(settings, app), Entry(f"{text}\n".encode(), 0o644))


def resume(settings: Path, app: str = "") -> bool:
    """End the suspension of an app, or of the server; False if it was not suspended.

    Raises StepFailed for what is no name, Unavailable if it cannot be read or removed.
    """
    file = path(settings, app)
    found = _read(file)
    if found:
        remove(file)
    return bool(found and not found.is_over(datetime.now(UTC)))


def without_ended(settings: Path) -> Suspensions:
    """The same; the files of what has ended by itself are removed, as far as this process may."""
    found = _every(settings)
    for app in [app for app, it in found.items() if it.is_over(datetime.now(UTC))]:
        with suppress(MvdError):
            remove(_file(settings, app))
    return _lasting(found)


def _lasting(found: Mapping[str, Suspension]) -> Suspensions:
    """What of it is not over, by app; that of the server is ""."""
    apps = {app: it for app, it in found.items() if not it.is_over(datetime.now(UTC))}
    return Suspensions(apps.pop("", None), apps)


def _every(settings: Path) -> dict[str, Suspension]:
    """What all files say, also of what is over, by app; that of the server is ""."""
    folder = settings.parent
    with readable(folder):
        names = sorted(it.name for it in folder.iterdir()) if folder.exists() else []
    apps = [name.removeprefix(f"{NAME}.") for name in names if name.startswith(f"{NAME}.")]
    return {app: found for app in ("", *apps) if (found := _read(_file(settings, app)))}


def _read(file: Path) -> Suspension | None:
    """What a file says; None if there is none.  Whatever it says, it suspends."""
    try:
        with readable(file), file.open(errors="replace") as reading:
            text = reading.read(LONGEST_FILE).strip()
    except Unavailable as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    return Suspension.from_json(value) if isinstance(value, dict) else Suspension(why=text)
