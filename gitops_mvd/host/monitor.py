"""The monitor: while the daemon runs, instances that have passed their gates are probed again now and then.

It finds health and nothing else: it never starts, stops or rolls back anything.  It only asks for a new pass when a
health has changed, so that the statuses follow.  It remembers by container: what was seen of an older container says
nothing about the one that replaced it.
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

HEALTH = "health"  # the reason for a new pass
FAILURES_UNTIL_UNHEALTHY = 3  # in a row, as Docker's `retries`; one success makes it healthy again
HEALTHY_EVERY_SECONDS = 60.0  # with 30 services that is one try in two seconds
UNHEALTHY_EVERY_SECONDS = 10.0  # after a failure, too
SHORTEST_INTERVAL_SECONDS = 2.0  # whatever a manifest's own `interval` says
EARLY_SHARE = 0.2  # of its pause, by which a try may come early, beside another: half of its cost is to wake up
FIRST_TRY_WITHIN_SECONDS = 5.0  # new instances are spread over this time
WORKERS = 8  # threads of `ask_all`

Ask = Callable[[Instance, Service], tuple[Health, str]]
Inspect = Callable[[str], Instance | None]
Verdict = tuple[Health, str]
HEALTHY: Verdict = (Health.HEALTHY, "")


@dataclass(eq=False)
class Watched:
    """One monitored instance; `failures` counts those in a row since it was `started`."""

    instance: Instance
    service: Service
    due: float
    verdict: Verdict = HEALTHY
    failures: int = 0
    started: str = ""
    healthy_at: float = 0.0  # Unix time

    def stays(self, instance: Instance, service: Service) -> bool:
        return (self.instance.started, self.service.check) == (instance.started, service.check)


class Monitor:
    """Probes one instance after the other in a thread of its own, from `__enter__` to `__exit__`.

    `ask` is one try of a service's probe, `inspect` returns a container as it is now, and `post` takes the reason for a
    new pass.  `now` is a monotonic clock, `wall` Unix time, both in seconds.
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
        self._known: Mapping[str, Watched] = {}
        self._asked: list[Watched] = []  # without the paused ones
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._is_awake = False
        self._ended = False

    def __enter__(self) -> None:
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._woken.set()
        self._thread.join(5)

    # ---- whom --------------------------------------------------------------------------------------------------------

    def follow(self, there: Iterable[tuple[Instance, Service]]) -> None:
        """Monitor these from now on, and no others.  What is known of an instance stays if it is still the same."""
        with self._lock:
            now, known = self._now(), {}
            for instance, service in there:
                watched = self._known.get(instance.name)
                if watched and watched.stays(instance, service):
                    watched.instance = instance
                else:
                    watched = Watched(instance, service, now + FIRST_TRY_WITHIN_SECONDS * random.random())
                known[instance.name] = watched
            self._known = known
            self._asked = list(known.values())
        self._woken.set()

    def pause(self, app: str) -> None:
        """Ask no instance of that app until the next `follow`: it is being changed.  What is known stays known."""
        with self._lock:
            self._asked = [watched for watched in self._asked if watched.instance.app != app]

    def pause_all(self) -> None:
        """Ask no instance until the next `follow`."""
        with self._lock:
            self._asked = []

    # ---- how they are ------------------------------------------------------------------------------------------------

    def verdict(self, instance: Instance) -> Verdict:
        """The health of a running instance by its probe, and why: healthy unless a try has failed.

        PROGRESSING: it was not healthy since its start, and still has time to become so.  DEGRADED: it is unhealthy.
        """
        watched = self._known.get(instance.name)
        return watched.verdict if watched and watched.instance.started == instance.started else HEALTHY

    def ask_all(self) -> None:
        """Ask every instance once, now.  One failure makes it unhealthy: whoever asks wants to know this moment."""
        with ThreadPoolExecutor(WORKERS, "ask") as pool:
            list(pool.map(lambda watched: self._try(watched, enough=1), self._asked))

    def _run(self) -> None:
        while not self._ended:
            self._woken.clear()
            try:
                pause = self.ask_next()
            except Exception:
                log.exception("could not ask for the health of an instance")
                pause = UNHEALTHY_EVERY_SECONDS
            if pause is None or pause > 0:
                self._woken.wait(pause)

    def ask_next(self) -> float | None:
        """Ask the instance that is due first, if it is due.  Returns the seconds until the next, None without any."""
        with self._lock:
            watched = min(self._asked, key=_due, default=None)
            if watched is None:
                return None
            pause = watched.due - self._now()
            if pause > (EARLY_SHARE * _pause(watched) if self._is_awake else 0):
                self._is_awake = False
                return pause
            self._is_awake = True
            earliest, watched.due = watched.due, self._now() + UNHEALTHY_EVERY_SECONDS  # whatever comes of it
        before = watched.verdict[0]
        self._try(watched, FAILURES_UNTIL_UNHEALTHY)
        watched.due = max(self._now(), earliest) + _pause(watched) * random.uniform(0.8, 1.2)
        if watched.verdict[0] is not before:
            log.info("health app=%s %s %s %s", watched.instance.app, watched.instance.name, *watched.verdict)
            self._post(HEALTH)
        return 0

    def _try(self, watched: Watched, enough: int) -> None:
        instance = watched.instance
        health, why = self._ask(instance, watched.service)
        if health is Health.HEALTHY:
            watched.verdict, watched.failures, watched.healthy_at = HEALTHY, 0, self._wall()
        elif health is not Health.UNKNOWN and (there := self._still_there(watched, instance)):
            self._count(watched, there, why, enough)

    def _still_there(self, watched: Watched, asked: Instance) -> Instance | None:
        """The instance as it is now; None if the failure says nothing about it."""
        with suppress(MvdError):
            there = self._inspect(asked.name)
            if there and there.state == "running":
                if there.ip == asked.ip:
                    return there
                watched.instance = replace(asked, ip=there.ip)
        return None

    def _count(self, watched: Watched, there: Instance, why: str, enough: int) -> None:
        if there.started != watched.started:
            watched.started, watched.failures = there.started, 0
        began, check = unix_time(there.started), watched.service.check
        was_healthy = watched.healthy_at > began
        if was_healthy or self._wall() > began + check.start_period + check.within:
            watched.failures += 1
        unhealthy = watched.failures >= enough
        if unhealthy or not was_healthy:
            health = Health.DEGRADED if unhealthy else Health.PROGRESSING
            if watched.verdict[0] is not health:  # the first reason stays, or each try would tell another
                watched.verdict = health, why


def _due(watched: Watched) -> float:
    return watched.due


def _pause(watched: Watched) -> float:
    if own := watched.service.check.interval:
        return max(own, SHORTEST_INTERVAL_SECONDS)
    return UNHEALTHY_EVERY_SECONDS if watched.failures or watched.verdict != HEALTHY else HEALTHY_EVERY_SECONDS
