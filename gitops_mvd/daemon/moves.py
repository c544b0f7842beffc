"""Which apps this host keeps although its commit has them on others, as these do not have them yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from gitops_mvd.core import moves
from gitops_mvd.core.decide import Candidate
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import App, Revision
from gitops_mvd.core.ports import History, Host
from gitops_mvd.core.reconcile import Keeping
from gitops_mvd.core.waves import Line
from gitops_mvd.daemon.waves import MOST_BEHIND, Look, Patience, Waves
from gitops_mvd.manifest import read_fleet


@dataclass
class Moves:
    """What leaves this host, by the same look at commits and statuses as the waves.

    All that it remembers is for how long it has waited for a host that is silent: a restart begins that anew.
    """

    waves: Waves
    _patience: Patience = field(default_factory=Patience)

    def keeping(self, revision: Revision, host: Host, history: History) -> Keeping:
        """What is kept at a commit; nothing without a `forge` in the settings, where others say that they are green."""

        def kept(candidates: Sequence[Candidate]) -> Sequence[Candidate]:
            if not self.waves.forge:
                return candidates
            look = self.waves.look(self._patience)
            found = moves.keep(candidates, host, history, cache(lambda: self._branch(revision, look)))
            self._patience.end_pass()
            return found

        return kept

    def remarks(self, revision: Revision, candidates: Sequence[Candidate], history: History) -> Mapping[str, list[str]]:
        """What to know of a commit by app: where it moves to or comes from, and which data it leaves behind."""
        if not self.waves.forge:
            return {}
        every = ((it.app, history.last_good(it.app.name) or App(it.app.name)) for it in candidates)
        try:
            branch = self._branch(revision, self.waves.look(Patience()))
            return {app.name: [*moves.remarks_at(branch, app, good)] for app, good in every}
        except Unavailable:  # the plan goes without
            return {}

    def _branch(self, revision: Revision, look: Look) -> moves.Branch:
        source = self.waves.source
        revisions, is_whole = source.line(revision, MOST_BEHIND)
        if len(revisions) == 1 and not is_whole:
            raise Unavailable("the commits before this one are not here")
        line = Line(revisions, 0, self.waves.host, look)
        self.waves.readings.keep({it.commit for it in revisions})
        return moves.Branch(line, look.placed, read_fleet(source.tree(revision)).rollouts)
