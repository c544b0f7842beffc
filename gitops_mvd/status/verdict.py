"""What a repository with a pull request merged would do to this host: read, planned, and done nothing about.

Nothing of it is ever run: its manifests are read, its images are looked up, and the daemon's own planner says what
would be done.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gitops_mvd import probes
from gitops_mvd.core import plan_text
from gitops_mvd.core.decide import EMPTIED, Decision, candidates
from gitops_mvd.core.errors import ManifestError, StepFailed, Unavailable
from gitops_mvd.core.handover import foreseen
from gitops_mvd.core.model import App, Desired, Plan, Revision
from gitops_mvd.core.ports import Host, Tree
from gitops_mvd.core.redact import learn_apps, redact, secrets_of_app, told_line
from gitops_mvd.manifest import Cache, load, read_fleet
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.status.changes import changed, contents

MOST_LINES = 1_000  # of mistakes, and of the plan of one app
MOST_APPS = 100  # whose plans are told in full


@dataclass(frozen=True)
class AppPlan:
    """One app that would be changed: the lines of its plan, and what its files say that is done otherwise."""

    app: str
    lines: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """What a pull request would do, as text, or what is `wrong`, each problem in a line.

    `counts` tells how many services and the like would be changed, created and removed, and `names` which.
    """

    wrong: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    names: Sequence[str] = ()
    plans: Sequence[AppPlan] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        plans = [AppPlan(**plan) for plan in value["plans"]]
        return cls(value["wrong"], value["counts"], value["names"], plans)


@dataclass(frozen=True)
class Judge:
    """Says what the files of a pull request would do here.

    `tree_at` has the files of the branch at a revision; `refresh` is called before the host is asked for anything.
    """

    host: Host
    history: SqliteHistory
    tree_at: Callable[[Revision], Tree]
    allow_empty: bool
    refresh: Callable[[], None] = lambda: None

    def __call__(self, tree: Tree, tip: Revision) -> Verdict:
        """Raises Unavailable if Docker, a registry or the history does not answer."""
        cache: Cache = {}
        try:
            after = contents(tree, self.host.name, cache)
            differs = changed(contents(self.tree_at(tip), self.host.name), after)
            return self._plan(tree, differs, tip, cache) if differs else Verdict()
        except ManifestError as error:
            return Verdict(wrong=_first(map(str, error.problems)))
        except StepFailed as error:
            return Verdict(wrong=[str(error)])

    def _plan(self, tree: Tree, differs: frozenset[str], tip: Revision, cache: Cache) -> Verdict:
        """Only what the pull request itself changes: what else the host is behind with is not its doing."""
        apps, broken = load(tree, read_fleet(tree).host(self.host.name), cache)
        learn_apps(apps)
        wrong = [str(problem) for name in sorted(differs & broken.keys()) for problem in broken[name]]
        planned: list[tuple[str, Plan]] = []
        if concerned := differs - broken.keys():
            self.refresh()
            every = candidates(Desired(tip, apps, broken), self.host.apps(), allow_empty=self.allow_empty)
            decided = foreseen(every, self.host, self.history, self.host.proposing, concerned)
            for candidate, decision in sorted(decided, key=lambda it: it[0].app.name):
                if (name := candidate.app.name) in concerned:
                    plan, why = self._judged(candidate.app, decision)
                    if why:
                        wrong.append(why if why == EMPTIED else f"{name}: {why}")
                    else:
                        planned.append((name, plan))
        notes = {app.name: _first(map(str, app.notes)) for app in apps}
        plans = [
            AppPlan(name, _first(plan_text.lines(it, probes.summary)), notes.get(name, ())) for name, it in planned
        ]
        return Verdict(_first(dict.fromkeys(wrong)), *self._summed(planned), plans[:MOST_APPS])

    def _judged(self, app: App, decision: Decision | Unavailable) -> tuple[Plan, str]:
        """What would be done to an app, and why it would not become what the pull request wants, "" if it would."""
        if isinstance(decision, Unavailable):
            raise decision
        if not decision.failure:
            return decision.plan, ""
        failed_before = decision.failure == self.history.failure_of(app)
        tried = "this very version was tried here and failed: " if failed_before else ""
        return decision.plan, f"{tried}{redact(decision.failure.why, secrets_of_app(app))}"

    def _summed(self, planned: Iterable[tuple[str, Plan]]) -> tuple[dict[str, int], list[str]]:
        counts: Counter[str] = Counter()
        names = []
        for app, plan in planned:
            for what, verb in sorted(plan_text.service_verbs(plan, self.host.roles).items()):
                counts[verb] += 1
                names.append(f"{app}/{what}")
        return dict(counts), _first(names)


def _first(lines: Iterable[str]) -> list[str]:
    """The lines, as far as anybody would read them."""
    found = [told_line(line) for line in itertools.islice(lines, MOST_LINES + 1)]
    return found if len(found) <= MOST_LINES else [*found[:MOST_LINES], "and more"]
