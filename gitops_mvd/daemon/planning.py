"""A pull request, read and planned by a process of its own, with limits of time and memory.

Whoever may open one decides what is in it, so whatever it does to this process, it does to nobody else.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gitops_mvd.core.errors import Interrupted, Unavailable
from gitops_mvd.core.model import Revision
from gitops_mvd.git.child import Limits, run
from gitops_mvd.git.tree import GitTree
from gitops_mvd.status.pull_requests import IsAwaited
from gitops_mvd.status.verdict import Verdict

log = logging.getLogger(__name__)

CHILD = "gitops_mvd.daemon.planning_child"
LIMITS = Limits(seconds=60.0, file=64 << 20, output=8 << 20)
SYSTEMDS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")  # means the daemon itself


def environment() -> dict[str, str]:
    """The variables of a process of its own."""
    return {name: value for name, value in os.environ.items() if name not in SYSTEMDS}


@dataclass(frozen=True)
class InChild:
    """Plans pull requests for the server with the settings at a path; implements `pull_requests.Planned`."""

    settings: Path
    limits: Limits = LIMITS

    def __call__(self, tree: GitTree, tip: Revision, is_awaited: IsAwaited) -> Verdict:
        words = [sys.executable, "-m", CHILD, str(self.settings), tree.root.hex(), tip.commit, tip.ref]
        ended = run(words, environment(), self.limits, is_awaited)
        if ended.status and is_awaited():
            raise Interrupted("there is other work")
        if ended.status:
            log.warning("cannot read a pull request status=%d: %s", ended.status, ended.complaint)
            return Verdict(wrong=[f"cannot be planned: reading it {self._why(ended.status, ended.complaint)}"])
        try:
            answer = json.loads(ended.output)
            if "unavailable" not in answer:
                return Verdict.from_json(answer)
        except (ValueError, KeyError, TypeError):
            log.warning("cannot read the answer about a pull request: %s", ended.complaint)
            return Verdict(wrong=["cannot be planned: reading it ended without an answer"])
        raise Unavailable(answer["unavailable"])

    def _why(self, status: int, complaint: str) -> str:
        last = complaint.strip().rpartition("\n")[2]
        if last.startswith("MemoryError") or (status == -9 and not complaint):
            return f"takes more than {self.limits.memory >> 20} MiB of memory"
        if last.startswith(("did not complete", "printed more")):
            return last
        return f"ended with an error, see the log of gitops-mvd: {last.partition(':')[0]}"
