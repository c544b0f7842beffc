"""The loop: something happened, so look at Git and at this host, and settle what differs.

One thread decides.  Everybody else (the poll, Docker's events, file changes, signals, apps being settled) only posts
to the mailbox.  While apps are being settled it goes on being read, so that a newer revision interrupts an older one.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from typing import ParamSpec, TypeVar

import schedule
import sdnotify

from gitops_mvd.core.decide import Candidate
from gitops_mvd.core.errors import ManifestError, MvdError, RevisionRefused, StepFailed, Unavailable
from gitops_mvd.core.model import Desired, Health, Operation, Outcome, Report, Revision, Sync
from gitops_mvd.core.reconcile import reconcile
from gitops_mvd.daemon import triggers
from gitops_mvd.daemon.triggers import PROPOSAL, PUSH, RELOAD, STOP, SYNC
from gitops_mvd.daemon.webhook import webhooks
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.manifest import load, read_fleet
from gitops_mvd.state import suspension
from gitops_mvd.status import report as say
from gitops_mvd.status.changes import steps
from gitops_mvd.status.statuses import Step

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

LOOK_AT_GIT = frozenset({"start", "poll", SYNC, PUSH, PROPOSAL, "again"})
SETTLED, STEADY = "settled", "steady"
SIDE_BY_SIDE = 8  # apps that are settled at once
JOIN_AFTER = 0.05  # seconds until one more thread takes part in settling
CALM = 1.0  # seconds that events are gathered before the host is looked at for their sake
BACKOFF = (2.0, 300.0)  # seconds
AFTERWARDS = 0.05  # seconds
GRACE = 30.0  # seconds for the step in hand to end once we are told to stop
TICK = 10.0  # seconds between two pings of systemd's watchdog, at most


class Daemon:
    """The loop over one server's wiring."""

    def __init__(self, wired: Wired) -> None:
        self._wired = wired
        self._mail = wired.mailbox
        self._revision: Revision | None = None
        self._asked_git = 0.0
        self._ending = ""
        self._later: frozenset[str] = frozenset()  # what came up in the middle of a pass, for the next one
        self._failures = 0
        self._poll = schedule.Scheduler()
        self._retry = threading.Timer(0, lambda: None)
        self._complaints: dict[str, str] = {}  # what does not answer now -> what it said last
        self._last_summary = ""
        self._notify = sdnotify.SystemdNotifier()

    def run(self) -> bool:
        """Go on until told to stop; True asks to be started again with new settings."""
        with ExitStack() as parts:
            parts.enter_context(triggers.signals(self._mail.post))
            parts.enter_context(triggers.docker_events(self._wired.engine, self._mail.post))
            parts.enter_context(triggers.file_changes(self._wired, self._mail.post))
            parts.enter_context(self._wired.outbox)
            parts.enter_context(self._wired.monitor)
            parts.enter_context(webhooks(self._wired, self._mail.post))
            self._mail.post("start")
            self._notify.notify("READY=1")
            log.info("daemon started host=%s repository=%s", self._wired.host.name, self._wired.settings.repository)
            self._loop()
            if self._ending == RELOAD:
                time.sleep(CALM)  # whoever writes the settings may still be at it
            self._notify.notify("STOPPING=1" if self._ending == STOP else "RELOADING=1")
        self._take(AFTERWARDS)  # a signal to stop may have come while we were about to reload
        log.info("daemon ended reason=%s", self._ending)
        return self._ending == RELOAD

    def _loop(self) -> None:
        interval = self._wired.settings.interval
        self._poll.every(max(1, round(interval * 0.8))).to(round(interval * 1.2)).seconds.do(self._mail.post, "poll")
        while not self._ending:
            reasons = self._later or self._take(TICK)
            self._later = frozenset()
            if self._ending or not reasons:
                continue
            if not reasons & LOOK_AT_GIT:
                reasons |= self._gather()
            self.look_again(reasons)
            if reasons & LOOK_AT_GIT:
                self.look_at_proposals()

    def once(self) -> Report | None:
        """One pass without the loop, and one more for whoever asked for it meanwhile; None where it could not be."""
        report, reasons = None, frozenset({SYNC})
        with triggers.signals(self._mail.post), self._wired.outbox:
            while reasons & LOOK_AT_GIT and not self._ending:
                report = self.look_again(reasons)
                self._retry.cancel()
                reasons = self._later | self._take(0)
                self._later = frozenset()
        self._wired.outbox.deliver()
        return report

    def _take(self, timeout: float) -> frozenset[str]:
        """The next mail, but for what only says that an app is settled; the poll is one of those who write."""
        self._poll.run_pending()
        until_poll = self._poll.idle_seconds if self._poll.jobs else None
        reasons = self._mail.take(timeout if until_poll is None else max(0.0, min(timeout, until_poll)))
        self._notify.notify("WATCHDOG=1")
        for ending in (RELOAD, STOP):
            if ending in reasons:
                self._ending = ending
        if STOP in reasons:
            _end_within(GRACE)
        return reasons - {SETTLED}

    def _patiently(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do what may take minutes, and ends by itself; meanwhile systemd is told that we live."""
        with ThreadPoolExecutor(1, "patient") as pool:
            doing = pool.submit(do, *args, **kwargs)
            while not wait([doing], TICK).done:
                self._notify.notify("WATCHDOG=1")
        return doing.result()

    def _gather(self) -> frozenset[str]:
        """Events come in flocks: wait until they have passed, or until Git may have something new."""
        gathered: frozenset[str] = frozenset()
        ends = self._wired.clock.now() + CALM
        while not (gathered & LOOK_AT_GIT or self._ending) and (left := ends - self._wired.clock.now()) > 0:
            gathered |= self._take(left)
        return gathered

    # ---- one pass ----------------------------------------------------------------------------------------------------

    def look_again(self, reasons: frozenset[str]) -> Report | None:
        """One pass: fetch if Git may have something new, then bring the host to it.  None where it could not be."""
        self._wired.clock.resume()
        report = None
        try:
            if reasons & LOOK_AT_GIT or not self._revision:
                self._fetch()
            if why := suspension.reason(self._wired.settings_path):
                self._wired.monitor.pause_all()
                self._wired.statuses.suspend(why)
                self._complain("host", Unavailable(f"this server is suspended: {why}", "`mvd resume`"))
            else:
                report = self._reconcile() if self._revision else None
                self._content("host")
        except Unavailable as error:
            self._complain("host", error)
            with suppress(Unavailable):  # where it is the history itself that does not answer
                self._wired.statuses.wait(str(error))
        if not report:
            with suppress(Unavailable):
                self._wired.history.save_excuse("; ".join(self._complaints.values()))
        self._back_off(report)
        return report

    def _fetch(self) -> None:
        """Take up the newest revision.  Where Git does not answer, the one that is known goes on being kept up."""
        self._asked_git = time.time()
        try:
            fetched = self._patiently(self._wired.source.fetch)
        except Unavailable as error:
            self._complain("repository", error)
            if isinstance(error, RevisionRefused):
                self._wired.statuses.refuse(error.commit, str(error))
            self._revision = self._revision or self._wired.source.last()
            if self._revision:
                self._wired.follow(self._revision, fetched=False)
            return
        self._content("repository")
        self._wired.follow(fetched, fetched=True)
        if fetched != self._revision:
            known = self._wired.history.revisions().get("attempted")
            if fetched != known:  # as it is where we were only restarted
                self._wired.statuses.take_up(self._steps(known, fetched))
            self._revision = fetched
            log.info("revision %s %s", fetched.short, fetched.subject)

    def _steps(self, known: Revision | None, tip: Revision) -> list[Step]:
        return steps(self._wired.source, self._wired.host.name, self._wired.cache, known, tip)

    def _reconcile(self) -> Report:
        revision, host = self._revision, self._wired.host
        assert revision
        tree = self._wired.source.tree(revision)
        try:
            facts = read_fleet(tree).host(host.name)
            self._wired.statuses.labels = facts.labels
            apps, broken = load(tree, facts, self._wired.cache)
        except ManifestError as error:
            self._wired.statuses.fail(revision, str(error))
            raise Unavailable(f"revision {revision.short} can not be read: {error}") from error
        began = time.monotonic()
        host.refresh()
        report = reconcile(
            Desired(revision, apps, broken),
            host,
            self._wired.history,
            self._side_by_side,
            allow_empty=self._wired.settings.allow_empty,
        )
        self._keep_boot_file()
        if not report.is_green and (why := self._wired.disruptions.since_pass(began)):
            raise Unavailable(f"{why}: waiting before judging anything")
        self._tell(report)
        with suppress(Unavailable):  # the next look sees whom to ask
            self._wired.monitor.follow(host.to_watch())
        return report

    def _keep_boot_file(self) -> None:
        """What the gateway has is what it starts from; where that can not be, nothing else is held up."""
        try:
            if kong := self._wired.tools.kong:
                kong.keep_boot_file()
            self._content("boot file")
        except (Unavailable, StepFailed) as error:
            self._complain("boot file", error)

    def _side_by_side(self, do: Callable[[Candidate], Outcome], candidates: Iterable[Candidate]) -> Iterable[Outcome]:
        """`map`, in a few threads, while the mail goes on being read.

        One thread does where nothing is to be done; another one joins in as long as there is more to take up.
        """
        waiting = deque(enumerate(candidates))
        settled: dict[int, Outcome] = {}

        def work() -> None:
            with suppress(IndexError):
                while True:
                    place, candidate = waiting.popleft()
                    settled[place] = _isolated(do, candidate)

        workers: list[Future[None]] = []
        with ThreadPoolExecutor(SIDE_BY_SIDE, "settle") as pool:
            while waiting or not all(worker.done() for worker in workers):
                if waiting and len(workers) < SIDE_BY_SIDE:
                    workers.append(pool.submit(work))
                    workers[-1].add_done_callback(lambda _: self._mail.post(SETTLED))
                more = waiting and len(workers) < SIDE_BY_SIDE
                self._read_mail_meanwhile(JOIN_AFTER if more else TICK)
        return [settled[place] for place in sorted(settled)]

    def _read_mail_meanwhile(self, timeout: float) -> None:
        reasons = self._take(timeout)
        self._later |= reasons
        if self._ending:
            self._wired.clock.interrupt(f"the daemon is asked to {self._ending}")
        elif reasons & LOOK_AT_GIT and (newer := self._newer()):
            self._wired.clock.interrupt(f"superseded by {newer.short}")

    def _newer(self) -> Revision | None:
        try:
            fetched = self._patiently(self._wired.source.fetch)
        except Unavailable as error:
            self._complain("repository", error)
            return None
        is_newer = any(step.changed != frozenset() for step in self._steps(self._revision, fetched))
        return fetched if is_newer and fetched != self._revision else None

    def look_at_proposals(self) -> None:
        """Tell open pull requests what they would do here, as long as nothing else is to be done."""
        if not self._wired.pull_requests or not self._revision or self._later or self._complaints.get("host"):
            return
        try:
            self._patiently(self._wired.pull_requests.look, self._revision, self._mail.has_mail)
            self._content("proposals")
        except (Unavailable, StepFailed) as error:
            self._complain("proposals", error)

    # ---- what is told of it ------------------------------------------------------------------------------------------

    def _tell(self, report: Report) -> None:
        history = self._wired.history
        summary = say.summary(report)
        log.log(logging.DEBUG if summary == self._last_summary else logging.INFO, "%s", summary)
        self._last_summary = summary
        history.record(report)
        history.save_report(report, self._asked_git)
        self._wired.statuses.tell(report)
        self._notify.notify(f"STATUS={summary}")

    def _complain(self, about: str, error: MvdError) -> None:
        """One clear line, and not the same one again and again."""
        complaint = str(error)
        if complaint != self._complaints.get(about):
            log.warning("%s", complaint)
        self._complaints[about] = complaint

    def _content(self, about: str) -> None:
        """There is nothing to complain about any more."""
        if complaint := self._complaints.pop(about, ""):
            log.info("no longer: %s", complaint)

    def _back_off(self, report: Report | None) -> None:
        """Look again before the next poll where something did not answer, later and later; or where it may not last."""
        self._retry.cancel()
        if report and not any(outcome.operation is Operation.RUNNING for outcome in report.outcomes):
            self._failures = 0
            pause, reason = self._wired.statuses.looks_again_in(), STEADY
        else:
            shortest, longest = BACKOFF
            pause, reason = min(longest, shortest * 2**self._failures) * random.uniform(0.8, 1.2), "again"
            self._failures += 1
        if pause is not None:
            self._retry = threading.Timer(pause, self._mail.post, [reason])
            self._retry.daemon = True
            self._retry.start()


def _end_within(seconds: float) -> None:
    """A pull may take an hour, and nothing is lost with it: the next start picks up what was begun."""
    timer = threading.Timer(seconds, os._exit, [0])
    timer.daemon = True
    timer.start()


def _isolated(do: Callable[[Candidate], Outcome], candidate: Candidate) -> Outcome:
    """The outcome of one app.  A bug that shows in it is logged with its traceback, and holds up no other app."""
    app = candidate.app
    try:
        return do(candidate)
    except Unavailable as error:  # even its look, or the history
        return Outcome(app.name, Sync.UNKNOWN, Health.UNKNOWN, Operation.RUNNING, why=str(error))
    except Exception as error:
        log.exception("could not settle app=%s", app.name)
        why = f"internal error, see the log of gitops-mvd: {type(error).__name__}"
        return Outcome(app.name, Sync.UNKNOWN, Health.UNKNOWN, Operation.FAILED, why=why)
