"""What a report tells others: the status of a commit, one line for the log, JSON to be kept.  Pure.

A description puts the cause first, since forges cut it, and says nothing of what this one pass did: a pass without
changes must say the same again, or every look would post anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gitops_mvd.core.model import (
    CommitStatus,
    Health,
    Operation,
    Outcome,
    Report,
    Revision,
    Sync,
)

# How bad it is, from best to worst.  What is interrupted or waits is not over, and so less bad than what failed.
SEVERITY = (
    Operation.SUCCEEDED,
    Operation.RUNNING,
    Operation.SUPERSEDED,
    Operation.ROLLED_BACK,
    Operation.FAILED,
    Operation.ROLLBACK_FAILED,
)


def context(host: str) -> str:
    """The name under which this host reports on a commit."""
    return f"mvd/{host}"


def status(report: Report) -> CommitStatus:
    """The one status of a host: the worst of its apps, and green only where every one is synced and healthy."""
    bad = _bad(report)
    if not bad:
        told = "; ".join([f"{_counted(report)} healthy", *_remarks(report)])
        return _status(report.host, Operation.SUCCEEDED, told, Health.HEALTHY)
    worst = bad[0]
    names = ", ".join(outcome.app for outcome in bad[1:])
    cause = _cause(worst) + (f"; also {names}" if names else "")
    return _status(report.host, Operation.RUNNING if _is_unfinished(worst) else worst.operation, cause, worst.health)


def app_status(host: str, outcome: Outcome) -> CommitStatus:
    """The status of one app, for those who want one for each."""
    told = _remark(outcome) if outcome.is_green else _cause(outcome).removeprefix(f"{outcome.app}: ")
    operation = Operation.RUNNING if _is_unfinished(outcome) else outcome.operation
    return CommitStatus(f"{context(host)}/{outcome.app}", operation, outcome.health, told or "healthy")


def pending(host: str, revision: Revision) -> CommitStatus:
    """This host has seen the commit and is at work on it."""
    return _status(host, Operation.RUNNING, f"deploying {revision.short}")


def waiting(host: str, why: str) -> CommitStatus:
    """Something does not answer; the host goes on trying."""
    return _status(host, Operation.RUNNING, f"waiting: {_line(why)}")


def superseded(host: str, by: Revision) -> CommitStatus:
    """A newer commit came before this one was through."""
    return _status(host, Operation.SUPERSEDED, f"superseded by {by.short}")


def suspended(host: str, why: str) -> CommitStatus:
    """Somebody on the server wants it to be left as it is."""
    return _status(host, Operation.SUPERSEDED, f"{host} is suspended: {_line(why)}", Health.SUSPENDED)


def nothing_to_do(host: str, but: str = "") -> CommitStatus:
    """The commit changes nothing of this host; `but` is what an earlier one has not brought about."""
    return _status(host, Operation.SUCCEEDED, f"nothing to do here{f'; {but}' if but else ''}", Health.HEALTHY)


def failed(host: str, revision: Revision, why: str) -> CommitStatus:
    """The commit as a whole could not be read, so that the host stays as it is."""
    return _status(host, Operation.FAILED, f"{_line(why)}; {host} stays as it was before {revision.short}")


def refused(host: str, why: str) -> CommitStatus:
    """This host does not follow that commit."""
    return _status(host, Operation.FAILED, _line(why))


PLAN = "plan"  # what stands behind the host's name where a plan is told


def planned(host: str, counts: Mapping[str, int], names: Iterable[str]) -> CommitStatus:
    """What a pull request would do here: how many things are to `change`, to `create` and to `remove`, and which."""
    told = [f"{counts[verb]} to {verb}" for verb in ("change", "create", "remove") if counts.get(verb)]
    if not told:
        return CommitStatus(f"{context(host)}/{PLAN}", Operation.SUCCEEDED, Health.HEALTHY, "nothing to do here")
    if not counts.get("remove"):
        told.append("nothing removed")
    description = f"{', '.join(told)}: {', '.join(names)}"
    return CommitStatus(f"{context(host)}/{PLAN}", Operation.SUCCEEDED, Health.HEALTHY, description)


def unplanned(host: str, why: str) -> CommitStatus:
    """A pull request could not be deployed here as it is."""
    return CommitStatus(f"{context(host)}/{PLAN}", Operation.FAILED, Health.UNKNOWN, _line(why))


def summary(report: Report) -> str:
    """The whole pass in one line: `srv1 at 1a2b3c4: 2 of 3 apps healthy; web: http 503 from /health; rolled back`."""
    bad = _bad(report)
    well = f"{len(report.outcomes) - len(bad)} of " if bad else ""
    told = [f"{well}{_counted(report)} healthy", *map(_cause, bad), *_remarks(report)]
    return f"{report.host} at {report.revision.short}: {'; '.join(told)}"


def _status(host: str, operation: Operation, description: str, health: Health = Health.UNKNOWN) -> CommitStatus:
    return CommitStatus(context(host), operation, health, description)


def _bad(report: Report) -> list[Outcome]:
    """The apps that are not simply well, the worst first."""
    bad = [outcome for outcome in report.outcomes if not outcome.is_green]
    order = list(Health)
    return sorted(bad, key=lambda o: (_is_unfinished(o), -SEVERITY.index(o.operation), -order.index(o.health), o.app))


def _is_unfinished(outcome: Outcome) -> bool:
    """Is it not over, though nothing went wrong?  What can not be judged yet is as little an end as what still starts.

    An interrupted app is looked at again at once: if a newer commit was the reason, `superseded` tells.
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
            told = f"waiting: {why}" if why else "deploying"
        case Operation.SUPERSEDED:
            told = f"interrupted: {why}"
        case Operation.ROLLED_BACK:
            told = f"{why}; rolled back"
        case Operation.ROLLBACK_FAILED:
            told = why if "way back" in why else f"{why}; the way back failed"
        case Operation.FAILED:
            told = why or "failed"
        case Operation.SUCCEEDED:
            told = why or (outcome.sync if outcome.health is Health.HEALTHY else outcome.health).lower()
    return f"{outcome.app}: {told}"


def _line(text: str) -> str:
    """The first line of a text: what comes after it are details, such as the last lines of a log."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _remarks(report: Report) -> list[str]:
    """What there is to say of apps that are well: `web is back to what 1a2b3c4 ran`."""
    told = ((outcome.app, _remark(outcome)) for outcome in report.outcomes if outcome.is_green)
    return [f"{app} is {remark}" for app, remark in told if remark]


def _remark(outcome: Outcome) -> str:
    return _line(outcome.why)


def _counted(report: Report) -> str:
    return f"{len(report.outcomes)} app{'s' * (len(report.outcomes) != 1)}"
