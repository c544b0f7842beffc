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
    """`do` is called with the wish of a thread; those that come meanwhile are done after that, all at once.

    It waits for `window` seconds for the threads that the call before has let go on.
    """

    def __init__(self, do: Callable[[Sequence[Wish]], Done], window: float = 0.0) -> None:
        self._do = do
        self._window = window
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._next: _Batch[Wish, Done] = _Batch()

    def __call__(self, wish: Wish) -> Done:
        """What `do` returns or raises for the batch with this wish, none of which was begun before this call."""
        with self._lock:
            batch = self._next
            leads = not batch.wishes
            batch.wishes.append(wish)
        if leads:
            self._lead(batch)
        return batch.done.result()

    def _lead(self, batch: _Batch[Wish, Done]) -> None:
        is_behind_another = self._turn.locked()
        with self._turn:
            if is_behind_another:
                time.sleep(self._window)
            with self._lock:
                self._next = _Batch()
            try:
                batch.done.set_result(self._do(batch.wishes))
            except BaseException as error:
                batch.done.set_exception(error)
