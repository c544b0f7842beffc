"""Answers that are cached as long as events say what changes.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar, cast

T = TypeVar("T")


class AnswerCache:
    """One answer for each kind, good until something of that kind changes.

    From `end` to `begin` no events come, and nothing is cached.  Each kind has answers of one type.
    """

    def __init__(self, kinds: Iterable[str]) -> None:
        self._kinds = tuple(kinds)
        self._epochs: dict[str, object] = {}  # empty while no events come
        self._answers: dict[str, tuple[object, object]] = {}

    def begin(self) -> None:
        """From here on `forget` is called for every change; what was cached before is forgotten."""
        self._epochs = {kind: object() for kind in self._kinds}

    def end(self) -> None:
        self._epochs = {}

    def forget(self, kind: str) -> None:
        if kind in self._epochs:
            self._epochs[kind] = object()

    def recall(self, kind: str, ask: Callable[[], T]) -> T:
        """The cached answer, or else that of `ask`.

        The epoch is taken before asking: a change meanwhile begins a new one, and this answer will not be used again.
        """
        epoch = self._epochs.get(kind)
        known = self._answers.get(kind)
        if epoch is not None and known is not None and known[0] is epoch:
            return cast(T, known[1])
        answer = ask()
        self._answers[kind] = (epoch, answer)
        return answer
