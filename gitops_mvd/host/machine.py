"""This machine: the `Host` port, composed of what finds, admits, plans, carries out and judges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gitops_mvd.core.model import App, Goal, Health, Instance, Plan, Resource, Roles, Service, Step
from gitops_mvd.core.plan import in_order
from gitops_mvd.core.policy import Policy, Server
from gitops_mvd.core.ports import Clock, History, Kind, Precedence
from gitops_mvd.core.specs import OVERRIDDEN
from gitops_mvd.docker.client import Engine
from gitops_mvd.host.admission import Admission
from gitops_mvd.host.disruption import Disruptions
from gitops_mvd.host.drain import Drain
from gitops_mvd.host.executor import Executor, Watch, unwatched
from gitops_mvd.host.gates import Gates
from gitops_mvd.host.health import HealthJudge, ServiceHealth
from gitops_mvd.host.host_ports import HostPorts
from gitops_mvd.host.monitor import Monitor, Verdict
from gitops_mvd.host.planner import Planner
from gitops_mvd.host.snapshot import Snapshot
from gitops_mvd.host.turns import Turns
from gitops_mvd.secrets.store import Secrets

APPS_AT_ONCE = 8  # that are worked on, besides those that wait at their gates


class Machine:
    """One snapshot of everything serves a whole pass, in which several apps may be settled at once."""

    def __init__(
        self,
        name: str,
        kinds: Mapping[str, Kind],
        engine: Engine,
        gates: Gates,
        disruptions: Disruptions,
        clock: Clock,
        *,
        address: str,
        history: History,
        policy: Policy | None = None,
        server: Server | None = None,
        precedence: Precedence | None = None,
        secrets: Secrets | None = None,
        monitor: Monitor | None = None,
        leaves_routes: bool = False,
        watch: Watch = unwatched,
        drain: Drain | None = None,
    ) -> None:
        """`address` is where routed instances are published; `watch` is open while steps are carried out."""
        self.turns = Turns(APPS_AT_ONCE)
        self.name = name
        self.roles: Roles = in_order(kinds.values())
        self._secrets = secrets
        self._snapshot = Snapshot(kinds, self.roles, engine)
        self._admission = Admission(engine, policy, server or Server(), secrets, history)
        self._ports = HostPorts(address)
        drain = drain or Drain()

        def planner(precedence: Precedence | None) -> Planner:
            return Planner(
                kinds,
                self.roles,
                self._snapshot,
                self._admission,
                self._ports,
                history,
                precedence=precedence,
                secrets=secrets,
                leaves_routes=leaves_routes,
                drain=drain,
            )

        self._planner, self.proposing = planner(precedence), planner(None)
        self._executor = Executor(kinds, self._snapshot, gates, disruptions, clock, monitor, self.turns, watch)
        self._judge = HealthJudge(self._snapshot, self.roles, gates, history, monitor)

    def refresh(self) -> None:
        """Look at everything that is managed, once for a whole pass.  Raises Unavailable."""
        if self._secrets:
            self._secrets.refresh()
        self._snapshot.refresh()
        self._admission.begin()
        self._ports.begin()

    @property
    def is_observed(self) -> bool:
        """Has this process looked at everything once?"""
        return self._snapshot.is_there

    def apps(self) -> Iterable[str]:
        return self._snapshot.apps()

    def pin(self, app: App) -> App:
        return self._admission.pin(app)

    def found(self, app: str) -> tuple[Resource, ...]:
        return self._snapshot.found(app)

    def plan(self, goals: Sequence[Goal]) -> Plan:
        return self._planner.plan(goals)

    def unrepaired(self, plan: Plan) -> str:
        return self._planner.unrepaired(plan)

    def overridden(self, app: App) -> str:
        return self._planner.overridden(app)

    def everything(self) -> Iterable[Resource]:
        """Every managed resource that was found, of all apps."""
        return self._snapshot.everything()

    def overrides(self) -> list[Resource]:
        """Every resource over which somebody has laid something, as its spec says, of all apps."""
        return [resource for resource in self.everything() if resource.spec.get(OVERRIDDEN)]

    def carry_out(self, steps: Iterable[Step]) -> list[str]:
        return self._executor.carry_out(steps)

    def health(self, app: App) -> Health:
        return self._judge.health(app)

    def health_reason(self, app: App) -> str:
        return self._judge.reason(app)

    def services(self, app: App, asked: Mapping[str, Verdict] | None = None) -> list[ServiceHealth]:
        """How each service of an app is, with its instances, as they were `asked` just now.  Raises Unavailable."""
        return [service.seen(asked or {}) for service in self._judge.services(app)]

    def to_watch(self) -> list[tuple[Instance, Service]]:
        """The running instances whose probes are asked again, each with its service."""
        return self._judge.to_watch()
