"""What several threads want of Kong at the same time, done once for all of them."""

from __future__ import annotations

import math
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

    Those that the ones before have let go on come one after the other soon after: with a `window`, they are waited for,
    until none has come for so many seconds or a tenth of the time that the ones before took.  The first of them waits
    at most as long as those took.
    """

    def __init__(self, window: float = 0.0) -> None:
        self._window = window
        self._took = 0.0  # seconds
        self._ended = -math.inf  # by the monotonic clock
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
        with self._turn:
            if self._window and time.monotonic() < self._ended + self._took:
                self._wait_for_more(batch)
            with self._lock:
                self._next = _Batch()
            began = time.monotonic()
            try:
                batch.done.set_result(do(batch.wishes))
            except BaseException as error:
                batch.done.set_exception(error)
            self._ended = time.monotonic()
            self._took = self._ended - began

    def _wait_for_more(self, batch: _Batch[Wish, Done]) -> None:
        ends = time.monotonic() + self._took
        number = 0
        while number != len(batch.wishes) and time.monotonic() < ends:
            number = len(batch.wishes)
            time.sleep(max(self._window, self._took / 10))
