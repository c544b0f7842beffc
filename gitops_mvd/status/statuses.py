"""What the forge is told of the commits: pending, then one true end, and from then on how it goes.

Each context (`mvd/srv1`, and `mvd/srv1/web` where every app is to have its own) is about one commit at a time, its
subject: the last one that changed what the context stands for.  Commits that a newer one has overtaken are closed as
superseded; one that changes nothing here is told so, and is never red for what an earlier one has done.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from urllib.parse import quote

from gitops_mvd.core.model import CommitStatus, Health, Operation, Outcome, Report, Revision
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.status import report as say
from gitops_mvd.status.debounce import Trend


@dataclass(frozen=True)
class Telling:
    """How much is told.

    `apps` gives every app a status of its own.  An `environment`, with {host} and the host's labels in it, makes
    deployments to it.  `link` is the address that a status leads to, with {host}, {app} and {commit} in it.
    """

    apps: bool = False
    environment: str = ""
    link: str = ""


@dataclass(frozen=True)
class Step:
    """One commit on the way, and the names of the apps that it changes here; None where that can not be told."""

    revision: Revision
    changed: frozenset[str] | None


class Statuses:
    """The statuses of one host, in the history's outbox.  One thread writes them."""

    def __init__(
        self,
        host: str,
        history: SqliteHistory,
        telling: Telling | None,
        now: Callable[[], float],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """Without a `telling`, nobody is told.  `wake` is called where there is something to send."""
        self._host = host
        self._history = history
        self._silent = not telling
        self._telling = telling or Telling()
        self._now = now
        self._wake = wake
        self._trends: defaultdict[str, Trend] = defaultdict(Trend)
        self.labels: Mapping[str, str] = {}  # those of this host, as far as they are known

    # ---- a commit comes ----------------------------------------------------------------------------------------------

    def take_up(self, steps: Sequence[Step]) -> None:
        """New commits are to be settled, the oldest first; the last one is what the host is brought to."""
        tip = steps[-1].revision
        with self._history.transaction():
            subjects = self._history.subjects()
            for context, concerned in self._concerned(self._let_through(steps), subjects).items():
                subjects[context] = concerned[-1]
                self._begin(context, concerned)
            self._history.save_subjects(subjects)
            subject = subjects[say.context(self._host)]
            if subject != tip:
                self._keep(tip.commit, say.nothing_to_do(self._host, self._owed(subject)))
            self._history.save_attempt(tip)

    def _let_through(self, steps: Sequence[Step]) -> list[Step]:
        """What was refused is over: whoever lets it through after all answers for what it changes."""
        through: list[Step] = []
        brought: frozenset[str] | None = frozenset()
        for step in steps:
            changed = None if brought is None or step.changed is None else brought | step.changed
            told = self._history.last_status(step.revision.commit, say.pending(self._host, step.revision))
            if step is not steps[-1] and told and told.operation is Operation.FAILED:
                brought = changed
            else:
                through.append(Step(step.revision, changed))
                brought = frozenset()
        return through

    def _concerned(self, steps: Sequence[Step], known: Iterable[str]) -> Mapping[str, list[Revision]]:
        """By context, the commits that change what it stands for."""
        host = say.context(self._host)
        concerned: defaultdict[str, list[Revision]] = defaultdict(list)
        for step in steps:
            if step.changed is None:
                contexts = {host, *known}
            else:
                contexts = {f"{host}/{app}" for app in step.changed} | ({host} if step.changed else set())
            for context in contexts if self._telling.apps else contexts & {host}:
                concerned[context].append(step.revision)
        if host not in known and host not in concerned:  # nothing is known of any commit before
            concerned[host].append(steps[-1].revision)
        return concerned

    def _begin(self, context: str, concerned: Sequence[Revision]) -> None:
        """The last of these commits is pending, and all before it are over."""
        *overtaken, subject = concerned
        self._trends.pop(context, None)
        begun = replace(say.pending(self._host, subject), context=context)
        for each in self._shown(begun):
            over = self._history.pending_commits(each)
            if not each.environment:  # what was never deployed is no deployment
                over += [
                    revision.commit for revision in overtaken if not self._history.last_status(revision.commit, each)
                ]
            ended = replace(say.superseded(self._host, subject), context=context, environment=each.environment)
            for commit in over:
                if commit != subject.commit:
                    self._keep(commit, ended)
        self._post(subject, begun)

    def _owed(self, subject: Revision) -> str:
        """What an earlier commit has left red, for those that change nothing here."""
        told = self._history.last_status(subject.commit, say.pending(self._host, subject))
        if not told or is_well(told) is not False:
            return ""
        return f"since {subject.short} {told.description}"

    # ---- how it goes -------------------------------------------------------------------------------------------------

    def tell(self, report: Report) -> None:
        """How the host came out of a pass.  What was interrupted is looked at again at once, and told then."""
        subjects = self._history.subjects()
        interrupted = {o.app for o in report.outcomes if o.operation is Operation.SUPERSEDED}
        changed = {outcome.app for outcome in report.outcomes if outcome.did}
        subject = subjects.get(say.context(self._host), report.revision)
        if not interrupted:
            self._tell_of(subject, say.status(report), bool(changed))
        if self._telling.apps:
            told = [outcome for outcome in report.outcomes if outcome.app not in interrupted]
            self._tell_of_apps(told, changed, subjects, subject)
            self._forget_all_but(report, subjects)

    def _tell_of_apps(
        self, outcomes: Iterable[Outcome], changed: Set[str], subjects: Mapping[str, Revision], subject: Revision
    ) -> None:
        for outcome in outcomes:
            if outcome.app != say.PLAN:  # whose name is taken
                status = say.app_status(self._host, outcome)
                self._tell_of(subjects.get(status.context, subject), status, outcome.app in changed)

    def _forget_all_but(self, report: Report, subjects: Mapping[str, Revision]) -> None:
        """The apps that are not here any more are removed, and well so."""
        host = say.context(self._host)
        here = {host, *(f"{host}/{outcome.app}" for outcome in report.outcomes)}
        gone = subjects.keys() - here
        for context in gone:
            removed = CommitStatus(context, Operation.SUCCEEDED, Health.HEALTHY, "removed")
            self._tell_of(subjects[context], removed, True)
        if gone:
            self._history.save_subjects({context: subjects[context] for context in subjects.keys() & here})

    def wait(self, why: str) -> None:
        """Something does not answer: what is pending stays so, with the reason why."""
        subject = self._history.subjects().get(say.context(self._host))
        if subject:
            self._tell_of(subject, say.waiting(self._host, why), False)

    def suspend(self, why: str) -> None:
        """What is pending is over as long as the server is suspended."""
        host = say.context(self._host)
        for context, subject in self._history.subjects().items():
            status = replace(say.suspended(self._host, why), context=context)
            told = self._history.last_status(subject.commit, status)
            if (context == host or self._telling.apps) and told and told.operation is Operation.RUNNING:
                self._post(subject, status)

    def fail(self, revision: Revision, why: str) -> None:
        """The commit as a whole can not be read."""
        subject = self._history.subjects().get(say.context(self._host), revision)
        self._post(subject, say.failed(self._host, subject, why))

    def refuse(self, commit: str, why: str) -> None:
        """The commit is not followed, and is no subject of ours."""
        self._keep(commit, say.refused(self._host, why))

    def plan(self, commit: str, status: CommitStatus) -> None:
        """What a pull request would do, on its head."""
        self._keep(commit, status)

    def looks_again_in(self) -> float | None:
        """In how many seconds it will be seen whether a change for better or worse lasts; None where there is none."""
        left = [trend.opens_until(self._now()) for trend in self._trends.values()]
        return min((seconds for seconds in left if seconds is not None), default=None)

    def _tell_of(self, subject: Revision, status: CommitStatus, changed: bool) -> None:
        """The first end is told at once.  After it only what lasts counts, or what we have brought about ourselves."""
        told = self._history.last_status(subject.commit, status)
        well = is_well(status)
        steadily = self._trends[status.context].judge(well, self._now())
        if well is None:
            due = told is not None and told.operation is Operation.RUNNING
        else:
            first = not told or told.operation in {Operation.RUNNING, Operation.SUPERSEDED}
            due = first or (well and changed) or steadily == well
        if due:
            self._post(subject, status)

    def _post(self, subject: Revision, status: CommitStatus) -> None:
        for each in self._shown(status):
            self._keep(subject.commit, each)

    def _keep(self, commit: str, status: CommitStatus) -> None:
        if not self._silent:
            self._history.post(commit, self._linked(status, commit))
            self._wake()

    def _shown(self, status: CommitStatus) -> list[CommitStatus]:
        """The status itself and, for that of the host, the deployment that shows the same."""
        environment = _filled(self._telling.environment, {"host": self._host, **self.labels})
        if not environment or "{" in environment or status.context != say.context(self._host):
            return [status]
        return [status, replace(status, environment=environment)]

    def _linked(self, status: CommitStatus, commit: str) -> CommitStatus:
        app = status.context.removeprefix(say.context(self._host)).strip("/")
        words = {"host": self._host, "app": app, "commit": commit}
        return replace(status, url=_filled(self._telling.link, {name: quote(word) for name, word in words.items()}))


def _filled(template: str, words: Mapping[str, str]) -> str:
    for name, word in words.items():
        template = template.replace(f"{{{name}}}", word)
    return template


def is_well(status: CommitStatus) -> bool | None:
    """Green, red, or neither."""
    if status.operation is Operation.RUNNING:
        return None
    return (status.operation, status.health) == (Operation.SUCCEEDED, Health.HEALTHY)
