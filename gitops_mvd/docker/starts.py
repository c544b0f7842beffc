"""Containers that are started side by side, while whoever wants them goes on with something else."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from gitops_mvd.core.errors import MvdError
from gitops_mvd.docker.client import Engine

AT_ONCE = 8  # of all apps together: more of them make the engine slower


class Starts:
    """Starts containers of one engine; any thread may.

    One that was started has a file with its id in `marks`, which its unit takes away: it need not ask the engine again.
    """

    def __init__(self, engine: Engine, marks: Path) -> None:
        self._engine = engine
        self._marks = marks
        self._free = threading.Semaphore(AT_ONCE)

    @contextmanager
    def begun(self, containers: Iterable[str]) -> Iterator[None]:
        """Start the containers of these ids while the context is open; it closes once all are started or refused."""
        with ThreadPoolExecutor(AT_ONCE, "start") as pool:  # which has no threads until it is given something
            for container in containers:
                pool.submit(self._start, container)
            try:
                yield
            except BaseException:  # then their units may not be started, and nobody would follow them
                pool.shutdown(cancel_futures=True)
                raise

    def _start(self, container: str) -> None:
        """What is refused is not told: it is refused again to the unit of the container, which tells it."""
        with self._free, suppress(MvdError):
            self._engine.start(container)
            self._mark(container)

    def _mark(self, container: str) -> None:
        with suppress(OSError):  # then its unit asks the engine
            self._marks.mkdir(parents=True, exist_ok=True)
            (self._marks / container).touch()
