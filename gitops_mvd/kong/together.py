"""What several threads want of Kong at the same time, done once for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Wish = TypeVar("Wish")
Done = TypeVar("Done")


class _Batch(Generic[Wish, Done]):
    def __init__(self) -> None:
        self.wishes: list[Wish] = []
        self.done: Future[Done] = Future()


class Together(Generic[Wish, Done]):
    """The wish of one thread is done; those that come meanwhile are done after that, all at once.

    While more come within `window` seconds, as those may that the ones before have let go on, they are waited for: at
    most half as long as the ones before took.
    """

    def __init__(self, window: float = 0.0) -> None:
        self._window = window
        self._took = 0.0  # seconds
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._next: _Batch[Wish, Done] = _Batch()

    def __call__(self, wish: Wish, do: Callable[[Sequence[Wish]], Done]) -> Done:
        """What `do` returns or raises for the wishes with this one; it is begun after this call."""
        with self._lock:
            batch = self._next
            leads = not batch.wishes
            batch.wishes.append(wish)
        if leads:
            self._lead(batch, do)
        return batch.done.result()

    def _lead(self, batch: _Batch[Wish, Done], do: Callable[[Sequence[Wish]], Done]) -> None:
        is_behind_another = self._turn.locked()
        with self._turn:
            if is_behind_another and self._window:
                self._wait_for_more(batch)
            with self._lock:
                self._next = _Batch()
            began = time.monotonic()
            try:
                batch.done.set_result(do(batch.wishes))
            except BaseException as error:
                batch.done.set_exception(error)
            self._took = time.monotonic() - began

    def _wait_for_more(self, batch: _Batch[Wish, Done]) -> None:
        ends = time.monotonic() + self._took / 2
        number = 0
        while number != len(batch.wishes):
            number = len(batch.wishes)
            time.sleep(self._window)
            if time.monotonic() > ends:
                break
