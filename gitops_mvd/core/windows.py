"""The hours at which a rollout may go on, and those at which it may not.  Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Window:
    """Some hours of some days of the week, from minute to minute of a day by the clocks of a time zone (None: UTC).

    One that ends before it begins goes on into the next day.  `text` is how it was written.
    """

    days: frozenset[int]  # 0 is Monday
    begins: int
    ends: int
    zone: ZoneInfo | None
    text: str

    def holds(self, now: float) -> bool:
        """Is it this window at that Unix time?"""
        local = datetime.fromtimestamp(now, self.zone or UTC)
        today, minute = local.weekday(), local.hour * 60 + local.minute
        if self.begins < self.ends:
            return today in self.days and self.begins <= minute < self.ends
        return (today in self.days and minute >= self.begins) or ((today - 1) % 7 in self.days and minute < self.ends)


@dataclass(frozen=True, slots=True)
class Windows:
    """When a rollout may begin on a host: within one of `allow`, if there are any, and within none of `deny`."""

    allow: tuple[Window, ...] = ()
    deny: tuple[Window, ...] = ()

    def closed(self, now: float) -> str:
        """Why it may not at that Unix time; "" if it may."""
        if denied := next((it for it in self.deny if it.holds(now)), None):
            return f"no rollout is allowed now ({denied.text})"
        if self.allow and not any(it.holds(now) for it in self.allow):
            return f"rollouts are allowed at other hours ({', '.join(it.text for it in self.allow)})"
        return ""
