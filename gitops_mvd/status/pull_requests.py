"""What open pull requests would do to this host, shown on them before anybody merges them.

It is found out beside the loop, in a thread of its own, and whatever a pull request has is read by another process: the
branch never waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import Interrupted, MvdError, RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import PullRequest, Revision, digest
from gitops_mvd.core.ports import Forge
from gitops_mvd.core.redact import told_text
from gitops_mvd.git.branch import Source
from gitops_mvd.git.tree import GitTree
from gitops_mvd.state.history import PullRequestPlan, SqliteHistory
from gitops_mvd.status import status_text
from gitops_mvd.status.outbox import LONGEST_PAUSE_SECONDS
from gitops_mvd.status.statuses import Statuses
from gitops_mvd.status.verdict import Verdict

log = logging.getLogger(__name__)

LONGEST_COMMENT = 60_000  # characters; GitHub takes 65,536
BACKOFF = Backoff(60.0, 3600.0)  # until it is asked again whether a pull request can be deployed by now
MAY_PASS = ", which may pass"  # ends what is stored of a pull request that cannot be deployed for now

IsAwaited = Callable[[], bool]


class Planned(Protocol):
    """Says what the files of a pull request would do here, merged into a revision of the branch.

    Raises Unavailable if that is unknown now, Interrupted once it is awaited elsewhere.
    """

    def __call__(self, tree: GitTree, tip: Revision, is_awaited: IsAwaited) -> Verdict: ...


class Retry(NamedTuple):
    """When a pull request that cannot be deployed is looked at again, in seconds since 1970, and how often it was."""

    at: str
    due: float
    failures: int


class PullRequests:
    """The open pull requests of one forge, as the host of that name sees them.

    A pull request is planned if it is new, if its head has moved, or if the branch it would be merged into has moved;
    and again, later and later, if it could not be deployed for a reason that is not in its files.
    Pull requests from a fork are ignored unless `forks`; only with `comments` is the whole plan written below them.
    """

    def __init__(
        self,
        forge: Forge,
        source: Source,
        host: str,
        history: SqliteHistory,
        statuses: Statuses,
        planned: Planned,
        *,
        comments: bool,
        forks: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` tells seconds since 1970."""
        self._forge = forge
        self._source = source
        self._host = host
        self._history = history
        self._statuses = statuses
        self._planned = planned
        self._comments = comments
        self._forks = forks
        self._now = now
        self._retries: dict[int, Retry] = {}
        self._limit = ""  # what the forge said when it wanted to be left alone
        self._paused_until = 0.0
        self._asked: Revision | None = None
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._last_warning = ""

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Look at the pull requests each time that somebody asks, until `stop`."""
        self._stop = stop
        up()
        while not stop.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._asked or stop.is_set())
                tip, self._asked = self._asked, None
            if tip and not stop.is_set():
                self._try_to_look(tip)

    def wake(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def ask(self, tip: Revision) -> None:
        """Look at them soon, as they are if they were merged into this tip; a look for another one is given up."""
        with self._changed:
            self._asked = tip
            self._changed.notify_all()

    def _try_to_look(self, tip: Revision) -> None:
        try:
            self.look(tip, self._is_awaited_elsewhere(tip))
            self._warn_once("")
        except MvdError as error:
            self._warn_once(str(error))
        except Exception as error:  # whatever a pull request has, the next look follows
            log.exception("internal error pull requests")
            self._warn_once(f"internal error, see the log of gitops-mvd: {type(error).__name__}")

    def _is_awaited_elsewhere(self, tip: Revision) -> IsAwaited:
        return lambda: self._stop.is_set() or (self._asked is not None and self._asked != tip)

    def _warn_once(self, warning: str) -> None:
        """Log a warning, unless it is the same as the last one."""
        if warning and warning != self._last_warning:
            log.warning("waiting for=pull_requests reason=%s", warning)
        self._last_warning = warning

    def look(self, tip: Revision, is_awaited: IsAwaited) -> None:
        """Tell every pull request that has something new to be told, unless the caller is awaited elsewhere.

        Raises Unavailable or StepFailed if pull requests cannot be listed, and RateLimited for as
        long as the forge is to be left alone.
        """
        if (left := self._paused_until - self._now()) > 0:
            raise RateLimited(self._limit, left)
        try:
            self._look(tip, is_awaited)
        except RateLimited as error:
            self._limit, self._paused_until = error.message, self._now() + min(error.retry_after, LONGEST_PAUSE_SECONDS)
            raise

    def _look(self, tip: Revision, is_awaited: IsAwaited) -> None:
        found = self._forge.pull_requests(tip.ref)
        numbers = {pull_request.number for pull_request in found}
        self._history.forget_other_pull_requests(numbers)
        self._source.keep_pull_requests(numbers)
        self._retries = {number: retry for number, retry in self._retries.items() if number in numbers}
        for pull_request in found:
            at = f"{pull_request.commit} onto {tip.commit}"
            known = self._history.pull_request_plan(pull_request.number)
            if self._is_due(pull_request.number, at, known) and (self._forks or not pull_request.is_fork):
                if is_awaited():
                    return
                try:
                    self._tell(pull_request, self._judge(pull_request, tip, is_awaited), tip, at, known)
                except Interrupted:
                    return
                except RateLimited:
                    raise
                except Unavailable as error:
                    log.warning("pull request %d waits: %s", pull_request.number, error)
        self._source.pack_pull_requests(is_awaited)

    def _is_due(self, number: int, at: str, known: PullRequestPlan) -> bool:
        if known.at != f"{at}{MAY_PASS}":
            return known.at != at
        retry = self._retries.get(number)
        return not retry or self._now() >= retry.due

    def _judge(self, pull_request: PullRequest, tip: Revision, is_awaited: IsAwaited) -> Verdict:
        try:
            return self._planned(self._source.merged(pull_request, tip), tip, is_awaited)
        except StepFailed as error:
            return Verdict(wrong=[str(error)])

    def _tell(
        self, pull_request: PullRequest, verdict: Verdict, tip: Revision, at: str, known: PullRequestPlan
    ) -> None:
        if verdict.wrong:
            status = status_text.unplanned(self._host, verdict.wrong[0])
        else:
            status = status_text.planned(self._host, verdict.cost, verdict.short)
        self._statuses.plan(pull_request.commit, status, changes=bool(verdict.wrong or verdict.short))
        comment, said = known.comment, known.digest
        text = in_full(self._host, status.description, verdict, pull_request, tip)
        if self._comments and (comment or verdict.wrong or verdict.plans) and digest(text) != said:
            try:
                comment, said = self._forge.comment(pull_request, text, comment), digest(text)
            except StepFailed as error:
                log.warning("pull request %d has no comment: %s", pull_request.number, error)
        if verdict.may_pass:
            at = f"{at}{MAY_PASS}"
            before = self._retries.get(pull_request.number)
            failures = before.failures + 1 if before and before.at == at else 0
            self._retries[pull_request.number] = Retry(at, self._now() + BACKOFF.pause(failures), failures)
        self._history.save_pull_request_plan(pull_request.number, PullRequestPlan(at, comment, said))


def in_full(host: str, told: str, verdict: Verdict, pull_request: PullRequest, tip: Revision) -> str:
    """The comment below a pull request.  Its first line, by which it is found again, is shown by no forge."""
    text = [f"[//]: # (mvd/{host})", "", f"**{host}**: {'this cannot be deployed' if verdict.wrong else told}", ""]
    end = f"Planned for {pull_request.commit[:7]} merged into {tip.ref}; nothing was done."
    left = LONGEST_COMMENT - sum(map(len, [*text, end]))
    for part in _parts(verdict):
        left -= sum(len(line) + 1 for line in part)
        if left < 0:
            text += ["The rest is too long for a comment: see `mvd plan` once it is merged.", ""]
            break
        text += part
    return told_text("\n".join([*text, end]), LONGEST_COMMENT)


def _parts(verdict: Verdict) -> Iterator[list[str]]:
    """The lines of a comment, what belongs together in one part."""
    for line in verdict.wrong:
        yield [f"- `{_plain(line)}`"]
    if verdict.wrong:
        yield [""]
    for plan in verdict.plans:
        if plan.lines:
            notes = [f"- note: `{_plain(note)}`" for note in plan.notes]
            head = f"{_plain(plan.app)}: {_plain(plan.cost)}".removesuffix(": ")
            yield [head, "```diff", *map(_plain, plan.lines), "```", "", *([*notes, ""] if notes else [])]


def _plain(line: str) -> str:
    """What comes out of a pull request stays text: it ends no code, and calls nobody."""
    return " ".join(line.replace("`", "'").splitlines())
