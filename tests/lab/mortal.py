"""One pass of the daemon that dies on the way, as by a power cut: for testing that the next pass repairs it.

/opt/gitops-mvd/bin/python -m tests.lab.mortal 3 0.05     killed 0.05 s into the fourth step, or never
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from gitops_mvd.cli.main import SETTINGS
from gitops_mvd.config import settings
from gitops_mvd.core.model import Step
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.wiring import wire
from gitops_mvd.host.machine import Machine
from gitops_mvd.state.lock import alone


class Mortal:
    """A host that takes its steps one by one, and is killed so many seconds into the one of that number."""

    def __init__(self, host: Machine, dies_at: int, after: float) -> None:
        self._host = host
        self._left = dies_at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._host, name)

    def carry_out(self, steps: Iterable[Step]) -> list[str]:
        complaints = []
        for step in steps:
            if self._left == 0 and not self._after:
                _die()
            elif self._left == 0:
                threading.Timer(self._after, _die).start()
            self._left -= 1
            complaints += self._host.carry_out([step])
        return complaints


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(dies_at: str, after: str = "0") -> None:
    path = Path(SETTINGS)
    wired = wire(settings.read(str(path), path.read_bytes()), path)
    mortal: Any = Mortal(wired.host, int(dies_at), float(after))
    with alone(Path(wired.settings.state)):
        Daemon(replace(wired, host=mortal)).once()


if __name__ == "__main__":
    main(*sys.argv[1:])
