"""What several threads want at the same time is done once for all of them."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gitops_mvd.kong.together import Together


class Desk:
    """Serves one batch after the other; the first one only when it is `open`."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.is_busy = threading.Event()
        self.batches: list[list[str]] = []

    def serve(self, wishes: Sequence[str]) -> str:
        self.batches.append(list(wishes))
        self.is_busy.set()
        assert self.open.wait(20)
        if "impossible" in wishes:
            raise ValueError("one of them cannot be done")
        return f"batch {len(self.batches)}"


def wait_until(wished: Together[str, str], number: int) -> None:
    ends = time.monotonic() + 20
    while len(wished._next.wishes) < number:
        assert time.monotonic() < ends, wished._next.wishes
        time.sleep(0.001)


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def wish() -> Together[str, str]:
    return Together()


def test_those_that_come_meanwhile_are_served_together(desk: Desk, wish: Together[str, str]) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(wish, "a", desk.serve)
        assert desk.is_busy.wait(20)
        others = [pool.submit(wish, text, desk.serve) for text in "bcd"]
        wait_until(wish, 3)
        desk.open.set()
        assert first.result(20) == "batch 1"
        assert {other.result(20) for other in others} == {"batch 2"}
    assert [sorted(batch) for batch in desk.batches] == [["a"], ["b", "c", "d"]]


def test_a_failure_is_that_of_its_own_batch(desk: Desk, wish: Together[str, str]) -> None:
    with ThreadPoolExecutor() as pool:
        first = pool.submit(wish, "a", desk.serve)
        assert desk.is_busy.wait(20)
        others = [pool.submit(wish, text, desk.serve) for text in ("b", "impossible")]
        wait_until(wish, 2)
        desk.open.set()
        assert first.result(20) == "batch 1"
        for other in others:
            with pytest.raises(ValueError, match="cannot be done"):
                other.result(20)
    assert wish("c", desk.serve) == "batch 3"


def test_those_that_a_batch_has_let_go_on_are_waited_for_when_they_come_back() -> None:
    wish = Together[str, None](window=0.5)
    batches: list[list[str]] = []

    def serve(wishes: Sequence[str]) -> None:
        batches.append(sorted(wishes))
        time.sleep(0.6)  # as long as that, others are waited for

    def come_back(text: str) -> None:
        for _ in range(2):
            wish(text, serve)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(wish, "a", serve)
        while not batches:
            time.sleep(0.001)
        others = [pool.submit(come_back, text) for text in "bcd"]
        for one in (first, *others):
            one.result(20)
    assert batches == [["a"], ["b", "c", "d"], ["b", "c", "d"]]
