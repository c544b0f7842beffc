"""One input, tried: nothing, or what was wrong with it."""

from __future__ import annotations

import re
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gitops_mvd.core.errors import MvdError

Input = Mapping[str, bytes]

SECONDS = 10  # of this process alone
PATIENCE_SECONDS = 60  # by the clock on the wall: on a busy machine, Git takes its time
MEMORY_BYTES = 1 << 30  # beside what this process has already
# What a library prints of itself, and no sentence does.
FOREIGN = re.compile(r"Traceback|<class '|object at 0x|\b(?!MvdError)[A-Z][a-z]+[A-Za-z]*(Error|Exception)\(")
LONGEST_SENTENCE = 20_000  # characters


class Wrong(Exception):
    """Something that must hold does not; the message says what."""


class TooLong(BaseException):
    """Not an Exception: nobody on the way is to catch it."""


def tried(read: Callable[[Input], object], given: Input) -> str:
    """What is wrong with the reading of an input, in a line; "" if it ended in a result or in one of our own errors."""
    try:
        with _deadline():
            read(given)
    except MvdError as error:
        return unclear(str(error))
    except Wrong as error:
        return str(error)
    except TooLong:
        return f"takes more than {SECONDS} s of computing, or {PATIENCE_SECONDS} s of waiting"
    except MemoryError:
        return f"takes more than {MEMORY_BYTES >> 20} MiB"
    except Exception as error:
        where = [frame for frame in traceback.extract_tb(error.__traceback__) if "gitops_mvd" in frame.filename]
        at = f"{where[-1].filename.rpartition('gitops_mvd/')[2]}:{where[-1].lineno}" if where else "outside of our code"
        return f"{type(error).__name__} at {at}: {str(error)[:200]!r}"
    return ""


def unclear(sentence: str) -> str:
    """Why a message is no clear sentence; "" if it is one."""
    if not sentence.strip():
        return "an error without a word"
    if len(sentence) > LONGEST_SENTENCE:
        return f"an error of {len(sentence)} characters"
    if not all(c.isprintable() or c in "\n\t\u200c\u200d" or ord(c) > 127 for c in sentence):
        return f"an error with control characters: {sentence[:200]!r}"
    try:
        sentence.encode()
    except UnicodeEncodeError:
        return f"an error that is no text: {sentence[:200]!r}"
    if FOREIGN.search(sentence):
        return f"an error in the words of a library: {sentence[:200]!r}"
    return ""


@contextmanager
def little_memory() -> Iterator[None]:
    """Inside, whoever takes too much of it gets a MemoryError."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@contextmanager
def _deadline() -> Iterator[None]:
    def ring(signum: int, frame: FrameType | None) -> None:
        raise TooLong

    clocks = (signal.ITIMER_REAL, signal.SIGALRM, PATIENCE_SECONDS), (signal.ITIMER_PROF, signal.SIGPROF, SECONDS)
    before: Any = [signal.signal(number, ring) for _, number, _ in clocks]
    for clock, _, seconds in clocks:
        signal.setitimer(clock, seconds)
    try:
        yield
    finally:
        for (clock, number, _), handler in zip(clocks, before, strict=True):
            signal.setitimer(clock, 0)
            signal.signal(number, handler)


def smaller(given: Input, still: Callable[[Input], bool], seconds: float = 30) -> Input:
    """The least of an input with which it is `still` wrong, by leaving away files, lines and parts of lines."""
    ends = time.monotonic() + seconds
    for name in sorted(given):
        without = {other: data for other, data in given.items() if other != name}
        if without and still(without):
            given = without
    for name in sorted(given):
        for separator in (b"\n", b",", b" ", b""):
            parts = given[name].split(separator) if separator else [bytes([byte]) for byte in given[name]]
            size = max(1, len(parts) // 2)
            while size and time.monotonic() < ends:
                at = 0
                while at < len(parts) and time.monotonic() < ends:
                    fewer = parts[:at] + parts[at + size :]
                    attempt = {**given, name: separator.join(fewer)}
                    if still(attempt):
                        given, parts = attempt, fewer
                    else:
                        at += size
                size //= 2
    return given
