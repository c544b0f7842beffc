"""The heart: make this host match what Git says, app by app.  Pure: all it touches are the ports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from gitops_mvd.core.decide import Candidate, Decision, Known, admit, candidates, conclude, decide
from gitops_mvd.core.errors import Interrupted, MvdError, StepFailed, Unavailable
from gitops_mvd.core.model import App, Desired, Failure, Health, Operation, Outcome, Report, Sync
from gitops_mvd.core.ports import History, Host
from gitops_mvd.core.redact import redact, secrets_of_app

In = TypeVar("In")
Out = TypeVar("Out")
Map = Callable[[Callable[[In], Out], Iterable[In]], Iterable[Out]]


def reconcile(
    desired: Desired,
    host: Host,
    history: History,
    side_by_side: Map[Candidate, Outcome] = map,
    *,
    allow_empty: bool = False,
) -> Report:
    """Make this host match `desired`; one bad app never holds up another.

    Deploying, healing drift, rolling back and removing are all this one function.  It trusts no event and no memory of
    its own: it reads the whole truth each time, so a lost webhook, a crash half-way and a hand-edited unit all end the
    same way.  `side_by_side` is `map`, or that of a pool of threads.
    """

    def one(candidate: Candidate) -> Outcome:
        try:
            admitted = admit(candidate, host)
        except Unavailable as error:
            app = candidate.app
            why = _redacted(str(error), app)
            return Outcome(app.name, Sync.UNKNOWN, host.health(app), Operation.RUNNING, why=why)
        return settle(admitted, host, history, desired.revision.commit)

    # Consumers and the like come first: a route of an app may name them.
    every = candidates(desired, host.apps(), allow_empty=allow_empty)
    first = [candidate for candidate in every if candidate.app.kong_entities]
    rest = [candidate for candidate in every if not candidate.app.kong_entities]
    return Report(host.name, desired.revision, (*side_by_side(one, first), *side_by_side(one, rest)))


def settle(candidate: Candidate, host: Host, history: History, commit: str) -> Outcome:
    """Bring one app to where it should be or, after a failure, to where it last worked."""
    app, known = candidate.app, _recall(candidate.app, host, history, commit)
    done = attempt(candidate, known, host, history, commit)
    good = history.last_good(app.name)
    if failure := done.failure_of_new(good):
        if rotated := rotation(good, app):
            failure = replace(failure, why=f"{rotated}: {failure.why}")
        failure = replace(failure, why=_redacted(failure.why, app, known))
        history.mark_failed(app, failure)
        done = attempt(Candidate(app, failure), known, host, history, commit)  # this is the rollback
    outcome = conclude(app.name, done.decision, done.error, host.health(app))
    outcome = replace(outcome, why=_redacted(outcome.why, app, known))
    if (goal := done.decision.goal if done.decision else None) and (overridden := host.overridden(goal)):
        return told(outcome, overridden)
    if outcome.operation is not Operation.SUCCEEDED:
        return outcome
    if app == App(app.name):
        return replace(outcome, removed=True)
    if outcome.health is not Health.HEALTHY:
        return replace(outcome, why=_redacted(host.health_reason(app), app, known))
    return replace(outcome, why=_remark(app, history, commit))


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
    """What was decided (None if that could not be), and the error that ended it, None if nothing did."""

    decision: Decision | None
    error: MvdError | None

    def failure_of_new(self, good: App | None) -> Failure | None:
        """Why a version that was new here failed, None if none did.  What worked before has nowhere to go back to."""
        if not isinstance(self.error, StepFailed) or not self.decision or self.decision.failure:
            return None
        return None if self.decision.goal == good else Failure(str(self.error), _action(self.decision.app, self.error))


def attempt(candidate: Candidate, known: Known, host: Host, history: History, commit: str) -> Attempt:
    """Decide and carry it out.  What is remembered stands between change and clean-up: from there is no way back."""
    decision = None
    try:
        decision = decide(candidate, known, host)
        if decision.stuck:
            raise StepFailed(decision.stuck)
        remarks = host.carry_out(decision.plan.change)
        decision = _remember(decision, remarks, known, history, commit)
        host.carry_out(decision.plan.clean)
    except (Interrupted, Unavailable, StepFailed) as error:
        return Attempt(decision, error)
    return Attempt(decision, None)


def _recall(app: App, host: Host, history: History, commit: str) -> Known:
    """What is known of an app.  If nothing of it is here, that is remembered: it is what there is to go back to."""
    good, before = history.last_good(app.name), host.found(app.name)
    if good is None and not before:
        history.approve(good := App(app.name), commit)
    return Known(good, history.failure_of(app), before)


def _remember(decision: Decision, remarks: list[str], known: Known, history: History, commit: str) -> Decision:
    """Every required gate has passed.  `remarks` are of those that were not required (`failure_action: continue`)."""
    app = decision.app
    if decision.failure:
        return decision
    if remarks:
        failure = Failure(_redacted("; ".join(remarks), app, known), "continue")
        history.mark_failed(app, failure)
        if known.good == App(app.name):  # something is here now, to which nothing at all is no way back
            history.forget(app.name)
        return replace(decision, failure=failure)
    if app != known.good:
        history.approve(app, commit)
    return decision


def _redacted(why: str, app: App, known: Known | None = None) -> str:
    """A reason without any secret of an app, nor of the version that last worked."""
    return redact(why, secrets_of_app(app) | secrets_of_app(known.good if known and known.good else app)) if why else ""


def _action(app: App, error: StepFailed) -> str:
    """The `failure_action` of the service at fault; `continue` is for gates only, so a refused step rolls back."""
    actions = {service.name: service.update.failure_action for service in app.services}
    return "pause" if actions.get(error.service) == "pause" else "rollback"
