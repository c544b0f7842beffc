"""What it takes to get from what was found to what an app should be: the `Planner` port over real kinds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace

from gitops_mvd.core.model import LOST, App, Change, Plan, Resource, Role, Roles
from gitops_mvd.core.plan import PLACED, Key, make_plan, of_role, place
from gitops_mvd.core.ports import History, Kind, Precedence
from gitops_mvd.core.specs import OVERRIDDEN, Joined, WithContainer
from gitops_mvd.host.admission import Admission
from gitops_mvd.host.host_ports import HostPorts
from gitops_mvd.host.snapshot import Snapshot
from gitops_mvd.secrets.store import Secrets


class Planner:
    """Several apps may be planned at once, each in a thread of its own.

    With `leaves_routes`, routes that were changed by hand in Kong are reported, and not put back.
    """

    def __init__(
        self,
        kinds: Mapping[str, Kind],
        roles: Roles,
        snapshot: Snapshot,
        admission: Admission,
        ports: HostPorts,
        history: History,
        *,
        precedence: Precedence | None,
        secrets: Secrets | None,
        leaves_routes: bool,
    ) -> None:
        self._kinds = kinds
        self._roles = roles
        self._snapshot = snapshot
        self._admission = admission
        self._ports = ports
        self._history = history
        self._precedence = precedence
        self._secrets = secrets
        self._leaves_routes = leaves_routes
        # What was the same at the last pass is the same object, so that nothing that follows from it is computed again.
        self._wanted: dict[str, tuple[App, int, Sequence[Resource]]] = {}
        self._in_sync: dict[str, object] = {}

    def plan(self, app: App, proven: bool) -> Plan:
        return self._plan(app, self._wanted_by(app), proven, is_older=not self._admission.is_asked_for(app))

    def plan_back(self, app: App, before: Sequence[Resource]) -> Plan:
        return self._plan(App(app.name), before, proven=True, is_older=True)

    def unrepaired(self, plan: Plan) -> str:
        """A Kong that has nothing managed any more was not changed by hand but lost it all, and is filled again."""
        changes = [step for step in plan if isinstance(step, Change)]
        is_by_hand = all(change.to and self._roles[change.to.kind] is Role.ROUTE for change in changes)
        if not (changes and is_by_hand and self._leaves_routes and self._snapshot.is_routed):
            return ""
        if any(map(self._is_set_by_other_host, changes)):
            return ""
        names = ", ".join(change.resource.name for change in changes)
        return f"route {names}: changed by hand in Kong, and left so"

    def overridden(self, app: App) -> str:
        """What was laid over resources of an app when they were found last, "" for nothing."""
        wanted = {resource.key for resource in self._wanted_by(app)}
        of = (it for it in self._snapshot.last_found(app.name) if it.key in wanted and it.spec.get(OVERRIDDEN))
        return next((f"{it.service}: {it.spec[OVERRIDDEN]}" for it in of), "")

    def _is_set_by_other_host(self, change: Change) -> bool:
        """Does it change what another host, at an older version, has written to a shared route?"""
        was, to = change.was, change.to
        if not (self._precedence and was and to) or was.spec["entities"] == to.spec["entities"]:
            return False
        return self._precedence.is_set_by_other_host(was)

    def _wanted_by(self, app: App) -> Sequence[Resource]:
        version = self._secrets.version if self._secrets else 0
        known, by, wanted = self._wanted.get(app.name, (None, 0, ()))
        if app is not known or by != version:
            wanted = [resource for kind in self._kinds.values() for resource in kind.wanted(app)]
            self._wanted[app.name] = app, version, wanted
        return wanted

    def _plan(self, app: App, wanted: Sequence[Resource], proven: bool, *, is_older: bool) -> Plan:
        """`is_older` is a version that the commit does not want, of which other hosts may have a newer one."""
        found = self._snapshot.found(app.name)
        self._require(wanted, found)
        ignored = self._ignored(app, wanted, found)
        precedence = self._precedence
        inputs = wanted, found, ignored, (is_older, precedence.cache_key) if precedence else None
        if proven and wanted and self._in_sync.get(app.name) == inputs:
            return Plan()
        have = {resource.key: resource for resource in found}
        placed = [_as_overridden(it, have.get(it.key)) for it in self._placed(wanted, found)]
        if precedence:
            routes = {route.key for route in of_role(Role.ROUTE, placed, self._roles)}
            placed = [
                precedence.agree(it, have.get(it.key), held=is_older) if it.key in routes else it for it in placed
            ]
        plan = make_plan(app, placed, found, self._roles, proven=proven, ignored=ignored)
        if proven and not plan:
            self._in_sync[app.name] = inputs
        return plan

    def _placed(self, wanted: Sequence[Resource], found: Sequence[Resource]) -> list[Resource]:
        # A deploy that was interrupted has containers that were given a port and have no unit yet.
        placed = (it for role in PLACED for it in of_role(role, self._snapshot.everything(), self._roles))
        free = self._ports.free({it.spec["port"] for it in placed})
        return place(wanted, found, self._roles, self._ports.address, free)

    def _ignored(self, app: App, wanted: Sequence[Resource], found: Sequence[Resource]) -> set[Key]:
        """What is neither made nor deleted: what stays, what the version before needs, and jobs that are done."""
        keys = {resource.key for resource in wanted}
        stays = {resource.key for resource in found if not self._kinds[resource.kind].prunes}
        done = self._done(app, wanted, found)
        return ((stays | self._needed_before(app, keys, found)) - keys) | done | self._unjoined(wanted, found, done)

    def _unjoined(self, wanted: Sequence[Resource], found: Sequence[Resource], done: Set[Key]) -> set[Key]:
        """The networks that are made with a container, where every container is there already, and on none of them."""
        late = [resource for resource in wanted if isinstance(resource.payload, WithContainer)]
        names = {
            container.name for container in of_role(Role.CONTAINER, wanted, self._roles) if container.key not in done
        }
        there = {it.name: it.payload for it in of_role(Role.CONTAINER, found, self._roles)}
        if not late or not names <= there.keys():
            return set()
        joined = {network for it in there.values() if isinstance(it, Joined) for network in it.networks}
        return {network.key for network in late if network.name not in joined} - {resource.key for resource in found}

    def _needed_before(self, app: App, keys: Set[Key], found: Sequence[Resource]) -> set[Key]:
        """What a quick way back to the version before this one needs, of kinds that keep it."""
        kept = {name for name, kind in self._kinds.items() if kind.keeps_previous}
        if not keys or not any(resource.kind in kept and resource.key not in keys for resource in found):
            return set()
        before = self._history.good_before(app)
        return {it.key for name in kept for it in self._kinds[name].wanted(before)} if before else set()

    def _done(self, app: App, wanted: Sequence[Resource], found: Sequence[Resource]) -> set[Key]:
        """The jobs that have done their work, whatever is left of them: a version is never run twice."""
        jobs = {service.name for service in app.services if service.is_job}
        units = [unit for unit in of_role(Role.INSTANCE, wanted, self._roles) if unit.service in jobs]
        done = {unit.name for unit in units if unit not in found and self._history.is_job_done(unit.name)}
        of_jobs = [*units, *of_role(Role.CONTAINER, wanted, self._roles)]
        return {resource.key for resource in of_jobs if resource.name in done}

    def _require(self, wanted: Sequence[Resource], found: Sequence[Resource]) -> None:
        """Raise Unavailable if this app needs, or an instance of it has, something that could not be observed."""
        needed = {resource.kind for resource in wanted}
        if any(unit.spec["port"] for unit in of_role(Role.INSTANCE, found, self._roles)):
            needed |= {name for name, role in self._roles.items() if role is Role.ROUTE}
        self._snapshot.require(needed)


def _as_overridden(wanted: Resource, found: Resource | None) -> Resource:
    """The resource with what somebody has laid over the one that was found, as no plan undoes that.

    A unit that runs something else for it is left as it is: it would do so again.
    """
    spec = {key: value for key, value in wanted.spec.items() if key != OVERRIDDEN}
    if found and (by := found.spec.get(OVERRIDDEN)):
        spec |= {OVERRIDDEN: by, **({"state": LOST} if found.spec["state"] == LOST else {})}
    return wanted if spec == wanted.spec else replace(wanted, spec=spec)
