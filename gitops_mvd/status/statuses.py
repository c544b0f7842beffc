"""Which commit has which status: pending, then one final state, and from then on the health of what it deployed.

Each context (`mvd/srv1`, and `mvd/srv1/web` with a status for each app) is about one commit at a time, its subject: the
last commit that changed the host or the app.  Earlier pending commits are closed as superseded.  A commit that changes
nothing here has no status, unless the settings ask for one on `every_commit`, and is never red for what an earlier one
has done.  One that waits for earlier waves is pending, with the reason.  An app that the subject did not change makes
it red only once the app has been so for a while: until then the subject stays pending.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from gitops_mvd.core.model import CommitStatus, Health, Operation, Outcome, Report, Revision
from gitops_mvd.core.plan_text import cut
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.waves import Held, Peers, wave_context
from gitops_mvd.state.history import CommitWork, SqliteHistory
from gitops_mvd.status import status_text
from gitops_mvd.status.debounce import Debounce
from gitops_mvd.status.status_text import is_green

DEPLOYING_AFTER_SECONDS = 60.0  # until a commit that was pending says that it is deployed now, unless it has ended
LONGEST_KEPT = 300  # characters of what has changed in an app


@dataclass(frozen=True)
class StatusOptions:
    """Which statuses are sent.

    `apps` gives every app a status of its own.  An `environment`, with {host} and the host's labels in it, makes
    deployments to it.  `link` is the address that a status leads to, with {host}, {app} and {commit} in it.  With
    `every_commit`, commits that change nothing here have a status, too.
    """

    apps: bool = False
    environment: str = ""
    link: str = ""
    every_commit: bool = False


@dataclass(frozen=True)
class CommitChange:
    """One new commit, and the names of the apps that it changes here; None if that is unknown."""

    revision: Revision
    changed: frozenset[str] | None


class Statuses:
    """The statuses of one host, in the history's outbox.  One thread writes them; any other may only `plan`."""

    def __init__(
        self,
        host: str,
        history: SqliteHistory,
        options: StatusOptions | None,
        now: Callable[[], float],
        wake: Callable[[], None] = lambda: None,
        peers: Callable[[str], Peers | None] = lambda commit: None,
    ) -> None:
        """Without `options`, no status is sent.  `wake` is called when there is one to send.

        `peers` are the hosts with which this one has a status of their wave at a commit, None if it has none.
        """
        self._host = host
        self._history = history
        self._is_silent = not options
        self._options = options or StatusOptions()
        self._now = now
        self._wake = wake
        self._peers = peers
        self._debounces: defaultdict[str, Debounce] = defaultdict(Debounce)
        self._apps: defaultdict[str, Debounce] = defaultdict(Debounce)
        # The apps that the host's subject changes; None: unknown.  A daemon begins with none, as any app may be
        # unhealthy for a moment after a boot: then a failure has to last.
        self._changed: frozenset[str] | None = frozenset()
        self._held: frozenset[str] = frozenset()  # the commits that this host does not follow yet
        self._work: CommitWork | None = None  # of the host's subject, as the history has it; None: not read yet
        self.labels: Mapping[str, str] = {}  # of this host; empty until the fleet file is read

    # ---- new commits -------------------------------------------------------------------------------------------------

    def add_commits(self, changes: Sequence[CommitChange]) -> None:
        """Begin the statuses of new commits, the oldest first; the last one is what is deployed now."""
        tip = changes[-1].revision
        with self._history.transaction():
            self._add_changed(changes)
            subjects = self._history.subjects()
            self._add_work(changes)
            for context, concerned in self._by_context(self._accepted(changes), subjects).items():
                subjects[context] = concerned[-1]
                self._begin(context, concerned)
            self._history.save_subjects(subjects)
            subject = subjects[status_text.context(self._host)]
            if subject != tip and self._options.every_commit:
                self._queue(tip.commit, status_text.nothing_to_do(self._host, self._earlier_failure(subject)))
            self._history.save_attempt(tip)

    def hold(self, held: Sequence[Held]) -> None:
        """Show on each commit that this host does not follow yet what it waits for; called before `add_commits`."""
        held = [it for it in held if it.changes]
        self._held = frozenset(it.revision.commit for it in held)
        for it in held:
            self._queue(it.revision.commit, status_text.waiting(self._host, it.posted or it.why))

    def _add_changed(self, changes: Sequence[CommitChange]) -> None:
        """Note what the subject of the host changes from now on, with what a pending one before it changes."""
        concerned = [change.changed for change in changes if change.changed != frozenset()]
        if not concerned:
            return
        if self._is_pending():
            concerned.append(self._changed)
        known = [changed for changed in concerned if changed is not None]
        self._changed = frozenset[str]().union(*known) if len(known) == len(concerned) else None

    def _add_work(self, changes: Sequence[CommitChange]) -> None:
        """Begin the work of a new subject; `_changed` has also what a pending one before it was about."""
        concerned = [change for change in self._accepted(changes) if change.changed != frozenset()]
        if not concerned:
            return
        by = {app: it.revision.commit for it in concerned for app in it.changed or ()}
        before, apps = self._work_now(), by if self._changed is None else self._changed
        gone = {app for app, what in before.done.items() if what == status_text.REMOVED and app not in apps}
        done = {app: what for app, what in before.done.items() if app not in by.keys() | gone}
        by = {app: commit for app, commit in (before.by | by).items() if app not in gone}
        self._save_work(CommitWork(self._changed, done, by))

    def _is_pending(self) -> bool:
        """Is the subject of the host not at its end?"""
        subject = self._history.subjects().get(status_text.context(self._host))
        last = self._history.last_status(subject.commit, status_text.pending(self._host, subject)) if subject else None
        return last is not None and last.operation is Operation.RUNNING

    def _work_now(self) -> CommitWork:
        if self._work is None:
            self._work = self._history.work()
        return self._work

    def _save_work(self, work: CommitWork) -> None:
        if work != self._work:
            self._history.save_work(work)
            self._work = work

    def _add_done(self, report: Report) -> CommitWork:
        """What the subject has done by now, which each report says again."""
        work = self._work_now()
        own = [it for it in report.outcomes if work.apps is None or it.app in work.apps]
        removed = {it.app: status_text.REMOVED for it in own if it.removed}
        done = {
            it.app: cut(it.changed, LONGEST_KEPT) for it in own if it.changed and it.operation is Operation.SUCCEEDED
        }
        if done or removed:
            self._save_work(replace(work, done=work.done | done | removed))
        return self._work_now()

    def _accepted(self, changes: Sequence[CommitChange]) -> list[CommitChange]:
        """The commits without those that were refused; the next one that was not takes over what they change."""
        accepted: list[CommitChange] = []
        taken_over: frozenset[str] | None = frozenset()
        for change in changes:
            changed = None if taken_over is None or change.changed is None else taken_over | change.changed
            last = self._history.last_status(change.revision.commit, status_text.pending(self._host, change.revision))
            if change is not changes[-1] and last and last.operation is Operation.FAILED:
                taken_over = changed
            else:
                accepted.append(CommitChange(change.revision, changed))
                taken_over = frozenset()
        return accepted

    def _by_context(self, changes: Sequence[CommitChange], known: Iterable[str]) -> Mapping[str, list[Revision]]:
        """Context -> the commits that change its host or its app."""
        host = status_text.context(self._host)
        concerned: defaultdict[str, list[Revision]] = defaultdict(list)
        for change in changes:
            if change.changed is None:
                contexts = {host, *known}
            else:
                contexts = {f"{host}/{app}" for app in change.changed} | ({host} if change.changed else set())
            for context in contexts if self._options.apps else contexts & {host}:
                concerned[context].append(change.revision)
        if host not in known and host not in concerned:  # the first commit ever
            concerned[host].append(changes[-1].revision)
        return concerned

    def _begin(self, context: str, concerned: Sequence[Revision]) -> None:
        """Make the last of these commits pending, and close all before it."""
        *overtaken, subject = concerned
        self._debounces.pop(context, None)
        begun = replace(status_text.pending(self._host, subject), context=context)
        for each in self._shown(begun):
            over = self._history.pending_commits(each)
            if not each.environment:  # what was never deployed is no deployment
                over += [
                    revision.commit for revision in overtaken if not self._history.last_status(revision.commit, each)
                ]
            ended = replace(status_text.superseded(self._host, subject), context=context, environment=each.environment)
            for commit in over:
                if commit != subject.commit and commit not in self._held:
                    self._queue(commit, ended)
        for each in self._shown(begun):
            last = self._history.last_status(subject.commit, each)
            was_held = last is not None and last.operation is Operation.RUNNING
            self._queue(subject.commit, each, DEPLOYING_AFTER_SECONDS if was_held else 0.0)

    def _earlier_failure(self, subject: Revision) -> str:
        """What the subject has left red, for a commit that changes nothing here; "" if nothing."""
        last = self._history.last_status(subject.commit, status_text.pending(self._host, subject))
        if not last or is_green(last) is not False:
            return ""
        return f"since {subject.short} {last.description}"

    # ---- health after it ---------------------------------------------------------------------------------------------

    def report(self, report: Report) -> None:
        """Show the result of a pass.  Apps that were interrupted keep their status: the next pass follows at once."""
        subjects = self._history.subjects()
        interrupted = {o.app for o in report.outcomes if o.operation is Operation.SUPERSEDED}
        changed = {outcome.app for outcome in report.outcomes if outcome.did}
        subject = subjects.get(status_text.context(self._host), report.revision)
        work = self._add_done(report)
        for outcome in report.outcomes:
            self._apps[outcome.app].update(is_green(status_text.app_status(self._host, outcome)), self._now())
        if not interrupted:
            self._update(subject, status_text.status(report, work), bool(changed), self._may_pass(report))
        if self._options.apps:
            ended = [outcome for outcome in report.outcomes if outcome.app not in interrupted]
            self._update_apps(ended, changed, subjects, subject)
            self._mark_removed(report, subjects)

    def _update_apps(
        self, outcomes: Iterable[Outcome], changed: Set[str], subjects: Mapping[str, Revision], subject: Revision
    ) -> None:
        for outcome in outcomes:
            if outcome.app != status_text.PLAN:  # whose name is taken
                done = self._work_now().done.get(outcome.app, "").removeprefix(f"{outcome.app}: ")
                status = status_text.app_status(self._host, outcome, done)
                self._update(subjects.get(status.context, subject), status, outcome.app in changed)

    def _may_pass(self, report: Report) -> bool:
        """Is the report red only for apps that the subject does not change, and that have not been so for long?"""
        failing = status_text.failing(report)
        if self._changed is None or failing & self._changed:
            return False
        return not any(self._apps[app].lasts_unhealthy(self._now()) for app in failing)

    def _mark_removed(self, report: Report, subjects: Mapping[str, Revision]) -> None:
        """Show the apps that are no longer here as removed."""
        host = status_text.context(self._host)
        here = {host, *(f"{host}/{outcome.app}" for outcome in report.outcomes)}
        removed_contexts = subjects.keys() - here
        for context in removed_contexts:
            removed = CommitStatus(context, Operation.SUCCEEDED, Health.HEALTHY, "removed")
            self._update(subjects[context], removed, True)
        if removed_contexts:
            self._history.save_subjects({context: subjects[context] for context in subjects.keys() & here})

    def wait(self, why: str) -> None:
        """Something does not answer: show why on what is pending."""
        subject = self._history.subjects().get(status_text.context(self._host))
        if subject:
            self._update(subject, status_text.waiting(self._host, why), False)

    def suspend(self, suspension: Suspension) -> None:
        """Close what is pending, as the server is suspended."""
        host = status_text.context(self._host)
        for context, subject in self._history.subjects().items():
            status = replace(status_text.suspended(self._host, suspension), context=context)
            last = self._history.last_status(subject.commit, status)
            if (context == host or self._options.apps) and last and last.operation is Operation.RUNNING:
                self._post(subject, status)

    def fail(self, revision: Revision, why: str) -> None:
        """The commit as a whole cannot be read."""
        subject = self._history.subjects().get(status_text.context(self._host), revision)
        self._post(subject, status_text.failed(self._host, subject, why))

    def refuse(self, commit: str, why: str) -> None:
        """The commit is refused, and so never a subject."""
        self._queue(commit, status_text.refused(self._host, why))

    def plan(self, commit: str, status: CommitStatus, *, changes: bool) -> None:
        """Show what a pull request would do, on its head commit; if that is nothing, only where it was something."""
        if changes or self._options.every_commit or self._history.last_status(commit, status):
            self._queue(commit, status)

    def next_check_in(self) -> float | None:
        """Seconds until a change of health may have lasted long enough, None if none is pending."""
        every = (*self._debounces.values(), *self._apps.values())
        left = [debounce.pending_for(self._now()) for debounce in every]
        return min((seconds for seconds in left if seconds is not None), default=None)

    def _update(self, subject: Revision, status: CommitStatus, changed: bool, may_pass: bool = False) -> None:
        """Show the first final state at once, and after it only what lasts or what this pass has mended.

        A failure that `may_pass` is no final state until it lasts.
        """
        last = self._history.last_status(subject.commit, status)
        if status.operation is Operation.SUPERSEDED:  # it is suspended: what was deployed before stays so
            if not last or last.operation in {Operation.RUNNING, Operation.SUPERSEDED}:
                self._post(subject, status)
            return
        green = is_green(status)
        lasting = self._debounces[status.context].update(green, self._now())
        if green is None:
            due = last is not None and last.operation is Operation.RUNNING
        else:
            first = not last or last.operation in {Operation.RUNNING, Operation.SUPERSEDED}
            if first and may_pass and green is False:
                status = status_text.waiting(self._host, status.description)
            due = first or (green and changed) or lasting == green
        if due:
            self._post(subject, status)

    def _post(self, subject: Revision, status: CommitStatus) -> None:
        for each in self._shown(status):
            self._queue(subject.commit, each)

    def _queue(self, commit: str, status: CommitStatus, delay: float = 0.0) -> None:
        if not self._is_silent:
            self._history.post(commit, self._of_wave(self._linked(status, commit), commit), delay)
            self._wake()

    def _of_wave(self, status: CommitStatus, commit: str) -> CommitStatus:
        """An end of this host counts for its wave, if that has a status of its own."""
        if status.operation is Operation.RUNNING or status.description.startswith(status_text.SUPERSEDED):
            return status
        is_of_host = status.context == status_text.context(self._host) and not status.environment
        if not is_of_host or not (peers := self._peers(commit)):
            return status
        return replace(status, wave=wave_context(peers.wave), peers=tuple(map(status_text.context, peers.hosts)))

    def _shown(self, status: CommitStatus) -> list[CommitStatus]:
        """The status itself and, for that of the host, the deployment that shows the same."""
        environment = status_text.filled(self._options.environment, {"host": self._host, **self.labels})
        if not environment or "{" in environment or status.context != status_text.context(self._host):
            return [status]
        return [status, replace(status, environment=environment)]

    def _linked(self, status: CommitStatus, commit: str) -> CommitStatus:
        app = status.context.removeprefix(status_text.context(self._host)).strip("/")
        return replace(status, url=status_text.link(self._options.link, self._host, app, commit))
