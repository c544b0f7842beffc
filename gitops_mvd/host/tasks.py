"""The tasks of a service of a Swarm, asked on whichever nodes they are: what probes see, and gates and Kong rely on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from gitops_mvd.core.errors import NotNow
from gitops_mvd.core.model import Check, Health, Instance, Service
from gitops_mvd.core.ports import History, Probe
from gitops_mvd.docker.answers import refused_start
from gitops_mvd.docker.swarm import Manager, Running, Task
from gitops_mvd.probes import known

CONNECTS = {name for name, probe in known().items() if probe.connects}
PASSED_BY_ENDED = {name for name, probe in known().items() if probe.passes_ended}
LOG_LINES = 5


@dataclass(frozen=True, slots=True)
class First:
    """The tasks of a service as a gate found them: the ids of those that had `failed`, and whether any `ran`."""

    failed: frozenset[str] = frozenset()
    ran: bool = False


class Tasks:
    """Asks every task of a service; it is as healthy as the worst of them.

    `ready` has the ids of the tasks that were healthy at a gate or when they came up in place of others, and
    `is_waited_for` says whether one of these was not, when somebody asked last.
    """

    def __init__(self, manager: Manager, probes: Mapping[str, Probe], history: History) -> None:
        self._manager = manager
        self._probes = probes
        self._history = history
        self._ready: set[str] = set()
        self.is_waited_for = False

    def ask(self, name: str, check: Check) -> tuple[Health, str]:
        """One try of a probe at every task."""
        found = self._manager.service(name)
        if found is None:
            return Health.MISSING, "its service is gone"
        return (Health.PROGRESSING, found.lacks) if found.lacks else self._ask(found, check)

    def at_gate(self, name: str, check: Check, first: First | None, *, is_late: bool) -> tuple[Health, str, First]:
        """The same at a gate, and how its tasks were at the `first` try there, None if this is it.

        A task that has failed since ends it.  All tasks of a new version have to run; one that ran already, and may
        have lost a node, is not asked for more than it has.  Raises NotNow if tasks are late and none has failed, as
        when no node has room for them or the image is large, and what a node refused a task for.
        """
        found = self._manager.service(name)
        if found is None:
            return Health.PROGRESSING, "its service was not created", first or First()
        first = first or First(frozenset(task.id for task in found.failed), bool(found.serving))
        for task in found.failed:
            if task.id not in first.failed:
                if task.refused:
                    raise refused_start(found.labels.get("service", ""), task.why)
                return Health.DEGRADED, f"its task {task.why}", first
        lacks = found.lacks if not (first.ran and found.serving) else ""
        if lacks and is_late:
            raise NotNow(f"{found.labels.get('service')}: {lacks}", f"See docker service ps {name}, and docker node ls")
        health, why = (Health.PROGRESSING, lacks) if lacks else self._ask(found, check)
        if health is Health.HEALTHY:
            self._ready |= {task.id for task in found.serving}
        return health, why, first

    def _ask(self, found: Running, check: Check) -> tuple[Health, str]:
        if found.is_completed:
            done = check.probe in PASSED_BY_ENDED
            return (Health.HEALTHY, "") if done else (Health.DEGRADED, "exited with code 0")
        answers = [self._ask_task(task, check) for task in found.serving]
        return max(
            answers, key=lambda answer: list(Health).index(answer[0]), default=(Health.PROGRESSING, "has no task")
        )

    def _ask_task(self, task: Task, check: Check) -> tuple[Health, str]:
        """A probe that connects is asked where the node publishes the port; what else there is, Swarm has seen."""
        if check.probe not in CONNECTS:
            ends = check.probe == "completed"
            return (Health.PROGRESSING, "still runs") if ends else (Health.HEALTHY, "")
        port = int(check.spec["port"])
        if port not in task.ports or not task.address:
            # The Swarm forgot it as its leader changed: it cannot be asked, and is not unhealthy for that.
            return Health.UNKNOWN, f"its port {port} on {task.node} is not known"
        at = Instance(task.id, ip=task.address.strip("[]"), state="running")
        health, why = self._probes[check.probe](at, replace(check, spec={**check.spec, "port": task.ports[port]}).spec)
        return health, f"{why} on {task.node}" if why else ""

    def is_ready(self, name: str, task: Task) -> bool:
        """May requests be sent to a task: was it healthy before, or is it now, by the check of what last worked?"""
        if task.id in self._ready:
            return True
        if service := self._good(name):
            if self._ask_task(task, service.check)[0] is Health.HEALTHY:
                self._ready.add(task.id)
                return True
            self.is_waited_for = True
        return False

    def _good(self, name: str) -> Service | None:
        found = self._manager.services().get(name)
        app = found.labels["app"] if found else ""
        good = self._history.last_good(app) if app else None
        return next((it for it in good.services if name in it.instances(app)), None) if good else None

    def said(self, name: str) -> list[str]:
        """The last lines that its tasks have printed; empty if they cannot be read."""
        return self._manager.said(name, LOG_LINES)
