"""Five minutes of chaos, always by the same dice."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from tests.lab.bench.figure import Figure
from tests.lab.chaos.report import tell
from tests.lab.chaos.run import chaos
from tests.lab.engine import Say
from tests.lab.lab import Lab

MINUTES = 5.0
SEED = "bench"


def figures(say: Say) -> Iterator[Figure]:
    """Raises LabUnavailable where there can be no lab."""
    rounds = []
    with Lab.open(say) as lab:
        for round in chaos(lab, SEED, MINUTES, say):
            rounds.append(round)
            tell(round, SEED)
    yield Figure("rounds of commits and a fault", len(rounds), "rounds")
    yield Figure("rounds that ended badly", sum(bool(round.violations) for round in rounds), "rounds", target="0")
    settled = [round.settled for round in rounds]
    yield Figure("end of a fault → equal to Git, and told: median", statistics.median(settled), "s")
    yield Figure("end of a fault → equal to Git, and told: longest", max(settled), "s")
