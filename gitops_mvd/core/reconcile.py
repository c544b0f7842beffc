"""The heart: make this host match what Git says, app by app.  Pure: all it touches are the ports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from gitops_mvd.core.errors import Interrupted, StepFailed, Unavailable
from gitops_mvd.core.model import App, Desired, Failure, Health, Operation, Outcome, Plan, Report, Resource, Sync
from gitops_mvd.core.ports import History, Host

In = TypeVar("In")
Out = TypeVar("Out")
Map = Callable[[Callable[[In], Out], Iterable[In]], Iterable[Out]]


EMPTIED = (
    "the commit has no app for this host; removing all of them is refused unless the settings say allow_empty: true"
)


def reconcile(
    desired: Desired,
    host: Host,
    history: History,
    side_by_side: Map[App, Outcome] = map,
    *,
    allow_empty: bool = False,
) -> Report:
    """Make this host match `desired`; one bad app never holds up another.

    Deploying, healing drift, rolling back and removing are all this one function.  It trusts no event and no memory of
    its own: it reads the whole truth each time, so a lost webhook, a crash half-way and a hand-edited unit all end the
    same way.  `side_by_side` is `map`, or that of a pool of threads.

    A commit with nothing at all for this host is more likely a mistake (a wrong branch, a lost folder) than a wish:
    nothing is removed then, unless `allow_empty`.
    """
    broken = {name: str(problems[0]) for name, problems in desired.broken.items()}
    removed = removed_apps(desired, host)
    held = [App(name) for name in sorted(broken)]
    if would_empty(desired, removed) and not allow_empty:
        refused = (
            Outcome(app.name, Sync.OUT_OF_SYNC, host.health(app), Operation.FAILED, why=EMPTIED) for app in removed
        )
        return Report(host.name, desired.revision, tuple(refused))

    commit = desired.revision.commit

    def bring(app: App) -> Outcome:
        if app.name in broken:
            return settle(app, host, history, commit, Failure(broken[app.name]))
        try:
            pinned = host.pin(app)
        except Unavailable as error:
            return Outcome(app.name, Sync.UNKNOWN, host.health(app), Operation.RUNNING, why=str(error))
        except StepFailed as error:
            return settle(app, host, history, commit, Failure(str(error)))
        return settle(pinned, host, history, commit, history.failure_of(pinned))

    # Consumers and the like come first: a route of an app may name them.
    first = [app for app in desired.apps if app.kong_entities]
    rest = [*(app for app in desired.apps if not app.kong_entities), *held, *removed]
    return Report(host.name, desired.revision, (*side_by_side(bring, first), *side_by_side(bring, rest)))


def removed_apps(desired: Desired, host: Host) -> list[App]:
    """The apps that own something here and that Git no longer has, as the empty apps that they should be."""
    known = {app.name for app in desired.apps} | desired.broken.keys()
    return [App(name) for name in sorted(set(host.apps()) - known)]


def would_empty(desired: Desired, removed: Sequence[App]) -> bool:
    """Would this remove everything that there is?"""
    return bool(removed) and not desired.apps and not desired.broken


def settle(
    app: App,
    host: Host,
    history: History,
    commit: str,
    failure: Failure | None = None,
    before: Sequence[Resource] | None = None,
) -> Outcome:
    """Bring one app to where it should be or, after a `failure`, to where it last worked.

    Where history was lost, nothing is known to have worked: then the way back is what was found `before`, left alone,
    and never the empty app.  A failure may also leave everything as it stands (`pause`), or not matter (`continue`).
    """
    good = history.last_good(app.name)
    before = host.found(app.name) if before is None else before
    if good is None and not before:  # nothing is here, and that is what there is to go back to
        history.approve(good := App(app.name), commit)
    goal = good if failure and failure.action == "rollback" else app
    plan = Plan()

    def outcome(sync: Sync, operation: Operation, why: str = "") -> Outcome:
        return Outcome(app.name, sync, host.health(app), operation, plan, why)

    if failure and failure.action == "pause":
        return outcome(Sync.OUT_OF_SYNC, Operation.FAILED, f"{failure.why}; paused")
    try:
        plan = host.plan(goal, proven=bool(failure) or goal == good) if goal else host.plan_back(app, before)
        if goal == good and not failure and (left := host.unrepaired(plan)):
            plan = Plan()
            return outcome(Sync.OUT_OF_SYNC, Operation.FAILED, left)
        complaints = host.carry_out(plan.change)
        if complaints and not failure:
            failure = Failure("; ".join(complaints), "continue")
            history.mark_failed(app, failure)
            if good == App(app.name):  # something is here now, to which nothing at all is no way back
                history.forget(app.name)
        if goal and goal != good and not failure:
            history.approve(goal, commit)  # every gate has passed: from here there is no way back
        host.carry_out(plan.clean)
    except Interrupted as error:
        return outcome(Sync.OUT_OF_SYNC, Operation.SUPERSEDED, str(error))
    except Unavailable as error:  # could not ask, is not unhealthy: change nothing more, look again later
        return outcome(Sync.OUT_OF_SYNC, Operation.RUNNING, str(error))
    except StepFailed as error:
        if failure and failure.action == "rollback":
            return outcome(Sync.UNKNOWN, Operation.ROLLBACK_FAILED, f"{failure.why}; the way back failed: {error}")
        if failure or goal == history.last_good(app.name):  # nowhere better to go
            return outcome(Sync.UNKNOWN, Operation.FAILED, str(error))
        failure = Failure(str(error), _failure_action(app, error))
        history.mark_failed(app, failure)
        return settle(app, host, history, commit, failure, before)  # this is the rollback
    if failure and failure.action == "continue":
        return outcome(Sync.SYNCED, Operation.FAILED, failure.why)
    if failure:
        back = Operation.ROLLED_BACK if good and good != App(app.name) else Operation.FAILED
        return outcome(Sync.OUT_OF_SYNC, back, failure.why)
    done = outcome(Sync.SYNCED, Operation.SUCCEEDED)
    if done.health is not Health.HEALTHY:
        return replace(done, why=host.health_reason(app))
    recalled = history.reverted_to(app, commit) if app != App(app.name) else ""
    return replace(done, why=f"back to what {recalled[:7]} ran" if recalled else "")


def _failure_action(app: App, error: StepFailed) -> str:
    """What the service at fault says; what can only go on as far as its gates goes back where a step was refused."""
    actions = {service.name: service.update.failure_action for service in app.services}
    return "pause" if actions.get(error.service) == "pause" else "rollback"
