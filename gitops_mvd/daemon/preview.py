"""What a sync would do, by the daemon's own planner, with nothing done."""

from __future__ import annotations

from dataclasses import dataclass

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.core.model import App, Desired, Failure, Health, Operation, Plan, Revision, Sync
from gitops_mvd.core.reconcile import EMPTIED, removed_apps, would_empty
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.manifest import load, read_fleet


@dataclass(frozen=True, slots=True)
class Look:
    """One app as it stands: its plan is empty where it is in sync, `why` says why it is held.

    `ails` is what is wrong with what runs.
    """

    name: str
    plan: Plan
    sync: Sync
    health: Health
    why: str = ""
    ails: str = ""

    @property
    def is_green(self) -> bool:
        return self.sync is Sync.SYNCED and self.health is Health.HEALTHY and not self.why

    def as_json(self) -> dict[str, str]:
        return {"app": self.name, "sync": self.sync, "health": self.health, "why": self.why or self.ails}


@dataclass(frozen=True, slots=True)
class Preview:
    host: str
    revision: Revision
    apps: tuple[Look, ...]


def desired(wired: Wired, *, fetch: bool = False) -> Desired:
    """What this host should be at the tip of the branch, or at the last revision that was fetched."""
    revision = wired.source.fetch() if fetch else wired.source.last()
    if not revision:
        raise Unavailable("the repository was never fetched here", "`mvd sync` does that")
    wired.follow(revision, fetched=False)
    tree = wired.source.tree(revision)
    apps, broken = load(tree, read_fleet(tree).host(wired.host.name))
    return Desired(revision, apps, broken)


def preview(wired: Wired, *, fetch: bool = True, ask: bool = False) -> Preview:
    """Every app of this host as it stands beside what it should be; where it is to `ask`, by its probes, too."""
    wanted = desired(wired, fetch=fetch)
    wired.host.look()
    if ask:  # the daemon that knows more is another process, or none
        wired.watch.follow(wired.host.to_watch())
        wired.watch.ask_all()
    removed = removed_apps(wanted, wired.host)
    refused = would_empty(wanted, removed) and not wired.settings.allow_empty
    looks = [
        *(_look(wired, app) for app in wanted.apps),
        *(_look(wired, App(name), str(problems[0])) for name, problems in wanted.broken.items()),
        *(_look(wired, app, EMPTIED if refused else "") for app in removed),
    ]
    return Preview(wired.host.name, wanted.revision, tuple(sorted(looks, key=lambda look: look.name)))


def _look(wired: Wired, app: App, broken: str = "") -> Look:
    try:
        return _held(wired, app, broken) if broken else _judged(wired, app)
    except Unavailable as error:
        return Look(app.name, Plan(), Sync.UNKNOWN, wired.host.health(app), str(error))


def _judged(wired: Wired, app: App) -> Look:
    try:
        pinned = wired.host.pin(app)
    except StepFailed as error:
        return _held(wired, app, str(error))
    if failure := wired.history.failure_of(pinned):
        return _failed(wired, pinned, failure)
    try:
        plan = wired.host.plan(pinned, proven=pinned == wired.history.last_good(app.name))
    except StepFailed as error:
        return _held(wired, app, str(error))
    failed = wired.history.last(app.name)
    why = failed.why if failed and failed.operation is not Operation.SUCCEEDED else ""
    health, ails = wired.host.health(pinned), wired.host.health_reason(pinned)
    return Look(app.name, plan, Sync.OUT_OF_SYNC if plan else Sync.SYNCED, health, why, ails)


def _failed(wired: Wired, app: App, failure: Failure) -> Look:
    match failure.action:
        case "pause":
            return Look(app.name, Plan(), Sync.OUT_OF_SYNC, wired.host.health(app), f"{failure.why}; paused")
        case "continue":
            plan = wired.host.plan(app, proven=True)
            return Look(app.name, plan, Sync.SYNCED, wired.host.health(app), failure.why)
        case _:
            return _held(wired, app, failure.why)


def _held(wired: Wired, app: App, why: str) -> Look:
    good = wired.history.last_good(app.name)
    plan = wired.host.plan(good, proven=True) if good else Plan()
    return Look(app.name, plan, Sync.OUT_OF_SYNC, wired.host.health(app), why)
