"""This server as it is shown: what the last pass said of each app, and how its instances are now."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

from gitops_mvd import probes
from gitops_mvd.api.views import (
    AppView,
    CommitView,
    DrainView,
    GitView,
    HeldView,
    HostView,
    InstanceView,
    RouteView,
    ServiceView,
    SuspensionView,
    ThreadView,
)
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import Health, Instance, Operation, Revision, Service, Sync, unix_time
from gitops_mvd.core.redact import told_line
from gitops_mvd.core.suspension import Suspension, Suspensions, stricter
from gitops_mvd.daemon.operations import commit_view
from gitops_mvd.host.health import ServiceHealth
from gitops_mvd.host.machine import Machine
from gitops_mvd.host.monitor import Verdict
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.operations import OperationsFile

Page = Callable[[str], str]  # commit -> its address at the forge
VERSION = version("gitops-mvd")
NOTHING = Suspensions()
WORST_SYNC = (Sync.UNKNOWN, Sync.OUT_OF_SYNC, Sync.SYNCED)


@dataclass(frozen=True, slots=True)
class AppState:
    """What is known of one app besides its services, by the last pass or by a look without one.

    It was left as it is, or stopped, if it was `suspended` then.
    """

    name: str
    sync: Sync
    health: Health
    operation: Operation
    why: str = ""
    changed: str = ""
    suspended: Suspension | None = None


class HostViews:
    """Makes views of one server; any thread may ask.  It remembers nothing."""

    def __init__(
        self, host: Machine, history: SqliteHistory, file: OperationsFile, page: Page = lambda commit: ""
    ) -> None:
        self._host = host
        self._history = history
        self._file = file
        self._page = page

    def view(
        self,
        apps: Iterable[AppState],
        *,
        at: float,
        revision: Revision | None,
        error: str = "",
        rejected: str = "",
        suspended: Suspensions = NOTHING,
        deploying: int = 0,
        asked_git: float = 0.0,
        asked: Mapping[str, Verdict] | None = None,
    ) -> HostView:
        """The server with these apps, looked at `at`; `asked` is what probes have just said, by instance, and
        `rejected` why newer settings are not in force.

        Raises Unavailable where the history does not answer.
        """
        shown = tuple(self._app(state, suspended.apps.get(state.name), asked) for state in sorted(apps, key=_name))
        git, hold, entry = self._history.git_failure(), self._history.hold(), self._history.fleet_entry()
        since = self.commit(entry.since.commit, entry.since) if entry.since else None
        return HostView(
            host=self._host.name,
            version=VERSION,
            at=at,
            sync=min((Sync(app.sync) for app in shown), key=WORST_SYNC.index, default=Sync.SYNCED),
            health=Health.worst(Health(app.health) for app in shown),
            commit=self.commit(revision.commit, revision) if revision else None,
            git=GitView(git.since, told_line(git.why), git.is_refused) if git else None,
            error=told_line(error),
            suspended=suspension_view(suspended.host),
            deploying=deploying,
            asked_git=asked_git,
            apps=shown,
            threads=tuple(
                ThreadView(it.name, it.is_up, it.since, told_line(it.cause), it.restarts)
                for it in self._history.threads()
                if it.is_news(time.time())
            ),
            settings=told_line(rejected),
            held=HeldView(self.commit(hold.revision.commit, hold.revision), told_line(hold.why)) if hold else None,
            wave=entry.wave,
            drained=DrainView(since) if entry.is_drained else None,
        )

    def commit(self, commit: str, known: Revision | None = None) -> CommitView:
        """A commit with its author and subject, as far as they are known."""
        revision = known if known and known.author else self._file.revision(commit)
        return commit_view(revision if revision.subject or not known else known, self._page)

    def _app(self, state: AppState, suspended: Suspension | None, asked: Mapping[str, Verdict] | None) -> AppView:
        good, since = self._history.last_good(state.name), self._history.runs_since(state.name)
        try:
            found = self._host.services(good, asked) if good and self._host.is_observed else []
        except Unavailable as error:  # as the pass will say, too
            found = []
            state = replace(state, sync=Sync.UNKNOWN, health=Health.UNKNOWN, why=state.why or str(error))
        services = tuple(_service(it) for it in found)
        if asked is not None and found and state.health is not Health.UNKNOWN:
            state = _seen(state, found)
        has_own = good and good.services
        return AppView(
            name=state.name,
            sync=state.sync,
            health=state.health,
            operation=state.operation,
            why=told_line(state.why),
            changed=told_line(state.changed),
            running=self.commit(since[0]) if since and has_own else None,
            since=since[1] if since and has_own else 0.0,
            suspended=suspension_view(stricter(suspended, _in_git(state))),
            services=services,
        )


def _seen(state: AppState, services: Iterable[ServiceHealth]) -> AppState:
    """An app by how its services are now; what a deploy has failed of stays the reason."""
    sick = [it for it in services if it.health is not Health.HEALTHY]
    health = Health.worst(it.health for it in sick)
    if state.suspended:
        told = "" if state.suspended.stop else next((f"{it.service.name}: {it.why}" for it in sick if it.why), "")
        return replace(state, why="; ".join(filter(None, (state.why, told))))
    if state.operation is not Operation.SUCCEEDED or (health, state.health) == (Health.HEALTHY, Health.HEALTHY):
        return replace(state, health=health)
    why = next((f"{it.service.name}: {it.why}" for it in sick if it.health is health and it.why), "")
    return replace(state, health=health, why=why)


def _in_git(state: AppState) -> Suspension | None:
    """The suspension of its commit; that of an operator may have begun or ended since."""
    return state.suspended if state.suspended and state.suspended.is_in_git else None


def _name(state: AppState) -> str:
    return state.name


def suspension_view(of: Suspension | None) -> SuspensionView | None:
    """A suspension as it is shown."""
    if not of:
        return None
    since, until = (at.timestamp() if at else 0.0 for at in (of.since, of.until))
    return SuspensionView(of.by, of.why, since, until, of.stop)


def _service(found: ServiceHealth) -> ServiceView:
    service, instances = found.service, tuple(_instance(*each) for each in found.instances)
    _, _, digest = service.image.rpartition("@")
    return ServiceView(
        name=service.name,
        image=service.tag or service.image,
        health=found.health,
        ready=sum(it.health == Health.HEALTHY and it.state == "running" for it in instances),
        wanted=0 if service.is_job or service.schedule else service.replicas,
        digest=digest if digest.startswith("sha256:") else "",
        why=told_line(found.why),
        since=max((it.since for it in instances), default=0.0),
        probe=told_line(f"{service.check.probe} {probes.summary(service.check)}".strip()),
        schedule=service.schedule,
        routes=tuple(_routes(service)),
        instances=instances,
    )


def _instance(instance: Instance, health: Health, why: str) -> InstanceView:
    ports = (f"{it.address}:{it.port}->{it.target}/{it.protocol}".removesuffix("/tcp") for it in instance.published)
    since = unix_time(instance.started) if instance.started else 0.0
    shown = tuple(sorted(ports))
    return InstanceView(instance.name, instance.state, health, told_line(why), since, shown, instance.id)


def _routes(service: Service) -> Iterator[RouteView]:
    if not service.kong:
        return
    of_all = service.kong["plugins"]
    for route in service.kong["routes"]:
        plugins = (str(it.get("name", "")) for it in (*of_all, *route.get("plugins", ())))
        yield RouteView(str(route.get("name", "")), tuple(matches(route)), tuple(dict.fromkeys(plugins)))


def matches(route: Mapping[str, Any]) -> Iterator[str]:
    """What a route of Kong matches, as people write it: `example.org/shop`, `POST /orders`."""
    methods = " ".join(route.get("methods") or ())
    if expression := route.get("expression"):
        yield told_line(expression)
        return
    for host in route.get("hosts") or ("",):
        for path in route.get("paths") or ("/" if host or methods else "",):
            if place := f"{host}{path}".strip():
                yield told_line(f"{methods} {place}".strip())
    for name in ("snis", "destinations", "sources"):
        yield from (told_line(f"{name.removesuffix('s')} {_endpoint(it)}") for it in route.get(name) or ())


def _endpoint(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{value.get('ip', '')}:{value.get('port', '')}".strip(":")
    return str(value)
