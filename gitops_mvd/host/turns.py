"""How many apps are worked on at once: one that only waits at a gate lets another one go on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """So many turns; a thread that has one may lend it."""

    def __init__(self, number: int) -> None:
        self._free = threading.Semaphore(number)
        self._mine = threading.local()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Inside, this thread has a turn, for which it has waited."""
        with self._free:
            self._mine.is_taken = True
            try:
                yield
            finally:
                self._mine.is_taken = False

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Inside, another thread may have the turn of this one."""
        if not getattr(self._mine, "is_taken", False):
            yield
            return
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()

    def any_free(self) -> bool:
        """Would `taken` begin at once?"""
        if is_free := self._free.acquire(blocking=False):
            self._free.release()
        return is_free
