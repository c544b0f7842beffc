"""How the apps of this machine are now, and why: by their containers, and by what the monitor saw of their probes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Health, Instance, Role, Roles, Service
from gitops_mvd.core.plan import of_role
from gitops_mvd.core.ports import History
from gitops_mvd.docker.answers import did_not_start
from gitops_mvd.host.gates import PASSED_BY_ENDED, Gates
from gitops_mvd.host.monitor import HEALTHY, Monitor, Verdict
from gitops_mvd.host.snapshot import Snapshot
from gitops_mvd.host.ways import has_ways
from gitops_mvd.probes import is_monitored
from gitops_mvd.systemd.unit_files import UnitFile

UNHEALTHY = {Health.DEGRADED, Health.MISSING, Health.SUSPENDED}
STARTED_WITHIN_SECONDS = 60.0  # after which a container that has a unit should have been started


@dataclass(frozen=True, slots=True)
class ServiceHealth:
    """How a service is, and why it is not healthy; `instances` has each with its own health and why."""

    service: Service
    health: Health
    why: str
    instances: tuple[tuple[Instance, Health, str], ...]

    def seen(self, verdicts: Mapping[str, Verdict]) -> ServiceHealth:
        """The same, as somebody has just found those of its instances that run well by themselves."""
        each = tuple(
            (it, *verdicts[it.name]) if it.name in verdicts and it.health in ("", "healthy") else (it, health, why)
            for it, health, why in self.instances
        )
        if each == self.instances:
            return self
        worst = Health.worst(health for _, health, _ in each)
        return ServiceHealth(self.service, worst, next((why for _, health, why in each if health is worst), ""), each)


class HealthJudge:
    def __init__(
        self, snapshot: Snapshot, roles: Roles, gates: Gates, history: History, monitor: Monitor | None
    ) -> None:
        self._snapshot = snapshot
        self._roles = roles
        self._gates = gates
        self._history = history
        self._monitor = monitor
        self._last_runs: dict[str, Verdict] = {}  # how the last run of each scheduled job ended

    def health(self, app: App) -> Health:
        """The worst of its services; UNKNOWN if Docker does not answer."""
        try:
            instances = self._snapshot.instances(app.name)
        except Unavailable:
            return Health.UNKNOWN
        if self._monitor and (new := [it for it in instances if int(it.started or 0) >= int(self._snapshot.taken)]):
            self._monitor.ask_ports_of_new(self._watched_of(app.name, new))
        return Health.worst(self._of_service(app.name, service, instances) for service in app.services)

    def reason(self, app: App) -> str:
        """What is wrong with it, in a few words; "" if nothing is known to be."""
        try:
            instances = self._snapshot.instances(app.name)
        except Unavailable:
            return ""
        for service in app.services:
            if self._of_service(app.name, service, instances) in UNHEALTHY:
                return f"{service.name}: {self._reason_of_service(app.name, service, instances)}"
        starting = ((instance.service, self._verdict(instance)[1]) for instance in instances)
        return next((f"{service}: {why}" for service, why in starting if why), "")

    def services(self, app: App) -> Iterator[ServiceHealth]:
        """Each service with its instances.  Raises Unavailable."""
        instances = self._snapshot.instances(app.name)
        for service in app.services:
            its = [instance for instance in instances if instance.service == service.name]
            if service.schedule:
                each = tuple((it, *self._last_run(service, it)) for it in its)
                health, why = each[0][1:] if each else self._last_run_of(app.name, service, its)
            else:
                health = self._of_service(app.name, service, instances)
                why = self._reason_of_service(app.name, service, instances) if health in UNHEALTHY else ""
                each = tuple((it, self._of_instance(it, service), self._why_of(it, service)) for it in its)
            yield ServiceHealth(service, health, why or next((reason for *_, reason in each if reason), ""), each)

    def _why_of(self, instance: Instance, service: Service) -> str:
        """Why an instance is not healthy, "" if it is."""
        if instance.state == "running" and _by_its_container(instance, service.check.probe) is Health.HEALTHY:
            return self._verdict(instance)[1]
        is_well = self._of_instance(instance, service) is Health.HEALTHY
        return "" if is_well else self._reason_of_container(instance)

    def to_watch(self) -> list[tuple[Instance, Service]]:
        """The running instances of the last good versions whose health Docker and systemd do not show."""
        every = self._snapshot.every_instance()
        return [pair for app, instances in every.items() for pair in self._watched_of(app, instances)]

    def _watched_of(self, app: str, instances: Sequence[Instance]) -> list[tuple[Instance, Service]]:
        good = self._history.last_good(app)
        asked = [it for it in good.services if is_monitored(it.check) or has_ways(it)] if good else ()
        of = {name: service for service in asked for name in service.instances(app)}
        return [(it, of[it.name]) for it in instances if it.name in of and it.state == "running"]

    def _of_service(self, app: str, service: Service, instances: Sequence[Instance]) -> Health:
        its = [instance for instance in instances if instance.service == service.name]
        if service.schedule:
            return self._last_run_of(app, service, its)[0]
        if its:
            return Health.worst(self._of_instance(instance, service) for instance in its)
        is_done = service.is_job and all(map(self._history.is_job_done, service.instances(app)))
        return Health.HEALTHY if is_done else Health.MISSING

    def _last_run_of(self, app: str, service: Service, instances: Sequence[Instance]) -> Verdict:
        return self._last_run(service, instances[0] if instances else Instance(service.instances(app)[0]))

    def _last_run(self, service: Service, instance: Instance) -> Verdict:
        """How the last run ended.  That counts until the next one has: else a failing job would turn green at each."""
        if instance.state == "running":
            return self._last_runs.get(instance.name, HEALTHY)
        self._last_runs[instance.name] = self._gates.ask_once(instance, service)
        return self._last_runs[instance.name]

    def _of_instance(self, instance: Instance, service: Service) -> Health:
        by_itself = _by_its_container(instance, service.check.probe)
        if instance.state == "created" and self._was_to_be_started(instance):
            return Health.DEGRADED
        runs_well = instance.state == "running" and by_itself is Health.HEALTHY
        return self._verdict(instance)[0] if runs_well else by_itself

    def _was_to_be_started(self, instance: Instance) -> bool:
        """Has a container that never ran had a unit to start it for a while?  During a deploy it has none yet."""
        units = of_role(Role.INSTANCE, self._snapshot.last_found(instance.app), self._roles)
        file = next((unit.payload for unit in units if unit.name == instance.name), None)
        if not isinstance(file, UnitFile):
            return False
        return time.time() - max(file.changed, float(instance.started or 0)) > STARTED_WITHIN_SECONDS

    def _verdict(self, instance: Instance) -> tuple[Health, str]:
        return self._monitor.verdict(instance) if self._monitor else HEALTHY

    def _reason_of_service(self, app: str, service: Service, instances: Sequence[Instance]) -> str:
        its = [instance for instance in instances if instance.service == service.name]
        if service.schedule:
            return self._last_run_of(app, service, its)[1]
        unhealthy = [instance for instance in its if self._of_instance(instance, service) in UNHEALTHY]
        if not unhealthy:
            return "its container is missing"
        first = unhealthy[0]
        is_plain = first.state != "running" or _by_its_container(first, service.check.probe) in UNHEALTHY
        return self._reason_of_container(first) if is_plain else self._verdict(first)[1]

    def _reason_of_container(self, instance: Instance) -> str:
        if instance.lacks:
            return instance.lacks
        match instance.state, instance.health:
            case "running", "unhealthy":
                return "its healthcheck says unhealthy"
            case "created", _:
                refused = self._snapshot.refused(instance)
                return did_not_start(refused) if refused else "its container was never started"
            case (("exited" | "dead" | "restarting"), _):
                refused = self._snapshot.refused(instance)  # its code may be that of the time before
                return did_not_start(refused) if refused else f"exited with code {instance.exit_code}"
            case state, _:
                return f"its container is {state}"


def _by_its_container(instance: Instance, probe: str) -> Health:
    if instance.lacks:
        return Health.DEGRADED
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
