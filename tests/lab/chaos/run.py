"""Rounds of commits and faults, each with its end; what ends badly is told with its whole story."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random

from tests.lab.chaos import checks
from tests.lab.chaos.commits import STEADY, App, Commit, State, commit
from tests.lab.chaos.faults import FAULTS, Fault
from tests.lab.chaos.ground import Ground
from tests.lab.command import CommandFailed
from tests.lab.lab import Lab

SETTLES_WITHIN_SECONDS = 150.0  # after a fault has ended: the longest back-off of so short a fault, and a deploy
LONGEST_SECONDS = 20.0  # that a fault lasts

Say = Callable[[str], object]


@dataclass
class Story:
    """What happened, line by line, with the seconds since its beginning."""

    began: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)

    def tell(self, line: str) -> None:
        self.lines.append(f"{time.monotonic() - self.began:7.1f} s  {line}")


@dataclass(frozen=True)
class Round:
    """How one round went: `settled` is the seconds from the fault's end until all was as it should be.

    `failed` of the `asked` requests to the steady app did.
    """

    number: int
    fault: str
    settled: float
    asked: int
    failed: int
    violations: Sequence[str]
    story: Sequence[str]


def chaos(lab: Lab, seed: str, minutes: float, say: Say, only: Sequence[str] = ()) -> Iterator[Round]:
    """Rounds, one after the other, until the time is over.  Raises LabUnavailable or CommandFailed.

    Each draws from dice of its own, so that its number and the seed tell it.  After one that ended badly, the next has
    a new server.
    """
    ends = time.monotonic() + minutes * 60
    deck = list(only) or sorted(FAULTS)
    Random(seed).shuffle(deck)
    number, servers = 0, 0
    while time.monotonic() < ends:
        servers += 1
        ground = Ground(lab, f"chaos{servers}")
        try:
            say(f"server {ground.stage.server.name}, Kong: {ground.stage.gateway}")
            rounds = _Rounds(ground)
            rounds.begin()
            while time.monotonic() < ends:
                number += 1
                done = rounds.round(number, FAULTS[deck[(number - 1) % len(deck)]], Random(f"{seed} {number}"))
                yield done
                if done.violations:
                    break
        finally:
            ground.close()


class _Rounds:
    """The rounds on one server: what Git has is kept from one to the next."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._state = State(apps={})
        self._before: dict[str, App] | None = None
        self._planted: set[str] = set()  # the volumes that ever had a file

    def begin(self) -> None:
        """The steady app and two others, well."""
        apps = {app.name: app for app in (App(STEADY), App("first"), App("second", replicas=2))}
        story = Story()
        commits = {self._ground.push(Commit("Begin with three apps", apps), {}): True}
        self._state = State(apps)
        if left := self._settle(commits, story)[1]:
            raise CommandFailed(("chaos",), f"the server does not begin well: {'; '.join(left)}")
        self._planted |= checks.plant(self._ground, self._state)

    def round(self, number: int, fault: Fault, random: Random) -> Round:
        ground, story = self._ground, Story()
        ground.traffic.failures.clear()
        cursor, since, asked_before = checks.cursor(ground), time.monotonic(), ground.traffic.asked
        victim = self._state.running[random.choice(sorted(self._state.running))]
        hands_off = frozenset({victim.name}) if fault.by_hand else frozenset()
        commits: dict[str, bool] = {}
        touched: set[str] = set(hands_off)
        identities = self._identities()
        if random.random() < 0.8 or fault.alone:
            self._commit(random, frozenset(touched), commits, touched, story)
            time.sleep(random.choice((0.0, 0.5, 2.0, 4.0, 8.0)))
        lasts = random.uniform(0, LONGEST_SECONDS)
        story.tell(f"fault: {fault.name}{f' ({victim.name})' if fault.by_hand else ''}, for {lasts:.1f} s")
        with fault.happens(ground, victim, random):
            time.sleep(lasts / 2)
            if not commits or (not fault.alone and random.random() < 0.5):
                self._commit(random, frozenset(touched), commits, touched, story)
            time.sleep(lasts / 2)
        ended = time.monotonic()
        story.tell("fault: over")
        settled, violations = self._settle(commits, story)
        violations += self._lost(fault, victim, since, identities)
        if stacks := checks.stacks(ground, cursor):
            violations += [f"the daemon's log has {len(stacks)} stacks, such as: {stacks[0]}"]
        if not violations:
            self._state = self._state.settled()
            self._planted |= checks.plant(ground, self._state)
        story.tell(f"disks: {checks.sizes(ground)}")
        failed = len(ground.traffic.failed_between(since, time.monotonic()))
        asked = ground.traffic.asked - asked_before
        return Round(number, fault.name, settled - ended, asked, failed, violations, story.lines)

    def _commit(
        self, random: Random, hands_off: frozenset[str], commits: dict[str, bool], touched: set[str], story: Story
    ) -> None:
        made = commit(random, self._state, None if commits else self._before, hands_off)
        before = dict(self._state.apps)
        sha = self._ground.push(made, before)
        self._before = before
        self._state = State(made.apps, self._state.good)
        commits[sha] = self._state.is_green
        touched |= made.touched
        story.tell(f"commit {sha[:7]}: {made.subject} ({'good' if commits[sha] else 'bad'})")

    def _settle(self, commits: dict[str, bool], story: Story) -> tuple[float, list[str]]:
        """When all is as it should be, or, after the time for that, what is not."""
        deadline = time.monotonic() + SETTLES_WITHIN_SECONDS
        while True:
            try:
                wrong = [*checks.differences(self._ground, self._state), *checks.statuses(self._ground, commits)]
            except CommandFailed as error:
                wrong = [str(error)[:300]]
            if not wrong:
                settled = time.monotonic()
                story.tell("all is as it should be")
                return settled, list(checks.commands(self._ground, self._state))
            if time.monotonic() > deadline:
                story.tell("it is not as it should be")
                said = self._ground.sh(
                    "mvd status; mvd plan; journalctl -u gitops-mvd -n 60 --output=cat --no-pager"
                ).out
                story.lines += [f"    {line}" for line in said.splitlines()]
                for sha in commits:
                    story.lines += [f"    {sha[:7]} {state}: {why}" for state, why in self._ground.stage.told(sha)]
                return time.monotonic(), wrong
            time.sleep(1)

    def _lost(self, fault: Fault, victim: App, since: float, identities: dict[str, str]) -> list[str]:
        """What apps have lost that the fault did not touch."""
        ground = self._ground
        planted = self._planted - ({victim.volume} if fault.loses_data else set())
        lost = list(checks.losses(ground, self._state, planted))
        if fault.by_hand and victim.name == STEADY:
            return lost
        failed = ground.traffic.failed_between(since, time.monotonic())
        if failed and not fault.stops_traffic:
            lost.append(f"{len(failed)} requests to {STEADY} failed, such as: {failed[0]}")
        if self._identities() != identities and not fault.restarts:
            lost.append(f"containers of {STEADY} were started again")
        return lost

    def _identities(self) -> dict[str, str]:
        """The containers of the steady app, and since when they run."""
        try:
            found = self._ground.containers()
        except CommandFailed:
            return {}
        return {row["Id"]: row["State"]["StartedAt"] for row in found if f"-{STEADY}-" in row["Name"]}
