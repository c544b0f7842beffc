"""What it takes to get from what was found to what an app should be: the `Planner` port over real kinds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

from gitops_mvd.core.claims import Claim
from gitops_mvd.core.model import LOST, App, Change, Goal, Plan, Resource, Role, Roles, Service
from gitops_mvd.core.plan import PLACED, Key, Side, make_plan, of_role, place
from gitops_mvd.core.ports import History, Kind, Precedence
from gitops_mvd.core.route import drained, is_drained
from gitops_mvd.core.specs import OVERRIDDEN, Joined, WithContainer, claims_by_instance
from gitops_mvd.docker.swarm_targets import TASKS
from gitops_mvd.host.admission import Admission
from gitops_mvd.host.drain import Drain
from gitops_mvd.host.host_ports import HostPorts
from gitops_mvd.host.snapshot import Snapshot
from gitops_mvd.secrets.store import Secrets


class Planner:
    """Several apps may be planned at once, each in a thread of its own.

    With `leaves_routes`, routes that were changed by hand in Kong are reported, and not put back.  While `drain` is on,
    no route gives a share of its requests to this host.
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
        drain: Drain,
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
        self._drain = drain
        # What was the same at the last pass is the same object, so that nothing that follows from it is computed again.
        self._wanted: dict[str, tuple[App, int, Sequence[Resource]]] = {}
        self._inputs: dict[str, object] = {}  # of the last plan, by app
        self._in_sync: dict[str, object] = {}

    def plan(self, goals: Sequence[Goal]) -> Plan:
        sides = {goal.app.name: side for goal in goals if (side := self._side(goal))}
        plan = make_plan(list(sides.values()), self._roles)
        if not plan:
            self._in_sync |= {app: self._inputs[app] for app, side in sides.items() if side.proven}
        return plan

    def unrepaired(self, plan: Plan) -> str:
        """A Kong that has nothing managed any more was not changed by hand but lost it all, and is filled again."""
        changes = [step for step in plan if isinstance(step, Change)]
        is_by_hand = all(change.to and self._roles[change.to.kind] is Role.ROUTE for change in changes)
        if not (changes and is_by_hand and self._leaves_routes and self._snapshot.is_routed):
            return ""
        if any(map(self._is_set_by_other_host, changes)) or any(map(_is_drain, changes)):
            return ""
        if all(map(_follows_tasks, changes)):  # which is nobody's hand
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

    def _side(self, goal: Goal) -> Side | None:
        """What a plan has to know of one app; None if that is as at the last pass, when nothing was to be done."""
        app, name = (goal.app, goal.app.name) if goal.before is None else (App(goal.app.name), goal.app.name)
        wanted = self._wanted_by(app) if goal.before is None else goal.before
        # An older version is one that the commit does not want, of which other hosts may have a newer one.
        is_older = goal.before is not None or not self._admission.is_asked_for(app)
        found = self._snapshot.found(name)
        self._require(wanted, found)
        ignored = self._ignored(app, wanted, found)
        precedence = self._precedence
        follows = (is_older, precedence.cache_key) if precedence else None
        self._inputs[name] = inputs = wanted, found, ignored, follows, self._drain.is_on
        if goal.proven and wanted and self._in_sync.get(name) == inputs:
            return None
        have = {resource.key: resource for resource in found}
        placed = [_as_overridden(it, have.get(it.key)) for it in self._placed(wanted, found)]
        routes = {route.key for route in of_role(Role.ROUTE, placed, self._roles)}
        if precedence:
            placed = [
                precedence.agree(it, have.get(it.key), held=is_older) if it.key in routes else it for it in placed
            ]
        if self._drain.is_on:
            placed = [drained(it) if it.key in routes else it for it in placed]
        claims = self._claims(app, placed, found)
        proven = goal.proven or self._was_proven(app, [it for it in placed if it.key in routes], have)
        return Side(
            app,
            placed,
            found,
            proven,
            ignored,
            claims,
            self._tried(app),
            self._history.has_worked(app),
            takes_turns=precedence is not None,
        )

    def _was_proven(self, app: App, routes: Sequence[Resource], have: Mapping[Key, Resource]) -> bool:
        """Has another manager of the Swarm proven this version?  It has, if nobody here knows, and Kong leads to it.

        The routes of an app are switched once all of its services have passed their gates.  To wait for these again
        would leave Kong with tasks that went with the manager.
        """
        if not routes or self._history.last_good(app.name) is not None:
            return False
        changes = [Change(have.get(route.key), route) for route in routes]
        return all(_follows_tasks(it) and it.was and _led_to(it.was) == _led_to(it.resource) for it in changes)

    def _tried(self, app: App) -> Set[str]:
        """The instances of the version that last worked."""
        good = self._history.last_good(app.name)
        return {name for service in good.services for name in service.instances(app.name)} if good else set()

    def _claims(
        self, app: App, wanted: Sequence[Resource], found: Sequence[Resource]
    ) -> Mapping[str, frozenset[Claim]]:
        """The claims of the instances of older versions, and of those of which no service is at hand."""
        current = {it.name for it in of_role(Role.INSTANCE, wanted, self._roles) if isinstance(it.payload, Service)}
        others = {it.name for it in of_role(Role.INSTANCE, [*wanted, *found], self._roles)} - current
        if not others:
            return {}
        versions = (
            self._history.last_good(app.name),
            self._admission.asked_for(app.name),
            self._history.good_before(app),
        )
        return claims_by_instance(others, versions, found)

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
        """What a quick way back to the version before this one needs, or the next try of one that failed."""
        kept = {name for name, kind in self._kinds.items() if kind.keeps_previous}
        if not any(resource.kind in kept and resource.key not in keys for resource in found):
            return set()
        before = self._history.good_before(app) if keys else None
        failed = self._admission.asked_for(app.name)  # if not this very version: tried again, it needs the same
        return {it.key for name in kept for it in (*_of(self._kinds[name], before), *_of(self._kinds[name], failed))}

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


def _is_drain(change: Change) -> bool:
    """Does it begin or end that this host gets no requests?"""
    was, to = change.was, change.to
    return was is not None and to is not None and is_drained(was) != is_drained(to)


def _led_to(route: Resource) -> set[str]:
    return {target["instance"] for target in route.spec["targets"]}


def _follows_tasks(change: Change) -> bool:
    """Does it only lead Kong to the tasks of a Swarm that serve by now?"""
    was, to = change.was, change.to
    is_same = bool(was and to and was.spec["entities"] == to.spec["entities"])
    return is_same and to is not None and any(target["address"] == TASKS for target in to.spec["targets"])


def _of(kind: Kind, app: App | None) -> Iterable[Resource]:
    return kind.wanted(app) if app else ()


def _as_overridden(wanted: Resource, found: Resource | None) -> Resource:
    """The resource with what somebody has laid over the one that was found, as no plan undoes that.

    A unit that runs something else for it is left as it is: it would do so again.
    """
    spec = {key: value for key, value in wanted.spec.items() if key != OVERRIDDEN}
    if found and (by := found.spec.get(OVERRIDDEN)):
        spec |= {OVERRIDDEN: by, **({"state": LOST} if found.spec["state"] == LOST else {})}
    return wanted if spec == wanted.spec else replace(wanted, spec=spec)
