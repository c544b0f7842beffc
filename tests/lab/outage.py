"""An address that is asked all the while, and how long it did not answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import requests

PAUSE_SECONDS = 0.02


class Seen(NamedTuple):
    """One try: when it ended, in seconds of `time.monotonic()`, if it was answered well, and what was said."""

    at: float
    answered: bool
    said: str


@contextmanager
def all_the_while(do: Callable[[], object], pause: float) -> Iterator[None]:
    """Do something again and again in a thread of its own, with a pause of so many seconds before each time."""
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(pause):
            do()

    thread = threading.Thread(target=again)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def asked(url: str, within: float = 2.0) -> Iterator[list[Seen]]:
    """Ask an address all the while; each answer has to come within so many seconds."""
    seen: list[Seen] = []
    with requests.Session() as session:
        session.trust_env = False

        def ask() -> None:
            try:
                answer = session.get(url, timeout=within)
                answered, said = answer.ok, answer.text
            except requests.RequestException as error:
                answered, said = False, str(error)
            seen.append(Seen(time.monotonic(), answered, said))

        with all_the_while(ask, PAUSE_SECONDS):
            yield seen


def longest_outage(seen: Sequence[Seen]) -> float:
    """The seconds from the last answer before it was down to the first one after, at most; it must end as it began."""
    assert seen[0].answered
    assert seen[-1].answered
    answers = [it.at for it in seen if it.answered]
    failed = [it.at for it in seen if not it.answered]
    gaps = itertools.pairwise(answers)
    return max((end - begin for begin, end in gaps if any(begin < at < end for at in failed)), default=0.0)


def failures(seen: Sequence[Seen]) -> int:
    """How often it did not answer."""
    return sum(not it.answered for it in seen)
