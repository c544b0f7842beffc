"""What is counted while the daemon runs, fed with each pass that is over and each event of a container.

All of it begins anew with a start of the daemon, as Prometheus expects of counters.  Nothing grows: what is counted by
app is forgotten with the app, what is counted by container with the container.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from gitops_mvd.api.views import DONE, FAILED, STOPPED, OperationView, ResultView
from gitops_mvd.core.errors import FAULTS
from gitops_mvd.core.model import Operation
from gitops_mvd.metrics import names

COMPLETE, GIVEN_UP = "complete", "given_up"
PHASES = ("fetch", "read", "look", "apply")
CHANGES, WAIT = ("create", "update", "delete"), "wait"
ENDS = tuple(str(it) for it in Operation if it is not Operation.RUNNING)
MOST_CONTAINERS = 5000


class Histogram:
    """How often a value was at most each of the limits, in which they are counted; `total` is the sum of all."""

    def __init__(self, limits: Sequence[float]) -> None:
        self._limits = limits
        self._counts = [0] * (len(limits) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self._counts[bisect_left(self._limits, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Each limit with the number of values up to it; the last one is `+Inf`."""
        return list(zip([*map(str, self._limits), "+Inf"], accumulate(self._counts), strict=True))


@dataclass
class _Known:
    """How an app came out of the last pass: what makes a failure another one."""

    operation: str
    fault: str
    commit: str


@dataclass(frozen=True)
class Counted:
    """All that was counted, at one moment.  `operations` is by app and end, `restarts` by container."""

    passes: Mapping[str, int]
    steps: Mapping[tuple[str, str], int]
    repairs: int
    pruned: int
    failures: Mapping[str, int]
    operations: Mapping[tuple[str, str], int]
    restarts: Mapping[str, int]
    phases: Mapping[str, tuple[list[tuple[str, float]], float]]
    gates: tuple[list[tuple[str, float]], float]
    merges: tuple[list[tuple[str, float]], float]
    pass_at: float
    success_at: float


@dataclass
class _Restarts:
    """Who has ended, and how often each was started again."""

    ended: dict[str, None] = field(default_factory=dict)
    times: Counter[str] = field(default_factory=Counter)

    def forget_oldest(self) -> None:
        for of in (self.ended, self.times):
            for name in list(of)[:-MOST_CONTAINERS]:
                del of[name]


class Counts:
    """Counts passes and restarts.  Any thread may tell and ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passes: Counter[str] = Counter({COMPLETE: 0, GIVEN_UP: 0})
        states = (DONE, FAILED, STOPPED)
        self._steps: Counter[tuple[str, str]] = Counter({(verb, it): 0 for verb in (*CHANGES, WAIT) for it in states})
        self._repairs = self._pruned = 0
        self._failures: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
        self._operations: Counter[tuple[str, str]] = Counter()
        self._known: dict[str, _Known] = {}
        self._restarts = _Restarts()
        self._phases = {phase: Histogram(names.PHASES.buckets) for phase in PHASES}
        self._gates = Histogram(names.GATES.buckets)
        self._merges = Histogram(names.MERGES.buckets)
        self._merged = ""  # the commit that was measured last
        self._pass_at = self._success_at = 0.0

    # ---- told by the daemon ------------------------------------------------------------------------------------------

    def passed(self, operation: OperationView) -> None:
        """A pass is over, whether it changed something or not."""
        with self._lock:
            self._passes[GIVEN_UP if operation.error else COMPLETE] += 1
            for phase in operation.phases:
                if histogram := self._phases.get(phase.name):
                    histogram.add(phase.seconds)
            self._count_steps(operation)
            if operation.error:
                return
            self._pass_at = operation.ended
            if operation.is_green:
                self._success_at = operation.ended
                self._measure(operation)
            self._count_results(operation)

    def container(self, action: str, name: str) -> None:
        """Docker tells that something happened to a managed container: it ended, was started, is gone."""
        with self._lock:
            restarts = self._restarts
            match action:
                case "die":
                    restarts.ended[name] = None
                case "start" if name in restarts.ended:
                    del restarts.ended[name]
                    restarts.times[name] += 1
                case "destroy":
                    restarts.ended.pop(name, None)
                    restarts.times.pop(name, None)
            restarts.forget_oldest()  # that it is gone may have been told while nobody listened

    def _count_steps(self, operation: OperationView) -> None:
        unchanged = {it.app for it in operation.results if not it.changed}
        for step in operation.steps:
            self._steps[step.verb, step.state] += 1
            if step.verb == WAIT:
                self._gates.add(step.seconds)
            elif step.state == DONE and step.verb == "delete":
                self._pruned += 1
            elif step.state == DONE and step.app in unchanged:
                self._repairs += 1

    def _measure(self, operation: OperationView) -> None:
        """A commit that changed something is green for the first time."""
        commit = operation.commit
        is_deploy = bool(operation.steps) and any(it.changed for it in operation.results)
        if is_deploy and commit.at and commit.commit != self._merged:
            self._merged = commit.commit
            self._merges.add(max(0.0, operation.ended - commit.at))

    def _count_results(self, operation: OperationView) -> None:
        """Count how apps came out, if something was done about them, or they come out another way than before."""
        touched, commit = {step.app for step in operation.steps}, operation.commit.commit
        for result in operation.results:
            before, now = self._known.get(result.app), _known(result, commit)
            if result.app not in touched and (before is None or before == now):
                continue
            if result.fault:
                self._failures[result.fault] += 1
            is_end = result.operation in ENDS
            if is_end and (result.app in touched or (before and before.operation != result.operation)):
                self._operations[result.app, result.operation] += 1
        self._known = {it.app: _known(it, commit) for it in operation.results}
        for key in [key for key in self._operations if key[0] not in self._known]:
            del self._operations[key]

    # ---- asked by who shows it ---------------------------------------------------------------------------------------

    def counted(self) -> Counted:
        """All of it, as it is now."""
        with self._lock:
            return Counted(
                passes=dict(self._passes),
                steps=dict(self._steps),
                repairs=self._repairs,
                pruned=self._pruned,
                failures=dict(self._failures),
                operations=dict(self._operations),
                restarts=dict(self._restarts.times),
                phases={name: (it.buckets(), it.total) for name, it in self._phases.items()},
                gates=(self._gates.buckets(), self._gates.total),
                merges=(self._merges.buckets(), self._merges.total),
                pass_at=self._pass_at,
                success_at=self._success_at,
            )


def _known(result: ResultView, commit: str) -> _Known:
    return _Known(result.operation, result.fault, commit if result.fault else "")
