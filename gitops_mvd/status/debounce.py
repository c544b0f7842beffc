"""Debounce: health counts as changed only once it has lasted.  Pure.

An app that crashes every few seconds is healthy every few seconds, too.  So it is unhealthy from its first bad moment
on, until it has been healthy for DEBOUNCE_SECONDS without a break.
"""

from __future__ import annotations

from dataclasses import dataclass

DEBOUNCE_SECONDS = 30.0


@dataclass
class Debounce:
    """Since when something is healthy or unhealthy, by a monotonic clock in seconds; None if it is not."""

    healthy_since: float | None = None
    unhealthy_since: float | None = None

    def update(self, is_healthy: bool | None, now: float) -> bool | None:
        """The health that has lasted, None until one has.  `is_healthy` is the health now, None if it is unknown."""
        if not is_healthy:
            self.healthy_since = None
        if is_healthy is False and self.unhealthy_since is None:
            self.unhealthy_since = now
        if is_healthy and self.healthy_since is None:
            self.healthy_since = now
        if is_healthy and self._lasts(self.healthy_since, now):
            self.unhealthy_since = None
            return True
        if is_healthy is False and self._lasts(self.unhealthy_since, now):
            return False
        return None

    def pending_for(self, now: float) -> float | None:
        """Seconds until a change may have lasted long enough, None if no change is pending."""
        pending = [since for since in (self.healthy_since, self.unhealthy_since) if since is not None]
        left = [since + DEBOUNCE_SECONDS - now for since in pending if not self._lasts(since, now)]
        return min(left, default=None)

    def lasts_unhealthy(self, now: float) -> bool:
        """Has it been unhealthy for long enough, even if it was healthy for a moment?"""
        return self._lasts(self.unhealthy_since, now)

    @staticmethod
    def _lasts(since: float | None, now: float) -> bool:
        return since is not None and now - since >= DEBOUNCE_SECONDS
