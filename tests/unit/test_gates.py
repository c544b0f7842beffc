"""What a gate lets through, what it gives time, and what it refuses at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gitops_mvd.errors import Unavailable, Unhealthy
from gitops_mvd.host import Machine
from gitops_mvd.model import Check, Gate, Health, Instance, Resource, Service
from gitops_mvd.probes import Tools, discover
from tests.fakes import FakeClock, FakeHistory

At = Callable[[float], Instance | None]


class Engine:
    """Shows one instance as it is after so many seconds."""

    def __init__(self, clock: FakeClock, at: At) -> None:
        self.clock, self.at = clock, at

    def instance(self, name: str) -> Instance | None:
        return self.at(self.clock.now() - 1000)


class Journal:
    def journal(self, unit: str, lines: int) -> list[str]:
        return [f"{unit} says that the password is hunter2-long"]


def wait(at: At, check: Check, answer: Callable[[float], tuple[Health, str]] | None = None) -> float:
    """The seconds that it took to pass a gate of an instance that develops like `at`."""
    clock = FakeClock()
    asked = {"http": lambda instance, spec: answer(clock.now() - 1000)} if answer else {}
    engine: Any = Engine(clock, at)
    journal: Any = Journal()
    machine = Machine(
        "h1",
        {},
        {**discover(Tools(engine, journal)), **asked},
        engine,
        journal,
        clock,
        address="127.0.0.1",
        gateway=None,
        history=FakeHistory(),
    )
    service = Service("web", "image", environment={"DB_PASSWORD": "hunter2-long"})
    machine.carry_out([Gate(Resource("unit", "mvd-chat-web-1", "chat", "web", payload=service), check)])
    return clock.now() - 1000


def up(name: str = "mvd-chat-web-1", **more: object) -> Instance:
    return Instance(name, state="running", started="10:00", **more)  # type: ignore[arg-type]


def test_what_runs_passes_once_it_has_held() -> None:
    assert 5 <= wait(lambda at: up(), Check("running", hold=5)) < 7


def test_a_container_that_is_not_there_yet_is_given_time() -> None:
    assert 3 <= wait(lambda at: up() if at > 3 else None, Check("running")) < 4.5


def test_a_container_that_exits_fails_at_once_with_its_code_and_last_words() -> None:
    with pytest.raises(Unhealthy) as caught:
        wait(lambda at: Instance("x", state="exited", exit_code=137, started="10:00"), Check("running", within=60))
    assert "web: exited with code 137; it last said: mvd-chat-web-1.service says" in str(caught.value)


def test_no_secret_is_in_the_last_words() -> None:
    with pytest.raises(Unhealthy) as caught:
        wait(lambda at: Instance("x", state="exited", exit_code=1, started="10:00"), Check("running"))
    assert "hunter2" not in str(caught.value)


def test_a_restart_on_the_way_fails_at_once() -> None:
    def develops(at: float) -> Instance:
        return Instance("x", state="running", started="10:00" if at < 2 else "10:01")

    with pytest.raises(Unhealthy, match="restarted"):
        wait(develops, Check("running", hold=60))


def test_a_probe_that_never_passes_fails_in_its_time() -> None:
    with pytest.raises(Unhealthy, match="http 503 for 30 s"):
        wait(lambda at: up(), Check("http", within=30), lambda at: (Health.PROGRESSING, "http 503"))


def test_a_gate_that_ends_on_could_not_ask_is_no_verdict() -> None:
    with pytest.raises(Unavailable, match="no route to host"):
        wait(lambda at: up(), Check("http", within=30), lambda at: (Health.UNKNOWN, "no route to host"))


def test_a_probe_that_flaps_has_to_hold_anew() -> None:
    def flaps(at: float) -> tuple[Health, str]:
        return (Health.PROGRESSING, "http 503") if 3 < at < 6 else (Health.HEALTHY, "")

    assert wait(lambda at: up(), Check("http", hold=5), flaps) >= 11


def test_a_job_passes_once_it_has_ended_well() -> None:
    def develops(at: float) -> Instance:
        return up() if at < 4 else Instance("x", state="exited", exit_code=0, started="10:00")

    assert 4 <= wait(develops, Check("completed", within=60)) < 6


@pytest.mark.parametrize("ends_at", [1, 60])
def test_what_may_end_passes_as_it_runs_and_after_it_has_ended_well(ends_at: float) -> None:
    def develops(at: float) -> Instance:
        return up() if at < ends_at else Instance("x", state="exited", exit_code=0, started="10:00")

    assert 5 <= wait(develops, Check("not_failed", hold=5)) < 7
