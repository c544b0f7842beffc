"""What telling a forge costs where many commits come at once, it is away for a while, and the daemon is killed."""

from __future__ import annotations

from collections.abc import Iterator

from tests.lab.bench.figure import Figure
from tests.lab.burst import burst, checked
from tests.lab.engine import Say
from tests.lab.lab import Lab
from tests.lab.stage import Stage


def figures(say: Say) -> Iterator[Figure]:
    """Raises LabUnavailable where there can be no lab, NotTrue where what is told is not as it should be."""
    with Lab.open(say) as lab:
        stage = Stage.set_up(lab, lab.server("bench"), lab.forge.create("acme/config"))
        told = checked(burst(stage, lab))
        late = checked(burst(stage, lab, long_outage=True))
    yield Figure(
        f"statuses posted for {len(told.pushed)} commits, {len(told.affected)} of which change this host",
        told.calls,
        "calls",
        "one end for each of those, and one for the tip",
        told.fewest,
        "< 2 ×",
    )
    away = (late.back - late.down).total_seconds()
    yield Figure(
        "forge's API back → last status that waited for it delivered",
        (late.last - late.back).total_seconds(),
        "s",
        "it was away for",
        away,
    )
