"""An operation as bars on a line of time.  Pure.

Places and lengths are in percent of the whole operation: that is what the drawings of the bars are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from gitops_mvd.api.views import RUNNING, OperationView, PhaseView, StepView

WHOLE = 100.0
LEAST = 0.4  # of a bar, so that it can be seen


@dataclass(frozen=True, slots=True)
class Bar:
    """A step with its place on the line; `seconds` goes on for one that runs."""

    step: StepView
    left: float
    width: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Group:
    """The steps of one service, or of an app as a whole if `service` is ""."""

    app: str
    service: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of the operation with its place."""

    phase: PhaseView
    left: float
    width: float


def groups(operation: OperationView, now: float) -> list[Group]:
    """The steps by service; the one that was begun first comes first."""
    end = operation.ended or now
    whole = max(end - operation.began, 0.001)

    def bar(step: StepView) -> Bar:
        is_on = step.state == RUNNING and not operation.ended
        seconds = max(0.0, now - step.began) if is_on else step.seconds
        left = _part(step.began - operation.began, whole)
        return Bar(
            step, min(left, WHOLE - LEAST), round(max(LEAST, min(_part(seconds, whole), WHOLE - left)), 2), seconds
        )

    order: dict[tuple[str, str], float] = {}
    for step in operation.steps:
        about = step.app, step.service
        order[about] = min(step.began, order.get(about, step.began))
    steps = sorted(operation.steps, key=lambda it: (order[it.app, it.service], it.app, it.service, it.began))
    return [
        Group(app, service, tuple(map(bar, of)))
        for (app, service), of in groupby(steps, lambda it: (it.app, it.service))
    ]


def phases(operation: OperationView, now: float) -> list[Phase]:
    """The parts of an operation that are over, and their places."""
    whole = max((operation.ended or now) - operation.began, 0.001)
    return [
        Phase(it, _part(it.began - operation.began, whole), max(LEAST, _part(it.seconds, whole)))
        for it in operation.phases
    ]


def marks(operation: OperationView, now: float) -> list[tuple[float, float]]:
    """Where the line has a mark, and of how many seconds: about five, at round numbers."""
    whole = max((operation.ended or now) - operation.began, 0.001)
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600, 86400)
    step = next((it for it in steps if whole / it <= 6), whole / 5)
    return [(_part(step * it, whole), step * it) for it in range(1, int(whole / step) + 1)]


def _part(seconds: float, whole: float) -> float:
    return round(max(0.0, min(WHOLE, WHOLE * seconds / whole)), 2)
