"""The words of a report: the status of a commit, and one line for the log.  Pure.

A description puts the cause first, as forges cut it, and says nothing of what one pass did: a pass without changes must
say the same again, or every pass would send a new status.
"""

from __future__ import annotations

from gitops_mvd.core.model import (
    CommitStatus,
    Health,
    Operation,
    Outcome,
    Report,
    Revision,
    Sync,
)

LONGEST_DESCRIPTION = 140  # characters, as GitHub has it; others show more

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


def status(report: Report) -> CommitStatus:
    """The one status of a host: that of its worst app, and green only if every app is synced and healthy."""
    bad = _bad(report)
    if not bad:
        words = "; ".join([f"{_counted(report)} healthy", *_remarks(report)])
        return _status(report.host, Operation.SUCCEEDED, words, Health.HEALTHY)
    worst = bad[0]
    names = ", ".join(outcome.app for outcome in bad[1:])
    cause = _cause(worst) + (f"; also {names}" if names else "")
    return _status(report.host, Operation.RUNNING if _is_unfinished(worst) else worst.operation, cause, worst.health)


def app_status(host: str, outcome: Outcome) -> CommitStatus:
    """The status of one app."""
    remark = "removed" if outcome.removed else _remark(outcome)
    words = remark if outcome.is_green else _cause(outcome).removeprefix(f"{outcome.app}: ")
    operation = Operation.RUNNING if _is_unfinished(outcome) else outcome.operation
    return CommitStatus(f"{context(host)}/{outcome.app}", operation, outcome.health, words or "healthy")


def pending(host: str, revision: Revision) -> CommitStatus:
    """This host deploys the commit."""
    return _status(host, Operation.RUNNING, f"deploying {revision.short}")


def waiting(host: str, why: str) -> CommitStatus:
    """Something does not answer; the host tries again."""
    return _status(host, Operation.RUNNING, f"waiting: {_line(why)}")


def failing(report: Report) -> frozenset[str]:
    """The apps for which a report is red, and not just unfinished."""
    return frozenset(outcome.app for outcome in _bad(report) if not _is_unfinished(outcome))


def superseded(host: str, by: Revision) -> CommitStatus:
    """A newer commit came before this one was deployed."""
    return _status(host, Operation.SUPERSEDED, f"superseded by {by.short}")


def suspended(host: str, why: str) -> CommitStatus:
    """All changes are paused on this server."""
    return _status(host, Operation.SUPERSEDED, f"{host} is suspended: {_line(why)}", Health.SUSPENDED)


def nothing_to_do(host: str, but: str = "") -> CommitStatus:
    """The commit changes nothing on this host; `but` is what an earlier commit has left red."""
    return _status(host, Operation.SUCCEEDED, f"nothing to do here{f'; {but}' if but else ''}", Health.HEALTHY)


def failed(host: str, revision: Revision, why: str) -> CommitStatus:
    """The commit as a whole cannot be read, so the host stays as it is."""
    return _status(host, Operation.FAILED, f"{_line(why)}; {host} stays as it was before {revision.short}")


def refused(host: str, why: str) -> CommitStatus:
    """This host refuses that commit."""
    return _status(host, Operation.FAILED, _line(why))


PLAN = "plan"  # the last part of the context in which plans are shown


def planned(host: str, cost: str, short: str) -> CommitStatus:
    """What a pull request would do here: what it costs, and what it changes."""
    description = f"{f'{cost}; ' if cost else ''}{short}" if short else "nothing to do here"
    return CommitStatus(f"{context(host)}/{PLAN}", Operation.SUCCEEDED, Health.HEALTHY, description)


def unplanned(host: str, why: str) -> CommitStatus:
    """A pull request that cannot be deployed here as it is."""
    return CommitStatus(f"{context(host)}/{PLAN}", Operation.FAILED, Health.UNKNOWN, _line(why))


def summary(report: Report) -> str:
    """The whole pass in one line: `srv1 at 1a2b3c4: 2 of 3 apps healthy; web: http 503 from /health; rolled back`."""
    bad = _bad(report)
    well = f"{len(_current(report)) - len(bad)} of " if bad else ""
    words = [f"{well}{_counted(report)} healthy", *map(_cause, bad), *_remarks(report)]
    return f"{report.host} at {report.revision.short}: {'; '.join(words)}"


def _status(host: str, operation: Operation, description: str, health: Health = Health.UNKNOWN) -> CommitStatus:
    return CommitStatus(context(host), operation, health, description)


def _bad(report: Report) -> list[Outcome]:
    """The apps that are not green, the worst first."""
    bad = [outcome for outcome in report.outcomes if not outcome.is_green]
    order = list(Health)
    return sorted(bad, key=lambda o: (_is_unfinished(o), -SEVERITY.index(o.operation), -order.index(o.health), o.app))


def _is_unfinished(outcome: Outcome) -> bool:
    """Is the app not final, though nothing went wrong?  Unknown health is as little final as starting.

    An interrupted app is reconciled again at once: if a newer commit was the reason, its status is `superseded`.
    """
    if outcome.operation is not Operation.SUCCEEDED:
        return outcome.operation in {Operation.RUNNING, Operation.SUPERSEDED}
    return outcome.health in {Health.PROGRESSING, Health.UNKNOWN} or (
        outcome.health is Health.HEALTHY and outcome.sync is not Sync.SYNCED
    )


def _cause(outcome: Outcome) -> str:
    """`web: http 503 from /health for 60 s; rolled back`, in one line."""
    why = _line(outcome.why)
    match outcome.operation:
        case Operation.RUNNING:
            words = f"waiting: {why}" if why else "deploying"
        case Operation.SUPERSEDED:
            words = f"interrupted: {why}"
        case Operation.ROLLED_BACK:
            words = f"{why}; rolled back"
        case Operation.ROLLBACK_FAILED:
            words = why if "way back" in why else f"{why}; the way back failed"
        case Operation.FAILED:
            words = why or "failed"
        case Operation.SUCCEEDED:
            words = why or (outcome.sync if outcome.health is Health.HEALTHY else outcome.health).lower()
    return f"{outcome.app}: {words}"


def _line(text: str) -> str:
    """The first line of a text; the others are details, such as the last lines of a log."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _remarks(report: Report) -> list[str]:
    """Remarks on green apps: `web: same version as in 1a2b3c4 (reverted)`."""
    words = ((outcome.app, _remark(outcome)) for outcome in report.outcomes if outcome.is_green)
    return [f"{app}: {remark}" for app, remark in words if remark]


def _remark(outcome: Outcome) -> str:
    return _line(outcome.why)


def _counted(report: Report) -> str:
    number = len(_current(report))
    return f"{number} app{'s' * (number != 1)}"


def _current(report: Report) -> list[Outcome]:
    """The apps that are on the host, without those that the pass has removed."""
    return [outcome for outcome in report.outcomes if not outcome.removed]
