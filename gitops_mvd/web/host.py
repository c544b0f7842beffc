"""One server as the page knows it: what its daemon last answered, and since when it is silent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from gitops_mvd.api.client import ANSWERS_WITHIN_SECONDS, LONG_ANSWER_SECONDS, Api, Refused
from gitops_mvd.api.endpoints import ENDPOINTS
from gitops_mvd.api.views import ChangesView
from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.web.signal import Signal, apart

log = logging.getLogger(__name__)
T = TypeVar("T")

CHANGES_WITHIN_SECONDS = 15.0  # of one question for changes
NEW_SECONDS = 1.0  # for which an answer is used again while nobody watches for changes
LONG_NEW_SECONDS = 10.0  # the same of an answer that costs the server a process
SILENT_WITHIN_SECONDS = 1.0  # that a page waits for a daemon that was silent a moment ago
LINGER_SECONDS = 60.0  # for which changes are still watched after the last browser has gone
PAUSE = Backoff(1.0, 10.0)
MOST_ANSWERS = 64  # that are remembered
MOST_QUESTIONS = {"page": 6, "program": 4, "long": 2}  # at once: none waits behind those of another kind
LONG = frozenset(one.name for one in ENDPOINTS if one.is_slow)


@dataclass(frozen=True, slots=True)
class Silence:
    """Since when a daemon does not answer, in seconds since 1970, and why."""

    since: float
    why: str
    hint: str = ""


@dataclass(slots=True)
class _Answer:
    value: object
    round: int
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
        self._number = 0  # of the daemon's last change, 0 while it is not known
        self._round = 0  # grows with each ring: what was asked in an earlier one is old
        self._answers: OrderedDict[object, _Answer] = OrderedDict()
        self._asked: dict[object, asyncio.Task[object]] = {}
        self._turns = {kind: asyncio.Semaphore(most) for kind, most in MOST_QUESTIONS.items()}
        self._watch: asyncio.Task[None] | None = None
        self._seen = time.monotonic() - LINGER_SECONDS

    # ---- questions ---------------------------------------------------------------------------------------------------

    async def ask(self, name: str, of: type[T], /, **parameters: Any) -> T:
        """The answer of an endpoint that only reads.  Of a silent daemon, it is the last one, and `silence` is set.

        Raises Unavailable if there is none, and Refused.
        """
        key = _key(name, parameters)
        known = self._answers.get(key)
        if known and self._is_new(name, known):
            self._answers.move_to_end(key)
            return cast(T, known.value)
        question = key, self._round  # who asks after a change is not told what was so before it
        if not (task := self._asked.get(question)):
            task = asyncio.create_task(self._remembered(key, name, of, parameters))
            self._asked[question] = task
            task.add_done_callback(partial(self._answered, question))
        try:
            async with asyncio.timeout(SILENT_WITHIN_SECONDS if self.silence and name not in LONG else None):
                return cast(T, await asyncio.shield(task))
        except (Unavailable, TimeoutError) as error:
            if known and self.silence:
                return cast(T, known.value)
            if isinstance(error, Unavailable):
                raise
            raise self._unavailable() from None

    async def ask_now(self, name: str, of: type[T], /, **parameters: Any) -> T:
        """The same for a program: neither remembered nor shared with anybody.  Raises Unavailable and Refused."""
        return await self._ask("program", name, of, parameters)

    def last(self, name: str, of: type[T], /, **parameters: Any) -> T | None:
        """The last answer to a question, however old, None if there was none."""
        known = self._answers.get(_key(name, parameters))
        return cast(T, known.value) if known else None

    async def act(self, name: str, of: type[T], /, **parameters: Any) -> T:
        """Have the daemon do something; whatever is known of it is old then.  Raises Unavailable and Refused."""
        async with self._turn("page", ANSWERS_WITHIN_SECONDS):
            try:
                return await apart(partial(self.api.ask, name, of, **parameters))
            finally:
                self._ring()

    def _is_new(self, name: str, answer: _Answer) -> bool:
        age = time.monotonic() - answer.at
        if name in LONG:
            return age < LONG_NEW_SECONDS
        if self.is_watched and not self.silence:
            return answer.round == self._round
        return age < NEW_SECONDS

    async def _remembered(self, key: object, name: str, of: type[T], parameters: dict[str, Any]) -> T:
        began = self._round
        value = await self._ask("page", name, of, parameters)
        if (known := self._answers.get(key)) and known.round > began:
            return value  # somebody who asked later was answered sooner
        self._answers[key] = _Answer(value, began, time.monotonic())
        self._answers.move_to_end(key)
        while len(self._answers) > MOST_ANSWERS:
            self._answers.popitem(last=False)
        return value

    def _answered(self, question: object, task: asyncio.Task[object]) -> None:
        self._asked.pop(question, None)
        if not task.cancelled():
            task.exception()  # whoever asked may not wait for it any more

    async def _ask(self, kind: str, name: str, of: type[T], parameters: dict[str, Any]) -> T:
        is_long = name in LONG or bool(parameters.get("ask"))
        timeout = LONG_ANSWER_SECONDS if is_long else ANSWERS_WITHIN_SECONDS
        async with self._turn("long" if is_long else kind, timeout):
            try:
                value = await apart(partial(self.api.ask, name, of, timeout=timeout, **parameters))
            except Unavailable as error:
                if not is_long:
                    self._fell_silent(error)
                raise
        self._heard()
        return value

    @asynccontextmanager
    async def _turn(self, kind: str, within: float) -> AsyncIterator[None]:
        """Inside, one of the questions of that kind that may be asked at once is.  Raises Unavailable."""
        turns = self._turns[kind]
        try:
            async with asyncio.timeout(within):
                await turns.acquire()
        except TimeoutError:
            raise Unavailable(f"too many questions wait for the daemon of {self.name}", "try again") from None
        try:
            yield
        finally:
            turns.release()

    # ---- changes -----------------------------------------------------------------------------------------------------

    @property
    def is_watched(self) -> bool:
        return self._watch is not None and not self._watch.done()

    def look(self) -> None:
        """Somebody looks: changes are watched for a while from now on."""
        self._seen = time.monotonic()
        if not self.is_watched:
            self._watch = asyncio.create_task(self._follow())

    async def next_change(self, after: int, within: float) -> int:
        """The number of the last change as soon as it is another one than `after`, or after that many seconds.

        Raises Unavailable if the daemon is silent.
        """
        self.look()
        with suppress(TimeoutError):
            async with asyncio.timeout(within if self._number else max(within, ANSWERS_WITHIN_SECONDS)):
                while self._number in (0, after) and not self.silence:
                    await self.changed.wait(CHANGES_WITHIN_SECONDS)
        if self.silence or not self._number:
            raise self._unavailable()
        return self._number

    async def _follow(self) -> None:
        failures = 0
        self._number = 0
        self._round += 1  # what was known before has become old
        while time.monotonic() - self._seen < LINGER_SECONDS:
            after, within = (0, 0.0) if self.silence else (self._number, CHANGES_WITHIN_SECONDS)
            timeout = within + ANSWERS_WITHIN_SECONDS
            question = partial(self.api.ask, "changes", ChangesView, timeout=timeout, after=after, within=within)
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
            self._heard()
            if number != self._number:
                self._number = number
                self._ring()

    def _heard(self) -> None:
        if self.silence:
            log.info("%s answers again", self.name)
            self.silence = None
            self._number = 0  # it may have begun to count anew
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

    def _unavailable(self) -> Unavailable:
        if self.silence:
            return Unavailable(self.silence.why, self.silence.hint)
        return Unavailable(f"the daemon of {self.name} does not answer in time")

    def _ring(self) -> None:
        self._round += 1
        self.changed.fire()
        if self._also:
            self._also.fire()


def _key(name: str, parameters: dict[str, Any]) -> object:
    return name, tuple(sorted(parameters.items()))
