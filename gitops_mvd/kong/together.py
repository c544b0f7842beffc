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

    It is waited for `window` seconds for the threads that the ones before have let go on.
    """

    def __init__(self, window: float = 0.0) -> None:
        self._window = window
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
            if is_behind_another:
                time.sleep(self._window)
            with self._lock:
                self._next = _Batch()
            try:
                batch.done.set_result(do(batch.wishes))
            except BaseException as error:
                batch.done.set_exception(error)
