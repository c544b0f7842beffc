"""How the instances of one service are replaced: so many at a time, each proven before the next.  Pure.

Start-first makes new ones beside the old ones, so that there are never fewer in service than before; stop-first makes
room first.  The last batch leaves its route, and start-first its old instances, to the end: they are switched and
cleaned up together with those of the app's other services, after all of them were proven.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from typing import NamedTuple

from gitops_mvd.core import canary
from gitops_mvd.core.model import RUNNING, STAGED, Change, Check, Gate, Resource, Service, Step
from gitops_mvd.core.route import Counted, Target, weighing, weight

SWITCHED_WITHIN_SECONDS = 30.0  # s; covers both of Kong's default frequencies of 5 s, several times over
ROUTE_PROOF = "route"  # the check of a route: does it lead to its instances, and to no others?
ON_EVERY_NODE = Check(ROUTE_PROOF, {"everywhere": True}, within=120.0)
DRAINED = "drained"
TURN = Check(canary.TURN, within=SWITCHED_WITHIN_SECONDS, interval=2.0)
QUIET_SECONDS = 1.0  # s without a connection until an old instance counts as drained


class Share(NamedTuple):
    """The steps of one share of the traffic: what is waited for `before`, the switch, and the gates behind it."""

    before: Sequence[Step] = ()
    switch: Sequence[Step] = ()
    gates: Sequence[Step] = ()


@dataclass
class Rollout:
    """The rollout of one service: `new` instances are made, in batches, and `old` ones are deleted.

    `current` instances are as they should be, but have to be proven again.  The text of `outdated` ones is written anew
    while they run.  `have` is what was found, by name.  `route` is the route as Kong has it by now, and `to` the one
    it should have in the end; None without a route.  `routed` are the instances that the route led to at first.
    `timers` start old instances, and are deleted with them.  `tried` are the instances of the version that last worked,
    as far as that is known.  A new version that `is_tried` worked before, and gets all of the traffic at once.  Hosts
    that share a Kong judge their canaries one host after the other: this one `takes_turns`.
    """

    service: Service
    new: Sequence[Resource]
    current: Sequence[Resource]
    old: Sequence[Resource]
    have: Mapping[str, Resource]
    route: Resource | None
    to: Resource | None
    routed: Set[str] = frozenset()
    all_in_one_batch: bool = False
    outdated: Sequence[Resource] = ()
    timers: Sequence[Resource] = ()
    tried: Set[str] = frozenset()
    is_tried: bool = False
    takes_turns: bool = False
    removed: set[tuple[str, str]] = field(default_factory=set)  # the old ones, and their timers, deleted on the way
    added: set[str] = field(default_factory=set)  # the new ones that were routed on the way

    @property
    def is_stop_first(self) -> bool:
        return self.service.update.order == "stop-first"

    @property
    def is_canary(self) -> bool:
        """Does the new version get its traffic by and by?  It has to be new, and beside another one that serves.

        A host that is to have no traffic at all has none to share.
        """
        if not self.service.canary or self.all_in_one_batch or self.is_tried or self.is_stop_first:
            return False
        has_traffic = self.route and self.to and any(map(weight, self.to.spec["targets"]))
        return bool(has_traffic and self.routed & self.others)

    @property
    def others(self) -> Set[str]:
        """The old instances that are not of the new version, as those are that it has too many of."""
        return {it.name for it in self.old if not it.name.startswith(self.service.instances(it.app)[0])}

    @property
    def is_found_by_name(self) -> bool:
        """Do other services find it by its alias on a network, which the old and the new version would share?

        The alias of a service of a Swarm cannot be changed while its tasks run: there they do share it.
        """
        beside = not self.is_stop_first and not self.service.schedule and not self.service.swarm
        return beside and bool(self.service.run.get("networks"))  # nobody else is on that of a lone service

    def batches(self) -> list[Sequence[Resource]]:
        """The new instances.  Only those that replace others have to take turns."""
        takes_turns = self.old and not (self.all_in_one_batch or self.is_canary)
        size = (self.service.update.parallelism if takes_turns else 0) or max(1, len(self.new))
        return [self.new[start : start + size] for start in range(0, len(self.new), size)]

    def steps(self) -> Iterator[Step]:
        """All steps but the proof of the last batch, which is `unproven` yet."""
        yield from (Change(self.have[unit.name], unit) for unit in self.outdated)
        batches = self.batches()
        for batch in batches[:-1]:
            leaving = self.remaining()[: len(batch)]
            if self.is_stop_first:
                yield from self._retire(leaving)
            yield from self._make(batch)
            yield from prove([(self, batch)])
            yield from self._retire(() if self.is_stop_first else leaving, arriving=batch)
            if delay := self.service.update.delay:
                yield from (self.gate(unit, hold=delay) for unit in batch)
        for batch in batches[-1:]:
            if self.is_stop_first:
                yield from self._retire(self.remaining())
            yield from self._make(batch)

    def shares(self) -> Iterator[Share]:
        """The shares that the new version gets of the traffic before it gets all.

        The new instances take part in it together, and of the old ones those that worked before: what is left of
        another version that nobody has judged to the end leaves the route at once.
        """
        rules, route = self.service.canary, self.route
        if not (self.is_canary and rules and route and self.to):
            return
        leaves = {unit.name for unit in self.remaining()} & self.others
        old = [target for target in route.spec["targets"] if target["instance"] in leaves]
        old = [target for target in old if target["instance"] in self.tried] or old
        new = self.to.spec["targets"]
        if not (old and new):
            return
        by_name = {target["instance"]: weight(target) for target in route.spec["targets"]}
        reached = canary.share_of(
            [by_name.get(target["instance"], 0) for target in new], [by_name[target["instance"]] for target in old]
        )
        before: list[Step] = [Gate(route, TURN, self._is_required)] if self.takes_turns else []
        for share in canary.from_here(rules.steps, reached):
            heavy, light = canary.weights(share, len(new), len(old))
            targets = [weighing(target, each) for target, each in zip(new, heavy, strict=True)]
            targets += [weighing(target, light) for target in old]
            counted = Counted(share=share, lasts=rules.lasts + self.service.check.hold)
            switch = route.with_spec(targets=sorted(targets, key=lambda target: target["instance"]), counted=counted)
            yield Share(before, *self._given(share, switch, new, old, rules))
            before = []

    def _given(
        self, share: int, switch: Resource, new: Sequence[Target], old: Sequence[Target], rules: canary.Canary
    ) -> tuple[list[Step], list[Step]]:
        """The new instances get their share, are judged by it, and are asked for their health once more after that."""
        was, self.route = self.route, switch
        spec = {
            "share": share,
            "new": [target["address"] for target in new],
            "old": [target["address"] for target in old],
            "judge": asdict(rules.judge),
        }
        check = Check(canary.PROBE, spec, within=SWITCHED_WITHIN_SECONDS, hold=rules.lasts)
        units = [self.gate(unit, hold=0.0) for unit in (*self.current, *self.new)]
        return [Change(was, switch)] if was != switch else [], [Gate(switch, check, self._is_required), *units]

    def retire_rest(self) -> Iterator[Step]:
        """Let all old instances go before the end, once the new ones were proven."""
        yield from self._retire(self.remaining(), arriving=(self.batches() or [()])[-1])

    def _make(self, batch: Iterable[Resource]) -> Iterator[Step]:
        for unit in batch:
            found = self.have.get(unit.name)
            if not (found and found.spec["state"] == STAGED):  # it lacks only the alias, which it gets after its gate
                yield Change(found, self.staged(unit))

    def unproven(self) -> Sequence[Resource]:
        """The instances to wait for once the steps are done."""
        return [*self.current, *(self.batches() or [()])[-1]]

    def remaining(self) -> Sequence[Resource]:
        """The old instances that were not deleted yet."""
        return [unit for unit in self.old if unit.key not in self.removed]

    def staged(self, unit: Resource) -> Resource:
        """The instance until it is proven: without the alias of its service, if another version has that."""
        found = self.have.get(unit.name)
        if found and found.spec["state"] == STAGED:
            return found
        return unit.with_spec(state=STAGED) if self.old and found is None and self.is_found_by_name else unit

    def is_staged_at_first(self, name: str) -> bool:
        """Is the instance of that name among those that are made without the alias of the service?"""
        return any(unit.name == name and self.staged(unit) != unit for unit in self.new)

    def gate(self, unit: Resource, hold: float | None = None) -> Gate:
        check = self.service.check if hold is None else replace(self.service.check, hold=hold)
        return Gate(unit, check, self._is_required)

    def switched(self, route: Resource, left: Iterable[Resource]) -> Gate:
        """Wait until Kong uses the targets of a route, and no longer the instances that `left` it."""
        names = sorted(unit.name for unit in left)
        check = Check(ROUTE_PROOF, within=SWITCHED_WITHIN_SECONDS)
        if names:  # several times, as another worker of Kong may answer
            check = replace(check, spec={"left": names}, successes=3)
        return Gate(route, check, self._is_required)

    @property
    def _is_required(self) -> bool:
        return self.service.update.failure_action != "continue"

    def _retire(self, leaving: Sequence[Resource], arriving: Iterable[Resource] = ()) -> Iterator[Step]:
        """Old instances leave the route, and new ones enter it; then the old ones are drained and deleted."""
        names = {unit.name for unit in leaving}
        timers = [timer for timer in self.timers if timer.name in names]
        yield from (Change(timer, None) for timer in timers)
        if switch := self._switched(leaving, arriving):
            yield Change(self.route, switch)
            self.route = switch
            if self.to and any(target in self.to.spec["targets"] for target in switch.spec["targets"]):
                yield self.switched(switch, leaving)  # the health of old ones that stay says nothing about the new ones
        if leaving and (switch or self.is_found_by_name):
            named = {self.service.name} if self.is_found_by_name else set()
            yield from drained([switch] if switch else (), leaving, named, self.routed)
        yield from (Change(unit, None) for unit in leaving)
        self.removed |= {resource.key for resource in (*timers, *leaving)}

    def _switched(self, leaving: Iterable[Resource], arriving: Iterable[Resource]) -> Resource | None:
        """The route as Kong has it, with other targets; None if that would leave no target, or change none."""
        if not (self.route and self.to):
            return None
        added = {unit.name for unit in arriving}
        removed = {name for _, name in self.removed}
        stay = (self.have.keys() | self.added) - {unit.name for unit in leaving} - removed - added
        self.added |= added
        targets = [target for target in self.route.spec["targets"] if target["instance"] in stay]
        targets += [target for target in self.to.spec["targets"] if target["instance"] in added]
        targets.sort(key=lambda target: str(target["instance"]))
        return self.route.with_spec(targets=targets) if targets not in ([], self.route.spec["targets"]) else None


def prove(batches: Iterable[tuple[Rollout, Iterable[Resource]]]) -> Iterator[Step]:
    """Wait for all that was made; what is proven then gets the alias by which other services find it."""
    made = [(rollout, unit) for rollout, units in batches for unit in units if not rollout.service.schedule]
    yield from (rollout.gate(rollout.staged(unit)) for rollout, unit in made)
    staged = [(rollout, unit) for rollout, unit in made if rollout.staged(unit) != unit]
    yield from (Change(rollout.staged(unit), unit) for rollout, unit in staged)
    yield from (rollout.gate(unit, hold=0.0) for rollout, unit in staged)


def drained(
    routes: Iterable[Resource], leaving: Sequence[Resource], named: Set[str], routed: Set[str]
) -> Iterator[Step]:
    """Wait until the leaving instances get no new requests and have finished the open ones, or their grace is over.

    No node of Kong knows them any more.  If their service is `named`, they lose its alias, which others have by now.  A
    request may still be on its way to one that was `routed` or had the alias until now: it must have had no connection
    for a moment.  That is left out if Kong is seen to have no open request, unless others may come by the name.
    """
    yield from (Gate(route, ON_EVERY_NODE) for route in routes)
    found = [unit for unit in leaving if unit.service in named and unit.spec["state"] == RUNNING]
    yield from (Change(unit, unit.with_spec(state=STAGED)) for unit in found)
    for unit in leaving:
        if unit.spec["port"] or unit.service in named:
            grace = float(unit.spec["grace"])
            hold = min(QUIET_SECONDS, grace) if unit in found or unit.name in routed else 0.0
            yield Gate(unit, Check(DRAINED, {"by_name": True} if unit in found else {}, within=grace, hold=hold))
