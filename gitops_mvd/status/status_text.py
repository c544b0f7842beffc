"""The words of a report: the status of a commit, and one line for the log.  Pure.

A description puts the cause first, as forges cut it, and says nothing of what one pass did: a pass without changes must
say the same again, or every pass would send a new status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import quote

from gitops_mvd.core.model import (
    CommitStatus,
    Health,
    Operation,
    Outcome,
    PostedStatus,
    Report,
    Revision,
    Sync,
)
from gitops_mvd.core.moves import KEPT
from gitops_mvd.core.plan_text import cut
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.text import reason
from gitops_mvd.core.waves import KEEPS
from gitops_mvd.state.history import CommitWork

LONGEST_DESCRIPTION = 140  # characters, as GitHub has it; others show more
LONGEST_NAMES = 60  # characters of the names of healthy apps before the cause
NO_WORK = CommitWork()

# From best to worst.  An app that is interrupted or waits is not final, and so less bad than one that failed.
SEVERITY = (
    Operation.SUCCEEDED,
    Operation.RUNNING,
    Operation.SUPERSEDED,
    Operation.ROLLED_BACK,
    Operation.FAILED,
    Operation.ROLLBACK_FAILED,
)


def context(host: str) -> str:
    """The context of this host's status."""
    return f"mvd/{host}"


def is_green(status: CommitStatus) -> bool | None:
    """True for success, False for failure, None for a status that is not final."""
    if status.operation is Operation.RUNNING:
        return None
    return (status.operation, status.health) == (Operation.SUCCEEDED, Health.HEALTHY)


SUPERSEDED, ROLLED_BACK, STAYED = "superseded by", "rolled back", "stays as it was before"
REMOVED = "removed"  # what has become of an app that Git no longer has


def status(report: Report, work: CommitWork = NO_WORK) -> CommitStatus:
    """The one status of a host: that of its worst app, and green only if every app is synced and healthy.

    Of what the commit itself changes here, its `work`, is told first.  Other hosts read a description that begins with
    KEEPS: all else is done here.  A commit that changes an app that an operator
    has suspended is not deployed there, and ends as suspended.  Of other suspended apps it is only told that they are.
    """
    left = [it for it in report.outcomes if _is_left(it) and (work.apps is None or it.app in work.apps)]
    bad = [*_bad(report), *left]
    if not bad:
        done = {app: what for app, what in work.done.items() if work.apps is None or app in work.apps}
        words = "; ".join(
            [f"{_counted(report, done, _well(report))} healthy", *_suspended(report), *_done(report, done)]
        )
        return _status(report.host, Operation.SUCCEEDED, cut(words, LONGEST_DESCRIPTION), Health.HEALTHY)
    worst, cause = bad[0], _keeps(bad) or "; ".join(_causes(report, bad, work))
    if worst in left:
        return _status(report.host, Operation.SUPERSEDED, cause, Health.SUSPENDED)
    return _status(report.host, Operation.RUNNING if _is_unfinished(worst) else worst.operation, cause, worst.health)


def _keeps(bad: list[Outcome]) -> str:
    """`keeps shop until b has it: b is not green yet`; "" if something else is not done, either."""
    if not all(it.operation is Operation.RUNNING and it.why.startswith(KEPT) for it in bad):
        return ""
    names = "".join(f"; also {it.app}" for it in bad[1:])
    return f"{KEEPS}{bad[0].app}{first_line(bad[0].why).removeprefix('kept')}{names}"


def app_status(host: str, outcome: Outcome, done: str = "") -> CommitStatus:
    """The status of one app; `done` is what its commit has changed."""
    remark = REMOVED if outcome.removed else _remark(outcome) or (f"healthy; {done}" if done else "")
    words = cut(remark, LONGEST_DESCRIPTION) if outcome.is_green else in_words(outcome)
    if _is_suspended(outcome):
        end = (Operation.SUPERSEDED, Health.SUSPENDED) if _is_left(outcome) else (Operation.SUCCEEDED, Health.HEALTHY)
        return CommitStatus(f"{context(host)}/{outcome.app}", *end, words)
    operation = Operation.RUNNING if _is_unfinished(outcome) else outcome.operation
    return CommitStatus(f"{context(host)}/{outcome.app}", operation, outcome.health, words or "healthy")


def pending(host: str, revision: Revision) -> CommitStatus:
    """This host deploys the commit."""
    return _status(host, Operation.RUNNING, f"deploying {revision.short}")


def waiting(host: str, why: str) -> CommitStatus:
    """Something does not answer; the host tries again."""
    return _status(host, Operation.RUNNING, f"waiting: {first_line(why)}")


def failing(report: Report) -> frozenset[str]:
    """The apps for which a report is red, and not just unfinished."""
    return frozenset(outcome.app for outcome in _bad(report) if not _is_unfinished(outcome))


def superseded(host: str, by: Revision) -> CommitStatus:
    """A newer commit came before this one was deployed."""
    return _status(host, Operation.SUPERSEDED, f"{SUPERSEDED} {by.short}")


def suspended(host: str, suspension: Suspension) -> CommitStatus:
    """All changes are paused on this server."""
    return _status(host, Operation.SUPERSEDED, f"{host} is {suspension.text}", Health.SUSPENDED)


def nothing_to_do(host: str, but: str = "") -> CommitStatus:
    """The commit changes nothing on this host; `but` is what an earlier commit has left red."""
    return _status(host, Operation.SUCCEEDED, f"nothing to do here{f'; {but}' if but else ''}", Health.HEALTHY)


def failed(host: str, revision: Revision, why: str) -> CommitStatus:
    """The commit as a whole cannot be read, so the host stays as it is."""
    return _status(host, Operation.FAILED, f"{first_line(why)}; {host} {STAYED} {revision.short}")


def refused(host: str, why: str) -> CommitStatus:
    """This host refuses that commit."""
    return _status(host, Operation.FAILED, first_line(why))


PLAN = "plan"  # the last part of the context in which plans are shown


def planned(host: str, cost: str, short: str) -> CommitStatus:
    """What a pull request would do here: what it costs, and what it changes."""
    description = f"{f'{cost}; ' if cost else ''}{short}" if short else "nothing to do here"
    return CommitStatus(f"{context(host)}/{PLAN}", Operation.SUCCEEDED, Health.HEALTHY, description)


def unplanned(host: str, why: str) -> CommitStatus:
    """A pull request that cannot be deployed here as it is."""
    return CommitStatus(f"{context(host)}/{PLAN}", Operation.FAILED, Health.UNKNOWN, first_line(why))


def read(posted: PostedStatus) -> tuple[Sync, Health]:
    """What a status of this module tells of its host, as far as a forge keeps it: a colour and a description."""
    words = posted.description
    if posted.state == "green":
        return Sync.SYNCED, Health.HEALTHY
    if "suspended" in words:
        return Sync.OUT_OF_SYNC, Health.SUSPENDED
    if words.startswith(SUPERSEDED) or ROLLED_BACK in words or STAYED in words:
        return Sync.OUT_OF_SYNC, Health.UNKNOWN  # of the version that goes on to run, it does not tell
    if posted.state == "pending":
        return Sync.OUT_OF_SYNC, Health.PROGRESSING
    return Sync.UNKNOWN, Health.DEGRADED


def summary(report: Report) -> str:
    """The whole pass in one line: `srv1 at 1a2b3c4: 2 of 3 apps healthy; web: http 503 from /health; rolled back`."""
    bad = _bad(report)
    removed = dict.fromkeys((outcome.app for outcome in report.outcomes if outcome.removed), REMOVED)
    counted = _counted(report, removed, _well(report, len(bad)))
    words = [f"{counted} healthy", *map(_cause, bad), *_suspended(report), *_done(report, {})]
    return f"{report.host} at {report.revision.short}: {'; '.join(words)}"


def _status(host: str, operation: Operation, description: str, health: Health = Health.UNKNOWN) -> CommitStatus:
    return CommitStatus(context(host), operation, health, description)


def _bad(report: Report) -> list[Outcome]:
    """The apps that are not green, the worst first; without those that are suspended."""
    bad = [outcome for outcome in report.outcomes if not (outcome.is_green or _is_suspended(outcome))]
    order = list(Health)
    return sorted(bad, key=lambda o: (_is_unfinished(o), -SEVERITY.index(o.operation), -order.index(o.health), o.app))


def _is_suspended(outcome: Outcome) -> bool:
    """Is it suspended, and has nothing about it failed?"""
    return outcome.suspended is not None and outcome.operation is Operation.SUCCEEDED


def _is_left(outcome: Outcome) -> bool:
    """Is it not what its commit wants, because an operator has suspended it?"""
    by = outcome.suspended
    return by is not None and _is_suspended(outcome) and not by.is_in_git and outcome.sync is Sync.OUT_OF_SYNC


def _suspended(report: Report) -> Iterator[str]:
    """`shop: suspended by anna until 14:00: the disk is changed`."""
    return (_cause(outcome) for outcome in report.outcomes if _is_suspended(outcome))


def _well(report: Report, bad: int = 0) -> str:
    """`2 of `, "" if all apps are healthy."""
    bad += sum(map(_is_suspended, report.outcomes))
    return f"{len(_current(report)) - bad} of " if bad else ""


def _is_unfinished(outcome: Outcome) -> bool:
    """Is the app not final, though nothing went wrong?  Unknown health is as little final as starting.

    An interrupted app is reconciled again at once: if a newer commit was the reason, its status is `superseded`.
    """
    if outcome.operation is not Operation.SUCCEEDED:
        return outcome.operation in {Operation.RUNNING, Operation.SUPERSEDED}
    return outcome.health in {Health.PROGRESSING, Health.UNKNOWN} or (
        outcome.health is Health.HEALTHY and outcome.sync is not Sync.SYNCED
    )


def _causes(report: Report, bad: list[Outcome], work: CommitWork) -> Iterator[str]:
    """What the commit has to answer for, and then what others have left, with the commit since when it is so."""
    own = [outcome for outcome in bad if work.apps is None or outcome.app in work.apps]
    others = [outcome for outcome in bad if outcome not in own]
    if own:
        yield _cause(own[0])
        if names := ", ".join(outcome.app for outcome in own[1:]):
            yield f"also {names}"
    elif names := ", ".join(it.app for it in _current(report) if it.app in (work.apps or ()) and it.is_green):
        yield f"{names} healthy" if len(names) <= LONGEST_NAMES else "what it changes is healthy"
    for place, outcome in enumerate(others):
        since = f"since {work.by[outcome.app][:7]} " if outcome.app in work.by else ""
        yield f"{since}{outcome.app if own or place else _cause(outcome)}"


def link(template: str, host: str, app: str, commit: str) -> str:
    """The address of more about an app at a commit; "" without a template."""
    return filled(template, {name: quote(word) for name, word in (("host", host), ("app", app), ("commit", commit))})


def filled(template: str, words: Mapping[str, str]) -> str:
    """The template with each `{name}` in it replaced by its word."""
    for name, word in words.items():
        template = template.replace(f"{{{name}}}", word)
    return template


def _cause(outcome: Outcome) -> str:
    """`web: http 503 from /health for 60 s; rolled back`, in one line."""
    return f"{outcome.app}: {in_words(outcome)}"


def in_words(outcome: Outcome) -> str:
    """Why an app is not as it should be, in one line: `http 503 from /health for 60 s; rolled back`."""
    why = first_line(outcome.why)
    match outcome.operation:
        case Operation.RUNNING:
            words = reason(outcome.operation, why) or "deploying"
        case Operation.SUPERSEDED:
            words = f"interrupted: {why}"
        case Operation.ROLLED_BACK:
            words = f"{why}; {ROLLED_BACK}"
        case Operation.ROLLBACK_FAILED:
            words = why if "way back" in why else f"{why}; the way back failed"
        case Operation.FAILED:
            words = why or "failed"
        case Operation.SUCCEEDED:
            words = why or (outcome.sync if outcome.health is Health.HEALTHY else outcome.health).lower()
    return words


def first_line(text: str) -> str:
    """The first line of a text; the others are details, such as the last lines of a log."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _done(report: Report, done: Mapping[str, str]) -> Iterator[str]:
    """What is to be told of green apps: `web: same version as in 1a2b3c4 (reverted)`, or what has changed in them."""
    for outcome in _current(report):
        if outcome.is_green and (remark := _remark(outcome)):
            yield f"{outcome.app}: {remark}"
        elif done.get(outcome.app, REMOVED) != REMOVED:
            yield done[outcome.app]


def _remark(outcome: Outcome) -> str:
    return first_line(outcome.why)


def _counted(report: Report, done: Mapping[str, str], well: str = "") -> str:
    """`5 removed, 1 app`, `2 of 3 apps`."""
    number, removed = len(_current(report)), sum(1 for what in done.values() if what == REMOVED)
    return f"{f'{removed} removed, ' if removed else ''}{well}{number} app{'s' * (number != 1)}"


def _current(report: Report) -> list[Outcome]:
    """The apps that are on the host, without those that the pass has removed."""
    return [outcome for outcome in report.outcomes if not outcome.removed]
