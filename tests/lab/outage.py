"""An address that is asked all the while, and how long it did not answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import requests

PAUSE_SECONDS = 0.02
DEADLINE_SECONDS = 2.0

Seen = Sequence[tuple[float, bool]]


@contextmanager
def asked(url: str) -> Iterator[list[tuple[float, bool]]]:
    """Ask an address all the while: when, in seconds of `time.monotonic()`, and whether it answered."""
    ended, seen = threading.Event(), list[tuple[float, bool]]()

    def ask() -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not ended.wait(PAUSE_SECONDS):
                try:
                    answered = session.get(url, timeout=DEADLINE_SECONDS).ok
                except requests.RequestException:
                    answered = False
                seen.append((time.monotonic(), answered))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        ended.set()
        asking.join()


def longest_outage(seen: Seen) -> float:
    """The seconds from the last answer before it was down to the first one after, at most; it must end as it began."""
    assert seen[0][1]
    assert seen[-1][1]
    answers = [at for at, answered in seen if answered]
    failed = [at for at, answered in seen if not answered]
    gaps = itertools.pairwise(answers)
    return max((end - begin for begin, end in gaps if any(begin < at < end for at in failed)), default=0.0)


def failures(seen: Seen) -> int:
    """How often it did not answer."""
    return sum(not answered for _, answered in seen)
