"""What containers print, followed once for each app or service, and shown to any number of browsers.

A follower keeps the newest lines, ready to be shown, within a limit of bytes.  A browser has a place among them; if it
is so slow that its place is gone, it is told how many lines it missed.  A place is among the lines of one follower: to
another one, as after a start of the page, a browser comes anew.
"""

from __future__ import annotations

import asyncio
import html
import logging
import re
import secrets
import threading
import time
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from gitops_mvd.api.client import Refused
from gitops_mvd.api.views import LogLine
from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.text import plain_line
from gitops_mvd.web.host import Host
from gitops_mvd.web.live import BEAT, BEAT_SECONDS, TooMany, event
from gitops_mvd.web.signal import Signal

log = logging.getLogger(__name__)

FIRST_LINES = 200  # with which a page begins
MOST_LINES = 1_000  # that a follower keeps
MOST_BYTES = 512 << 10  # of them, as HTML
MOST_FOLLOWERS = 12  # of one server at once: its daemon has few threads for them
LONGEST_SHOWN = 400  # characters of a line; the rest is folded away
LONGEST_KEPT = 20_000
CALM_SECONDS = 0.2  # between two deliveries
SILENT_SECONDS = 30.0  # without a sign of life of the daemon
COLOURS = 6
PAUSE = Backoff(1.0, 10.0)
_ANSI = re.compile(r"(?:\x1b|\\x1b)(?:\[[0-9;:?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def shown(line: LogLine) -> str:
    """A line of a log as HTML; whatever it has in it is only text."""
    text = plain_line(_ANSI.sub("", line.text), LONGEST_KEPT)
    at = datetime.fromtimestamp(line.at).astimezone()
    replica = line.instance or line.service
    name = html.escape(_short(replica, line.app))
    head = (
        f'<time datetime="{at.isoformat(timespec="milliseconds")}">{at:%H:%M:%S}.{at.microsecond // 1000:03d}</time> '
        f'<b title="{html.escape(replica)}">{name}</b> '
    )
    if len(text) <= LONGEST_SHOWN:
        body = f"<span>{html.escape(text)}</span>"
    else:
        first, rest = text[:LONGEST_SHOWN], text[LONGEST_SHOWN:]
        more = f"{len(rest):,} more characters"
        body = (
            f"<details><summary>{html.escape(first)}<i>… {more}</i></summary><span>{html.escape(rest)}</span></details>"
        )
    return f'<li class="c{zlib.crc32(replica.encode()) % COLOURS}">{head}{body}</li>'


def _short(instance: str, app: str) -> str:
    """`web-3f9c-2` for `mvd-shop-web-3f9c2a1b-2`: what tells the replicas and versions of an app apart."""
    short = instance.removeprefix(f"mvd-{app}-")
    return re.sub(r"\b([0-9a-f]{4})[0-9a-f]{4,}\b", r"\1", short) or app


@dataclass(frozen=True, slots=True)
class _Kept:
    number: int
    html: str


class Follower:
    """Follows one app or service as long as somebody looks.  All but `_run` is for the event loop's thread.

    Lines are numbered as they come, so that those which the event loop is too slow for are missed by number.
    """

    def __init__(self, host: Host, name: str) -> None:
        self._host = host
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._lines: deque[_Kept] = deque()
        self._size = 0
        self._last = 0  # the number of the newest of them
        self._epoch = secrets.token_hex(4)
        self._more = Signal()
        self._watching = 0
        self._pending: deque[tuple[int, LogLine]] = deque(maxlen=MOST_LINES)
        self._taken = 0  # lines so far
        self._is_due = False
        self._guard = threading.Lock()
        self._cursor = ""
        self._trouble = ""
        self._began = False
        self._ended = False
        self._chunk: tuple[int, int, bytes] = (0, 0, b"")

    @property
    def is_watched(self) -> bool:
        return self._watching > 0

    async def first(self, within: float) -> list[str]:
        """The lines of now, as HTML; waits a moment for them if it has just begun."""
        self._watching += 1
        try:
            self._begin()
            if not self._lines and not self._trouble:
                await self._more.wait(within)
                await asyncio.sleep(CALM_SECONDS)
            return [it.html for it in list(self._lines)[-FIRST_LINES:]]
        finally:
            self._watching -= 1

    async def events(self, last_id: str = "") -> AsyncIterator[bytes]:
        """The lines behind the event of that id, as they come; all that are kept if it is of another follower."""
        self._watching += 1
        seen, told = self._place(last_id), ""
        try:
            self._begin()
            while True:
                if self._trouble != told:
                    told = self._trouble
                    yield event("trouble", told)
                if self._last > seen:
                    missed = self._lines[0].number - seen - 1
                    if not seen:
                        yield event("anew", "")
                    elif missed > 0:
                        yield event("missed", str(missed))
                    yield self._lines_after(seen)
                    seen = self._last
                elif not await self._more.wait(BEAT_SECONDS):
                    yield BEAT
        finally:
            self._watching -= 1

    def _place(self, id: str) -> int:
        """The number of the line that an id of an event names, 0 if it is of another follower."""
        epoch, _, number = id.partition("-")
        if epoch != self._epoch or not re.fullmatch("[0-9]{1,15}", number):
            return 0
        return min(int(number), self._last)

    def _lines_after(self, seen: int) -> bytes:
        """An event with all lines behind that number; most browsers ask for the same ones."""
        if self._chunk[:2] != (seen, self._last):
            text = "\n".join(it.html for it in self._lines if it.number > seen)
            self._chunk = (seen, self._last, f"id: {self._epoch}-{self._last}\n".encode() + event("lines", text))
        return self._chunk[2]

    # ---- the thread that asks ----------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if not self._began:
            self._began = True
            threading.Thread(target=self._run, daemon=True, name=f"logs of {self._name}").start()

    def end(self) -> None:
        """Nobody is to look any more."""
        self._ended = True

    def _run(self) -> None:
        failures = 0
        while not self._ended:
            try:
                for line in self._asked():
                    failures = 0
                    self._take(line)
                trouble = ""
            except Refused as error:
                trouble = str(error)
            except Unavailable as error:
                trouble = error.message
            except Exception as error:
                log.exception("cannot follow %s", self._name)
                trouble = f"internal error: {type(error).__name__}"
            if not self._ended:
                self._call(partial(self._tell, trouble))
                time.sleep(PAUSE.pause(failures))
                failures += 1

    def _asked(self) -> Iterator[LogLine]:
        begin = {"after": self._cursor} if self._cursor else {"lines": FIRST_LINES}
        return self._host.api.stream(
            "logs",
            LogLine,
            timeout=SILENT_SECONDS,
            until=self._is_enough,
            name=self._name,
            follow=True,
            **begin,
        )

    def _is_enough(self) -> bool:
        if self._trouble:
            self._call(lambda: self._tell(""))
        return self._ended

    def _take(self, line: LogLine) -> None:
        """Hand a line on to the event loop; if it does not keep up, the oldest go."""
        self._cursor = line.cursor or self._cursor
        with self._guard:
            self._taken += 1
            self._pending.append((self._taken, line))
            is_first, self._is_due = not self._is_due, True
        if is_first:
            self._call(lambda: self._loop.call_later(CALM_SECONDS, self._add))

    def _call(self, work: Callable[[], object]) -> None:
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:  # the loop has ended
            self._ended = True

    # ---- in the event loop -------------------------------------------------------------------------------------------

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._more.fire()

    def _add(self) -> None:
        with self._guard:
            taken, self._is_due = list(self._pending), False
            self._pending.clear()
        for number, line in taken:
            kept = _Kept(number, shown(line))
            self._last = number
            self._lines.append(kept)
            self._size += len(kept.html)
        while len(self._lines) > MOST_LINES or (self._size > MOST_BYTES and len(self._lines) > 1):
            self._size -= len(self._lines.popleft().html)
        self._more.fire()


class Followers:
    """The logs of one server that are followed, at most MOST_FOLLOWERS at once."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._known: dict[str, Follower] = {}

    def follower(self, name: str) -> Follower:
        """The one of APP or APP/SERVICE.  Raises TooMany."""
        if found := self._known.get(name):
            self._known[name] = self._known.pop(name)
            return found
        while len(self._known) >= MOST_FOLLOWERS:
            idle = next((name for name, one in self._known.items() if not one.is_watched), "")
            if not idle:
                raise TooMany(
                    f"the logs of {MOST_FOLLOWERS} apps and services are followed already",
                    f"close some of them, or on the server: mvd logs {name} --follow",
                )
            self._known.pop(idle).end()
        self._known[name] = found = Follower(self._host, name)
        return found

    def rest(self) -> None:
        """End those that nobody looks at."""
        for name in [name for name, one in self._known.items() if not one.is_watched]:
            self._known.pop(name).end()
