"""Carries out the steps of a plan: neighbouring changes of one kind together, neighbouring gates together."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping

from gitops_mvd.core.errors import StepFailed
from gitops_mvd.core.model import Change, Gate, Step
from gitops_mvd.core.ports import Clock, Kind
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.monitor import Watch
from gitops_mvd.host.snapshot import Snapshot

log = logging.getLogger(__name__)


class Executor:
    def __init__(
        self, kinds: Mapping[str, Kind], snapshot: Snapshot, gates: Gates, clock: Clock, watch: Watch | None
    ) -> None:
        self._kinds = kinds
        self._snapshot = snapshot
        self._gates = gates
        self._clock = clock
        self._watch = watch

    def carry_out(self, steps: Iterable[Step]) -> list[str]:
        remarks: list[str] = []
        for _, group in itertools.groupby(steps, _batch):
            batch = list(group)
            self._clock.wait(0)  # raises Interrupted if something newer came up
            self._apply([step for step in batch if isinstance(step, Change)])
            remarks += self._gates.wait([step for step in batch if isinstance(step, Gate)])
        return remarks

    def _apply(self, changes: list[Change]) -> None:
        if not changes:
            return
        kind, app = changes[0].resource.kind, changes[0].resource.app
        for change in changes:
            log.info("step app=%s %s %s %s", app, change.verb, kind, change.resource.name)
        self._snapshot.mark_changed(app)
        if self._watch:
            self._watch.leave(app)
        try:
            self._kinds[kind].apply(changes)
        except StepFailed as error:
            services = {change.resource.service for change in changes}
            error.service = services.pop() if len(services) == 1 else ""
            raise


def _batch(step: Step) -> object:
    """What tells steps that are carried out together: gates, or changes of one kind and direction."""
    return "gate" if isinstance(step, Gate) else (step.resource.kind, step.to is None)
