"""Notices: what people are notified of, one change of an app or of the server each; and quiet hours.  Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from typing import Any

from gitops_mvd.core.model import Json, Revision
from gitops_mvd.core.redact import told_line
from gitops_mvd.core.text import plain_line

MINUTES_A_DAY = 24 * 60


class What(StrEnum):
    """What has happened, in the words of the settings.  From best to worst."""

    DEPLOYED = "deployed"
    RECOVERED = "recovered"
    SUSPENDED = "suspended"
    WAITING = "waiting"
    DEGRADED = "degraded"
    FAILED = "failed"


USUAL = (What.FAILED, What.DEGRADED, What.WAITING, What.RECOVERED)


@dataclass(frozen=True, slots=True)
class Notice:
    """One change: `what` has happened to an `app`, or to the server as a whole (""), `at` in Unix time.

    `why` is one line, and `revision` the commit that changed the app last, None if nobody knows.  Of a recovery, `over`
    is what has ended; the end of a suspension is `suspended` with itself over.  `about` tells several troubles of the
    server apart, such as `git`.
    """

    at: float
    app: str
    what: What
    why: str = ""
    revision: Revision | None = None
    over: What | None = None
    about: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "app", plain_line(self.app))
        object.__setattr__(self, "why", told_line(self.why))

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Json) -> Notice:
        revision, over = value["revision"], value["over"]
        more = {"revision": Revision(**revision) if revision else None, "over": What(over) if over else None}
        return cls(**{**value, **more, "at": float(value["at"]), "what": What(value["what"])})


@dataclass(frozen=True, slots=True)
class Quiet:
    """Hours of each day in which nobody is to be woken: minutes after midnight, in a zone, None for the server's own.

    They may go past midnight.
    """

    begins: int
    ends: int
    zone: tzinfo | None = None

    def left(self, now: float) -> float:
        """Seconds until the quiet time ends, 0 if there is none now.  `now` is Unix time."""
        local = self.local(now)
        minute = local.hour * 60 + local.minute
        if (minute - self.begins) % MINUTES_A_DAY >= (self.ends - self.begins) % MINUTES_A_DAY:
            return 0.0
        day = local.date() + timedelta(days=minute >= self.ends)
        ends = datetime(day.year, day.month, day.day, self.ends // 60, self.ends % 60, tzinfo=self.zone)
        return max(1.0, ends.timestamp() - now)

    def local(self, now: float) -> datetime:
        """A Unix time as it is there."""
        return datetime.fromtimestamp(now, UTC).astimezone(self.zone)
