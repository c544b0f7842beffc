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
from typing import Protocol

from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.model import Health, Instance, Service, unix_time
from gitops_mvd.probes import is_monitored

log = logging.getLogger(__name__)

HEALTH = "health"  # the reason for a new pass
FAILURES_UNTIL_UNHEALTHY = 3  # in a row, as Docker's `retries`; one success makes it healthy again
HEALTHY_EVERY_SECONDS = 60.0  # with 30 services that is one try in two seconds
UNHEALTHY_EVERY_SECONDS = 10.0  # after a failure, too
SHORTEST_INTERVAL_SECONDS = 2.0  # whatever a manifest's own `interval` says
EARLY_SHARE = 0.2  # of its pause, by which a try may come early, beside another: half of its cost is to wake up
FIRST_TRY_WITHIN_SECONDS = 5.0  # new instances are spread over this time
# The ways are asked with the try of the probe that is nearest to that: half of what a try costs is to wake up.
PORTS_EVERY_SECONDS = 60.0
ROUTE_EVERY_SECONDS = 170.0  # a request through Kong costs three times as much
WAYS_TRY_PAUSE_SECONDS = 0.5  # between the tries after a deploy
WORKERS = 32  # tries at once: 50 that hang for 2 s each are asked in 4 s, and told in 40 s

Verdict = tuple[Health, str]
Ask = Callable[[Instance, Service], Verdict]
Inspect = Callable[[str], Instance | None]
HEALTHY: Verdict = (Health.HEALTHY, "")


class AskWays(Protocol):
    """Asks the ways to a healthy instance, one try each."""

    def ask_ports(self, instance: Instance, service: Service) -> Verdict: ...
    def ask_route(self, instance: Instance, service: Service) -> Verdict: ...


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
    ports_due: float = 0.0
    route_due: float = 0.0
    is_asked: bool = False  # at this moment

    def stays(self, instance: Instance, service: Service) -> bool:
        return (self.instance.started, self.service.check) == (instance.started, service.check)


class Monitor:
    """Probes instances as they are due, side by side: one that hangs delays no other.

    `ask` is one try of a service's probe, `inspect` returns a container as it is now, and `post` takes the reason for a
    new pass.  `now` is a monotonic clock, `wall` Unix time, both in seconds.  `ways` are asked beside the probe, now
    and then; None asks none.
    """

    def __init__(
        self,
        ask: Ask,
        inspect: Inspect,
        post: Callable[[str], None],
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        ways: AskWays | None = None,
    ) -> None:
        self._ask = ask
        self._ways = ways
        self._inspect = inspect
        self._post = post
        self._now = now
        self._wall = wall
        self._known: Mapping[str, Watched] = {}
        self._asked: list[Watched] = []  # without the paused ones
        self._lock = threading.Lock()
        self._woken = threading.Event()

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Ask until `stop`; `up` is called once it is at work."""
        for watched in self._known.values():
            watched.is_asked = False
        pool = ThreadPoolExecutor(WORKERS, "ask")
        try:
            up()
            while not stop.is_set():
                self._woken.clear()
                pause = self.ask_due(pool.submit)
                if not stop.is_set():
                    self._woken.wait(pause)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def wake(self) -> None:
        """Look again at who is due."""
        self._woken.set()

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

    def ask_ports_of_new(self, there: Iterable[tuple[Instance, Service]]) -> None:
        """Ask the published ports of instances that have just passed their gates, as nobody has asked them yet.

        What does not answer three times in a row is unhealthy from the start.
        """
        for instance, service in there:
            known = self._known.get(instance.name)
            if (
                self._ways
                and not (known and known.stays(instance, service))
                and (why := self._blocked(instance, service))
            ):
                watched = Watched(instance, service, self._now(), (Health.DEGRADED, why), FAILURES_UNTIL_UNHEALTHY)
                watched.healthy_at = self._wall()
                with self._lock:
                    self._known = {**self._known, instance.name: watched}

    def _blocked(self, instance: Instance, service: Service) -> str:
        """Why its ports did not answer in any of the tries, "" if they did."""
        assert self._ways
        for number in range(FAILURES_UNTIL_UNHEALTHY):
            if number:
                time.sleep(WAYS_TRY_PAUSE_SECONDS)
            health, why = self._ways.ask_ports(instance, service)
            if health in (Health.HEALTHY, Health.UNKNOWN):
                return ""
        return why

    def ask_all(self) -> None:
        """Ask every instance once, now.  One failure makes it unhealthy: whoever asks wants to know this moment."""
        with ThreadPoolExecutor(WORKERS, "ask") as pool:
            list(pool.map(lambda watched: self._try(watched, enough=1), self._asked))

    def ask_now(self) -> Mapping[str, Verdict]:
        """Ask every instance once, now; what is found, by instance.  Nothing is remembered of it.

        One failure makes it unhealthy: whoever asks wants to know this moment.
        """
        asked = [Watched(it.instance, it.service, 0.0, healthy_at=it.healthy_at) for it in self._known.values()]
        with ThreadPoolExecutor(WORKERS, "ask") as pool:
            list(pool.map(lambda watched: self._try(watched, enough=1), asked))
        return {watched.instance.name: watched.verdict for watched in asked}

    def ask_due(self, begin: Callable[[Callable[[Watched], None], Watched], object]) -> float | None:
        """`begin` a try of each instance that is due, the longest due first.

        Returns the seconds until the next one is, None without any.  Each whose pause is nearly over is asked beside
        one that is due: half of what a try costs is to wake up.
        """
        with self._lock:
            now, idle = self._now(), [watched for watched in self._asked if not watched.is_asked]
            due = sorted((watched for watched in idle if watched.due <= now), key=_due)
            if due:
                due += sorted((each for each in idle if now < each.due <= now + EARLY_SHARE * _pause(each)), key=_due)
            for watched in due:
                watched.is_asked = True
        for watched in due:
            begin(self._ask_again, watched)
        with self._lock:
            waiting = [watched.due - self._now() for watched in self._asked if not watched.is_asked]
        return max(0.0, min(waiting)) if waiting else None

    def _ask_again(self, watched: Watched) -> None:
        """One try.  One that breaks is logged, and says nothing."""
        before, earliest = watched.verdict[0], watched.due
        pause = UNHEALTHY_EVERY_SECONDS
        try:
            self._try(watched, FAILURES_UNTIL_UNHEALTHY)
            pause = _pause(watched)
        except Exception:
            log.exception("could not ask for the health of instance=%s", watched.instance.name)
        watched.due = max(self._now(), earliest) + pause * random.uniform(0.8, 1.2)
        watched.is_asked = False
        self._woken.set()
        if watched.verdict[0] is not before:
            log.info("health app=%s %s %s %s", watched.instance.app, watched.instance.name, *watched.verdict)
            self._post(HEALTH)

    def _try(self, watched: Watched, enough: int) -> None:
        instance = watched.instance
        health, why = self._ask_all_of(watched)
        if health is Health.HEALTHY:
            watched.verdict, watched.failures = HEALTHY, 0
        elif health is not Health.UNKNOWN and (there := self._still_there(watched, instance)):
            self._count(watched, there, why, enough)

    def _ask_all_of(self, watched: Watched) -> Verdict:
        """One try of the probe and, of the ways, of those that are due."""
        instance, service = watched.instance, watched.service
        if is_monitored(service.check):
            health, why = self._ask(instance, service)
            if health is not Health.HEALTHY:
                return health, why
        now, watched.healthy_at = self._now(), self._wall()
        nearest = now + _pause(watched) / 2
        if self._ways and nearest >= watched.ports_due:
            health, why = self._ways.ask_ports(instance, service)
            if health is not Health.HEALTHY:
                return health, why
            watched.ports_due = now + PORTS_EVERY_SECONDS
        if self._ways and nearest >= watched.route_due:
            health, why = self._ways.ask_route(instance, service)
            if health is not Health.HEALTHY:
                return health, why
            watched.route_due = now + ROUTE_EVERY_SECONDS
        return HEALTHY

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
