"""Which version an app should be, whether it may be tried, and what that takes: the one place that decides.  Pure.

Reconcile carries a decision out, `mvd plan` prints it, and a pull request shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from gitops_mvd.core.claims import Claim, of_app, passing
from gitops_mvd.core.errors import (
    DEFECT,
    INTERNAL,
    LACKS,
    NOT_NOW,
    VERSION,
    Interrupted,
    Lacking,
    MvdError,
    NotNow,
    StepFailed,
    Unavailable,
    fault_of,
)
from gitops_mvd.core.model import (
    KEEP,
    WAIT,
    App,
    Desired,
    Failure,
    Goal,
    Health,
    Operation,
    Outcome,
    Plan,
    Resource,
    Role,
    Roles,
    Step,
    Sync,
)
from gitops_mvd.core.plan import of_role
from gitops_mvd.core.ports import History, Host, Planner
from gitops_mvd.core.specs import claims_by_instance
from gitops_mvd.core.suspension import Suspension, stricter

EMPTIED = (
    "the commit has no app for this host; removing all of them is refused unless the settings say allow_empty: true"
)
LACKING = "lacking"  # the action of a failure for want of something on this host: red, and tried again once it is due
REST = "rest"  # the action of a failure to bring back what last worked: it is left alone until it is due
PASSING = (WAIT, LACKING, REST)
NONE: Mapping[str, Suspension] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Candidate:
    """An app as a commit wants it; `refused` is why it may not be tried here.

    If it is kept until other hosts have it, it `lets_go` at once of the services that must not run twice.  One that is
    `suspended`, here or by its commit, is left as it is or, if it is to stop, stopped; but never changed.
    """

    app: App
    refused: Failure | None = None
    suspended: Suspension | None = None
    lets_go: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an app before anything is done to it.

    `good` is the version that last worked here: the empty app if nothing ever ran, None if nobody remembers.  `failure`
    is why this very version failed before, and `resting` why the good one could not be brought back.  `before` are the
    resources that were found, of kinds with these `roles`.
    """

    good: App | None
    failure: Failure | None
    before: tuple[Resource, ...]
    resting: Failure | None
    roles: Roles

    def without_instances(self) -> tuple[Resource, ...]:
        """What is left once nothing of the app runs: all but its units, their timers, and the routes to them."""
        units = (Role.INSTANCE, Role.TIMER)
        return tuple(
            it for it in self.before if self.roles[it.kind] not in ((*units, Role.ROUTE) if it.service else units)
        )

    def instances(self) -> frozenset[str]:
        """The names of the instances that were found."""
        return frozenset(it.name for it in of_role(Role.INSTANCE, self.before, self.roles))

    def holds(self, app: App) -> frozenset[Claim]:
        """What the app has of the host now."""
        return held(app, self.good, self.before, self.roles)


def held(app: App, good: App | None, found: tuple[Resource, ...], roles: Roles) -> frozenset[Claim]:
    """What an app has of the host now, be it by its good version or by the one that the commit wants."""
    units = [unit.name for unit in of_role(Role.INSTANCE, found, roles)]
    routes = of_app(good).routes if good else frozenset[Claim]()
    return routes.union(*claims_by_instance(units, (app, good), found).values())


def recall(app: App, host: Host, history: History) -> Known:
    """What is known of an app now."""
    good, failure = history.last_good(app.name), history.failure_of(app)
    resting = failure if app == good else history.failure_of(good) if good else None
    return Known(good, failure, host.found(app.name), resting, host.roles)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about an app: `plan` leads to `goal`, which is the app itself unless a `failure` stands against it.

    Without a goal (None) nothing is to be done, or the way leads back to what was found, and never to the empty app.
    `way` is the same for a planner, None if nothing is to be done.  `stuck` is why the way cannot be gone now.  `known`
    is what it was decided by.  An app that is `suspended` has no goal, and at most the way to its stop; `sync` says
    whether it is what its commit wants.
    """

    app: App
    goal: App | None
    plan: Plan
    known: Known
    failure: Failure | None = None
    stuck: StepFailed | None = None
    way: Goal | None = None
    suspended: Suspension | None = None
    sync: Sync = Sync.SYNCED

    @property
    def verdict(self) -> tuple[Sync, Operation, str]:
        """How the app stands once the plan was carried out."""
        left = self.suspended.text if self.suspended else ""
        if not self.failure:
            return self.sync, Operation.SUCCEEDED, left
        why = f"{self.failure.why}; {left}" if left else self.failure.why
        match self.failure.action:
            case "continue":
                return Sync.SYNCED, Operation.FAILED, why
            case "pause":
                return Sync.OUT_OF_SYNC, Operation.FAILED, f"{why}; paused"
            case "hold":
                return Sync.OUT_OF_SYNC, Operation.FAILED, why
            case "wait" | "keep":
                return Sync.OUT_OF_SYNC, Operation.RUNNING, why
        goal = self.known.good if self.suspended else self.goal
        somewhere = goal is not None and goal != App(self.app.name)
        return Sync.OUT_OF_SYNC, Operation.ROLLED_BACK if somewhere else Operation.FAILED, why


def candidates(
    desired: Desired, present: Iterable[str], *, allow_empty: bool, suspended: Mapping[str, Suspension] = NONE
) -> list[Candidate]:
    """Every app that Git has, has broken, or no longer has though something of it is `present`.

    A commit with nothing at all for this host is more likely a mistake (a wrong branch, a lost folder) than a wish:
    nothing is removed then, unless `allow_empty`.  `suspended` are the apps that an operator has suspended; the commit
    may do so, too, and the stricter one counts.
    """
    known = {app.name for app in desired.apps} | desired.broken.keys()
    is_emptied = not known and not allow_empty
    refused = Failure(EMPTIED, "hold") if is_emptied else None
    every = [
        *(Candidate(app) for app in desired.apps),
        *(Candidate(App(name), Failure(str(desired.broken[name][0]))) for name in sorted(desired.broken)),
        *(Candidate(App(name), refused) for name in sorted(set(present) - known)),
    ]
    return [replace(it, suspended=stricter(suspended.get(it.app.name), it.app.suspend)) for it in every]


def admit(candidate: Candidate, host: Host) -> Candidate:
    """The candidate with its images pinned to digests, or refused by this host.  Raises Unavailable."""
    if candidate.refused:
        return candidate
    try:
        return replace(candidate, app=host.pin(candidate.app))
    except StepFailed as error:
        return replace(candidate, refused=failure_by(error))


def failure_by(error: StepFailed, action: str = "rollback") -> Failure:
    """The failure that an error is: that of a version, unless it is the surroundings that refused it."""
    match error:
        case NotNow():
            action = WAIT
        case Lacking():
            action = LACKING
    return Failure(str(error), action)


def decide(candidates: Sequence[tuple[Candidate, Known]], planner: Planner) -> tuple[list[Decision], Plan]:
    """What to do about apps that change together, each with its share of one plan.  Raises Unavailable.

    Something passes between them, so if one may not be tried, none is: what it would have given or taken stays.
    """
    decisions = [_decide(candidate, known, planner) for candidate, known in candidates]
    if len(decisions) == 1:
        return decisions, decisions[0].plan
    if suspended := [it for it in decisions if it.suspended]:
        decisions = [it if it.suspended else _await(suspended, it, planner) for it in decisions]
    elif hindered := next((it for it in decisions if it.failure and it.failure.action != "continue"), None):
        assert hindered.failure
        why = f"changes together with {hindered.app.name}: {hindered.failure.why}"
        held = Failure(why, WAIT if hindered.failure.action in (WAIT, KEEP) else "rollback")
        decisions = [it if it.failure else _decide(Candidate(it.app, held), it.known, planner) for it in decisions]
    plan = planner.plan([it.way for it in decisions if it.way and not it.stuck])
    return [replace(it, plan=share(plan, it.app.name)) for it in decisions], plan


def _await(suspended: Sequence[Decision], other: Decision, planner: Planner) -> Decision:
    """What is done about an `other` app while some are suspended: it waits, at its last good version.

    Where a hand-over is half done, it is left as it is, too: its good version would take back what was given already,
    or no longer serve what nobody else does.
    """
    good, known = of_app(other.known.good or App(other.app.name)), other.known
    failure = other.failure or Failure(_awaited(suspended, other.app), WAIT)
    held = frozenset[Claim]().union(*(it.known.holds(it.app) for it in suspended))
    is_begun = not other.failure and not known.instances() <= good.by_instance.keys()
    if is_begun or passing(held, good.all - known.holds(other.app)):
        return Decision(other.app, other.app, Plan(), known, failure)
    return other if other.failure else _decide(Candidate(other.app, failure), known, planner)


def _awaited(suspended: Sequence[Decision], app: App) -> str:
    """`shop is suspended and keeps port 8080`."""
    for it in suspended:
        has = it.known.holds(it.app).union(of_app(it.known.good).all if it.known.good else ())
        if kept := dict.fromkeys(map(str, passing(has, of_app(app).all))):
            return f"{it.app.name} is suspended and keeps {', '.join(kept)}"
    return f"changes together with {suspended[0].app.name}, which is suspended"


def share(plan: Plan, app: str) -> Plan:
    """The steps of a plan that are about one app."""

    def of_app(steps: Iterable[Step]) -> tuple[Step, ...]:
        return tuple(it for it in steps if it.resource.app == app)

    return Plan(of_app(plan.change), of_app(plan.clean))


def _decide(candidate: Candidate, known: Known, planner: Planner) -> Decision:
    """The goal of one app, and the plan that leads there from what was found, if it is alone.  Raises Unavailable."""
    if candidate.suspended:
        return _leave(candidate, candidate.suspended, known, planner)
    app, failure = candidate.app, candidate.refused or known.failure
    is_good = app == known.good
    is_resting = failure is known.failure and failure is not None and failure.action in PASSING and is_good
    if failure and (failure.is_due or failure.action == REST or is_resting):
        failure = None
    if not failure:
        way = Goal(app, proven=is_good)
        try:
            plan = planner.plan([way])
        except StepFailed as error:
            failure = failure_by(error)
        else:
            if not (drift := planner.unrepaired(plan) if is_good else ""):
                return Decision(app, app, plan, known, way=way, stuck=_rest(known, plan) if is_good else None)
            failure = Failure(drift, "hold")
    match failure.action:
        case "pause" | "hold":
            return Decision(app, app, Plan(), known, failure)
        case "continue":
            way = Goal(app, proven=True)
            return Decision(app, app, planner.plan([way]), known, failure, way=way)
    return _rollback(app, known, planner, failure, candidate.lets_go)


def _leave(candidate: Candidate, suspended: Suspension, known: Known, planner: Planner) -> Decision:
    """Leave an app as it is or, if it is to stop, take away what runs of it, and what leads there.

    What it is made of stays, so that it is started again, and not made again.  That it failed before is still told.
    """
    app, failure = candidate.app, candidate.refused or known.failure
    failure = None if failure and failure.action in PASSING else failure
    sync = Sync.OUT_OF_SYNC if failure else _sync(app, suspended, known, planner)
    decision = Decision(app, None, Plan(), known, failure, suspended=suspended, sync=sync)
    if not suspended.stop:
        return decision
    way = Goal(app, proven=True, before=known.without_instances())
    try:
        return replace(decision, plan=planner.plan([way]), way=way)
    except StepFailed as error:
        return replace(decision, stuck=error, way=way)


def _sync(app: App, suspended: Suspension, known: Known, planner: Planner) -> Sync:
    """Is an app that is left as it is what its commit wants?"""
    if app != known.good or suspended.stop:
        is_wanted = app == known.good and app.suspend is not None and app.suspend.stop
        return Sync.SYNCED if is_wanted else Sync.OUT_OF_SYNC
    try:
        return Sync.OUT_OF_SYNC if planner.plan([Goal(app, proven=True)]) else Sync.SYNCED
    except StepFailed:
        return Sync.OUT_OF_SYNC
    except Unavailable:
        return Sync.UNKNOWN


def _rollback(app: App, known: Known, planner: Planner, failure: Failure, without: frozenset[str]) -> Decision:
    """Rollback is reconciling to the last good version, `without` some services; where that is not known, to what was
    found."""
    good = App(app.name) if known.good is None and not known.before else known.good
    if good and without:
        good = replace(good, services=tuple(it for it in good.services if it.name not in without))
    way = Goal(good, proven=True) if good else Goal(app, proven=True, before=known.before)
    try:
        plan = planner.plan([way])
    except StepFailed as error:
        return Decision(app, good, Plan(), known, failure, stuck=error)
    return Decision(app, good, plan, known, failure, _rest(known, plan), way)


def _rest(known: Known, plan: Plan) -> StepFailed | None:
    """Why the version that last worked is not brought back now; None if there is nothing to do, or it is time again."""
    if not plan or not known.resting or known.resting.is_due:
        return None
    return (NotNow if known.resting.action == WAIT else StepFailed)(known.resting.why)


def conclude(app: str, decision: Decision | None, error: MvdError | None, health: Health) -> Outcome:
    """How an app came out of it: as decided, unless an `error` ended it.  Without a decision, none could be made."""
    if decision and decision.suspended and not (error and decision.way):
        sync, operation, why = decision.verdict
        return Outcome(app, sync, Health.SUSPENDED, operation, decision.plan, why, suspended=decision.suspended)
    plan, failure = (decision.plan, decision.failure) if decision else (Plan(), None)
    match error:
        case Interrupted():
            verdict = Sync.OUT_OF_SYNC, Operation.SUPERSEDED, str(error)
        case Unavailable():  # could not ask, is not unhealthy
            verdict = Sync.OUT_OF_SYNC, Operation.RUNNING, str(error)
        case MvdError() if failure and failure.action in ("rollback", WAIT, LACKING, KEEP):
            verdict = Sync.UNKNOWN, Operation.ROLLBACK_FAILED, f"{failure.why}; the way back failed: {error}"
        case NotNow():
            verdict = Sync.OUT_OF_SYNC, Operation.RUNNING, str(error)
        case MvdError():
            verdict = Sync.UNKNOWN, Operation.FAILED, str(error)
        case None:
            assert decision is not None, "nothing was decided, and nothing went wrong"
            verdict = decision.verdict
    sync, operation, why = verdict
    fault = _fault(failure) if failure else fault_of(error) if error else ""
    return Outcome(app, sync, health, operation, plan, why, fault=fault)


def _fault(failure: Failure) -> str:
    """Whose fault a failure is that stands against a version."""
    if INTERNAL in failure.why:
        return DEFECT
    return {WAIT: NOT_NOW, KEEP: NOT_NOW, LACKING: LACKS}.get(failure.action, VERSION)
