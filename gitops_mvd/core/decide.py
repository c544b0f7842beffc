"""Which version an app should be, whether it may be tried, and what that takes: the one place that decides.  Pure.

Reconcile carries a decision out, `mvd plan` prints it, and a pull request shows it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gitops_mvd.core.errors import Interrupted, MvdError, StepFailed, Unavailable
from gitops_mvd.core.model import App, Desired, Failure, Health, Operation, Outcome, Plan, Resource, Sync
from gitops_mvd.core.ports import Host, Planner

EMPTIED = (
    "the commit has no app for this host; removing all of them is refused unless the settings say allow_empty: true"
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An app as a commit wants it; `refused` is why it may not be tried here."""

    app: App
    refused: Failure | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an app before anything is done to it.

    `good` is the version that last worked here: the empty app if nothing ever ran, None if nobody remembers.  `failure`
    is why this very version failed before.  `before` are the resources that were found.
    """

    good: App | None
    failure: Failure | None
    before: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do about an app: `plan` leads to `goal`, which is the app itself unless a `failure` stands against it.

    Without a goal (None) the way leads back to what was found, and never to the empty app.  `stuck` is why not even the
    way back can be planned, "" if it can.
    """

    app: App
    goal: App | None
    plan: Plan
    failure: Failure | None = None
    stuck: str = ""

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
        return Candidate(candidate.app, Failure(str(error)))


def decide(candidate: Candidate, known: Known, planner: Planner) -> Decision:
    """The goal of an app, and the plan that leads there from what was found.  Raises Unavailable."""
    app, failure = candidate.app, candidate.refused or known.failure
    if not failure:
        try:
            plan = planner.plan(app, proven=app == known.good)
        except StepFailed as error:
            failure = Failure(str(error))
        else:
            if not (drift := planner.unrepaired(plan) if app == known.good else ""):
                return Decision(app, app, plan)
            failure = Failure(drift, "hold")
    match failure.action:
        case "pause" | "hold":
            return Decision(app, app, Plan(), failure)
        case "continue":
            return Decision(app, app, planner.plan(app, proven=True), failure)
    return _rollback(app, known, planner, failure)


def _rollback(app: App, known: Known, planner: Planner, failure: Failure) -> Decision:
    """Rollback is reconciling to the last good version; where that is not known, to what was found."""
    good = App(app.name) if known.good is None and not known.before else known.good
    try:
        plan = planner.plan(good, proven=True) if good else planner.plan_back(app, known.before)
    except StepFailed as error:
        return Decision(app, good, Plan(), failure, stuck=str(error))
    return Decision(app, good, plan, failure)


def conclude(app: str, decision: Decision | None, error: MvdError | None, health: Health) -> Outcome:
    """How an app came out of it: as decided, unless an `error` ended it.  Without a decision, none could be made."""
    plan, failure = (decision.plan, decision.failure) if decision else (Plan(), None)
    match error:
        case Interrupted():
            verdict = Sync.OUT_OF_SYNC, Operation.SUPERSEDED, str(error)
        case Unavailable():  # could not ask, is not unhealthy
            verdict = Sync.OUT_OF_SYNC, Operation.RUNNING, str(error)
        case MvdError() if failure and failure.action == "rollback":
            verdict = Sync.UNKNOWN, Operation.ROLLBACK_FAILED, f"{failure.why}; the way back failed: {error}"
        case MvdError():
            verdict = Sync.UNKNOWN, Operation.FAILED, str(error)
        case None:
            assert decision is not None, "nothing was decided, and nothing went wrong"
            verdict = decision.verdict
    sync, operation, why = verdict
    return Outcome(app, sync, health, operation, plan, why)
