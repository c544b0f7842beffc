"""The statuses of other hosts that this one waits for, so that a webhook that tells of another one costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterable

Awaitee = tuple[str, str]
"""A commit, and the context of a status on it."""

MOST_MEANWHILE = 10_000  # statuses that are remembered while the loop asks the forge


class Awaited:
    """What the loop waits for, and what webhooks have told of it.  Any thread may ask.

    A host that waits for a whole wave is woken by its last green status, and not by each: with many hosts, each of them
    would ask the forge at each of their statuses.
    """

    def __init__(self) -> None:
        self._sets: list[set[Awaitee]] = []
        self._meanwhile: set[Awaitee] | None = None  # what was told while the loop asks the forge
        self._lock = threading.Lock()

    def listen(self) -> None:
        """The loop begins to ask the forge: what is told from now on may be in no answer."""
        with self._lock:
            self._sets, self._meanwhile = [], set()

    def expect(self, sets: Iterable[frozenset[Awaitee]]) -> bool:
        """From now on these are waited for, each set by itself; was one of them told as a whole meanwhile?"""
        with self._lock:
            told, self._meanwhile = self._meanwhile or set(), None
            left = [awaited - told for awaited in sets if awaited]
            self._sets = [set(it) for it in left if it]
            return not all(left)

    def hear(self, commit: str, context: str) -> bool:
        """A status has become green: was it the last one of those that are waited for together?"""
        told = commit, context
        with self._lock:
            if self._meanwhile is not None and len(self._meanwhile) < MOST_MEANWHILE:
                self._meanwhile.add(told)
            for awaited in self._sets:
                awaited.discard(told)
            left = [it for it in self._sets if it]
            is_last, self._sets = len(left) < len(self._sets), left
            return is_last
