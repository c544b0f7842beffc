"""This machine: the kinds and the probes composed; it carries out steps and waits at gates."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import logging
import re
import socket
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from gitops_mvd.engine import Engine
from gitops_mvd.errors import Unavailable, Unhealthy
from gitops_mvd.model import App, Change, Gate, Health, Instance, Plan, Resource, Service, Step
from gitops_mvd.plan import Key, kinds_in_order, make_plan, place
from gitops_mvd.policy import Policy, enforce
from gitops_mvd.ports import Clock, Kind, Probe
from gitops_mvd.systemd import Systemd

log = logging.getLogger(__name__)

PORTS = range(20000, 30000)  # outside of the ephemeral range, which starts at 32768
MAY_END = {"completed", "not_failed"}  # the probes that a container passes which has ended well
SECRET_NAME = re.compile(r"pass|secret|token|key|credential|dsn|auth", re.IGNORECASE)
Answers = Callable[[Resource], tuple[Health, str]]


@dataclass
class Watch:
    """A gate that is being waited at."""

    gate: Gate
    began: float
    healthy_since: float = 0.0
    first_start: str = ""


class Machine:
    """The Host port over real kinds.

    One look at everything serves a whole pass; an app that was changed since is looked at again.  Several apps may be
    settled at once, each in a thread of its own: what they share is only the ports, given out under a lock.
    """

    def __init__(
        self,
        name: str,
        kinds: Mapping[str, Kind],
        probes: Mapping[str, Probe],
        engine: Engine,
        systemd: Systemd,
        clock: Clock,
        *,
        address: str,
        answers: Answers,
        before: Callable[[App], App | None],
        policy: Policy | None = None,
    ) -> None:
        self.name = name
        self._kinds = kinds
        self._order = kinds_in_order({kind.name: kind.after for kind in kinds.values()})
        self._probes = probes
        self._engine = engine
        self._systemd = systemd
        self._clock = clock
        self._address = address
        self._answers = answers
        self._before = before
        self._policy = policy
        self._found: dict[str, tuple[Resource, ...]] = {}
        self._instances: Mapping[str, list[Instance]] = {}
        self._blind: dict[str, Unavailable] = {}
        # What was the same at the last look is the same object, so that nothing that follows from it is computed again.
        self._pinned: dict[str, tuple[App, object, App]] = {}
        self._in_order: dict[str, tuple[Sequence[Resource], Sequence[Resource], Set[Key]]] = {}
        self._wanted: dict[str, tuple[App, Sequence[Resource]]] = {}
        self._changed: set[str] = set()
        self._given: set[int] = set()
        self._lock = threading.Lock()

    def look(self) -> None:
        """Look at everything of ours, once for a whole pass.  Raises Unavailable where Docker or systemd do not answer.

        A kind that no other kind needs, as routes while Kong is down, holds up only the apps that need it: Kong itself
        may be one of the others.
        """
        with self._engine.one_look():
            self._found = self._observe()
            self._instances = self._look_at_instances()
        self._changed, self._given = set(), set()

    def _look_at_instances(self) -> Mapping[str, list[Instance]]:
        by_app = defaultdict(list)
        for instance in self._engine.instances().values():
            by_app[instance.app].append(instance)
        return by_app

    def _observe(self) -> dict[str, tuple[Resource, ...]]:
        by_app, blind = defaultdict(list), {}
        for kind in self._kinds.values():
            try:
                for resource in kind.observe():
                    by_app[resource.app].append(resource)
            except Unavailable as error:
                if any(kind.name in other.after for other in self._kinds.values()):
                    raise
                blind[kind.name] = error
        self._blind = blind
        return {app: tuple(resources) for app, resources in by_app.items()}

    # ---- what there is -----------------------------------------------------------------------------------------------

    def apps(self) -> Iterable[str]:
        pruned = {name for name, kind in self._kinds.items() if kind.prunes}
        return [app for app, resources in self._found.items() if any(r.kind in pruned for r in resources)]

    def pin(self, app: App) -> App:
        enforce(self._policy, app)
        self._engine.require_externals(app)
        images = self._engine.images()
        known, by, pinned = self._pinned.get(app.name, (None, None, None))
        if pinned and app is known and images is by and all(s.pull_policy != "always" for s in app.services):
            return pinned
        anew = dataclasses.replace(app, services=tuple(map(self._engine.pin, app.services)))
        pinned = pinned if pinned == anew else anew
        self._pinned[app.name] = app, images, pinned
        return pinned

    def found(self, app: str) -> tuple[Resource, ...]:
        if app in self._changed:
            self._found = {**self._found, app: self._observe().get(app, ())}
            self._changed.discard(app)
        return self._found.get(app, ())

    def health(self, app: App) -> Health:
        try:
            seen = self._look_at_instances() if app.name in self._changed else self._instances
        except Unavailable:
            return Health.UNKNOWN
        return Health.worst(_service_health(service, seen.get(app.name, ())) for service in app.services)

    # ---- what to do --------------------------------------------------------------------------------------------------

    def plan(self, app: App, proven: bool) -> Plan:
        known, wanted = self._wanted.get(app.name, (None, ()))
        if app is not known:
            wanted = [resource for kind in self._kinds.values() for resource in kind.wanted(app)]
            self._wanted[app.name] = app, wanted
        return self._plan(app, wanted, proven)

    def way_back(self, app: App, before: Sequence[Resource]) -> Plan:
        return self._plan(App(app.name), before, proven=True)

    def _plan(self, app: App, wanted: Sequence[Resource], proven: bool) -> Plan:
        found = self.found(app.name)
        self._require(wanted, found)
        keys = {resource.key for resource in wanted}
        stays = {resource.key for resource in found if not self._kinds[resource.kind].prunes}
        spare = keys and any(resource.kind == "image" and resource.key not in keys for resource in found)
        before = self._before(app) if spare else None
        images = {resource.key for resource in self._kinds["image"].wanted(before)} if before else set()
        looked_at = wanted, found, (stays | images) - keys
        if proven and wanted and self._in_order.get(app.name) == looked_at:
            return Plan()
        with self._lock:
            placed = place(wanted, found, self._address, self._free_ports())
        plan = make_plan(app, placed, found, self._order, proven=proven, spare=looked_at[2])
        if proven and not plan:
            self._in_order[app.name] = looked_at
        return plan

    def _require(self, wanted: Sequence[Resource], found: Sequence[Resource]) -> None:
        """Raise Unavailable where this app needs, or an instance of it has, something that could not be looked at."""
        needed = {resource.kind for resource in wanted}
        if any(resource.kind == "unit" and resource.spec["port"] for resource in found):
            needed.add("route")
        for kind in needed & self._blind.keys():
            raise Unavailable(self._blind[kind].message, self._blind[kind].hint)

    def _free_ports(self) -> Iterator[int]:
        """Ports that no unit of ours has, none was given in this pass, and nothing listens on."""
        units = (r for resources in self._found.values() for r in resources if r.kind == "unit")
        taken = {resource.spec["port"] for resource in units}
        for port in PORTS:
            if port not in taken and port not in self._given and self._is_free(port):
                self._given.add(port)
                yield port
        raise Unavailable(f"no free port is left in {PORTS.start}-{PORTS.stop - 1}")

    def _is_free(self, port: int) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((self._address, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                raise Unavailable(f"{self._address} is no address of this host: {error.strerror}") from error
        return True

    # ---- doing it ----------------------------------------------------------------------------------------------------

    def carry_out(self, steps: Iterable[Step]) -> None:
        for _, group in itertools.groupby(steps, _batch):
            batch = list(group)
            self._clock.wait(0)
            self._apply([step for step in batch if isinstance(step, Change)])
            self._pass([step for step in batch if isinstance(step, Gate)])

    def _apply(self, changes: list[Change]) -> None:
        if not changes:
            return
        kind, app = changes[0].resource.kind, changes[0].resource.app
        for change in changes:
            log.info("step app=%s %s %s %s", app, change.verb, kind, change.resource.name)
        self._changed.add(app)
        self._kinds[kind].apply(changes)

    def _pass(self, gates: Iterable[Gate]) -> None:
        """Wait until every gate is passed, all at once.  Raises Unhealthy, or Unavailable on could-not-ask."""
        watches = [Watch(gate, self._clock.now()) for gate in gates]
        pause = 0.02
        while watches := [watch for watch in watches if not self._passed(watch)]:
            self._clock.wait(pause)
            pause = min(pause * 1.3, 1.0)

    def _passed(self, watch: Watch) -> bool:
        """Look at one gate.  What says no for good fails at once; what may still come is given its time."""
        gate, now = watch.gate, self._clock.now()
        health, why, start = self._ask(gate)
        if watch.first_start and start != watch.first_start:
            health, why = Health.DEGRADED, "restarted while it was being watched"
        watch.first_start = watch.first_start or start
        watch.healthy_since = (watch.healthy_since or now) if health is Health.HEALTHY else 0.0
        if watch.healthy_since and now - watch.healthy_since >= gate.check.hold:
            log.info("gate passed app=%s %s after=%.2fs", gate.on.app, gate.on.name, now - watch.began)
            return True
        if health is Health.DEGRADED:
            raise Unhealthy(self._cause(gate, why))
        if not watch.healthy_since and now - watch.began > gate.check.within:
            if health is Health.UNKNOWN:
                raise Unavailable(f"{_who(gate.on)}: {why}")
            raise Unhealthy(self._cause(gate, f"{why} for {gate.check.within:g} s"))
        return False

    def _ask(self, gate: Gate) -> tuple[Health, str, str]:
        if gate.on.kind == "route":
            return *self._answers(gate.on), ""
        instance = self._engine.instance(gate.on.name)
        if instance is None:
            return Health.PROGRESSING, "its container was not created", ""
        if instance.state in {"", "created"}:
            return Health.PROGRESSING, "its container was not started", ""
        if instance.state != "running" and gate.check.probe not in MAY_END:
            return Health.DEGRADED, f"exited with code {instance.exit_code}", instance.started
        health, why = self._probes[gate.check.probe](instance, gate.check.spec)
        return health, why, instance.started

    def _cause(self, gate: Gate, why: str) -> str:
        """Why a gate was not passed, with the last lines that the instance printed."""
        if gate.on.kind != "unit":
            return f"{_who(gate.on)}: {why}"
        said = self._systemd.journal(f"{gate.on.name}.service", lines=5)
        secrets = _secrets(gate.on.payload) if isinstance(gate.on.payload, Service) else []
        said = [_hide(line, secrets) for line in said]
        return f"{_who(gate.on)}: {why}" + (f"; it last said: {' | '.join(said)}" if said else "")


def _batch(step: Step) -> object:
    """Steps that are carried out together: neighbouring gates, or neighbouring changes of one kind and direction."""
    return "gate" if isinstance(step, Gate) else (step.resource.kind, step.to is None)


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


def _service_health(service: Service, instances: Sequence[Instance]) -> Health:
    there = [instance for instance in instances if instance.service == service.name]
    if not there:
        return Health.MISSING
    return Health.worst(_instance_health(instance, service.check.probe) for instance in there)


def _instance_health(instance: Instance, probe: str) -> Health:
    match instance.state, instance.health:
        case "exited", _ if probe in MAY_END and instance.exit_code == 0:
            return Health.HEALTHY
        case "running", "" | "healthy":
            return Health.HEALTHY
        case ("running", "starting") | ("created", _):
            return Health.PROGRESSING
        case "paused", _:
            return Health.SUSPENDED
        case _:
            return Health.DEGRADED
