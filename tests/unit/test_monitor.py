"""What is seen of instances after their deploy: what makes one ill, well again, and nothing at all."""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import Check, Health, Instance, Service
from gitops_mvd.host.monitor import (
    FIRST_TRY_WITHIN_SECONDS,
    HEALTHY_EVERY_SECONDS,
    SHORTEST_INTERVAL_SECONDS,
    UNHEALTHY_EVERY_SECONDS,
    WORKERS,
    Monitor,
    Watched,
)
from gitops_mvd.probes import is_monitored
from tests.fakes import FakeClock
from tests.threads import kept

WEB = Service("web", "image", check=Check("http", {"path": "/health", "port": 80}, within=60))
NOW = 1_760_000_000.0  # in Unix time
AN_HOUR_AGO = NOW - 3600
ILL = (Health.DEGRADED, "http 503 from /health")
STARTING = (Health.PROGRESSING, "http 503 from /health")
WELL = (Health.HEALTHY, "")
SICK = (Health.PROGRESSING, "http 503 from /health")


BLOCKED = Health.PROGRESSING, "the container is healthy, the way to it is not: 127.0.0.1:80 refuses the connection"


class Way:
    """The port and the route of every instance, and how often they were asked."""

    def __init__(self) -> None:
        self.port = self.route = WELL
        self.ports_asked = self.routes_asked = 0

    def ask_ports(self, instance: Instance, service: Service) -> tuple[Health, str]:
        self.ports_asked += 1
        return self.port

    def ask_route(self, instance: Instance, service: Service) -> tuple[Health, str]:
        self.routes_asked += 1
        return self.route


class World:
    """One clock for all; every instance answers `WELL` until it is told to answer otherwise."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.clock.time = NOW
        self.answers: dict[str, tuple[Health, str]] = {}
        self.there: dict[str, Instance | Unavailable | None] = {}
        self.asked: Counter[str] = Counter()
        self.at: dict[str, list[float]] = {}
        self.posted: list[str] = []
        self.way = Way()
        self.watch = Monitor(self.ask, self.inspect, self.posted.append, self.clock.now, self.clock.now, self.way)

    def ask(self, instance: Instance, service: Service) -> tuple[Health, str]:
        self.asked[instance.name] += 1
        self.at.setdefault(instance.name, []).append(self.clock.now())
        return self.answers.get(instance.name, WELL)

    def inspect(self, name: str) -> Instance | None:
        found = self.there.get(name)
        if isinstance(found, Unavailable):
            raise found
        return found

    def start(self, name: str = "web", at: float = AN_HOUR_AGO, app: str = "shop") -> Instance:
        """A container, as the listing has it: `started` is when it was created."""
        made = Instance(name, app, "web", "10.0.0.2", "running", started=str(int(at)))
        self.there[name] = replace(made, started=datetime.fromtimestamp(at, UTC).isoformat())
        return made

    def ask_due(self) -> float | None:
        """Each try ends before the next one begins."""
        return self.watch.ask_due(lambda ask, watched: ask(watched))

    def run(self, seconds: float) -> None:
        """Let the watch go on for so long."""
        ends = self.clock.now() + seconds
        while (pause := self.ask_due()) is not None and self.clock.now() + pause <= ends:
            self.clock.wait(pause)
        self.clock.time = ends

    def until_asked(self, times: int, name: str = "web") -> None:
        """Go on until that one was asked so many times more."""
        wanted = self.asked[name] + times
        while self.asked[name] < wanted:
            self.clock.wait(self.ask_due() or 0)


@pytest.fixture
def world() -> World:
    return World()


def watched(world: World) -> Instance:
    """One that was seen to be well."""
    web = world.start()
    world.watch.follow([(web, WEB)])
    world.until_asked(1)
    return web


def test_three_failures_in_a_row_make_it_ill_and_one_success_well_again(world: World) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.until_asked(2)
    assert (world.watch.verdict(web), world.posted) == (WELL, [])
    world.until_asked(1)
    assert (world.watch.verdict(web), world.posted) == (ILL, ["health"])
    world.until_asked(5)
    assert world.posted == ["health"]
    world.answers["web"] = WELL
    world.until_asked(1)
    assert (world.watch.verdict(web), world.posted) == (WELL, ["health", "health"])


def test_failures_that_are_not_in_a_row_are_none(world: World) -> None:
    web = watched(world)
    for answer in (SICK, SICK, WELL, SICK, SICK, WELL):
        world.answers["web"] = answer
        world.until_asked(1)
    assert (world.watch.verdict(web), world.posted) == (WELL, [])


def test_could_not_ask_changes_nothing(world: World) -> None:
    web = watched(world)
    for answer in (SICK, SICK, (Health.UNKNOWN, "no route to host")):
        world.answers["web"] = answer
        world.until_asked(1)
    assert world.watch.verdict(web) == WELL
    world.answers["web"] = SICK
    world.until_asked(1)
    assert world.watch.verdict(web) == ILL
    world.answers["web"] = Health.UNKNOWN, "no route to host"
    world.until_asked(9)
    assert world.watch.verdict(web) == ILL


@pytest.mark.parametrize("then", [None, Unavailable("Docker does not answer"), "exited"])
def test_what_fails_because_it_is_not_there_any_more_is_not_ill(world: World, then: str | Unavailable | None) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.there["web"] = replace(web, state=then) if isinstance(then, str) else then
    world.until_asked(9)
    assert (world.watch.verdict(web), world.posted) == (WELL, [])


def test_a_failure_at_an_address_that_it_does_not_have_any_more_is_none(world: World) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.there["web"] = replace(world.inspect("web") or web, ip="10.0.0.3")
    world.until_asked(3)
    assert world.watch.verdict(web) == WELL
    world.until_asked(1)
    assert world.watch.verdict(web) == ILL


def test_the_words_are_those_in_which_it_fell_ill(world: World) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.until_asked(3)
    world.answers["web"] = Health.PROGRESSING, "http /health does not answer within 2 s"
    world.until_asked(3)
    assert world.watch.verdict(web) == ILL


# ---- a new start ---------------------------------------------------------------------------------------------------


def test_what_was_seen_of_an_older_container_says_nothing_of_a_new_one(world: World) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.until_asked(3)
    assert world.watch.verdict(web) == ILL
    new = world.start(at=world.clock.now())
    assert world.watch.verdict(new) == WELL
    world.watch.follow([(new, WEB)])
    assert world.watch.verdict(new) == WELL
    world.watch.follow([])
    world.watch.follow([(new, WEB)])
    assert world.watch.verdict(new) == WELL


def test_a_new_start_of_the_same_container_counts_anew(world: World) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.until_asked(3)
    world.there["web"] = replace(web, started=datetime.fromtimestamp(world.clock.now(), UTC).isoformat())
    world.until_asked(1)
    assert world.watch.verdict(web) == STARTING


def test_what_starts_is_given_the_time_that_a_deploy_gives_it(world: World) -> None:
    slow = replace(WEB, check=replace(WEB.check, start_period=100))
    web = world.start(at=world.clock.now())
    world.watch.follow([(web, slow)])
    world.answers["web"] = SICK
    world.run(150)
    assert (world.watch.verdict(web), world.posted) == (STARTING, ["health"])
    world.run(10 + 4 * UNHEALTHY_EVERY_SECONDS)
    assert world.watch.verdict(web) == ILL


def test_what_was_well_since_its_start_has_no_time_left(world: World) -> None:
    web = world.start(at=world.clock.now() - 1)
    world.watch.follow([(web, WEB)])
    world.until_asked(1)
    world.answers["web"] = SICK
    world.until_asked(3)
    assert world.watch.verdict(web) == ILL


def test_what_is_found_sick_at_first_is_not_called_well_until_it_is_known(world: World) -> None:
    """As after a restart of the daemon: a commit that was red must not turn green meanwhile."""
    web = world.start()
    world.watch.follow([(web, WEB)])
    world.answers["web"] = SICK
    world.run(FIRST_TRY_WITHIN_SECONDS)
    assert world.watch.verdict(web) == STARTING
    world.run(3 * UNHEALTHY_EVERY_SECONDS)
    assert world.watch.verdict(web) == ILL


def test_another_check_of_the_same_container_counts_anew(world: World) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.until_asked(3)
    world.watch.follow([(web, replace(WEB, check=replace(WEB.check, spec={"path": "/", "port": 80})))])
    assert world.watch.verdict(web) == WELL


# ---- whom, and how often -------------------------------------------------------------------------------------------


def test_what_was_known_stays_known_where_the_same_is_followed_again(world: World) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.until_asked(2)
    world.watch.follow([(web, WEB), (world.start("other"), WEB)])
    world.until_asked(1)
    assert world.watch.verdict(web) == ILL


def test_an_app_that_is_being_changed_is_left_alone_and_not_forgotten(world: World) -> None:
    web = watched(world)
    world.answers["web"] = SICK
    world.until_asked(3)
    world.watch.pause("shop")
    before = world.asked["web"]
    world.run(10 * HEALTHY_EVERY_SECONDS)
    assert world.asked["web"] == before
    assert world.watch.verdict(web) == ILL


def test_at_rest_nobody_is_asked(world: World) -> None:
    web = watched(world)
    world.watch.pause_all()
    assert world.ask_due() is None
    world.watch.follow([(web, WEB)])
    world.until_asked(1)


def test_what_is_gone_is_asked_no_more(world: World) -> None:
    watched(world)
    world.watch.follow([])
    assert world.ask_due() is None


def test_all_are_asked_about_once_a_minute_one_after_the_other(world: World) -> None:
    instances = [world.start(f"web-{n}") for n in range(50)]
    world.watch.follow([(instance, WEB) for instance in instances])
    world.run(FIRST_TRY_WITHIN_SECONDS)
    assert set(world.asked.values()) == {1}
    world.run(10 * HEALTHY_EVERY_SECONDS)
    assert all(8 <= times - 1 <= 14 for times in world.asked.values())
    late = sorted(at for asked in world.at.values() for at in asked if at > NOW + 5 * HEALTHY_EVERY_SECONDS)
    in_ten_seconds = Counter(int(at // 10) for at in late)
    assert max(in_ten_seconds.values()) <= 25, "and not all at once: 50 a minute are 8 in ten seconds"


@pytest.mark.parametrize(
    ("own", "pause"), [(0.0, HEALTHY_EVERY_SECONDS), (120.0, 120.0), (5.0, 5.0), (0.1, SHORTEST_INTERVAL_SECONDS)]
)
def test_an_interval_of_its_own_counts(world: World, own: float, pause: float) -> None:
    service = replace(WEB, check=replace(WEB.check, interval=own))
    world.watch.follow([(world.start(), service)])
    world.run(FIRST_TRY_WITHIN_SECONDS + 10 * pause)
    assert 8 <= world.asked["web"] - 1 <= 13


def test_what_failed_is_asked_again_sooner(world: World) -> None:
    watched(world)
    world.answers["web"] = SICK
    world.until_asked(1)
    before = world.clock.now()
    world.until_asked(2)
    assert world.clock.now() - before <= 2.4 * UNHEALTHY_EVERY_SECONDS


def test_who_asks_all_at_once_needs_one_failure_only(world: World) -> None:
    web, other = world.start(), world.start("other")
    world.watch.follow([(web, WEB), (other, WEB)])
    world.answers["web"] = SICK
    world.watch.ask_all()
    assert (world.watch.verdict(web), world.watch.verdict(other)) == (ILL, WELL)
    assert world.posted == []


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        (Check("http"), True),
        (Check("exec"), True),
        (Check("log", {"pattern": "ready"}), False),
        (Check("log", {"pattern": "polled", "every": 60.0}), True),
        (Check("running"), False),
        (Check("docker"), False),
        (Check("completed"), False),
        (Check("scheduled"), False),
    ],
)
def test_what_a_look_shows_anyway_is_not_asked_for(check: Check, expected: bool) -> None:
    assert is_monitored(check) is expected


def test_the_thread_asks_by_itself_and_a_mistake_does_not_end_it() -> None:
    asked = threading.Event()

    def ask(instance: Instance, service: Service) -> tuple[Health, str]:
        asked.set()
        raise ZeroDivisionError

    always_due = itertools.count(step=2 * HEALTHY_EVERY_SECONDS).__next__
    watch = Monitor(ask, lambda name: None, lambda reason: None, always_due)
    with kept(watch.run, watch.wake):
        for started in "12":
            asked.clear()
            watch.follow([(Instance("web", "shop", "web", "10.0.0.2", "running", started=started), WEB)])
            assert asked.wait(5)


# ---- side by side ----------------------------------------------------------------------------------------------------


class SideBySide:
    """Threads of which so many work at once, each try of which takes its time, by the clock of the world."""

    def __init__(self, world: World, workers: int, takes: Callable[[str], float]) -> None:
        self.world, self.takes = world, takes
        self.free = [world.clock.now()] * workers
        self.number = itertools.count()
        self.ends: list[tuple[float, int, Callable[[Watched], None], Watched]] = []

    def begin(self, ask: Callable[[Watched], None], watched: Watched) -> None:
        begins = max(heapq.heappop(self.free), self.world.clock.now())
        ends = begins + self.takes(watched.instance.name)
        heapq.heappush(self.free, ends)
        heapq.heappush(self.ends, (ends, next(self.number), ask, watched))

    def run(self, seconds: float) -> None:
        over = self.world.clock.now() + seconds
        while self.world.clock.now() < over:
            pause = self.world.watch.ask_due(self.begin)
            due = self.world.clock.now() + (pause if pause is not None else seconds)
            if self.ends and self.ends[0][0] <= due:
                ends, _, ask, watched = heapq.heappop(self.ends)
                self.world.clock.time = max(self.world.clock.time, ends)
                ask(watched)
            else:
                self.world.clock.time = min(due, over)


def test_of_a_hundred_of_which_fifty_hang_all_are_told_within_a_minute(world: World) -> None:
    instances = [world.start(f"web-{n}", app=f"app-{n}") for n in range(100)]
    for n in range(0, 100, 2):
        world.answers[f"web-{n}"] = (Health.PROGRESSING, "http /health does not answer within 2 s")
    world.watch.follow([(instance, WEB) for instance in instances])
    pool = SideBySide(world, WORKERS, lambda name: 2.0 if name in world.answers else 0.01)
    pool.run(60)
    unhealthy = [n for n, instance in enumerate(instances) if world.watch.verdict(instance)[0] is Health.DEGRADED]
    assert unhealthy == list(range(0, 100, 2))


def test_one_that_hangs_is_asked_once_and_holds_up_no_other(world: World) -> None:
    world.watch.follow([(world.start("hangs"), WEB), (world.start("web"), WEB)])
    begun: list[str] = []

    def begin(ask: Callable[[Watched], None], watched: Watched) -> None:
        begun.append(watched.instance.name)
        if watched.instance.name != "hangs":
            ask(watched)

    for _ in range(200):
        world.clock.wait(world.watch.ask_due(begin) or 1.0)
    assert begun.count("hangs") == 1
    assert begun.count("web") > 10


def test_threads_are_not_left_behind() -> None:
    before, hung, asked = threading.active_count(), threading.Event(), threading.Event()

    def ask(instance: Instance, service: Service) -> tuple[Health, str]:
        asked.set()
        hung.wait(10)
        return WELL

    watch = Monitor(ask, lambda name: None, lambda reason: None, itertools.count(step=60).__next__)
    with kept(watch.run, watch.wake):
        watch.follow([(Instance(f"web-{n}", "shop", "web", "10.0.0.2", "running"), WEB) for n in range(100)])
        assert asked.wait(5)
    hung.set()
    for thread in threading.enumerate():
        if thread.name.startswith("ask"):
            thread.join(10)
    assert threading.active_count() <= before


# ---- the ways --------------------------------------------------------------------------------------------------------


def test_a_route_that_leads_nowhere_is_found_too(world: World) -> None:
    web = watched(world)
    world.way.route = Health.PROGRESSING, "the container is healthy, the way to it is not: Kong answers GET / with 502"
    world.run(4 * 60)
    assert world.watch.verdict(web) == (Health.DEGRADED, world.way.route[1])


def test_a_way_that_is_blocked_three_times_in_a_row_is_unhealthy_and_one_that_leads_there_again_is_not(
    world: World,
) -> None:
    web = watched(world)
    world.run(120)
    world.way.port = BLOCKED
    world.run(60 + 3 * 15)
    assert world.watch.verdict(web) == (Health.DEGRADED, BLOCKED[1])
    world.way.port = WELL
    world.run(15)
    assert (world.watch.verdict(web), world.posted) == (WELL, ["health", "health"])


def test_a_port_is_asked_about_once_a_minute_and_a_route_every_three_however_often_the_probe_is(world: World) -> None:
    often = replace(WEB, check=replace(WEB.check, interval=2.0))
    world.watch.follow([(world.start(), often)])
    world.run(600)
    assert world.asked["web"] > 200
    assert 8 <= world.way.ports_asked <= 12
    assert 3 <= world.way.routes_asked <= 4


def test_no_way_to_what_is_unhealthy_itself_is_asked(world: World) -> None:
    watched(world)
    asked, world.answers["web"] = world.way.ports_asked, SICK
    world.run(600)
    assert world.way.ports_asked == asked


def test_a_way_that_cannot_be_judged_changes_nothing(world: World) -> None:
    web = watched(world)
    world.way.port = Health.UNKNOWN, "docker.service is activating"
    world.run(600)
    assert (world.watch.verdict(web), world.posted) == (WELL, [])


def test_the_way_to_what_has_no_probe_to_ask_is_asked_all_the_same(world: World) -> None:
    plain = Service("web", "image", check=Check("running", hold=5.0, within=60))
    web = world.start()
    world.watch.follow([(web, plain)])
    world.way.port = BLOCKED
    world.run(120)
    assert world.watch.verdict(web) == (Health.DEGRADED, BLOCKED[1])
    assert world.asked["web"] == 0


def test_a_port_that_never_answered_is_told_with_the_deploy_and_stays_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gitops_mvd.host.monitor.WAYS_TRY_PAUSE_SECONDS", 0)
    web = world.start()
    world.way.port = BLOCKED
    world.watch.ask_ports_of_new([(web, WEB)])
    assert world.watch.verdict(web) == (Health.DEGRADED, BLOCKED[1])
    world.watch.follow([(web, WEB)])
    world.until_asked(1)
    assert world.watch.verdict(web) == (Health.DEGRADED, BLOCKED[1])
    world.way.port = WELL
    world.until_asked(1)
    assert (world.watch.verdict(web), world.posted) == (WELL, ["health"])


def test_ports_that_answer_are_asked_once_with_the_deploy(world: World) -> None:
    web = world.start()
    world.watch.ask_ports_of_new([(web, WEB)])
    assert (world.watch.verdict(web), world.way.ports_asked) == (WELL, 1)
