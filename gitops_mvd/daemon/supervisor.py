"""Threads that do not stay down: each is started again, later and later, and why it ended is kept for `mvd status`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.model import ThreadState

log = logging.getLogger(__name__)

BACKOFF = Backoff(1.0, 30.0)
ENDS_WITHIN_SECONDS = 10.0
WAKE_EVERY_SECONDS = 0.1  # while it ends: it may just have begun what it is to be woken from

Up = Callable[[], None]
Run = Callable[[threading.Event, Up], None]


class Supervisor:
    """Keeps threads running.  `save` is given the state of each whenever one of them changes.

    `now` is Unix time in seconds, and `pause` waits for the event that ends a thread, for at most so many seconds.
    """

    def __init__(
        self,
        save: Callable[[Iterable[ThreadState]], None],
        now: Callable[[], float] = time.time,
        pause: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self._save = save
        self._now = now
        self._pause = pause
        self._states: dict[str, ThreadState] = {}
        self._lock = threading.Lock()

    @contextmanager
    def keep(self, name: str, run: Run, wake: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Inside, a thread does `run`, which gets the event that ends it and a function to call once it is at work.

        `wake` ends its waits, from another thread.
        """
        stop = threading.Event()
        thread = threading.Thread(target=self.supervise, args=(name, run, stop), name=name, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            ends = time.monotonic() + ENDS_WITHIN_SECONDS
            while thread.is_alive() and time.monotonic() < ends:
                wake()
                thread.join(WAKE_EVERY_SECONDS)

    def supervise(self, name: str, run: Run, stop: threading.Event) -> None:
        """Run it until `stop`, again and again.  Raises nothing."""
        failures = 0
        while not stop.is_set():
            began = self._now()
            try:
                run(stop, lambda: self._note(name, is_up=True))
                cause = "it ended by itself"
            except MvdError as error:
                cause = str(error)
            except BaseException as error:  # whatever it is: nobody else would notice
                log.error("internal error thread=%s", name, exc_info=error)
                cause = f"internal error, see the log of gitops-mvd: {type(error).__name__}"
            if stop.is_set():
                return
            failures = 0 if self._now() - began > BACKOFF.longest else failures + 1
            pause = BACKOFF.pause(failures)
            self._note(name, is_up=False, cause=cause)
            self._pause(stop, pause)

    def _note(self, name: str, *, is_up: bool, cause: str = "") -> None:
        with self._lock:
            before = self._states.get(name, ThreadState(name, True, 0.0))
            if is_up and before.is_up:
                return
            if is_up:
                now = replace(before, is_up=True, since=self._now())
                log.info("thread runs again name=%s reason=%s", name, before.cause)
            else:
                since = self._now() if before.is_up else before.since
                now = ThreadState(name, False, since, cause, before.restarts + 1)
                if before.is_up or cause != before.cause:
                    log.warning("thread ended and is started again name=%s reason=%s", name, cause)
            self._states[name] = now
            if (before.is_up, before.cause) != (now.is_up, now.cause):
                self._try_to_save()

    def _try_to_save(self) -> None:
        try:
            self._save(self._states.values())
        except MvdError as error:
            log.warning("cannot keep the state of the threads: %s", error)
