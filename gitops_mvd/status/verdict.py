"""What a repository with a pull request merged would do to this host: read, planned, and done nothing about.

Nothing of it is ever run: its manifests are read, its images are looked up, and the daemon's own planner says what
would be done.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from gitops_mvd.core import moves
from gitops_mvd.core.decide import EMPTIED, Decision, candidates
from gitops_mvd.core.errors import ManifestError, StepFailed, Unavailable
from gitops_mvd.core.handover import foreseen, remarks
from gitops_mvd.core.model import App, Desired, Plan, Revision
from gitops_mvd.core.plan_text import AppChange, app_change, in_short, worst
from gitops_mvd.core.ports import Host, Tree
from gitops_mvd.core.redact import learn_apps, redact, secrets_of_app, told_line
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.manifest import Cache, load, read_fleet
from gitops_mvd.manifest.update_order import reasons
from gitops_mvd.manifest.versions import Versions
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.status.changes import changed, contents
from gitops_mvd.status.status_text import LONGEST_DESCRIPTION

MOST_LINES = 1_000  # of mistakes, and of the changes of one app
MOST_APPS = 100  # whose changes are told in full


@dataclass(frozen=True)
class AppPlan:
    """One app that would be changed: its cost, the lines of a diff, and what its files say that is done otherwise."""

    app: str
    cost: str
    lines: Sequence[str]
    notes: Sequence[str]


@dataclass(frozen=True)
class Verdict:
    """What a pull request would do, as text, or what is `wrong`, each problem in a line.

    `short` is the whole in one line, and `cost` the price of the app that is down for longest.  What is wrong
    `may_pass` if it is not in the files: a secret or an image may arrive later.
    """

    wrong: Sequence[str] = ()
    may_pass: bool = False
    short: str = ""
    cost: str = ""
    plans: Sequence[AppPlan] = ()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        return cls(**{**value, "plans": [AppPlan(**plan) for plan in value["plans"]]})


@dataclass(frozen=True)
class Judge:
    """Says what the files of a pull request would do here.

    `tree_at` has the files of the branch at a revision; `refresh` is called before the host is asked for anything.
    `suspended` are the apps that an operator has suspended.
    """

    host: Host
    history: SqliteHistory
    tree_at: Callable[[Revision], Tree]
    allow_empty: bool
    refresh: Callable[[], None] = lambda: None
    suspended: Mapping[str, Suspension] = field(default_factory=dict)

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
        mistakes = [str(problem) for name in sorted(differs & broken.keys()) for problem in broken[name]]
        refused: list[str] = []
        changes: list[AppChange] = []
        if concerned := differs - broken.keys():
            self.refresh()
            wanted, present = Desired(tip, apps, broken), self.host.apps()
            every = candidates(wanted, present, allow_empty=self.allow_empty, suspended=self.suspended)
            moved = self._moves(tree, tip, [it.app for it in every if it.app.name in concerned])
            beside = moves.merged(moved, remarks(every, self.host, self.history))
            decided = foreseen(every, self.host, self.history, self.host.proposing, concerned)
            for candidate, decision, together in sorted(decided, key=lambda it: it[0].app.name):
                if (name := candidate.app.name) in concerned:
                    change, why = self._judged(candidate.app, decision, together, beside.get(name, ()))
                    if why:
                        refused.append(why if why == EMPTIED else f"{name}: {why}")
                    elif change:
                        changes.append(change)
        notes = {app.name: _first(map(str, app.notes)) for app in apps}
        plans = [AppPlan(it.app, it.cost.text, _first(it.diff()), notes.get(it.app, ())) for it in changes[:MOST_APPS]]
        wrong, cost = _first(dict.fromkeys([*mistakes, *refused])), worst(changes)
        return Verdict(wrong, bool(refused), in_short(changes, LONGEST_DESCRIPTION - len(f"{cost}; ")), cost, plans)

    def _moves(self, tree: Tree, tip: Revision, apps: Iterable[App]) -> Mapping[str, list[str]]:
        """What to know of apps that the pull request moves to other hosts, or from there to this one."""
        here, versions, fleet = self.tree_at(tip), Versions(), read_fleet(tree)
        try:
            before, after = versions.at(here, read_fleet(here)), versions.at(tree, fleet)
        except ManifestError:  # of the branch as it is
            return {}
        every = ((app, self.history.last_good(app.name) or App(app.name)) for app in apps)
        host, rollouts = self.host.name, fleet.rollouts
        return {app.name: [*moves.remarks(app, good, before, after, host, rollouts)] for app, good in every}

    def _judged(
        self, app: App, decision: Decision | Unavailable, together: Plan, beside: Sequence[str]
    ) -> tuple[AppChange, str]:
        """What would be done to an app, and why it would not become what the pull request wants, "" if it would."""
        if isinstance(decision, Unavailable):
            raise decision
        order = reasons(decision.goal) if decision.goal else {}
        change = app_change(decision, self.host.roles, order, together, beside)
        if not decision.failure:
            return change, ""
        tried = "this very version was tried here and failed: " if decision.failure == decision.known.failure else ""
        return change, f"{tried}{redact(decision.failure.why, secrets_of_app(app))}"


def _first(lines: Iterable[str]) -> list[str]:
    """The lines, as far as anybody would read them."""
    found = [told_line(line) for line in itertools.islice(lines, MOST_LINES + 1)]
    return found if len(found) <= MOST_LINES else [*found[:MOST_LINES], "and more"]
