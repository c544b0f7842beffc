"""What a daemon tells those who look on, for tests that are about something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gitops_mvd import probes
from gitops_mvd.daemon.changes import Changes
from gitops_mvd.daemon.operations import Operations
from gitops_mvd.metrics.counts import Counts
from gitops_mvd.state.operations import OperationsFile


def onlookers(folder: Path) -> dict[str, Any]:
    """The parts of a wired server by which others look on, kept in a folder."""
    changes = Changes()
    operations = Operations(OperationsFile(folder / "operations.db"), changes, probes.summary)
    counts = Counts()
    operations.told.append(counts.passed)
    return {"changes": changes, "operations": operations, "views": None, "counts": counts, "traces": None}
