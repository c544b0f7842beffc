"""What open pull requests would do to this host, shown on them before anybody merges them.

Nothing of a pull request is ever run: its manifests are read, its images are looked up, and the daemon's own planner
says what would be done.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gitops_mvd import probes
from gitops_mvd.core import plan_text
from gitops_mvd.core.decide import EMPTIED, Candidate, Known, admit, candidates, decide
from gitops_mvd.core.errors import ManifestError, RateLimited, StepFailed, Unavailable
from gitops_mvd.core.model import Desired, Plan, Problem, PullRequest, Revision, Roles, digest
from gitops_mvd.core.ports import Forge, Host, Tree
from gitops_mvd.git.branch import Source
from gitops_mvd.manifest import Cache, load, read_fleet
from gitops_mvd.state.history import PullRequestPlan, SqliteHistory
from gitops_mvd.status import status_text
from gitops_mvd.status.changes import changed, contents
from gitops_mvd.status.outbox import LONGEST_PAUSE_SECONDS
from gitops_mvd.status.statuses import Statuses

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verdict:
    """What a pull request would do: the plan of every app that it changes, or `wrong`, each problem in a line.

    `notes` has, by app, what its files say that is done otherwise than one may expect.
    """

    plans: tuple[tuple[str, Plan], ...] = ()
    wrong: tuple[str, ...] = ()
    notes: Mapping[str, Sequence[Problem]] = field(default_factory=dict)


class PullRequests:
    """The open pull requests of one forge, as this host sees them.

    A pull request is planned if it is new, if its head has moved, or if the branch it would be merged into has moved.
    Pull requests from a fork are ignored unless `forks`; only with `comments` is the whole plan written below them.
    """

    def __init__(
        self,
        forge: Forge,
        source: Source,
        host: Host,
        history: SqliteHistory,
        statuses: Statuses,
        *,
        comments: bool,
        forks: bool,
        allow_empty: bool,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` tells seconds since 1970."""
        self._forge = forge
        self._source = source
        self._host = host
        self._history = history
        self._statuses = statuses
        self._comments = comments
        self._forks = forks
        self._allow_empty = allow_empty
        self._followed: Cache = {}
        self._proposed: Cache = {}
        self._now = now
        self._limit = ""  # what the forge said when it wanted to be left alone
        self._paused_until = 0.0

    def look(self, tip: Revision, is_awaited: Callable[[], bool]) -> None:
        """Tell every pull request that has something new to be told, unless the daemon is awaited elsewhere.

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

    def _look(self, tip: Revision, is_awaited: Callable[[], bool]) -> None:
        found = self._forge.pull_requests(tip.ref)
        numbers = {pull_request.number for pull_request in found}
        self._history.forget_other_pull_requests(numbers)
        self._source.keep_pull_requests(numbers)
        for pull_request in found:
            if is_awaited():
                return
            at = f"{pull_request.commit} onto {tip.commit}"
            known = self._history.pull_request_plan(pull_request.number)
            if known.at != at and (self._forks or not pull_request.is_fork):
                try:
                    self._tell(pull_request, tip, at, known)
                except RateLimited:
                    raise
                except Unavailable as error:
                    log.warning("pull request %d waits: %s", pull_request.number, error)

    def _tell(self, pull_request: PullRequest, tip: Revision, at: str, known: PullRequestPlan) -> None:
        verdict = self._judge(pull_request, tip)
        counts, names = summed(verdict, self._host.roles)
        if verdict.wrong:
            status = status_text.unplanned(self._host.name, verdict.wrong[0])
        else:
            status = status_text.planned(self._host.name, counts, names)
        self._statuses.plan(pull_request.commit, status)
        comment, said = known.comment, known.digest
        text = in_full(self._host.name, status.description, verdict, pull_request, tip)
        if self._comments and (comment or verdict.wrong or counts) and digest(text) != said:
            try:
                comment, said = self._forge.comment(pull_request, text, comment), digest(text)
            except StepFailed as error:
                log.warning("pull request %d has no comment: %s", pull_request.number, error)
        self._history.save_pull_request_plan(pull_request.number, PullRequestPlan(at, comment, said))

    def _judge(self, pull_request: PullRequest, tip: Revision) -> Verdict:
        try:
            tree = self._source.merged(pull_request, tip)
            after = contents(tree, self._host.name, self._proposed)
            differs = changed(contents(self._source.tree(tip), self._host.name, self._followed), after)
            return self._plan(tree, differs, tip) if differs else Verdict()
        except ManifestError as error:
            return Verdict(wrong=tuple(map(str, error.problems)))
        except StepFailed as error:
            return Verdict(wrong=(str(error),))

    def _plan(self, tree: Tree, differs: frozenset[str], tip: Revision) -> Verdict:
        """Only what the pull request itself changes: what else the host is behind with is not its doing."""
        apps, broken = load(tree, read_fleet(tree).host(self._host.name), self._proposed)
        every = candidates(Desired(tip, apps, broken), self._host.apps(), allow_empty=self._allow_empty)
        plans: list[tuple[str, Plan]] = []
        notes = {app.name: app.notes for app in apps if app.notes}
        wrong = [str(problem) for name in sorted(differs & broken.keys()) for problem in broken[name]]
        for candidate in sorted(every, key=lambda candidate: candidate.app.name):
            if (name := candidate.app.name) in differs - broken.keys():
                plan, why = self._decide(candidate)
                if why:
                    wrong.append(why if why == EMPTIED else f"{name}: {why}")
                else:
                    plans.append((name, plan))
        return Verdict(tuple(plans), tuple(dict.fromkeys(wrong)), notes)

    def _decide(self, candidate: Candidate) -> tuple[Plan, str]:
        """What would be done to an app, and why it would not become what the pull request wants, "" if it would."""
        candidate, name = admit(candidate, self._host), candidate.app.name
        failed_before = self._history.failure_of(candidate.app)
        known = Known(self._history.last_good(name), failed_before, self._host.found(name))
        decision = decide(candidate, known, self._host.proposing)
        if not decision.failure:
            return decision.plan, ""
        tried = "this very version was tried here and failed: " if decision.failure == failed_before else ""
        return decision.plan, f"{tried}{decision.failure.why}"


def summed(verdict: Verdict, roles: Roles) -> tuple[Counter[str], list[str]]:
    """How many services and the like would be changed, created and removed, and their names."""
    counts: Counter[str] = Counter()
    names = []
    for app, plan in verdict.plans:
        for what, verb in sorted(plan_text.service_verbs(plan, roles).items()):
            counts[verb] += 1
            names.append(f"{app}/{what}")
    return counts, names


def in_full(host: str, told: str, verdict: Verdict, pull_request: PullRequest, tip: Revision) -> str:
    """The comment below a pull request.  Its first line, by which it is found again, is shown by no forge."""
    text = [f"[//]: # (mvd/{host})", "", f"**{host}**: {'this cannot be deployed' if verdict.wrong else told}", ""]
    if verdict.wrong:
        text += [*(f"- `{_plain(line)}`" for line in verdict.wrong), ""]
    for app, plan in verdict.plans:
        if lines := [_plain(line) for line in plan_text.lines(plan, probes.summary)]:
            text += [f"{app}", "```diff", *lines, "```", ""]
            if notes := verdict.notes.get(app):
                text += [*(f"- note: `{_plain(str(note))}`" for note in notes), ""]
    return "\n".join([*text, f"Planned for {pull_request.commit[:7]} merged into {tip.ref}; nothing was done."])


def _plain(line: str) -> str:
    """What comes out of a pull request stays text: it ends no code, and calls nobody."""
    return " ".join(line.replace("`", "'").splitlines())
