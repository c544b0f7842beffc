"""Waiting at gates: until what was made is seen to do well, and what leaves is seen to be used no more."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gitops_mvd.core.errors import Disrupted, Unavailable, Unhealthy
from gitops_mvd.core.model import COMPLETED, Check, Gate, Health, Instance, Resource, Service
from gitops_mvd.core.ports import Clock, History, Probe, RouteProof
from gitops_mvd.core.rollout import DRAINED, ROUTE_PROOF
from gitops_mvd.docker.answers import moment
from gitops_mvd.docker.client import Engine
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.net import traffic
from gitops_mvd.systemd.client import Systemd

log = logging.getLogger(__name__)

MAY_END = {COMPLETED, "not_failed"}  # the probes that a container passes which has ended well
WAITED_OUT = 2.0  # s after which a gateway that leads to us is believed not to use the old instances any more
STARTED_WITHIN = 5.0  # s after which it is asked why an instance was not started: it may never be
PAUSE = (0.02, 1.0)  # s between two looks, at first and at last
SECRET_NAME = re.compile(r"pass|secret|token|key|credential|dsn|auth", re.IGNORECASE)
NO_GATEWAY = "this host has no gateway"


@dataclass
class Watch:
    """A gate that is being waited at; `row` counts its successes in a row.

    `witnessed` says that the gateway was seen to use one of the instances that it should.
    """

    gate: Gate
    began: float
    next_try: float = 0.0
    row: int = 0
    healthy_since: float = 0.0
    first_start: str = ""
    witnessed: bool = False

    @property
    def lasts(self) -> float:
        """Seconds that are granted to become healthy."""
        return self.gate.check.start_period + self.gate.check.within


class Gates:
    """Asks probes and the gateway for as long as it takes, or as it may take."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        engine: Engine,
        systemd: Systemd,
        disruptions: Disruptions,
        clock: Clock,
        gateway: RouteProof | None,
        history: History,
        received: Callable[[int], int | None] = traffic.received,
    ) -> None:
        self._probes = probes
        self._engine = engine
        self._systemd = systemd
        self._disruptions = disruptions
        self._clock = clock
        self._gateway = gateway
        self._history = history
        self._count = received  # bytes, by process

    def ask(self, instance: Instance, check: Check) -> tuple[Health, str]:
        """One try of a probe."""
        return self._probes[check.probe](instance, check.spec)

    def ask_once(self, instance: Instance, service: Service) -> tuple[Health, str]:
        """One try of a service's probe, with none of its secrets in what is said."""
        health, why = self.ask(instance, service.check)
        return health, _hide(why, _secrets(service)) if why else ""

    def wait(self, gates: Iterable[Gate]) -> list[str]:
        """Wait until every gate is passed, all at once; returns what is said of those that need not be.

        Raises Unhealthy, or Unavailable on could-not-ask.
        """
        watches = [Watch(gate, self._clock.now()) for gate in gates]
        complaints: list[str] = []
        shortest, longest = PAUSE
        pause = shortest
        while watches := [watch for watch in watches if not self._is_over(watch, complaints)]:
            self._clock.wait(pause)
            in_a_row = any(0 < watch.row < watch.gate.check.successes for watch in watches)
            pause = shortest if in_a_row else min(pause * 1.3, longest)
        return complaints

    def _is_over(self, watch: Watch, complaints: list[str]) -> bool:
        try:
            return self._is_passed(watch)
        except Unhealthy as error:
            error.service = watch.gate.on.service
            if watch.gate.required:
                raise
            log.warning("gate not passed app=%s %s: %s", watch.gate.on.app, watch.gate.on.name, error)
            complaints.append(str(error))
            return True

    def _is_passed(self, watch: Watch) -> bool:
        """Look at one gate.  What says no for good fails at once; what may still come is given its time."""
        gate, check, now = watch.gate, watch.gate.check, self._clock.now()
        if now < watch.next_try:
            return False
        watch.next_try = now + check.interval
        health, why = self._ask(watch)
        watch.row = watch.row + 1 if health is Health.HEALTHY else 0
        if 0 < watch.row < check.successes:
            health, why = Health.PROGRESSING, f"was healthy {watch.row} times in a row, and not {check.successes} times"
        watch.healthy_since = (watch.healthy_since or now) if watch.row >= check.successes else 0.0
        if watch.healthy_since and now - watch.healthy_since >= check.hold:
            log.info("gate passed app=%s %s %s after=%.2fs", gate.on.app, gate.on.name, check.probe, now - watch.began)
            if check.probe == COMPLETED:
                self._history.finish(gate.on.name)
            return True
        if health is Health.DEGRADED:
            raise Unhealthy(self._cause(gate, why))
        late = now - watch.began > watch.lasts
        if late and check.probe == DRAINED:
            log.info("not drained app=%s %s after=%.2fs: %s", gate.on.app, gate.on.name, now - watch.began, why)
            return True
        if late and not watch.healthy_since:
            if health is Health.UNKNOWN:
                raise Unavailable(f"{_who(gate.on)}: {why}")
            raise Unhealthy(self._cause(gate, f"{why} for {watch.lasts:g} s"))
        return False

    def _ask(self, watch: Watch) -> tuple[Health, str]:
        return self._ask_gateway(watch) if watch.gate.check.probe == ROUTE_PROOF else self._ask_instance(watch)

    def _ask_instance(self, watch: Watch) -> tuple[Health, str]:
        check, name = watch.gate.check, watch.gate.on.name
        instance = self._engine.instance(name)
        if check.probe == DRAINED:  # however it came to be gone, or came back, is all the same by now
            return self.ask(instance, check) if instance else (Health.HEALTHY, "")
        if instance is None or not instance.started:  # one that Docker did not get to start is removed, too
            if watch.first_start:  # what has ended is removed, and then made anew
                return Health.DEGRADED, self._ended(watch)
            why = f"its container was not {'started' if instance else 'created'}"
            waited = self._clock.now() - watch.began
            if waited > STARTED_WITHIN and (disruption := self._disruptions.since_pass(watch.began)):
                raise Disrupted(f"{_who(watch.gate.on)}: {why}, and {disruption}", watch.gate.on)
            return Health.PROGRESSING, why
        if watch.first_start and instance.started != watch.first_start:
            return Health.DEGRADED, f"{self._ended(watch)}, and was started again"
        watch.first_start = instance.started
        has_ended = instance.state != "running"
        if has_ended and check.probe not in MAY_END:
            health, why = Health.DEGRADED, f"exited with code {instance.exit_code}"
        else:
            health, why = self.ask(instance, check)
        if health is Health.DEGRADED and has_ended and (disruption := self._disruption(watch)):
            raise Disrupted(disruption, watch.gate.on)
        early = self._clock.now() - watch.began < check.start_period  # failures do not count yet
        return (Health.PROGRESSING if early and not has_ended and health is Health.DEGRADED else health), why

    def _ended(self, watch: Watch) -> str:
        if disruption := self._disruption(watch):
            raise Unavailable(disruption)
        code = self._engine.exit_code(watch.gate.on.name, self._clock.now() - watch.began + 1)
        return "ended" if code is None else f"exited with code {code}"

    def _disruption(self, watch: Watch) -> str:
        """Why the end of the instance says nothing about it; "" if it ended by itself."""
        disruption = self._disruptions.since_unix(moment(watch.first_start))
        return f"{_who(watch.gate.on)} ended, and {disruption}" if disruption else ""

    def _ask_gateway(self, watch: Watch) -> tuple[Health, str]:
        """Does the gateway lead to this service, and was it seen to use the instances that it should, and no others?

        Those that left the route still end what they were asked; where nothing can be told apart from that, or nothing
        of an instance can be seen, the gateway is believed after a while.  Once it was seen to use ours, an answer may
        also be that of another host's.
        """
        route, spec = watch.gate.on, watch.gate.check.spec
        if not self._gateway:
            return Health.UNKNOWN, NO_GATEWAY
        if spec.get("everywhere"):
            return self._gateway.everywhere(route)
        used, left = self._received(target["instance"] for target in route.spec["targets"]), spec.get("left", ())
        unused = self._received(left)
        health, why, reached = self._gateway.answers(route)
        if health is not Health.HEALTHY or not (left and reached) or self._clock.now() - watch.began > WAITED_OUT:
            return health, why
        if still := [name for name, count in self._received(unused).items() if count > unused[name]]:
            return Health.PROGRESSING, f"the gateway still uses {still[0]}"
        watch.witnessed = watch.witnessed or not used or self._received(used) != used
        if not watch.witnessed:
            return Health.PROGRESSING, "the gateway was not seen to use the new instances"
        return health, why

    def _received(self, names: Iterable[str]) -> dict[str, int]:
        """The bytes that instances received so far; those of which it can not be told are left out."""
        found = {name: self._engine.instance(name) for name in names}
        counted = {name: self._count(instance.pid) for name, instance in found.items() if instance}
        return {name: count for name, count in counted.items() if count is not None}

    def _cause(self, gate: Gate, why: str) -> str:
        """Why a gate was not passed, with the last lines that the instance printed, and without any of its secrets."""
        if gate.check.probe == ROUTE_PROOF:
            return f"{_who(gate.on)}: {why}"
        said = self._systemd.journal(f"{gate.on.name}.service", lines=5)
        last = f"; it last said: {' | '.join(said)}" if said else ""
        secrets = _secrets(gate.on.payload) if isinstance(gate.on.payload, Service) else []
        return f"{_who(gate.on)}: {_hide(why + last, secrets)}"


def _who(resource: Resource) -> str:
    return resource.service or resource.name


def _secrets(service: Service) -> list[str]:
    named = [value for key, value in service.environment.items() if SECRET_NAME.search(key)]
    lying = [content.strip() for file in service.files for content in file.files.values()]
    return sorted((secret for secret in named + lying if 4 <= len(secret) <= 4096), key=len, reverse=True)


def _hide(line: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        line = line.replace(secret, "***")
    return line
