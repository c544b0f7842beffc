"""Threads that are started again, and the pings of systemd's watchdog, by a clock that is moved by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import ThreadState
from gitops_mvd.daemon.pulse import LOOP_SECONDS, Pulse, _pause
from gitops_mvd.daemon.supervisor import BACKOFF, Supervisor

PORT = "cannot listen at 127.0.0.1:9180: address already in use"


class World:
    """One thread, which ends as `ends` says, try by try, and is stopped after the last."""

    def __init__(self, *ends: BaseException | float | None) -> None:
        self.ends = list(ends)
        self.now = 1000.0
        self.pauses: list[float] = []
        self.saved: list[list[ThreadState]] = []
        self.is_full = False
        self.supervisor = Supervisor(self.save, lambda: self.now, self.pause)

    def save(self, states: Iterable[ThreadState]) -> None:
        if self.is_full:
            raise Unavailable("no space left on device")
        self.saved.append(list(states))

    def pause(self, stop: threading.Event, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        end = self.ends.pop(0)
        if not self.ends:
            stop.set()
        if isinstance(end, Unavailable):  # it could not begin
            raise end
        up()
        if isinstance(end, float):
            self.now += end
            raise Unavailable("Docker ended the stream of its events")
        if end:
            raise end

    def go(self) -> list[ThreadState]:
        self.supervisor.supervise("webhooks", self.run, threading.Event())
        return self.saved[-1] if self.saved else []


def test_one_that_never_ends_is_no_news() -> None:
    assert World(None).go() == []


def test_one_that_cannot_begin_is_down_with_its_cause_since_the_first_time() -> None:
    world = World(*[Unavailable(PORT)] * 4)
    [state] = world.go()
    assert (state.is_up, state.since, state.cause) == (False, 1000.0, PORT)
    assert len(world.saved) == 1, "nothing has changed since"


def test_one_that_begins_again_says_since_when_and_why_it_had_ended() -> None:
    world = World(Unavailable(PORT), Unavailable(PORT), None)
    [state] = world.go()
    assert (state.is_up, state.since, state.cause, state.restarts) == (True, world.now, PORT, 2)
    assert state.is_news(state.since + 3599)
    assert not state.is_news(state.since + 3601)
    assert ThreadState("webhooks", False, 0.0, PORT).is_news(1e9), "for as long as it is down"


@pytest.mark.parametrize("error", [KeyError("Actor"), MemoryError(), RecursionError(), SystemExit(1), GeneratorExit()])
def test_whatever_ends_it_is_told_by_its_kind_alone(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    [state] = World(error, None).go()
    assert state.cause == f"internal error, see the log of gitops-mvd: {type(error).__name__}"
    assert "Traceback" in caplog.text


def test_one_that_ends_without_a_word_is_started_again() -> None:
    [state] = World(None, None).go()
    assert (state.is_up, state.cause) == (True, "it ended by itself")


def test_it_is_tried_later_and_later_and_soon_again_once_it_lasted() -> None:
    world = World(*[Unavailable(PORT)] * 9, 3600.0, None)
    world.go()
    assert world.pauses[0] < 4 < 20 < min(world.pauses[6:9])
    assert max(world.pauses) <= 1.2 * BACKOFF.longest
    assert world.pauses[9] < 2


def test_a_history_that_cannot_be_written_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = World(Unavailable(PORT), None)
    world.is_full = True
    world.go()
    assert "no space left" in caplog.text
    assert world.ends == []


def test_a_real_thread_ends_even_if_it_begins_again_at_that_moment() -> None:
    hung, begun = threading.Event(), threading.Event()

    def run(stop: threading.Event, up: Callable[[], None]) -> None:
        begun.set()
        hung.wait(20)
        hung.clear()
        raise Unavailable("hung up")

    before = threading.active_count()
    with Supervisor(lambda states: None, pause=lambda stop, seconds: None).keep("events", run, hung.set):
        assert begun.wait(5)
        hung.set()
    assert threading.active_count() == before


# ---- the watchdog ----------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


def pulse_of(clock: Clock, told: list[str]) -> Pulse:
    return Pulse(told.append, lambda: clock.now)


def test_a_loop_that_goes_on_is_told_to_systemd_and_one_that_hangs_is_not(clock: Clock) -> None:
    told: list[str] = []
    pulse = pulse_of(clock, told)
    for clock.now in range(0, 600, 10):
        pulse.beat()
        pulse.ping()
    assert told == ["WATCHDOG=1"] * 60
    for clock.now in range(590, 1200, 10):
        pulse.ping()
    assert len(told) == 60 + LOOP_SECONDS / 10


def test_a_step_with_deadlines_of_its_own_is_waited_for_and_no_longer(clock: Clock) -> None:
    told: list[str] = []
    pulse = pulse_of(clock, told)
    with pulse.step(300):
        clock.now = 299
        pulse.ping()
        assert told
        clock.now = 301
        pulse.ping()
        assert len(told) == 1
    pulse.ping()
    assert len(told) == 2, "it has come to its end after all"


def test_the_pings_come_from_a_thread_that_waits_for_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    told, enough = [], threading.Event()

    def tell(word: str) -> None:
        told.append(word)
        if len(told) == 3:
            enough.set()

    pulse = Pulse(tell)
    with Supervisor(lambda states: None).keep("watchdog", pulse.run), pulse.step(60):
        assert enough.wait(5)  # while the loop, this thread, hangs


@pytest.mark.parametrize(("given", "pause"), [("", 10.0), ("120000000", 10.0), ("6000000", 2.0), ("x", 10.0)])
def test_it_pings_three_times_in_the_time_that_systemd_gives(given: str, pause: float) -> None:
    assert _pause(given) == pause


def test_all_threads_are_told_in_one_list(tmp_path: Any) -> None:
    from gitops_mvd.state.history import SqliteHistory

    history = SqliteHistory(tmp_path / "history.db")
    assert history.threads() == []
    states = [ThreadState("webhooks", False, 7.0, PORT, 3), ThreadState("outbox", True, 8.0, "x", 1)]
    history.save_threads(states)
    assert history.threads() == states
    history.save_threads([])
    assert history.threads() == []
    history.close()
