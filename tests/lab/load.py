"""A load on one URL: clients that each ask again as soon as they got an answer, and check every answer.

with Load(url, "web", kept=8, fresh=8) as load:  # a process of its own
    ...
    told = load.finish(at_least=100_000)
    wrong = load.wrong([(switched, {"2"})])

What is asked answers `NAME VERSION`.  `kept` clients keep their connection, `fresh` ones open one for each request.  A
connection that breaks after a request was sent and before its answer was whole is a failure; that the other side closes
one between two requests is its right.  All times are of `time.monotonic()`, which is the same for every process of a
machine.  It is bounded in count and time, and asks none but private addresses: the lab's own.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.lab.command import CommandFailed

KEPT, FRESH = "keep-alive", "no keep-alive"
MOST = 2_000_000  # requests; one takes 18 bytes of memory
LONGEST_SECONDS = 900.0
REQUEST_SECONDS = 10.0
Period = tuple[float, Collection[str]]


@dataclass(frozen=True)
class Summary:
    """What became of the requests of one kind of client.

    `slowest`, `p50` and `p99` are in seconds, `rate` in requests per second; `why` counts the failures by reason, and
    `first` says when the first request began that failed for it.  `slowest_at` is when the slowest one began, `until`
    when the last one ended.
    """

    clients: str
    requests: int
    failures: int
    why: dict[str, int]
    first: dict[str, float]
    versions: dict[str, int]
    slowest: float
    slowest_at: float
    p50: float
    p99: float
    rate: float
    until: float


class Load:
    """The load, running from the beginning of a `with` to its end."""

    def __init__(
        self,
        url: str,
        name: str,
        *,
        kept: int,
        fresh: int,
        most: int = MOST,
        within: float = LONGEST_SECONDS,
        patience: float = REQUEST_SECONDS,
    ) -> None:
        options = {"kept": kept, "fresh": fresh, "most": most, "within": within, "patience": patience}
        self._command = (sys.executable, "-m", "tests.lab.clients", url, name, json.dumps(options))

    def __enter__(self) -> Load:
        pipe = subprocess.PIPE
        # In a session of its own it does not hear our Ctrl-C; it ends when we hang up.
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(REQUEST_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def so_far(self) -> tuple[int, int]:
        """Requests that came to an end, and how many of them failed."""
        requests, failures = self._ask("so_far")
        return requests, failures

    def finish(self, at_least: int = 0) -> list[Summary]:
        """Stop after that many requests in all, or when its bounds are reached; wait for that, and summarize."""
        return [Summary(**told) for told in self._ask("finish", at_least)]

    def wrong(self, right: Sequence[Period]) -> dict[str, dict[str, int]]:
        """The answers of a version that was wrong all the while, by kind of client and version.

        `right` says from when on which versions are right; before its first time, all are.  Asked amid the load, it
        holds the clients up.
        """
        found: dict[str, dict[str, int]] = self._ask("wrong", [(since, sorted(versions)) for since, versions in right])
        return found

    def _ask(self, *words: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(json.dumps(words) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it has to say is that it ended
        answer = self._process.stdout.readline()
        if not answer:
            raise CommandFailed(self._command, f"ended with exit code {self._process.wait(REQUEST_SECONDS)}")
        return json.loads(answer)
