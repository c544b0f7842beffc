"""This machine: the kinds and the probes composed; it carries out steps and waits at gates."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import logging
import socket
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Change, Gate, Health, Instance, Plan, Resource, Service, Step
from gitops_mvd.core.plan import Key, kinds_in_order, make_plan, place
from gitops_mvd.core.policy import Policy, enforce
from gitops_mvd.core.ports import Clock, History, Kind, Precedence
from gitops_mvd.docker.client import Engine
from gitops_mvd.host.gates import PASSED_BY_ENDED, Gates
from gitops_mvd.host.monitor import WELL, Watch
from gitops_mvd.manifest.references import file_names
from gitops_mvd.probes import is_monitored
from gitops_mvd.state.secret_files import SecretFiles

log = logging.getLogger(__name__)

ILL = {Health.DEGRADED, Health.MISSING, Health.SUSPENDED}
PORTS = range(20000, 30000)  # outside of the ephemeral range, which starts at 32768


class Machine:
    """The Host port over real kinds.

    One look at everything serves a whole pass; an app that was changed since is looked at again.  Several apps may be
    settled at once, each in a thread of its own: what they share is only the ports, given out under a lock.
    """

    def __init__(
        self,
        name: str,
        kinds: Mapping[str, Kind],
        engine: Engine,
        gates: Gates,
        clock: Clock,
        *,
        address: str,
        history: History,
        policy: Policy | None = None,
        precedence: Precedence | None = None,
        secrets: SecretFiles | None = None,
        watch: Watch | None = None,
        leaves_routes: bool = False,
    ) -> None:
        """With `leaves_routes`, what was changed by hand at the gateway is told, and not put back."""
        self.name = name
        self._kinds = kinds
        self._order = kinds_in_order({kind.name: kind.after for kind in kinds.values()})
        self._engine = engine
        self._gates = gates
        self._clock = clock
        self._address = address
        self._history = history
        self._policy = policy
        self._precedence = precedence
        self._secrets = secrets
        self._watch = watch
        self._leaves_routes = leaves_routes
        self._is_routed = False
        self._found: dict[str, tuple[Resource, ...]] = {}
        self._instances: Mapping[str, list[Instance]] = {}
        self._blind: dict[str, Unavailable] = {}
        # What was the same at the last look is the same object, so that nothing that follows from it is computed again.
        self._pinned: dict[str, tuple[App, object, App]] = {}
        self._in_order: dict[str, tuple[Sequence[Resource], Sequence[Resource], Set[Key], object]] = {}
        self._asked_for: dict[str, App] = {}  # what the commit wants, of those that were pinned since the last look
        self._wanted: dict[str, tuple[App, int, Sequence[Resource]]] = {}
        self._named: dict[str, tuple[App, Set[str]]] = {}  # the secrets that an app refers to
        self._last_runs: dict[str, Health] = {}  # how the last run of a scheduled job ended
        self._changed: set[str] = set()
        self._given: set[int] = set()
        self._lock = threading.Lock()

    def look(self) -> None:
        """Look at everything of ours, once for a whole pass.  Raises Unavailable where Docker or systemd do not answer.

        A kind that no other kind needs, as routes while Kong is down, holds up only the apps that need it: Kong itself
        may be one of the others.
        """
        if self._secrets:
            self._secrets.look()
        with self._engine.snapshot():
            self._found = self._observe()
            self._instances = self._look_at_instances()
        self._is_routed = any(r.kind == "route" for resources in self._found.values() for r in resources)
        self._changed, self._given, self._asked_for = set(), set(), {}

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
        self._require_secrets(app)
        images = self._engine.images()
        known, by, pinned = self._pinned.get(app.name, (None, None, None))
        if not (pinned and app is known and images is by and all(s.pull_policy != "always" for s in app.services)):
            anew = dataclasses.replace(app, services=tuple(map(self._engine.pin, app.services)))
            pinned = pinned if pinned == anew else anew
            self._pinned[app.name] = app, images, pinned
        self._asked_for[app.name] = pinned
        return pinned

    def _require_secrets(self, app: App) -> None:
        """Raise StepFailed for the first secret file of `app` that this host does not have."""
        known, names = self._named.get(app.name, (None, frozenset[str]()))
        if app is not known:
            names = file_names([*(service.kong for service in app.services), app.kong_entities])
            self._named[app.name] = app, names
        if self._secrets:
            self._secrets.require(names)

    def found(self, app: str) -> tuple[Resource, ...]:
        if app in self._changed:
            self._found = {**self._found, app: self._observe().get(app, ())}
            self._changed.discard(app)
        return self._found.get(app, ())

    def health(self, app: App) -> Health:
        try:
            there = self._instances_of(app)
        except Unavailable:
            return Health.UNKNOWN
        return Health.worst(self._service_health(app.name, service, there) for service in app.services)

    def health_reason(self, app: App) -> str:
        try:
            there = self._instances_of(app)
        except Unavailable:
            return ""
        for service in app.services:
            if self._service_health(app.name, service, there) in ILL:
                return f"{service.name}: {self._complaint(service, there)}"
        starting = ((instance.service, self._verdict(instance)[1]) for instance in there)
        return next((f"{service}: {why}" for service, why in starting if why), "")

    def _instances_of(self, app: App) -> Sequence[Instance]:
        seen = self._look_at_instances() if app.name in self._changed else self._instances
        return seen.get(app.name, ())

    def _complaint(self, service: Service, instances: Sequence[Instance]) -> str:
        there = [instance for instance in instances if instance.service == service.name]
        if service.schedule:
            return self._gates.ask(there[0], service.check)[1] if there else "its last run has failed"
        ill = [instance for instance in there if self._instance_health(instance, service) in ILL]
        if not ill:
            return "its container is missing"
        by_itself = _instance_health(ill[0], service.check.probe)
        return _complaint(ill[0]) if by_itself in ILL else self._verdict(ill[0])[1]

    def _service_health(self, app: str, service: Service, instances: Sequence[Instance]) -> Health:
        there = [instance for instance in instances if instance.service == service.name]
        if service.schedule:
            return self._last_run(service, there or [Instance(service.instances(app)[0])])  # which it never was
        if there:
            return Health.worst(self._instance_health(instance, service) for instance in there)
        done = service.is_job and all(map(self._history.finished, service.instances(app)))
        return Health.HEALTHY if done else Health.MISSING

    def _instance_health(self, instance: Instance, service: Service) -> Health:
        by_itself = _instance_health(instance, service.check.probe)
        runs_well = instance.state == "running" and by_itself is Health.HEALTHY
        return self._verdict(instance)[0] if runs_well else by_itself

    def _verdict(self, instance: Instance) -> tuple[Health, str]:
        return self._watch.verdict(instance) if self._watch else WELL

    def to_watch(self) -> list[tuple[Instance, Service]]:
        """What runs as the version that last worked has it, and would not be seen to fall ill by looking at it."""
        watched: list[tuple[Instance, Service]] = []
        there = self._look_at_instances() if self._changed else self._instances
        for app, instances in there.items():
            good = self._history.last_good(app)
            asked = [service for service in good.services if is_monitored(service.check)] if good else ()
            of = {name: service for service in asked for name in service.instances(app)}
            running = [instance for instance in instances if instance.name in of and instance.state == "running"]
            watched += [(instance, of[instance.name]) for instance in running]
        return watched

    def _last_run(self, service: Service, instances: Sequence[Instance]) -> Health:
        """How the last run ended.  That counts until the next one has: else a failing job would turn green at each."""
        name = instances[0].name
        if instances[0].state == "running":
            return self._last_runs.get(name, Health.HEALTHY)
        self._last_runs[name] = self._gates.ask(instances[0], service.check)[0]
        return self._last_runs[name]

    # ---- what to do --------------------------------------------------------------------------------------------------

    def plan(self, app: App, proven: bool, *, proposed: bool = False) -> Plan:
        known, by, wanted = self._wanted.get(app.name, (None, 0, ()))
        version = self._secrets.version if self._secrets else 0
        if app is not known or by != version:
            wanted = [resource for kind in self._kinds.values() for resource in kind.wanted(app)]
            self._wanted[app.name] = app, version, wanted
        return self._plan(app, wanted, proven, held=app != self._asked_for.get(app.name), proposed=proposed)

    def unrepaired(self, plan: Plan) -> str:
        """A gateway that has nothing of ours any more was not changed by hand but lost it all, and is filled again."""
        changes = [step for step in plan if isinstance(step, Change)]
        is_by_hand = all(change.to and change.to.kind == "route" for change in changes)
        if not (changes and is_by_hand and self._leaves_routes and self._is_routed):
            return ""
        if any(map(self._is_said_elsewhere, changes)):
            return ""
        names = ", ".join(change.resource.name for change in changes)
        return f"route {names}: changed by hand at the gateway, and left so"

    def _is_said_elsewhere(self, change: Change) -> bool:
        """Does it change what another host, which is behind or was rolled back, has said of a shared route?"""
        was, to = change.was, change.to
        if not (self._precedence and was and to) or was.spec["entities"] == to.spec["entities"]:
            return False
        return self._precedence.is_set_by_other_host(was)

    def plan_back(self, app: App, before: Sequence[Resource]) -> Plan:
        return self._plan(App(app.name), before, proven=True, held=True)

    def _plan(self, app: App, wanted: Sequence[Resource], proven: bool, *, held: bool, proposed: bool = False) -> Plan:
        """`held` is a version that is older than the commit, of which other hosts may have a newer one."""
        found = self.found(app.name)
        self._require(wanted, found)
        keys = {resource.key for resource in wanted}
        stays = {resource.key for resource in found if not self._kinds[resource.kind].prunes}
        outdated = keys and any(resource.kind == "image" and resource.key not in keys for resource in found)
        before = self._history.before(app) if outdated else None
        images = {resource.key for resource in self._kinds["image"].wanted(before)} if before else set()
        spare = ((stays | images) - keys) | self._done(app, wanted, found)
        precedence = None if proposed else self._precedence
        looked_at = wanted, found, spare, (held, precedence.cache_key) if precedence else None
        if proven and wanted and self._in_order.get(app.name) == looked_at:
            return Plan()
        with self._lock:
            placed = place(wanted, found, self._address, self._free_ports())
        if precedence:
            have = {route.key: route for route in found if route.kind == "route"}
            placed = [precedence.agree(it, have.get(it.key), held=held) if it.kind == "route" else it for it in placed]
        plan = make_plan(app, placed, found, self._order, proven=proven, spare=spare)
        if proven and not plan:
            self._in_order[app.name] = looked_at
        return plan

    def _done(self, app: App, wanted: Sequence[Resource], found: Sequence[Resource]) -> set[Key]:
        """The jobs that have done their work, whatever is left of them: a content is never done twice."""
        jobs = {service.name for service in app.services if service.is_job}
        units = [unit for unit in wanted if unit.kind == "unit" and unit.service in jobs and unit not in found]
        return {unit.key for unit in units if self._history.finished(unit.name)}

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

    def carry_out(self, steps: Iterable[Step]) -> list[str]:
        complaints: list[str] = []
        for _, group in itertools.groupby(steps, _batch):
            batch = list(group)
            self._clock.wait(0)
            self._apply([step for step in batch if isinstance(step, Change)])
            complaints += self._gates.wait([step for step in batch if isinstance(step, Gate)])
        return complaints

    def _apply(self, changes: list[Change]) -> None:
        if not changes:
            return
        kind, app = changes[0].resource.kind, changes[0].resource.app
        for change in changes:
            log.info("step app=%s %s %s %s", app, change.verb, kind, change.resource.name)
        self._changed.add(app)
        if self._watch:
            self._watch.leave(app)
        try:
            self._kinds[kind].apply(changes)
        except StepFailed as error:
            services = {change.resource.service for change in changes}
            error.service = services.pop() if len(services) == 1 else ""
            raise


def _batch(step: Step) -> object:
    """Steps that are carried out together: neighbouring gates, or neighbouring changes of one kind and direction."""
    return "gate" if isinstance(step, Gate) else (step.resource.kind, step.to is None)


def _instance_health(instance: Instance, probe: str) -> Health:
    match instance.state, instance.health:
        case "exited", _ if probe in PASSED_BY_ENDED and instance.exit_code == 0:
            return Health.HEALTHY
        case "running", "" | "healthy":
            return Health.HEALTHY
        case ("running", "starting") | ("created", _):
            return Health.PROGRESSING
        case "paused", _:
            return Health.SUSPENDED
        case _:
            return Health.DEGRADED


def _complaint(instance: Instance) -> str:
    match instance.state, instance.health:
        case "running", "unhealthy":
            return "its healthcheck says unhealthy"
        case (("exited" | "dead" | "restarting"), _):
            return f"exited with code {instance.exit_code}"
        case state, _:
            return f"its container is {state}"
