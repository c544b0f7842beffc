"""What a pass would do, by the daemon's own decision, with nothing done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gitops_mvd.core.decide import Candidate, Decision, candidates
from gitops_mvd.core.errors import NotNow, Unavailable
from gitops_mvd.core.handover import foreseen, remarks
from gitops_mvd.core.model import KEEP, App, Desired, Health, Operation, Plan, Problem, Revision, Sync
from gitops_mvd.core.moves import merged
from gitops_mvd.core.plan_text import AppChange, app_change
from gitops_mvd.core.redact import learn_apps, redact, secrets_of_app
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.text import reason
from gitops_mvd.core.waves import Choice, Held
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.manifest import load, read_fleet
from gitops_mvd.manifest.update_order import reasons
from gitops_mvd.state import suspension


@dataclass(frozen=True, slots=True)
class AppPreview:
    """One app as it stands: `plan` is what a pass would do, `why` why the app is not simply what the commit wants,
    in the words of a status.

    `change` is what people read of the plan.  `is_refused` says that this version cannot be deployed here as it is, and
    `is_overridden` that `why` is what somebody has laid over it on this host.  `health_reason` is what is wrong with
    what runs, `notes` what its files say that is done otherwise than one may expect.  If the app is
    `suspended`, `change` is what would be done if it were not.
    """

    name: str
    plan: Plan
    change: AppChange
    sync: Sync
    health: Health
    why: str = ""
    health_reason: str = ""
    notes: tuple[Problem, ...] = ()
    is_overridden: bool = False
    is_refused: bool = False
    suspended: Suspension | None = None

    @property
    def has_changes(self) -> bool:
        """Would a pass change anything here, or has somebody changed what only the next pass takes over?"""
        return bool(self.plan) if self.suspended else bool(self.plan or self.change)

    @property
    def is_green(self) -> bool:
        return self.sync is Sync.SYNCED and self.health is Health.HEALTHY and not self.why

    @property
    def reason(self) -> str:
        """Why it is not simply well: what is waited for, why it is at another version, or what is wrong with it."""
        if self.suspended:
            return "; ".join(filter(None, (self.why, self.health_reason)))
        return reason(Operation.RUNNING, self.why) if self.sync is Sync.UNKNOWN else self.why or self.health_reason


@dataclass(frozen=True, slots=True)
class Preview:
    """The apps of this host, by their names, and the revision that they stand beside.

    `held` are newer commits that a rollout does not let this host follow yet, the newest first.
    """

    revision: Revision
    apps: tuple[AppPreview, ...]
    held: tuple[Held, ...] = ()


def desired(wired: Wired, *, fetch: bool = False) -> Desired:
    """What this host should be at the commit that it follows: the newest one, or the last that was fetched, unless a
    rollout holds it."""
    return _desired(wired, _choice(wired, fetch=fetch))


def _choice(wired: Wired, *, fetch: bool) -> Choice:
    """The commit to follow; asked of the forge only if Git is asked, too."""
    tip = wired.source.fetch() if fetch else wired.source.last()
    if not tip:
        raise Unavailable("the repository was never fetched here", "`mvd sync` does that")
    followed, hold = wired.history.revisions().get("attempted"), wired.history.hold()
    if fetch:
        return wired.waves.pick(tip, followed)
    return Choice(followed, (Held(hold.revision, hold.why, True),)) if hold else Choice(tip)


def _desired(wired: Wired, choice: Choice) -> Desired:
    if not (revision := choice.revision):
        raise Unavailable(f"nothing is followed yet: {choice.held[0].why}")
    wired.follow(revision, fetched=False)
    tree = wired.source.tree(revision)
    facts = read_fleet(tree).host(wired.host.name, wired.manager is not None)
    wired.heed(facts)
    apps, broken = load(tree, facts)
    learn_apps(apps)
    return Desired(revision, apps, broken)


def preview(wired: Wired, *, fetch: bool = True, ask: bool = False) -> Preview:
    """Every app of this host as it stands beside what it should be; with `ask`, its probes are asked now, too."""
    choice = _choice(wired, fetch=fetch)
    wanted = _desired(wired, choice)
    wired.host.refresh()
    if ask:  # the daemon that knows more is another process, or none
        wired.monitor.follow(wired.host.to_watch())
        wired.monitor.ask_all()
    suspended = suspension.suspended(wired.settings_path).apps
    every = candidates(wanted, wired.host.apps(), allow_empty=wired.settings.allow_empty, suspended=suspended)
    moved = wired.moves.remarks(wanted.revision, every, wired.history)
    every = [*wired.moves.keeping(wanted.revision, wired.host, wired.history)(every)]
    beside = merged(moved, remarks(every, wired.host, wired.history))
    previews = (
        replace(
            _told(candidate.app, _preview_of(candidate, decision, plan, beside.get(candidate.app.name, ()), wired)),
            notes=candidate.app.notes,
        )
        for candidate, decision, plan in foreseen(every, wired.host, wired.history, wired.host)
    )
    held = tuple(it for it in choice.held if it.changes)
    return Preview(wanted.revision, tuple(sorted(previews, key=lambda app: app.name)), held)


def _told(app: App, previewed: AppPreview) -> AppPreview:
    """The preview without any secret of its app."""
    if not (previewed.why or previewed.health_reason):
        return previewed
    secrets = secrets_of_app(app)
    why, reason = redact(previewed.why, secrets), redact(previewed.health_reason, secrets)
    return replace(previewed, why=why, health_reason=reason)


def _preview_of(
    candidate: Candidate, decision: Decision | Unavailable, together: Plan, beside: Sequence[str], wired: Wired
) -> AppPreview:
    """`together` is the plan of all that changes with the app, `beside` what to know of it besides what changes."""
    host, history = wired.host, wired.history
    name = candidate.app.name
    health, health_reason = host.health(candidate.app), host.health_reason(candidate.app)
    if isinstance(decision, Unavailable):
        why = str(decision)
        return AppPreview(name, Plan(), AppChange(name), Sync.UNKNOWN, health, why, is_refused=True)
    order = reasons(decision.goal) if decision.goal else {}
    sync, operation, why = decision.verdict
    if decision.stuck:
        operation, why = Operation.RUNNING if isinstance(decision.stuck, NotNow) else operation, str(decision.stuck)
    previewed = AppPreview(
        name,
        Plan() if decision.stuck and not decision.failure else decision.plan,
        app_change(decision, host.roles, order, together, beside),
        sync,
        health,
        reason(operation, why),
        health_reason,
        is_refused=_is_refused(decision),
    )
    if decision.suspended:
        is_seen = not decision.suspended.stop  # of what is stopped, nothing is wrong
        health_reason = previewed.health_reason if is_seen else ""
        return replace(previewed, health=Health.SUSPENDED, health_reason=health_reason, suspended=decision.suspended)
    if decision.goal and (overridden := host.overridden(decision.goal)):
        why = "; ".join(filter(None, (previewed.why, overridden)))
        return replace(previewed, sync=Sync.OUT_OF_SYNC, why=why, is_overridden=not decision.failure)
    if decision.failure:
        return previewed
    if decision.stuck:
        return replace(previewed, sync=Sync.OUT_OF_SYNC)
    last = history.last_event(name)
    is_over = last and last.sync is Sync.OUT_OF_SYNC and not decision.plan  # nothing is left to be done about it
    why = reason(last.operation, last.why) if last and last.operation is not Operation.SUCCEEDED and not is_over else ""
    return replace(previewed, sync=Sync.OUT_OF_SYNC if decision.plan else sync, why=why)


def _is_refused(decision: Decision) -> bool:
    """Is this version one that cannot be deployed?  One that was tried and failed is a matter of `mvd status`."""
    if decision.failure and decision.failure.action == KEEP:
        return False
    is_by_hand = decision.app == decision.known.good  # what was changed by hand, and is left so
    return bool(decision.stuck) or not (decision.failure in (None, decision.known.failure) or is_by_hand)
