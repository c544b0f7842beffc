"""What containers printed, out of the journal, line by line and as it comes."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from gitops_mvd.api.views import LogLine
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.redact import told_line
from gitops_mvd.core.text import without_colours
from gitops_mvd.systemd.programs import identifiers_of

LONGEST_LINE = 16_384  # characters of a line that are shown
LONGEST_ENTRY = 1 << 20  # bytes of an entry that are read: what is longer is left out
FIELDS = "MESSAGE,SYSLOG_IDENTIFIER,CONTAINER_NAME,_SYSTEMD_UNIT,__REALTIME_TIMESTAMP"
LOOK_SECONDS = 1.0  # between two looks whether anybody still listens
CHUNK = 1 << 16


def journal_lines(
    name: str,
    lines: int,
    *,
    follow: bool,
    after: str = "",
    since: float = 0.0,
    is_over: Callable[[], bool] = lambda: False,
) -> Iterator[LogLine | None]:
    """What `app` or `app/service` printed, the oldest line first; None now and then, while nothing comes.

    It is the output of containers that gitops-mvd manages, and of nothing else on this server.

    `after` is the cursor of a line, behind which it begins; else it begins with the last `lines`, of those that were
    printed `since` then, in seconds since 1970.  To `follow` goes on
    until `is_over`.  Raises Unavailable where journalctl cannot be run, MvdError where there is no such output.
    """
    begin = (
        [f"--after-cursor={after}"] if after else [f"--lines={lines}", *([f"--since=@{since:.0f}"] if since else [])]
    )
    options = [*begin, *(["--follow"] if follow else [])]
    command = ["journalctl", "--quiet", "--all", "--output=json", f"--output-fields={FIELDS}", *options]
    command += [f"--identifier={one}" for one in identifiers_of(name, or_to_come=follow)]
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
    except OSError as error:
        raise Unavailable(f"cannot run journalctl: {error.strerror}") from error
    try:
        assert child.stdout
        for entry in _entries(child.stdout.fileno(), is_over):
            yield _line(entry) if entry else None
    finally:
        with suppress(OSError):
            child.kill()
        child.wait()
        assert child.stdout
        child.stdout.close()


def _entries(output: int, is_over: Callable[[], bool]) -> Iterator[bytes]:
    """The lines of a pipe until its end, and b"" while nothing comes; a line that is too long is left out."""
    rest, is_skipped = b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while not is_over():
            if not selector.select(LOOK_SECONDS):
                yield b""
                continue
            part = os.read(output, CHUNK)
            if not part:
                return
            *whole, rest = (rest + part).split(b"\n")
            for line in whole:
                if not is_skipped:
                    yield line
                is_skipped = False
            if len(rest) > LONGEST_ENTRY:
                rest, is_skipped = b"", True


def _line(entry: bytes) -> LogLine | None:
    """A line of an entry; None for one that is none, or that no container of ours printed."""
    try:
        fields: dict[str, Any] = json.loads(entry)
        at = int(fields["__REALTIME_TIMESTAMP"]) / 1e6
    except (ValueError, KeyError, TypeError):
        return None
    app, _, service = _text(fields.get("SYSLOG_IDENTIFIER")).partition("/")
    instance = _text(fields.get("CONTAINER_NAME")) or _text(fields.get("_SYSTEMD_UNIT")).removesuffix(".service")
    if not instance.startswith(f"mvd-{app}-{service}-"):  # somebody else's tag is like that of ours
        return None
    text = told_line(without_colours(_text(fields.get("MESSAGE")).rstrip("\r\n")), LONGEST_LINE)
    return LogLine(at, told_line(app), told_line(service), told_line(instance), text, _text(fields.get("__CURSOR")))


def _text(value: Any) -> str:
    """A field of the journal: what is not UTF-8 is a list of bytes, and a field that came twice a list of values."""
    match value:
        case str():
            return value
        case [int(), *_]:
            return bytes(it & 0xFF for it in value if isinstance(it, int)).decode(errors="replace")
        case [first, *_]:
            return _text(first)
    return ""
