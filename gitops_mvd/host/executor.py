"""Carries out the steps of a plan: neighbouring changes of one kind together, neighbouring gates together.

Before the first step that stops or switches something, every kind is asked whether all that is to come is possible.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from gitops_mvd.core.errors import Disrupted, StepFailed, Unavailable
from gitops_mvd.core.model import Change, Gate, Resource, Role, Service, Step
from gitops_mvd.core.ports import Clock, Kind
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.monitor import Monitor
from gitops_mvd.host.snapshot import Snapshot
from gitops_mvd.host.turns import Turns

log = logging.getLogger(__name__)

SERVING = (Role.INSTANCE, Role.TIMER, Role.ROUTE)  # a change of these may stop, start or switch what serves

Ended = Callable[[Step], None]
Watch = Callable[[Sequence[Step]], AbstractContextManager[Ended]]
"""Is given steps that begin now, and open while they last; what it yields is called with one that ends early."""


@contextmanager
def unwatched(steps: Sequence[Step]) -> Iterator[Ended]:
    yield lambda step: None


class Executor:
    def __init__(
        self,
        kinds: Mapping[str, Kind],
        snapshot: Snapshot,
        gates: Gates,
        disruptions: Disruptions,
        clock: Clock,
        monitor: Monitor | None,
        turns: Turns,
        watch: Watch = unwatched,
    ) -> None:
        self._kinds = kinds
        self._snapshot = snapshot
        self._gates = gates
        self._disruptions = disruptions
        self._clock = clock
        self._monitor = monitor
        self._turns = turns
        self._watch = watch

    def carry_out(self, steps: Iterable[Step]) -> list[str]:
        """Raises Unavailable instead of StepFailed if the server or its Docker engine was disrupted meanwhile."""
        began = self._clock.now()
        try:
            remarks = self._carry_out(steps)
        except StepFailed as error:
            self._raise_if_disrupted(began, str(error))
            raise
        except Disrupted as error:
            if _stays_ended(error.on):
                self._apply([Change(error.on, None)])
            raise
        if remarks:
            self._raise_if_disrupted(began, "; ".join(remarks))
        return remarks

    def _raise_if_disrupted(self, began: float, failure: str) -> None:
        """Raise Unavailable for a failure that says nothing about a version, because of what happened meanwhile."""
        if disruption := self._disruptions.since_pass(began):
            raise Unavailable(f"{failure}, and {disruption}")

    def _carry_out(self, steps: Iterable[Step]) -> list[str]:
        remarks: list[str] = []
        every = list(steps)
        is_prepared = False
        for _, group in itertools.groupby(every, self._batch):
            batch = list(group)
            self._clock.wait(0)  # raises Interrupted if something newer came up
            changes = [step for step in batch if isinstance(step, Change)]
            if changes and not is_prepared and self._kinds[changes[0].resource.kind].role in SERVING:
                self._prepare([step for step in every if isinstance(step, Change)])
                is_prepared = True
            self._apply(changes)
            if gates := [step for step in batch if isinstance(step, Gate)]:
                with self._turns.lent(), self._watch(gates) as passed:
                    remarks += self._gates.wait(gates, passed)
        return remarks

    def _prepare(self, changes: Sequence[Change]) -> None:
        """Raise what any of the changes, of all kinds, would fail of."""
        for name, kind in self._kinds.items():
            if any(change.to and change.to.kind == name for change in changes):
                of_kind = [change for change in changes if change.resource.kind == name]
                with _blamed(of_kind):
                    kind.prepare(of_kind)

    def _apply(self, changes: list[Change]) -> None:
        if not changes:
            return
        kind = self._kinds[changes[0].resource.kind]
        for change in changes:
            log.info("step app=%s %s %s %s", change.resource.app, change.verb, kind.name, change.resource.name)
        for app in {change.resource.app for change in changes}:
            self._snapshot.mark_changed(app)
            if self._monitor:
                self._monitor.pause(app)
        if kind.role is Role.ROUTE:
            for change in changes:
                self._gates.trials.forget(change.resource.name)
        # Kong takes together what is ready together: while it does, another app may get as far.
        turn = self._turns.lent() if kind.role is Role.ROUTE else nullcontext()
        with turn, _blamed(changes), self._watch(changes):
            kind.apply(changes)

    def _batch(self, step: Step) -> object:
        """What tells steps that are carried out together: gates, or changes of one kind and direction.

        Routes that come and go are one switch.
        """
        if isinstance(step, Gate):
            return "gate"
        return step.resource.kind, step.to is None and self._kinds[step.resource.kind].role is not Role.ROUTE


@contextmanager
def _blamed(changes: Iterable[Change]) -> Iterator[None]:
    """Inside, a change that is refused is that of the one app and service for which all are."""
    try:
        yield
    except StepFailed as error:
        owners = {(change.resource.app, change.resource.service) for change in changes}
        apps = {app for app, _ in owners if not error.service or (app, error.service) in owners}
        error.app = error.app or (apps.pop() if len(apps) == 1 else "")
        error.service = error.service or (owners.pop()[1] if len(owners) == 1 else "")
        raise


def _stays_ended(unit: Resource) -> bool:
    """May systemd leave the unit as it ended, as that of a job?  If it is removed, the next pass makes it anew."""
    return isinstance(unit.payload, Service) and unit.payload.restart.startswith(("no", "on-failure"))
