"""Which version an app should be, whether it may be tried, and what that takes: the one place that decides.  Pure.

Reconcile carries a decision out, `mvd plan` prints it, and a pull request shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

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
    Step,
    Sync,
)
from gitops_mvd.core.ports import History, Host, Planner

EMPTIED = (
    "the commit has no app for this host; removing all of them is refused unless the settings say allow_empty: true"
)
LACKING = "lacking"  # the action of a failure for want of something on this host: red, and tried again once it is due
REST = "rest"  # the action of a failure to bring back what last worked: it is left alone until it is due
PASSING = (WAIT, LACKING, REST)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An app as a commit wants it; `refused` is why it may not be tried here."""

    app: App
    refused: Failure | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an app before anything is done to it.

    `good` is the version that last worked here: the empty app if nothing ever ran, None if nobody remembers.  `failure`
    is why this very version failed before, and `resting` why the good one could not be brought back.  `before` are the
    resources that were found.
    """

    good: App | None
    failure: Failure | None
    before: tuple[Resource, ...]
    resting: Failure | None = None


def recall(app: App, host: Host, history: History) -> Known:
    """What is known of an app now."""
    good, failure = history.last_good(app.name), history.failure_of(app)
    resting = failure if app == good else history.failure_of(good) if good else None
    return Known(good, failure, host.found(app.name), resting)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about an app: `plan` leads to `goal`, which is the app itself unless a `failure` stands against it.

    Without a goal (None) nothing is to be done, or the way leads back to what was found, and never to the empty app.
    `way` is the same for a planner, None if nothing is to be done.  `stuck` is why the way cannot be gone now.  `known`
    is what it was decided by.
    """

    app: App
    goal: App | None
    plan: Plan
    known: Known
    failure: Failure | None = None
    stuck: StepFailed | None = None
    way: Goal | None = None

    @property
    def verdict(self) -> tuple[Sync, Operation, str]:
        """How the app stands once the plan was carried out."""
        if not self.failure:
            return Sync.SYNCED, Operation.SUCCEEDED, ""
        why = self.failure.why
        match self.failure.action:
            case "continue":
                return Sync.SYNCED, Operation.FAILED, why
            case "pause":
                return Sync.OUT_OF_SYNC, Operation.FAILED, f"{why}; paused"
            case "hold":
                return Sync.OUT_OF_SYNC, Operation.FAILED, why
            case "wait":
                return Sync.OUT_OF_SYNC, Operation.RUNNING, why
        somewhere = self.goal is not None and self.goal != App(self.app.name)
        return Sync.OUT_OF_SYNC, Operation.ROLLED_BACK if somewhere else Operation.FAILED, why


def candidates(desired: Desired, present: Iterable[str], *, allow_empty: bool) -> list[Candidate]:
    """Every app that Git has, has broken, or no longer has though something of it is `present`.

    A commit with nothing at all for this host is more likely a mistake (a wrong branch, a lost folder) than a wish:
    nothing is removed then, unless `allow_empty`.
    """
    known = {app.name for app in desired.apps} | desired.broken.keys()
    is_emptied = not known and not allow_empty
    refused = Failure(EMPTIED, "hold") if is_emptied else None
    return [
        *(Candidate(app) for app in desired.apps),
        *(Candidate(App(name), Failure(str(desired.broken[name][0]))) for name in sorted(desired.broken)),
        *(Candidate(App(name), refused) for name in sorted(set(present) - known)),
    ]


def admit(candidate: Candidate, host: Host) -> Candidate:
    """The candidate with its images pinned to digests, or refused by this host.  Raises Unavailable."""
    if candidate.refused:
        return candidate
    try:
        return Candidate(host.pin(candidate.app))
    except StepFailed as error:
        return Candidate(candidate.app, failure_by(error))


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
    if hindered := next((it for it in decisions if it.failure and it.failure.action != "continue"), None):
        assert hindered.failure
        why = f"changes together with {hindered.app.name}: {hindered.failure.why}"
        held = Failure(why, WAIT if hindered.failure.action == WAIT else "rollback")
        decisions = [it if it.failure else _decide(Candidate(it.app, held), it.known, planner) for it in decisions]
    plan = planner.plan([it.way for it in decisions if it.way and not it.stuck])
    return [replace(it, plan=share(plan, it.app.name)) for it in decisions], plan


def share(plan: Plan, app: str) -> Plan:
    """The steps of a plan that are about one app."""

    def of_app(steps: Iterable[Step]) -> tuple[Step, ...]:
        return tuple(it for it in steps if it.resource.app == app)

    return Plan(of_app(plan.change), of_app(plan.clean))


def _decide(candidate: Candidate, known: Known, planner: Planner) -> Decision:
    """The goal of one app, and the plan that leads there from what was found, if it is alone.  Raises Unavailable."""
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
    return _rollback(app, known, planner, failure)


def _rollback(app: App, known: Known, planner: Planner, failure: Failure) -> Decision:
    """Rollback is reconciling to the last good version; where that is not known, to what was found."""
    good = App(app.name) if known.good is None and not known.before else known.good
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
    plan, failure = (decision.plan, decision.failure) if decision else (Plan(), None)
    match error:
        case Interrupted():
            verdict = Sync.OUT_OF_SYNC, Operation.SUPERSEDED, str(error)
        case Unavailable():  # could not ask, is not unhealthy
            verdict = Sync.OUT_OF_SYNC, Operation.RUNNING, str(error)
        case MvdError() if failure and failure.action in ("rollback", WAIT, LACKING):
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
    return {WAIT: NOT_NOW, LACKING: LACKS}.get(failure.action, VERSION)
