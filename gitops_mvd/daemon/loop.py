"""The loop: something happened, so fetch the repository, observe this host, and reconcile what differs.

One thread decides.  Everybody else (the poll, Docker's events, file changes, signals, apps being reconciled) only posts
to the mailbox.  It is read while apps are being reconciled, too, so that a newer revision interrupts an older one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import schedule
import sdnotify

from gitops_mvd.config.settings.log import OUTCOME
from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import (
    DEFECT,
    INTERNAL,
    UNANSWERED,
    ManifestError,
    MvdError,
    RevisionRefused,
    StepFailed,
    Unavailable,
)
from gitops_mvd.core.model import Desired, Health, Operation, Outcome, Report, Revision, Sync
from gitops_mvd.core.reconcile import Group, reconcile
from gitops_mvd.core.redact import learn_apps, redact, secrets_of_app
from gitops_mvd.core.suspension import Suspensions
from gitops_mvd.core.waves import Choice, Held
from gitops_mvd.daemon import triggers
from gitops_mvd.daemon.answers import Answers
from gitops_mvd.daemon.api_server import ApiThread
from gitops_mvd.daemon.events import Events
from gitops_mvd.daemon.fleet_entry import fleet_entry
from gitops_mvd.daemon.lead import Lead, Led
from gitops_mvd.daemon.metrics import MetricsApplication, metrics_thread
from gitops_mvd.daemon.pulse import Pulse
from gitops_mvd.daemon.supervisor import Run, Supervisor
from gitops_mvd.daemon.triggers import PULL_REQUEST, PUSH, RELOAD, STATUS, STOP, SYNC
from gitops_mvd.daemon.webhook import webhook_thread
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.manifest import load, read_fleet
from gitops_mvd.state import suspension
from gitops_mvd.state.history import Hold
from gitops_mvd.status import status_text
from gitops_mvd.status.changes import commit_changes
from gitops_mvd.status.statuses import CommitChange

log = logging.getLogger(__name__)
outcomes = logging.getLogger(OUTCOME)

START, POLL, RETRY, RECONCILED, RECHECK = "start", "poll", "retry", "reconciled", "recheck"
GOES_ON = "goes on"
FETCH_REASONS = frozenset({START, POLL, SYNC, PUSH, PULL_REQUEST, STATUS, RETRY})  # with which there may be news
NEWS_REASONS = frozenset({SYNC, PUSH})  # those with which Git likely has some
MAX_WORKERS = 64  # apps that are reconciled at once, most of them waiting at their gates
WORKER_DELAY_SECONDS = 0.05  # until one more worker joins in
EVENT_DEBOUNCE_SECONDS = 1.0  # that events are gathered before they cause a pass
BACKOFF = Backoff(2.0, 300.0)  # after a failed pass
LATE_SIGNAL_SECONDS = 0.05  # for a signal to stop that comes while the settings are read again
STOP_GRACE_SECONDS = 30.0  # for the step in hand to end once we are told to stop
LEADER_SECONDS = 2.0  # between two looks who leads the Swarm
MAIL_SECONDS = 10.0  # between two looks into the mailbox, at most
FETCH_SECONDS = 900.0  # for a question to Git and a fetch, each of which may be sent again with a new token
OBSERVE_SECONDS = 300.0  # for Docker, systemd and Kong, which have deadlines of their own


class Retry(NamedTuple):
    """The next pass, if nothing else asks for one before: when, by the monotonic clock, and why."""

    at: float
    reason: str


class Fetched(NamedTuple):
    """A revision, and when Git was asked for it, in Unix time."""

    revision: Revision
    asked: float


class Daemon:
    """The loop over one server's wiring; `rejected` is why newer settings are not in force."""

    def __init__(self, wired: Wired, rejected: str = "") -> None:
        self._wired = wired
        self._mail = wired.mailbox
        self._tip: Revision | None = None  # of the branch
        self._revision: Revision | None = None  # that is followed: the tip, unless a rollout holds it
        self._asked_git = 0.0
        self._fetched: Fetched | None = None  # during a pass, for the next one
        self._awaited = False  # does somebody wait for the result of this pass?
        self._ending = ""
        self._queued: frozenset[str] = frozenset()  # the reasons that came during a pass, for the next one
        self._failures = 0
        self._poll = schedule.Scheduler()
        self._retry: Retry | None = None
        self._warnings: dict[str, str] = {}  # what does not answer now -> the error
        self._suspended = Suspensions()  # as this pass has found it
        self._last_summary = ""
        self._lead = Lead(wired.host.name, wired.manager, wired.history)
        self._notify = sdnotify.SystemdNotifier()
        self._pulse = Pulse(self._notify.notify)
        self._supervisor = Supervisor(wired.history.save_threads)
        self.events = Events(wired.changes)
        self.answers = Answers(wired, wired.operations, wired.views, self.events, wired.changes)
        self.answers.is_alive = self._pulse.is_alive
        self.answers.rejected = rejected

    def run(self) -> bool:
        """Run until told to stop; True if the settings are to be read again."""
        with suppress(Unavailable):
            self._wired.history.save_threads([])  # those of the daemon before
        with ExitStack() as parts:
            parts.enter_context(self._signals(0))
            parts.enter_context(self.events)
            for name, run, wake in self.threads():
                parts.enter_context(self._supervisor.keep(name, run, wake))
            self._mail.post(START)
            self._notify.notify("READY=1")
            log.info("daemon started host=%s repository=%s", self._wired.host.name, self._wired.settings.repository)
            self._loop()
            if self._ending == RELOAD:
                time.sleep(EVENT_DEBOUNCE_SECONDS)  # the settings may still be being written
            self._notify.notify("STOPPING=1" if self._ending == STOP else "RELOADING=1")
        self._take(LATE_SIGNAL_SECONDS)
        log.info("daemon ended reason=%s", self._ending)
        return self._ending == RELOAD

    def threads(self) -> Iterator[tuple[str, Run, Callable[[], None]]]:
        """The threads beside the loop: a name, what it does, and what ends its waits."""
        wired, post = self._wired, self._mail.post
        yield "watchdog", self._pulse.run, lambda: None
        yield "outbox", wired.outbox.run, wired.outbox.wake
        for receiver in wired.notifier.receivers:
            yield f"notify {receiver.name}", receiver.run, receiver.wake
        yield "monitor", wired.monitor.run, wired.monitor.wake
        yield "docker events", triggers.docker_events(wired.engine, post, wired.counts.container), wired.engine.hang_up
        if wired.manager and wired.tasks:
            yield "tasks", triggers.swarm_tasks(wired.manager, wired.tasks, post), lambda: None
        yield "file changes", triggers.file_changes(wired, post), lambda: None
        api = ApiThread(self.answers, wired.settings_path, Path(wired.settings.run))
        yield "api", api.run, api.wake
        if metrics := wired.settings.metrics:
            port = metrics_thread(metrics.listen, self._metrics)
            yield "metrics", port.run, port.wake
        if wired.traces:
            yield "traces", wired.traces.run, wired.traces.wake
        if wired.pull_requests:
            yield "pull requests", wired.pull_requests.run, wired.pull_requests.wake
        if wired.webhook:
            webhooks = webhook_thread(wired.webhook, wired.settings.branch, wired.waves.awaited, post)
            yield "webhooks", webhooks.run, webhooks.wake

    def _metrics(self) -> MetricsApplication:
        checks = {"/healthz": self.answers.health, "/readyz": self.answers.ready}
        return MetricsApplication(self.answers.registry, checks)

    @contextmanager
    def _signals(self, status: int) -> Iterator[None]:
        """While open, signals are posted, and what hangs does not hold up the end for long: it is then by `status`.

        A pull may take an hour, and nothing is lost, as the next start goes on with what was begun.
        """
        last_resort = threading.Timer(STOP_GRACE_SECONDS, os._exit, [status])
        last_resort.daemon = True

        def hear(signal: str) -> None:
            if signal == STOP and not last_resort.is_alive():
                last_resort.start()
            self._mail.post(signal)

        with triggers.signals(hear):
            try:
                yield
            finally:
                if self._ending != STOP:  # else threads that hang are waited for behind this, too
                    last_resort.cancel()

    def _loop(self) -> None:
        interval = self._wired.settings.interval
        self._poll.every(max(1, round(interval * 0.8))).to(round(interval * 1.2)).seconds.do(self._mail.post, POLL)
        while not self._ending:
            reasons = self._queued or self._take(MAIL_SECONDS)
            self._queued = frozenset()
            if self._ending or not reasons:
                continue
            if not reasons & FETCH_REASONS:
                reasons |= self._debounce()
            self.reconcile_pass(reasons)
            if reasons & FETCH_REASONS - {STATUS}:  # by a status, many hosts go on at once
                self.review_pull_requests()
                self._pack()

    def once(self) -> Report | None:
        """The report of one pass, or of the last one if more were asked for meanwhile; None if it failed."""
        report, reasons = None, frozenset({SYNC})
        outbox = self._wired.outbox
        with self._signals(1), self._supervisor.keep("outbox", outbox.run, outbox.wake):
            while reasons & FETCH_REASONS and not self._ending:
                report = self.reconcile_pass(reasons)
                self._retry = None
                goes_on = {RETRY} if report and any(it.is_on_its_way for it in report.outcomes) else set()
                reasons = self._queued | self._take(0) | goes_on
                self._queued = frozenset()
        outbox.deliver()
        self._wired.notifier.deliver()
        return report

    def _take(self, timeout: float) -> frozenset[str]:
        """The next reasons in the mailbox, without RECONCILED; the poll and a retry that are due post there, too."""
        self._pulse.beat()
        self._poll.run_pending()
        now = time.monotonic()
        if self._retry and self._retry.at <= now:
            self._mail.post(self._retry.reason)
            self._retry = None
        idle = self._poll.idle_seconds if self._poll.jobs else None
        until = [timeout, *([idle] if idle is not None else []), *([self._retry.at - now] if self._retry else [])]
        reasons = self._mail.take(max(0.0, min(until)))
        for ending in (RELOAD, STOP):
            if ending in reasons and self._ending != STOP:
                self._ending = ending
        return reasons - {RECONCILED}

    def _debounce(self) -> frozenset[str]:
        """The reasons of the next second, as events come in bursts; less if Git may have something new."""
        gathered: frozenset[str] = frozenset()
        ends = self._wired.clock.now() + EVENT_DEBOUNCE_SECONDS
        while not (gathered & FETCH_REASONS or self._ending) and (left := ends - self._wired.clock.now()) > 0:
            gathered |= self._take(left)
        return gathered

    # ---- one pass ----------------------------------------------------------------------------------------------------

    def reconcile_pass(self, reasons: frozenset[str]) -> Report | None:
        """The report of one pass: fetch, if Git may have something new, and reconcile.  None if that failed."""
        self._wired.clock.resume()
        self._awaited = SYNC in reasons
        self._suspended = Suspensions()  # what was found by another pass may have ended since
        operations, report, failure = self._wired.operations, None, ""
        operations.begin(reasons)
        try:
            self._require_lead(reasons)
            if reasons & FETCH_REASONS or not self._revision:
                with operations.phase("fetch"):
                    self._fetch(reasons)
            self._suspended = suspension.without_ended(self._wired.settings_path)
            if host := self._suspended.host:
                self._wired.monitor.pause_all()
                self._observe_only()
                self._wired.statuses.suspend(host)
                self._wired.notifier.suspend(host.text)
                self._warn_once("host", Unavailable(f"this server is {host.text}", "`mvd resume`"))
            else:
                report = self._reconcile() if self._revision else None
                self._clear_warning("host")
        except Led as error:  # which is no failure of this one
            self._warn_once("host", error)
            self._observe_only()
        except MvdError as error:
            failure = self._wait_because(error)
        except Exception as error:  # a bug ends this pass, and not the daemon: the next one may get by
            failure = self._wait_because(_bug(error, "pass"))
        operations.end(report, "" if report else failure or "; ".join(self._warnings.values()))
        self.answers.passed(report, self._revision, failure, self._asked_git)
        if not report:
            with suppress(Unavailable):
                self._wired.history.save_last_error("; ".join(self._warnings.values()), awaited=self._awaited)
        self._wired.notifier.threads(self._wired.history.threads)
        self._back_off(report)
        return report

    def _require_lead(self, reasons: frozenset[str]) -> None:
        """Raise Led if another manager of the Swarm acts, and Unavailable if none can: new commits are told so."""
        try:
            self._lead.require()
        except Unavailable:
            if reasons & FETCH_REASONS:
                self._fetch(reasons)
            raise

    def _wait_because(self, error: MvdError) -> str:
        """Log why a pass came to nothing, and tell the commit."""
        self._warn_once("host", error)
        with suppress(Unavailable):  # it may be the history that does not answer
            self._wired.statuses.wait(str(error))
        self._wired.notifier.wait(str(error))
        return str(error)

    def _fetch(self, reasons: frozenset[str]) -> None:
        """Take the newest revision.  If Git does not answer, keep the one that is known."""
        self._asked_git = time.time()
        try:
            early, self._fetched = self._fetched, None
            fetched, self._asked_git = early or self._ask_git(reasons)
        except Unavailable as error:
            self._warn_once("repository", error)
            with suppress(Unavailable):
                self._wired.history.save_git_failure(str(error), is_refused=isinstance(error, RevisionRefused))
            if isinstance(error, RevisionRefused):
                self._wired.statuses.refuse(error.commit, str(error))
                self._wired.notifier.refuse(error.commit, str(error))
            else:
                self._wired.notifier.miss_git(str(error))
            if tip := self._tip or self._wired.source.last():
                self._follow(tip, fetched=False)
            return
        self._clear_warning("repository")
        with suppress(Unavailable):
            self._wired.history.clear_git_failure()
        self._wired.notifier.fetched()
        self._follow(fetched, fetched=True)
        self._lead.begin()

    def _follow(self, tip: Revision, *, fetched: bool) -> None:
        """Follow the newest revision up to the tip that the rollout lets this host have, and tell of those held."""
        self._tip = tip
        known = self._wired.history.revisions().get("attempted")
        choice = self._pick(tip, self._revision or known)
        self._hold(choice.held)
        if not (revision := choice.revision):
            raise Unavailable(choice.held[0].why)
        self._wired.follow(revision, fetched=fetched)
        if revision != self._revision:
            if revision != known:  # as it is after a mere restart of the daemon
                changes = self._commits(known, revision)
                if not self._lead.is_own:
                    changes = changes[-1:]  # the others are the business of who led before
                self._wired.notifier.add_commits(changes)  # first: after the other they are known
                self._wired.statuses.add_commits(changes)
            self._wired.operations.save_revision(revision)
            self._revision = revision
            log.info("revision fetched commit=%s subject=%s", revision.short, revision.subject)

    def _pick(self, tip: Revision, followed: Revision | None) -> Choice:
        with self._pulse.step(FETCH_SECONDS):
            return self._wired.waves.pick(tip, followed)

    def _hold(self, held: Sequence[Held]) -> None:
        """Tell the commits that this host does not follow yet, and who asks, what they wait for."""
        self._wired.statuses.hold(held)
        first = next((it for it in held if it.changes), None)
        self._wired.history.save_hold(Hold(first.revision, first.why) if first else None)
        if first:
            self._warn_once("waves", Unavailable(f"{first.revision.short}: {first.why}"))
        else:
            self._clear_warning("waves")

    def _commits(self, known: Revision | None, tip: Revision) -> list[CommitChange]:
        return commit_changes(self._wired.source, self._wired.host.name, self._wired.cache, known, tip)

    def _reconcile(self) -> Report:
        revision, host, operations = self._revision, self._wired.host, self._wired.operations
        assert revision
        operations.about(revision)
        try:
            with self._pulse.step(OBSERVE_SECONDS), operations.phase("read"):
                tree = self._wired.source.tree(revision)
                fleet = read_fleet(tree)
                facts = fleet.host(host.name, self._wired.manager is not None)
                self._wired.statuses.labels = facts.labels
                self._wired.heed(facts)
                known = self._wired.history.fleet_entry()
                if (entry := fleet_entry(fleet, host.name, revision, self._wired.source, known)) != known:
                    self._wired.history.save_fleet_entry(entry)
                apps, broken = load(tree, facts, self._wired.cache)
                learn_apps(apps)
        except ManifestError as error:
            self._wired.statuses.fail(revision, str(error))
            self._wired.notifier.fail(revision, str(error))
            raise Unavailable(f"cannot read revision {revision.short}: {error}") from error
        began = time.monotonic()
        with self._pulse.step(OBSERVE_SECONDS), operations.phase("look"):
            self._wired.fit.require()
            host.refresh()
        with operations.phase("apply"):
            report = reconcile(
                Desired(revision, apps, broken),
                host,
                self._wired.history,
                self._in_workers,
                allow_empty=self._wired.settings.allow_empty,
                suspended=self._suspended.apps,
                keeping=self._wired.moves.keeping(revision, host, self._wired.history),
            )
        with self._pulse.step(OBSERVE_SECONDS):
            self._keep_boot_file()
            is_well = all(outcome.is_green or outcome.suspended for outcome in report.outcomes)
            if not is_well and (why := self._wired.disruptions.since_pass(began)):
                raise Unavailable(f"{why}: waiting before judging anything")
            self._publish(report)
            with suppress(Unavailable):  # the next pass does it
                self._wired.monitor.follow(host.to_watch())
        return report

    def _observe_only(self) -> None:
        """Look at this host for those who look on, where nothing is changed."""
        with suppress(Unavailable), self._pulse.step(OBSERVE_SECONDS):
            self._wired.host.refresh()

    def _keep_boot_file(self) -> None:
        """Write Kong's start file, if it has one; a failure holds up nothing else."""
        try:
            if kong := self._wired.tools.kong:
                kong.write_start_file()
            self._clear_warning("boot_file")
        except (Unavailable, StepFailed) as error:
            self._warn_once("boot_file", error)

    def _in_workers(
        self, do: Callable[[Group], Sequence[Outcome]], groups: Iterable[Group]
    ) -> Iterable[Sequence[Outcome]]:
        """`map` in a few threads, while the mailbox is read.

        One thread is enough if nothing is to be done; another one joins as long as apps are waiting and one of those
        begun may be worked on beside it.
        """
        waiting, turns = deque(enumerate(groups)), self._wired.host.turns
        outcomes: dict[int, Sequence[Outcome]] = {}

        def work() -> None:
            with suppress(IndexError):
                while True:
                    place, group = waiting.popleft()
                    with turns.taken():
                        outcomes[place] = _isolated(do, group)

        workers: list[Future[None]] = []
        with ThreadPoolExecutor(MAX_WORKERS, "reconcile") as pool:
            while waiting or not all(worker.done() for worker in workers):
                if waiting and len(workers) < MAX_WORKERS and turns.any_free():
                    workers.append(pool.submit(work))
                    workers[-1].add_done_callback(lambda _: self._mail.post(RECONCILED))
                more = waiting and len(workers) < MAX_WORKERS
                self._read_mail_meanwhile(WORKER_DELAY_SECONDS if more else MAIL_SECONDS)
        return [outcomes[place] for place in sorted(outcomes)]

    def _read_mail_meanwhile(self, timeout: float) -> None:
        reasons = self._take(timeout)
        self._queued |= reasons
        if self._ending:
            self._wired.clock.interrupt(f"the daemon is asked to {self._ending}")
        elif reasons & FETCH_REASONS and (newer := self._newer_revision(reasons)):
            self._wired.clock.interrupt(f"superseded by {newer.short}")

    def _ask_git(self, reasons: frozenset[str]) -> Fetched:
        asked = time.time()
        with self._pulse.step(FETCH_SECONDS):
            return Fetched(self._wired.source.fetch(expected=bool(reasons & NEWS_REASONS)), asked)

    def _newer_revision(self, reasons: frozenset[str]) -> Revision | None:
        """A newer revision, if it is another one for this host.  The next pass asks no more for what was fetched."""
        self._fetched = None
        try:
            self._fetched = self._ask_git(reasons)
        except Unavailable as error:
            self._warn_once("repository", error)
            return None
        revision = self._pick(self._fetched.revision, self._revision).revision
        if not revision or revision == self._revision:
            return None
        is_newer = any(step.changed != frozenset() for step in self._commits(self._revision, revision))
        return revision if is_newer else None

    def review_pull_requests(self) -> None:
        """Have it told on open pull requests what they would do here; nothing here waits for it."""
        if self._wired.pull_requests and self._revision and not self._warnings.get("host"):
            self._wired.pull_requests.ask(self._revision)

    def _pack(self) -> None:
        """Pack the mirror, as long as nothing else is to be done."""
        if not self._queued:
            with suppress(Unavailable), self._pulse.step(FETCH_SECONDS):
                self._wired.source.pack(self._mail.has_mail)

    # ---- what is reported --------------------------------------------------------------------------------------------

    def _publish(self, report: Report) -> None:
        history = self._wired.history
        summary = status_text.summary(report)
        level = logging.DEBUG if summary == self._last_summary else logging.INFO
        log.log(level, "reconciled result=%s", summary)
        self._last_summary = summary
        for event in history.record_report(report):
            told = (event.app, event.commit, event.operation, event.sync, event.health, event.changed, event.why)
            outcomes.info("outcome app=%s commit=%s operation=%s sync=%s health=%s changed=%s why=%s", *told)
        history.save_report(report, self._asked_git, awaited=self._awaited)
        self._wired.statuses.report(report)
        self._wired.notifier.report(report, lambda: history.work().done)
        self._notify.notify(f"STATUS={summary}")

    def _warn_once(self, about: str, error: MvdError) -> None:
        """Log an error, but not the same one again and again."""
        if str(error) != self._warnings.get(about):
            log.warning("waiting for=%s reason=%s", about, error)
        self._warnings[about] = str(error)

    def _clear_warning(self, about: str) -> None:
        """Log that the error about something is over."""
        if warning := self._warnings.pop(about, ""):
            log.info("resolved for=%s reason=%s", about, warning)

    def _back_off(self, report: Report | None) -> None:
        """Schedule the next pass before the next poll if something did not answer, later and later, or may not last.

        Or if a suspension is over before that; or at once, if a gate that lasts long has let others have their turn.
        """
        self._retry = None
        pause: float | None
        running = [it for it in report.outcomes if it.operation is Operation.RUNNING] if report else []
        if running and all(outcome.is_on_its_way for outcome in running):
            pause, reason = 0.0, GOES_ON
        elif report and not running:
            self._failures = 0
            checks = self._wired.statuses.next_check_in(), self._wired.notifier.next_check_in()
            pause, reason = min((it for it in checks if it is not None), default=None), RECHECK
        else:
            pause, reason = BACKOFF.pause(self._failures), RETRY
            self._failures += 1
            if not self._lead.is_own:
                pause = LEADER_SECONDS  # somebody else leads, and may be gone at any time
        if end := self._suspended.next_end:
            left = max(0.0, end.timestamp() - time.time())
            if pause is None or left < pause:
                pause, reason = left, RECHECK
        if pause is not None:
            self._retry = Retry(time.monotonic() + pause, reason)


def _bug(error: Exception, where: str, secrets: Iterable[str] = ()) -> MvdError:
    """What to tell of an error that nobody thought of, which is logged with its traceback."""
    log.error("internal error %s\n%s", where, redact("".join(traceback.format_exception(error)), secrets))
    return MvdError(f"{INTERNAL}, see the log of gitops-mvd: {type(error).__name__}")


def _isolated(do: Callable[[Group], Sequence[Outcome]], group: Group) -> Sequence[Outcome]:
    """The outcomes of one group.  A bug that shows in it is logged with its traceback, and holds up no other app."""
    names = [candidate.app.name for candidate in group]
    try:
        return do(group)
    except Unavailable as error:  # Docker or the history, before a step was taken
        operation, why, fault = Operation.RUNNING, str(error), UNANSWERED
    except Exception as error:
        secrets = {secret for candidate in group for secret in secrets_of_app(candidate.app)}
        operation, why, fault = Operation.FAILED, str(_bug(error, f"app={','.join(names)}", secrets)), DEFECT
    return [Outcome(name, Sync.UNKNOWN, Health.UNKNOWN, operation, why=why, fault=fault) for name in names]
