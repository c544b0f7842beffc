"""What is being done now: the pass as it goes, step by step, for those who look on; kept once it is over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from msgspec.structs import replace

from gitops_mvd.api.views import (
    DONE,
    FAILED,
    STOPPED,
    CommitView,
    OperationView,
    PhaseView,
    ResultView,
    StepView,
)
from gitops_mvd.core.errors import Interrupted, OnItsWay, Unavailable
from gitops_mvd.core.model import Gate, Outcome, Report, Revision, Step
from gitops_mvd.core.plan_text import Summary, step_text
from gitops_mvd.core.redact import told_line
from gitops_mvd.daemon.changes import Changes
from gitops_mvd.host.executor import Ended
from gitops_mvd.state.operations import OperationsFile

log = logging.getLogger(__name__)

MOST_STEPS = 1000  # of one operation that are kept
WAIT = "wait"
Told = Callable[[OperationView], None]


def commit_view(revision: Revision, page: Callable[[str], str] = lambda commit: "") -> CommitView:
    """A commit as it is shown; `page` gives its address at the forge."""
    return CommitView(revision.commit, revision.subject, revision.author, revision.at, page(revision.commit))


class Operations:
    """The pass of this moment.  One thread begins and ends it, any thread carries out its steps, and any may look."""

    def __init__(
        self,
        file: OperationsFile,
        changes: Changes,
        summary: Summary,
        page: Callable[[str], str] = lambda commit: "",
        now: Callable[[], float] = time.time,
    ) -> None:
        """`page` gives the address of a commit at the forge, `now` Unix time."""
        self._file = file
        self._changes = changes
        self._summary = summary
        self._page = page
        self._now = now
        self._lock = threading.Lock()
        self._pass: OperationView | None = None
        self._steps: dict[int, StepView] = {}
        self._next = 0  # the number of the next step
        self._id = 0
        self.told: list[Told] = []  # each gets every pass that is over, whether it changed something or not

    def close(self) -> None:
        self._file.close()

    def save_revision(self, revision: Revision) -> None:
        """Keep who wrote a commit, and what it says, to be shown with what runs."""
        try:
            self._file.save_revision(revision)
        except Unavailable as error:
            log.warning("a commit is not kept: %s", error)

    # ---- one pass ----------------------------------------------------------------------------------------------------

    def begin(self, causes: Iterable[str]) -> None:
        """A pass begins, for these reasons."""
        with self._lock:
            self._pass = OperationView(0, CommitView(""), tuple(sorted(causes)), self._now())
            self._steps, self._next = {}, 0

    def about(self, revision: Revision) -> None:
        """It is about that commit."""
        with self._lock:
            if self._pass:
                self._pass = replace(self._pass, commit=commit_view(revision, self._page))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Inside, a part of the pass lasts."""
        began = self._now()
        try:
            yield
        finally:
            with self._lock:
                if self._pass:
                    lasted = PhaseView(name, began, self._now() - began)
                    self._pass = replace(self._pass, phases=(*self._pass.phases, lasted))

    def end(self, report: Report | None, error: str = "") -> None:
        """The pass is over, without a report if it came to nothing, for that error.

        It is kept if it took a step, and did more than wait for what goes on.
        """
        with self._lock:
            ended = self._shown()
        if not ended:
            return
        results = _results(report.outcomes if report else ())
        ended = replace(ended, ended=self._now(), results=results, error=told_line(error))
        for tell in self.told:
            try:
                tell(ended)
            except Exception:  # who looks on holds up nothing
                log.exception("internal error operation=%s", ended.id)
        is_kept = bool(ended.steps) and not _only_waited(ended, report)
        if is_kept:
            self._keep(replace(ended, steps=ended.steps[:MOST_STEPS]))
        with self._lock:
            self._pass = None  # only now: whoever asks for it meanwhile has it from here, and later from the file
        if ended.steps:
            self._changes.note()

    def _keep(self, operation: OperationView) -> None:
        try:
            self._file.save(operation)
        except Unavailable as error:
            log.warning("an operation is not kept: %s", error)

    # ---- its steps ---------------------------------------------------------------------------------------------------

    @contextmanager
    def watch(self, steps: Sequence[Step]) -> Iterator[Ended]:
        """Inside, these steps are carried out; what it yields is called with one that ends before the others."""
        numbers = self._begin_steps(steps)

        def ended(step: Step) -> None:
            self._end_steps([numbers.pop(id(step))])

        try:
            yield ended
        except (Interrupted, OnItsWay) as error:
            self._end_steps(numbers.values(), STOPPED, str(error))
            raise
        except Exception as error:
            blamed = getattr(error, "service", "")
            others = [numbers.pop(id(step)) for step in steps if blamed and _is_other(step, blamed, numbers)]
            self._end_steps(others, STOPPED)
            self._end_steps(numbers.values(), FAILED, str(error))
            raise
        self._end_steps(numbers.values())

    def _begin_steps(self, steps: Sequence[Step]) -> dict[int, int]:
        began, numbers = self._now(), {}
        with self._lock:
            for step in steps:
                numbers[id(step)] = self._next
                if self._next < MOST_STEPS:
                    self._steps[self._next] = self._view(step, began)
                self._next += 1
            if self._pass and not self._pass.id:
                self._pass = replace(self._pass, id=self._new_id())
        self._changes.note()
        return numbers

    def _end_steps(self, numbers: Iterable[int], state: str = DONE, why: str = "") -> None:
        now = self._now()
        with self._lock:
            for number in numbers:
                if step := self._steps.get(number):
                    seconds = max(0.0, now - step.began)
                    self._steps[number] = replace(step, state=state, seconds=seconds, why=told_line(why))
        self._changes.note()

    def _view(self, step: Step, began: float) -> StepView:
        about = step.resource
        verb = WAIT if isinstance(step, Gate) else step.verb
        what = told_line(step_text(step, self._summary))
        return StepView(about.app, about.service, verb, about.kind, about.name, what, began)

    def _new_id(self) -> int:
        """One more than any of this process or of the file, which may have been removed, or written by `mvd sync`."""
        with suppress(Unavailable):
            self._id = max(self._id, self._file.last_id())
        self._id += 1
        return self._id

    # ---- looking on --------------------------------------------------------------------------------------------------

    def running(self) -> OperationView | None:
        """The operation of this moment, None while nothing is being changed."""
        with self._lock:
            shown = self._shown()
        return shown if shown and shown.id else None

    def _shown(self) -> OperationView | None:
        if not self._pass:
            return None
        steps = tuple(self._steps[number] for number in sorted(self._steps))
        return replace(self._pass, steps=steps, more_steps=self._next - len(steps))

    def one(self, id: int) -> OperationView | None:
        """The operation of that id with its steps.  Raises Unavailable."""
        running = self.running()
        return running if running and running.id == id else self._file.operation(id)

    def newest(self, limit: int, *, commit: str = "", app: str = "") -> list[OperationView]:
        """The newest operations, without their steps, the running one first.  Raises Unavailable."""
        running = self.running()
        is_asked = running and running.commit.commit.startswith(commit) and _has(running, app)
        first = [replace(running, steps=())] if running and is_asked else []
        return (first + self._file.operations(limit, commit=commit, app=app))[:limit]


def _only_waited(ended: OperationView, report: Report | None) -> bool:
    """Was it one of many passes that wait at one gate, as that of a canary?"""
    goes_on = report is not None and any(outcome.is_on_its_way for outcome in report.outcomes)
    return goes_on and all(step.verb == WAIT for step in ended.steps)


def _is_other(step: Step, blamed: str, numbers: Mapping[int, int]) -> bool:
    """Is it a step that has not ended, of another service than the one to blame?"""
    return id(step) in numbers and step.resource.service not in ("", blamed)


def _has(operation: OperationView, app: str) -> bool:
    return not app or any(step.app == app for step in operation.steps)


def _results(outcomes: Iterable[Outcome]) -> tuple[ResultView, ...]:
    return tuple(
        ResultView(o.app, o.sync, o.health, o.operation, told_line(o.why), o.changed, o.fault) for o in outcomes
    )
