"""How long to wait after a failure: longer each time, and not the same on every host.  Pure but for the dice."""

from __future__ import annotations

import random
from typing import NamedTuple

_MOST_DOUBLINGS = 64  # after that every pause is the longest; more would not fit a number


class Backoff(NamedTuple):
    """The shortest and the longest pause, in seconds."""

    shortest: float
    longest: float

    def pause(self, failures: int) -> float:
        """Seconds until the next try, after so many failures in a row before the last one; ± 20 %."""
        doubled = self.shortest * 2 ** min(failures, _MOST_DOUBLINGS)
        return float(min(self.longest, doubled) * random.uniform(0.8, 1.2))
