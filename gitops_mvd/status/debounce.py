"""Is it well, steadily?  What flaps is neither sick nor well each time anew.  Pure.

An app that crashes every few seconds is well every few seconds, too: so it is sick from its first bad moment on, until
it has been well for a while without a break.
"""

from __future__ import annotations

from dataclasses import dataclass

STEADY = 30.0  # seconds that it has to stay so before anybody is told


@dataclass
class Trend:
    """Since when something is well or sick, by a monotonic clock in seconds; None where it is not."""

    well_since: float | None = None
    sick_since: float | None = None

    def judge(self, is_well: bool | None, now: float) -> bool | None:
        """Take in how it is now, None where nobody can tell.  Returns how it is steadily, None while that is open."""
        if not is_well:
            self.well_since = None
        if is_well is False and self.sick_since is None:
            self.sick_since = now
        if is_well and self.well_since is None:
            self.well_since = now
        if is_well and self._lasts(self.well_since, now):
            self.sick_since = None
            return True
        if is_well is False and self._lasts(self.sick_since, now):
            return False
        return None

    def opens_until(self, now: float) -> float | None:
        """In how many seconds it will be worth to look again, None where nothing is open."""
        open_since = [since for since in (self.well_since, self.sick_since) if since is not None]
        left = [since + STEADY - now for since in open_since if not self._lasts(since, now)]
        return min(left, default=None)

    @staticmethod
    def _lasts(since: float | None, now: float) -> bool:
        return since is not None and now - since >= STEADY
