"""One server as the page knows it: what its daemon last answered, and since when it is silent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from gitops_mvd.api.client import ANSWERS_WITHIN_SECONDS, LONG_ANSWER_SECONDS, Api, Refused
from gitops_mvd.api.views import ChangesView
from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.web.signal import Signal, apart

log = logging.getLogger(__name__)
T = TypeVar("T")

CHANGES_WITHIN_SECONDS = 15.0  # of one question for changes
NEW_SECONDS = 1.0  # for which an answer is used again while nobody watches for changes
LONG_NEW_SECONDS = 10.0  # the same of an answer that costs the server a process
LINGER_SECONDS = 60.0  # for which changes are still watched after the last browser has gone
PAUSE = Backoff(1.0, 10.0)
MOST_ANSWERS = 64  # that are remembered
MOST_QUESTIONS = 6  # at once
LONG = frozenset({"plan", "doctor", "explain"})


@dataclass(frozen=True, slots=True)
class Silence:
    """Since when a daemon does not answer, in seconds since 1970, and why."""

    since: float
    why: str
    hint: str = ""


@dataclass(slots=True)
class _Answer:
    value: object
    number: int
    at: float  # on the monotonic clock


class Host:
    """The daemon of one server.  Every method is for the event loop's thread.

    `changed` rings when something else is to be seen; `base` is the path of its pages.
    """

    def __init__(self, name: str, api: Api, base: str = "", also: Signal | None = None) -> None:
        self.name = name
        self.base = base
        self.api = api
        self.changed = Signal()
        self.silence: Silence | None = None
        self.why_silent: Callable[[], str] = lambda: ""  # why the way to it is closed, if that is known better
        self._also = also
        self._number = 0
        self._answers: OrderedDict[object, _Answer] = OrderedDict()
        self._asked: dict[object, asyncio.Task[object]] = {}
        self._turns = asyncio.Semaphore(MOST_QUESTIONS)
        self._watch: asyncio.Task[None] | None = None
        self._seen = time.monotonic() - LINGER_SECONDS

    # ---- questions ---------------------------------------------------------------------------------------------------

    async def ask(self, name: str, of: type[T], /, **parameters: Any) -> T:
        """The answer of an endpoint that only reads.  Of a silent daemon, it is the last one, and `silence` is set.

        Raises Unavailable if there is none, and Refused.
        """
        key = (name, tuple(sorted(parameters.items())))
        known = self._answers.get(key)
        if known and self._is_new(name, known):
            self._answers.move_to_end(key)
            return cast(T, known.value)
        if not (task := self._asked.get(key)):
            task = asyncio.create_task(self._ask(key, name, of, parameters))
            self._asked[key] = task
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        try:
            return cast(T, await asyncio.shield(task))
        except Unavailable:
            if known:
                return cast(T, known.value)
            raise

    async def act(self, name: str, of: type[T], /, **parameters: Any) -> T:
        """Have the daemon do something.  Raises Unavailable and Refused."""
        async with self._turns:
            return await apart(partial(self.api.ask, name, of, **parameters))

    def _is_new(self, name: str, answer: _Answer) -> bool:
        age = time.monotonic() - answer.at
        if name in LONG:
            return age < LONG_NEW_SECONDS
        if self.is_watched and not self.silence:
            return answer.number == self._number
        return age < NEW_SECONDS

    async def _ask(self, key: object, name: str, of: type[T], parameters: dict[str, Any]) -> T:
        timeout = LONG_ANSWER_SECONDS if name in LONG else ANSWERS_WITHIN_SECONDS
        number = self._number
        async with self._turns:
            try:
                value = await apart(partial(self.api.ask, name, of, timeout=timeout, **parameters))
            except Unavailable as error:
                if name not in LONG:
                    self._fell_silent(error)
                raise
        self._heard()
        self._answers[key] = _Answer(value, number, time.monotonic())
        self._answers.move_to_end(key)
        while len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)
        return value

    # ---- changes -----------------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The number of the last change that is known."""
        return self._number

    @property
    def is_watched(self) -> bool:
        return self._watch is not None and not self._watch.done()

    def look(self) -> None:
        """Somebody looks: changes are watched for a while from now on."""
        self._seen = time.monotonic()
        if not self.is_watched:
            self._watch = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        failures = 0
        self._number = 0  # what was known before has become old
        while time.monotonic() - self._seen < LINGER_SECONDS:
            after = 0 if self.silence else self._number
            timeout = CHANGES_WITHIN_SECONDS + ANSWERS_WITHIN_SECONDS
            asked = {"after": after, "within": CHANGES_WITHIN_SECONDS}
            question = partial(self.api.ask, "changes", ChangesView, timeout=timeout, **asked)
            try:
                number = (await apart(question)).number
            except Unavailable as error:
                self._fell_silent(error)
                await asyncio.sleep(PAUSE.pause(failures))
                failures += 1
                continue
            except Refused as error:  # it has too many who wait
                log.warning("cannot watch %s: %s", self.name, error)
                self._ring()
                await asyncio.sleep(PAUSE.pause(failures))
                failures += 1
                continue
            failures = 0
            if number != self._number:
                self._number = number
                self._ring()
            self._heard()

    def _heard(self) -> None:
        if self.silence:
            log.info("%s answers again", self.name)
            self.silence = None
            self._number = -1  # nothing that was known before counts as new
            self._ring()

    def _fell_silent(self, error: Unavailable) -> None:
        why = self.why_silent() or error.message
        if not self.silence:
            log.warning("%s is silent: %s", self.name, why)
            self.silence = Silence(time.time(), why, error.hint)
            self._ring()
        elif self.silence.why != why:
            self.silence = Silence(self.silence.since, why, error.hint)
            self._ring()

    def _ring(self) -> None:
        self.changed.fire()
        if self._also:
            self._also.fire()
