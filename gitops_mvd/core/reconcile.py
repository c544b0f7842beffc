"""The heart: make this host match what Git says, app by app.  Pure: all it touches are the ports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import TypeAlias, TypeVar, cast

from gitops_mvd.core.decide import (
    NONE,
    REST,
    Candidate,
    Decision,
    Known,
    admit,
    candidates,
    conclude,
    decide,
    failure_by,
    recall,
)
from gitops_mvd.core.difference import what_changed
from gitops_mvd.core.errors import UNANSWERED, Interrupted, MvdError, StepFailed, Unavailable
from gitops_mvd.core.handover import handovers, together
from gitops_mvd.core.model import WAIT, App, Desired, Failure, Health, Operation, Outcome, Report, Sync
from gitops_mvd.core.plan_text import AppChange, in_short
from gitops_mvd.core.ports import History, Host
from gitops_mvd.core.redact import redact, secrets_of_app
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.text import LONGEST_LINE

In = TypeVar("In")
Out = TypeVar("Out")
Map = Callable[[Callable[[In], Out], Iterable[In]], Iterable[Out]]
Group: TypeAlias = Sequence[Candidate]
"""Apps that change together, as something passes between them; nearly always one alone."""
Keeping = Callable[[Sequence[Candidate]], Sequence[Candidate]]
"""The candidates, of which some are refused for now, as other hosts do not have yet what leaves this one."""


def reconcile(
    desired: Desired,
    host: Host,
    history: History,
    side_by_side: Map[Group, Sequence[Outcome]] = map,
    *,
    allow_empty: bool = False,
    suspended: Mapping[str, Suspension] = NONE,
    keeping: Keeping = tuple,
) -> Report:
    """Make this host match `desired`; one bad app never holds up another.

    Deploying, healing drift, rolling back and removing are all this one function.  It trusts no event and no memory of
    its own: it reads the whole truth each time, so a lost webhook, a crash half-way and a hand-edited unit all end the
    same way.  `side_by_side` is `map`, or that of a pool of threads.  `suspended` are the apps that an operator has
    suspended, by name, and `keeping` says which stay here for now though the commit has them elsewhere.
    """

    def one(group: Group) -> Sequence[Outcome]:
        try:
            admitted = [admit(candidate, host) for candidate in group]
        except Unavailable as error:
            return [_unknown(candidate, host, error) for candidate in group]
        return settle(admitted, host, history, desired.revision.commit)

    # Consumers and the like come first: a route of an app may name them.
    every = keeping(candidates(desired, host.apps(), allow_empty=allow_empty, suspended=suspended))
    groups = together(every, handovers(every, host, history))
    first = [group for group in groups if any(candidate.app.kong_entities for candidate in group)]
    rest = [group for group in groups if group not in first]
    outcomes = chain.from_iterable((*side_by_side(one, first), *side_by_side(one, rest)))
    return Report(host.name, desired.revision, tuple(outcomes))


def _unknown(candidate: Candidate, host: Host, error: Unavailable) -> Outcome:
    app, suspended = candidate.app, candidate.suspended
    if suspended:
        return Outcome(app.name, Sync.UNKNOWN, Health.SUSPENDED, why=suspended.text, suspended=suspended)
    why = _redacted(str(error), app)
    return Outcome(app.name, Sync.UNKNOWN, host.health(app), Operation.RUNNING, why=why, fault=UNANSWERED)


def settle(group: Group, host: Host, history: History, commit: str) -> list[Outcome]:
    """Bring apps that change together to where they should be or, after a failure, to where they last worked."""
    known = [_recall(candidate.app, host, history, commit) for candidate in group]
    done = attempt(group, known, host, history, commit)
    if failed := _mark_failed(done, history):
        back = [failed if candidate.app is failed.app else candidate for candidate in group]
        done = attempt(back, known, host, history, commit)  # this is the rollback
        _mark_failed(done, history)
    decisions = {decision.app.name: decision for decision in done.decisions}
    return [
        _outcome(candidate, decisions.get(candidate.app.name), done.error, it, host, history, commit)
        for candidate, it in zip(group, known, strict=True)
    ]


def _outcome(
    candidate: Candidate,
    decision: Decision | None,
    error: MvdError | None,
    known: Known,
    host: Host,
    history: History,
    commit: str,
) -> Outcome:
    app = candidate.app
    outcome = conclude(app.name, decision, error, host.health(app))
    outcome = replace(outcome, why=_redacted(outcome.why, app, known), changed=_changed(candidate, known, host))
    if outcome.suspended:
        return outcome
    if (goal := decision.goal if decision else None) and (overridden := host.overridden(goal)):
        return told(outcome, overridden)
    if outcome.operation is not Operation.SUCCEEDED:
        return outcome
    if app == App(app.name):
        return replace(outcome, removed=True)
    if outcome.health is not Health.HEALTHY:
        return replace(outcome, why=_redacted(host.health_reason(app), app, known))
    return replace(outcome, why=_remark(app, history, commit))


def _changed(candidate: Candidate, known: Known, host: Host) -> str:
    """What was tried, in one line: what differs from the version that last worked; "" for what is not tried here."""
    if candidate.refused or candidate.suspended or (known.failure and not known.failure.is_due):
        return ""
    found = what_changed(candidate.app, known.good, known.before, host.roles)
    return in_short([AppChange(candidate.app.name, found)], LONGEST_LINE)


def _remark(app: App, history: History, commit: str) -> str:
    """What is not plain about a healthy version: that it came back, or came without a commit; "" for any other."""
    if reverted := history.reverted_to(app, commit):
        return f"same version as in {reverted[:7]} (reverted)"
    return rotation(history.good_before(app), app) if any(service.secrets for service in app.services) else ""


def rotation(before: App | None, app: App) -> str:
    """Which secrets alone make one version another; "" if more does, or nothing."""
    if before is None or before == app or _without_secrets(before) != _without_secrets(app):
        return ""
    had = {(service.name, *secret) for service in before.services for secret in service.secrets.items()}
    names = {secret[0] for it in app.services for secret in it.secrets.items() if (it.name, *secret) not in had}
    return f"secret {', '.join(sorted(names))} changed on this host"


def _without_secrets(app: App) -> App:
    return replace(app, services=tuple(replace(service, secrets={}) for service in app.services))


def told(outcome: Outcome, overridden: str) -> Outcome:
    """The outcome of an app over which somebody has laid something."""
    match outcome.operation:
        case Operation.SUCCEEDED:
            return replace(outcome, sync=Sync.OUT_OF_SYNC, operation=Operation.FAILED, why=overridden)
        case Operation.RUNNING | Operation.SUPERSEDED:
            return outcome
    return replace(outcome, why=f"{outcome.why}; {overridden}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What was decided (nothing if that could not be), and the error that ended it, None if nothing did.

    If it `was_tried`, steps were carried out, and the error is about them.
    """

    decisions: Sequence[Decision]
    error: MvdError | None = None
    was_tried: bool = False

    def at_fault(self) -> Decision | None:
        """The decision about the app of which a step was refused or a gate was not passed."""
        error = self.error
        if not (self.was_tried and isinstance(error, StepFailed)):
            return None
        named = (it for it in self.decisions if it.app.name == error.app)
        new = (it for it in self.decisions if it.app.services and not (it.failure or it.suspended))
        return next(chain(named, new, self.decisions))


def attempt(group: Group, known: Sequence[Known], host: Host, history: History, commit: str) -> Attempt:
    """Decide and carry it out.  What is remembered stands between change and clean-up: from there is no way back."""
    decisions: list[Decision] = []
    was_tried = False
    try:
        decisions, plan = decide(list(zip(group, known, strict=True)), host)
        if stuck := next((it.stuck for it in decisions if it.stuck), None):
            raise stuck
        was_tried = True
        remarks = host.carry_out(plan.change)
        decisions = [_remember(decision, remarks, history, commit) for decision in decisions]
        host.carry_out(plan.clean)
        for it in decisions:
            if it.goal and it.goal == it.known.good and it.known.resting:
                history.approve(it.goal, commit)  # it is back, and nothing is left to clean up
    except (Interrupted, Unavailable, StepFailed) as error:
        return Attempt(decisions, error, was_tried)
    return Attempt(decisions)


def _mark_failed(done: Attempt, history: History) -> Candidate | None:
    """Remember what failed.  The candidate that is refused for it from now on; None if it has nowhere to go back to."""
    if not (at_fault := done.at_fault()):
        return None
    error, app, good = cast(StepFailed, done.error), at_fault.app, history.last_good(at_fault.app.name)
    if at_fault.suspended:  # that it could not be stopped says nothing about a version
        return None
    if at_fault.failure or at_fault.goal == good:
        if good and at_fault.goal == good:
            history.mark_failed(good, _failure(error, REST, app, good, at_fault.known))
        return None
    failure = _failure(error, _action(app, error), app, good, at_fault.known)
    history.mark_failed(app, failure)
    return Candidate(app, failure)


def _failure(error: StepFailed, action: str, app: App, good: App | None, known: Known) -> Failure:
    failure = failure_by(error, action)
    rotated = rotation(good, app)
    return replace(failure, why=_redacted(f"{rotated}: {failure.why}" if rotated else failure.why, app, known))


def _recall(app: App, host: Host, history: History, commit: str) -> Known:
    """What is known of an app.  If nothing of it is here, that is remembered: it is what there is to go back to."""
    known = recall(app, host, history)
    if known.good is None and not known.before:
        history.approve(good := App(app.name), commit)
        return replace(known, good=good)
    return known


def _remember(decision: Decision, remarks: list[str], history: History, commit: str) -> Decision:
    """Every required gate has passed.  `remarks` are of those that were not required (`failure_action: continue`)."""
    app, known = decision.app, decision.known
    if decision.failure or decision.suspended:
        return decision
    if remarks and _may_continue(app):
        failure = Failure(_redacted("; ".join(remarks), app, known), "continue")
        history.mark_failed(app, failure)
        if known.good == App(app.name):  # something is here now, to which nothing at all is no way back
            history.forget(app.name)
        return replace(decision, failure=failure)
    if app != known.good:
        history.approve(app, commit)
    return decision


def _may_continue(app: App) -> bool:
    return any(service.update.failure_action == "continue" for service in app.services)


def _redacted(why: str, app: App, known: Known | None = None) -> str:
    """A reason without any secret of an app, nor of the version that last worked."""
    return redact(why, secrets_of_app(app) | secrets_of_app(known.good if known and known.good else app)) if why else ""


def _action(app: App, error: StepFailed) -> str:
    """The `failure_action` of the service at fault; `continue` is for gates only, so a refused step rolls back."""
    if not app.services:
        return WAIT  # a removal
    actions = {service.name: service.update.failure_action for service in app.services}
    return "pause" if actions.get(error.service) == "pause" else "rollback"
