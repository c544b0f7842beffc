"""A canary: the shares of the traffic that a new version gets before it gets all, and how it is judged by them.  Pure.

What it is judged by are the numbers of the gateway itself: how many requests went to each version, how many of them
failed, and how long the answers took.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROBE = "canary"  # the check of a route whose new version gets a share
TURN = "canary turn"  # the check of a route before that: does another host that shares its Kong judge a version of it?
SLOWEST = 0.9  # the share of the answers that are no slower than what is compared
NOTICED_MS = 20.0  # a smaller difference is no reason, however many times the old latency it is
HEAVIEST = 65535  # weight that a target may have
_STEP = math.log(1.05)  # latencies are told apart to 5 %


@dataclass(frozen=True, slots=True)
class Judge:
    """What counts against a new version, beside the old one.

    `errors` is the share of its requests that may fail beyond that of the old version, `latency` how many times as long
    as the old one's its answers may take.  Less than `min_requests` say little.
    """

    min_requests: int = 50
    errors: float = 0.02
    latency: float = 1.5


@dataclass(frozen=True, slots=True)
class Canary:
    """The shares, in percent, each less than 100 and more than the one before; each lasts so many seconds."""

    steps: tuple[int, ...] = (5, 25)
    lasts: float = 300.0
    judge: Judge = Judge()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Canary:
        return cls(tuple(value["steps"]), value["lasts"], Judge(**value["judge"]))


@dataclass(frozen=True, slots=True)
class Numbers:
    """What became of some requests; `answered` counts those that were answered by their latency, as `latency_key`."""

    requests: int = 0
    errors: int = 0
    answered: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: Numbers) -> Numbers:
        keys = self.answered.keys() | other.answered.keys()
        answered = {key: self.answered.get(key, 0) + other.answered.get(key, 0) for key in keys}
        return Numbers(self.requests + other.requests, self.errors + other.errors, answered)

    @property
    def latency(self) -> float:
        """The milliseconds within which nine of ten answers came; 0 without any."""
        rank, seen = SLOWEST * sum(self.answered.values()), 0
        for key in sorted(self.answered):
            seen += self.answered[key]
            if seen >= rank:
                return math.exp(key * _STEP)
        return 0.0

    @property
    def failed(self) -> str:
        return f"{self.errors} of {self.requests}"

    def __str__(self) -> str:
        """`2 of 40 failed, 90 % took up to 12 ms`."""
        return f"{self.failed} failed" + (f", 90 % took up to {self.latency:.0f} ms" if self.answered else "")


def latency_key(milliseconds: float) -> int:
    """Latencies that are nearly the same have the same key, so that what is counted has a bound."""
    return round(math.log(min(max(milliseconds, 1.0), 1e7)) / _STEP)


def total(numbers: Iterable[Numbers]) -> Numbers:
    return sum(numbers, Numbers())


def objection(new: Numbers, old: Numbers, judge: Judge, *, is_over: bool) -> str:
    """What stands against the new version, "" if nothing does.

    Errors count at once, as soon as there are more than so few requests could have by the rule; latencies once the time
    `is_over`, as the first answers of a version are its slowest, and only if both versions had enough requests.
    """
    usual = old.errors / max(old.requests, judge.min_requests, 1)
    if new.errors > (usual + judge.errors) * max(new.requests, judge.min_requests):
        return f"{new.failed} failed; of the old version's, {old.failed}"
    if not is_over or min(new.requests, old.requests) < judge.min_requests:
        return ""
    if new.latency > max(old.latency * judge.latency, old.latency + NOTICED_MS):
        within = f"90 % of {new.requests} requests took up to {new.latency:.0f} ms"
        return f"{within}; of the old version's, {old.latency:.0f} ms"
    return ""


def told(new: Numbers, old: Numbers, judge: Judge) -> str:
    """What a version was judged by: `judged on 12 requests, which are few: 0 of 12 failed; ...`."""
    few = ", which are few" if min(new.requests, old.requests) < judge.min_requests else ""
    return f"judged on {new.requests} requests beside {old.requests}{few}: {new}; of the old version's, {old}"


def weights(share: int, new: int, old: int) -> tuple[Sequence[int], int]:
    """The weights of so many new targets, and that of each old one, by which the new ones together get `share` percent.

    All together they weigh 100 for each old one, so that a host that shares its Kong keeps its part of the traffic.
    """
    each, rest = divmod(share * old, new)
    return [min(each + (number < rest), HEAVIEST) for number in range(new)], 100 - share


def share_of(new: Iterable[int], old: Iterable[int]) -> float:
    """The percentage that new targets with these weights get beside the old ones."""
    mine, others = sum(new), sum(old)
    return 100 * mine / (mine + others) if mine + others else 0.0


def from_here(steps: Sequence[int], reached: float) -> Sequence[int]:
    """The steps that are to be passed if `reached` percent were found: the last one that was begun, and all behind it.

    None is skipped that may not have been passed.
    """
    begun = [number for number, step in enumerate(steps) if step <= reached + 0.5]
    return steps[begun[-1] if begun else 0 :]
