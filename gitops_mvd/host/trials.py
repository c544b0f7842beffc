"""Trials: is a new version as good as the old one, by what the gateway tells of their requests?"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from gitops_mvd.core import canary
from gitops_mvd.core.canary import Judge, Numbers
from gitops_mvd.core.errors import OnItsWay, Unavailable
from gitops_mvd.core.model import Gate, Health, Json, Resource
from gitops_mvd.core.ports import Clock, RouteProof, Watch

log = logging.getLogger(__name__)

PASS_SECONDS = 20.0  # after which other apps have their turn
UNHEARD = (
    "Kong does not tell of its requests by the plugin udp-log: is it enabled, and can Kong reach `kong.address` by UDP?"
)


@dataclass(slots=True)
class Trial:
    """One share of the traffic that is being judged since it `began`, 0 for not yet; `spec` says which."""

    spec: Json
    watch: Watch
    began: float = 0.0

    def sums(self) -> tuple[Numbers, Numbers]:
        """What became of the requests of the new version, and of those of the old one."""
        by_address = self.watch.numbers()
        new, old = ([by_address[address] for address in self.spec[side]] for side in ("new", "old"))
        return canary.total(new), canary.total(old)


@dataclass
class Trials:
    """The trials of this moment, by the name of the route.

    They go on from one pass to the next, for as long as the route stays as it is.
    """

    clock: Clock
    route_proof: RouteProof | None
    _trials: dict[str, Trial] = field(default_factory=dict)

    def ask(self, gate: Gate, waits_since: float) -> tuple[Health, str, bool]:
        """How it stands: the health, why it is not healthy, and whether it is over.

        Raises OnItsWay if others have waited for long enough.
        """
        route, spec, name = gate.resource, gate.check.spec, gate.resource.name
        trial, now = self._trials.get(name), self.clock.now()
        if trial is None or trial.spec != spec:
            trial = self._trials[name] = Trial(spec, self._watch(gate))
        if not trial.began:
            return *self._begin(gate, trial), False
        new, old = trial.sums()
        judge, is_over = Judge(**spec["judge"]), now - trial.began >= gate.check.hold
        if why := canary.objection(new, old, judge, is_over=is_over):
            del self._trials[name]
            return Health.DEGRADED, f"canary at {spec['share']} %: {why}", False
        if is_over:
            del self._trials[name]
            self._require_counted(route)
            told = canary.told(new, old, judge)
            log.info("canary passed app=%s %s share=%d%%: %s", route.app, route.service, spec["share"], told)
        elif now - waits_since > PASS_SECONDS:
            who = f"{route.service} gets {spec['share']} % of the requests"
            raise OnItsWay(f"canary: the new {who}, for {gate.check.hold:g} s")
        return Health.HEALTHY, "", is_over

    def ask_for_turn(self, gate: Gate, waits_since: float) -> tuple[Health, str]:
        """May this host give a new version its first share now?  If not, why not.

        Raises Unavailable; OnItsWay if others have waited for long enough.
        """
        why = self._proof().judged_elsewhere(gate.resource)
        if why and self.clock.now() - waits_since > PASS_SECONDS:
            raise OnItsWay(why)
        return (Health.PROGRESSING if why else Health.HEALTHY), why

    def forget(self, route: str) -> None:
        """The route is changed: what was counted says nothing about it any more."""
        self._trials.pop(route, None)

    def _proof(self) -> RouteProof:
        if not self.route_proof:
            raise Unavailable("this host has no Kong", "set `kong` in its settings")
        return self.route_proof

    def _require_counted(self, route: Resource) -> None:
        """Raise Unavailable unless Kong still tells of the requests: what it has told until then may be little.

        Somebody may have removed its plugin, or another host has taken its turn: what was judged is judged anew.
        """
        if not self._proof().is_counted(route):
            raise Unavailable(f"Kong no longer tells of the requests of {route.service}, which is judged anew")

    def _watch(self, gate: Gate) -> Watch:
        spec = gate.check.spec
        return self._proof().watch(gate.resource, [*spec["new"], *spec["old"]])

    def _begin(self, gate: Gate, trial: Trial) -> tuple[Health, str]:
        """Begin the trial once Kong uses the shares and, if a request can show it, tells of its requests."""
        route = gate.resource
        health, why, is_from_instance = self._proof().answers(route)
        if health is not Health.HEALTHY:
            return health, why
        if is_from_instance and not trial.watch.is_heard():
            return Health.UNKNOWN, UNHEARD
        trial.watch, trial.began = self._watch(gate), self.clock.now()
        log.info("canary begun app=%s %s share=%d%%", route.app, route.service, trial.spec["share"])
        return Health.HEALTHY, ""
