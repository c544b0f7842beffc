"""The watch: while the daemon runs, what has passed its gates is asked now and then whether it is still well.

What it finds is health, and nothing else: it never has anything started, stopped or rolled back, it only says `look
again`, so that whoever is told of the health hears of the change.  It remembers by container: what was seen of an older
one says nothing of the one that took its place.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType

from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.model import Health, Instance, Service, unix_time

log = logging.getLogger(__name__)

HEALTH = "health"  # the reason to look again
FAILURES = 3  # in a row make it ill, as Docker's `retries`; one success makes it well again
EVERY = 60.0  # seconds between two tries of what is well: with 30 services that is a try in two seconds
AGAIN = 10.0  # seconds until what failed, or is ill, is tried again
SHORTEST = 2.0  # seconds: the least that a manifest's own `interval` counts
EARLY = 0.2  # share of its pause by which one may be early, to go along with another: to wake up is half of the cost
FIRST = 5.0  # seconds in which all that is new is tried for the first time
AT_ONCE = 8  # threads for who asks everything at once

Ask = Callable[[Instance, Service], tuple[Health, str]]
Inspect = Callable[[str], Instance | None]
Verdict = tuple[Health, str]
WELL: Verdict = (Health.HEALTHY, "")


@dataclass(eq=False)
class Case:
    """One instance that is watched; `failures` counts those in a row since it was `started`."""

    instance: Instance
    service: Service
    due: float
    verdict: Verdict = WELL
    failures: int = 0
    started: str = ""
    well_at: float = 0.0  # Unix time

    def stays(self, instance: Instance, service: Service) -> bool:
        return (self.instance.started, self.service.check) == (instance.started, service.check)


class Watch:
    """Asks one instance after the other, in one thread, as long as it is entered.

    `ask` is one try of a service's probe, `inspect` a look at a container as it is now, and `post` takes a reason to
    look again.  `now` is a monotonic clock, `wall` that of the calendar, both in seconds.
    """

    def __init__(
        self,
        ask: Ask,
        inspect: Inspect,
        post: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._inspect = inspect
        self._post = post
        self._now = now
        self._wall = wall
        self._cases: Mapping[str, Case] = {}
        self._asked: list[Case] = []  # those that are not left alone
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._is_awake = False
        self._ended = False

    def __enter__(self) -> None:
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._woken.set()
        self._thread.join(5)

    # ---- whom --------------------------------------------------------------------------------------------------------

    def follow(self, there: Iterable[tuple[Instance, Service]]) -> None:
        """From now on watch these, and no others; what is known of those that are still the same counts on."""
        with self._lock:
            now, cases = self._now(), {}
            for instance, service in there:
                case = self._cases.get(instance.name)
                if case and case.stays(instance, service):
                    case.instance = instance
                else:
                    case = Case(instance, service, now + FIRST * random.random())
                cases[instance.name] = case
            self._cases = cases
            self._asked = list(cases.values())
        self._woken.set()

    def leave(self, app: str) -> None:
        """Ask no instance of that app until it is followed again: it is being changed.  What is known stays known."""
        with self._lock:
            self._asked = [case for case in self._asked if case.instance.app != app]

    def rest(self) -> None:
        """Ask nobody until somebody is followed again."""
        with self._lock:
            self._asked = []

    # ---- how they are ------------------------------------------------------------------------------------------------

    def verdict(self, instance: Instance) -> Verdict:
        """How a running instance is by its probe, and why: healthy unless it was seen not to be.

        DEGRADED: ill.  PROGRESSING: it was not well since its start, and still has time to become so.
        """
        case = self._cases.get(instance.name)
        return case.verdict if case and case.instance.started == instance.started else WELL

    def ask_all(self) -> None:
        """Ask everybody once, now; for who wants to know how it is at this moment, one failure is enough."""
        with ThreadPoolExecutor(AT_ONCE, "ask") as pool:
            list(pool.map(lambda case: self._try(case, enough=1), self._asked))

    def _run(self) -> None:
        while not self._ended:
            self._woken.clear()
            try:
                pause = self.ask_next()
            except Exception:
                log.exception("could not ask for the health of an instance")
                pause = AGAIN
            if pause is None or pause > 0:
                self._woken.wait(pause)

    def ask_next(self) -> float | None:
        """Ask the one that is due first, if it is; in how many seconds the next one will be, None where nobody is."""
        with self._lock:
            case = min(self._asked, key=_due, default=None)
            if case is None:
                return None
            pause = case.due - self._now()
            if pause > (EARLY * _pause(case) if self._is_awake else 0):
                self._is_awake = False
                return pause
            self._is_awake = True
            earliest, case.due = case.due, self._now() + AGAIN  # whatever comes of it
        before = case.verdict[0]
        self._try(case, FAILURES)
        case.due = max(self._now(), earliest) + _pause(case) * random.uniform(0.8, 1.2)
        if case.verdict[0] is not before:
            log.info("health app=%s %s %s %s", case.instance.app, case.instance.name, *case.verdict)
            self._post(HEALTH)
        return 0

    def _try(self, case: Case, enough: int) -> None:
        instance = case.instance
        health, why = self._ask(instance, case.service)
        if health is Health.HEALTHY:
            case.verdict, case.failures, case.well_at = WELL, 0, self._wall()
        elif health is not Health.UNKNOWN and (there := self._still_there(case, instance)):
            self._count(case, there, why, enough)

    def _still_there(self, case: Case, asked: Instance) -> Instance | None:
        """The instance as it is now, None where that failure says nothing of it."""
        with suppress(MvdError):
            there = self._inspect(asked.name)
            if there and there.state == "running":
                if there.ip == asked.ip:
                    return there
                case.instance = replace(asked, ip=there.ip)
        return None

    def _count(self, case: Case, there: Instance, why: str, enough: int) -> None:
        if there.started != case.started:
            case.started, case.failures = there.started, 0
        began, check = unix_time(there.started), case.service.check
        was_well = case.well_at > began
        if was_well or self._wall() > began + check.start_period + check.within:
            case.failures += 1
        ill = case.failures >= enough
        if ill or not was_well:
            health = Health.DEGRADED if ill else Health.PROGRESSING
            if case.verdict[0] is not health:  # the words stay those in which it began, or each try would tell others
                case.verdict = health, why


def _due(case: Case) -> float:
    return case.due


def _pause(case: Case) -> float:
    if own := case.service.check.interval:
        return max(own, SHORTEST)
    return AGAIN if case.failures or case.verdict != WELL else EVERY
