"""Twenty commits in five seconds, while the forge's API goes down and the daemon is killed twice: their statuses.

told = burst(stage, lab)
assert not told.faults()
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.repository import now
from tests.lab.stage import NotTrue, Stage, until

COMMITS = 20
COMMIT_EVERY_SECONDS = 0.25
README = (3, 8, 13, 19)  # these change nothing that runs, and the last of them is the tip
BROKEN, SICK = 6, 11
DOWN, BACK = 3, 17  # before these commits the API goes down, and answers again
KILLED = (7, 18)  # after these the daemon is killed; systemd starts it again within three seconds
A_FEW = 3  # calls: for what a kill has left in doubt, and a README that was the tip for a while
PATIENCE_SECONDS = 120.0
SEEN = "/srv/burst"  # where every version that is started leaves its name
COMPOSE = """\
services:
  web:
    image: {image}
    environment: {{VERSION: "{version}"}}
    stop_grace_period: 1s
    volumes: ["{seen}:/seen"]
    x-mvd: {{health: {{http: /health, port: 7799, within: 3s}}}}
    x-kong: {{port: 7799, routes: [{{paths: [/burst]}}]}}
"""


@dataclass(frozen=True)
class Pushed:
    """One commit of the burst: a `version`, "" for a README, and its statuses: when, state, description."""

    commit: str
    version: str
    told: tuple[tuple[datetime, str, str], ...] = ()

    def ends(self) -> list[tuple[str, str]]:
        return [(state, description) for _, state, description in self.told if state != "pending"]


@dataclass(frozen=True)
class Told:
    """The statuses of every commit.  `calls` are those that post statuses; the API was down from `down` to `back`."""

    pushed: tuple[Pushed, ...]
    started: frozenset[str]
    calls: int
    down: datetime
    back: datetime

    @property
    def affected(self) -> list[Pushed]:
        return [one for one in self.pushed if one.version]

    @property
    def fewest(self) -> int:
        """One call for each affected commit, and one for the tip."""
        return len(self.affected) + 1

    @property
    def last(self) -> datetime:
        """When the last status came."""
        return max(at for one in self.pushed for at, _, _ in one.told)

    def faults(self) -> list[str]:
        """Every promise that was broken, in one sentence each."""
        found = [f"{one.version}: {fault}" for one in self.affected if (fault := self._fault(one))]
        idle = {told for one in self.pushed if not one.version for _, _, told in one.told}
        found += [f"a README was told {told}" for told in idle if not told.startswith("nothing to do here")]
        if [state for state, _ in self.affected[-1].ends()][:1] != ["success"]:
            found.append(f"the last version ended as {self.affected[-1].ends()}")
        if set(self.pushed[-1].ends()) != {("success", "nothing to do here")}:
            found.append(f"the tip ended as {self.pushed[-1].ends()}")
        if self.calls > 2 * len(self.affected) + A_FEW:
            found.append(f"{self.calls} calls for {len(self.affected)} commits")
        return found

    def _fault(self, one: Pushed) -> str:
        states = [state for _, state, _ in one.told]
        ends = set(one.ends())
        if len(ends) != 1:
            return f"{len(ends)} ends: {one.told}"
        if "pending" in states[states.index(one.ends()[0][0]) :]:
            return f"pending after its end: {one.told}"
        [(state, description)] = ends
        later = [other.commit for other in self.affected[self.affected.index(one) + 1 :]]
        is_true = {
            "success": one.version in self.started,
            "failure": one.version in ("broken", "sick"),
            "error": any(description == f"superseded by {other[:7]}" for other in later),
        }
        return "" if is_true[state] else f"it is not true that it is {state}: {description}"


def burst(stage: Stage, lab: Lab, *, long_outage: bool = False) -> Told:
    """Run it; a long outage ends only when the last version serves.  Raises NotTrue where no statuses come."""
    web = service.web("burst", "1", pages={"/cgi-bin/version": "#!/bin/sh\necho; echo burst $VERSION"})
    noted = replace(web, command=("sh", "-c", "echo $VERSION >>/seen/versions; exec httpd -f -p 7799 -h /www"))
    good, sick = (
        lab.registry.push("burst", name, kind) for name, kind in (("1", noted), ("sick", service.sick("burst", "sick")))
    )
    stage.server.exec("sh", "-c", f"mkdir -p {SEEN} && rm -f {SEEN}/versions")
    stage.ends(stage.merge(_files("begin", good, sick), "Begin the burst"), "success")
    pushed = []
    down, back = now(), None
    for number in range(COMMITS):
        began = time.monotonic()
        if number == DOWN:
            lab.forge.api_down, down = True, now()
        if number == BACK and not long_outage:
            lab.forge.api_down, back = False, now()
        version = _version(number)
        files = _files(version, good, sick) if version else {"README.md": f"Burst {number}\n"}
        pushed.append(Pushed(stage.merge(files, f"Commit {number}"), version))
        if number in KILLED:
            _kill(stage)
        time.sleep(max(0.0, began + COMMIT_EVERY_SECONDS - time.monotonic()))
    latest = next(one.version for one in reversed(pushed) if one.version)
    until(lambda: _is_served(stage, latest), f"an answer of version {latest}", PATIENCE_SECONDS)
    if not back:
        lab.forge.api_down, back = False, now()
    until(
        lambda: all(_is_over(stage, one, one is pushed[-1]) for one in pushed) or None,
        "the ends of all",
        PATIENCE_SECONDS,
    )
    time.sleep(2 * COMMIT_EVERY_SECONDS)
    commits = {one.commit for one in pushed}
    calls = sum(asked.method == "POST" and asked.path.rpartition("/")[2] in commits for asked in lab.forge.asked)
    started = frozenset(stage.server.exec("cat", f"{SEEN}/versions").out.split())
    return Told(tuple(_with_told(stage, one) for one in pushed), started, calls, down, back)


def _version(number: int) -> str:
    if number in README:
        return ""
    return {BROKEN: "broken", SICK: "sick"}.get(number, str(number))


def _files(version: str, good: str, sick: str) -> Mapping[str, str | None]:
    text = COMPOSE.format(image=sick if version == "sick" else good, version=version, seen=SEEN)
    return {"apps/burst/compose.yaml": text.replace("stop_grace_period", "stop_grace") if version == "broken" else text}


def _kill(stage: Stage) -> None:
    """Kill the daemon, as often as it takes: it may be starting."""
    kill = ("systemctl", "kill", "--signal=KILL", "gitops-mvd")
    until(lambda: stage.server.exec(*kill, check=False).code == 0 or None, "a daemon to kill", 10)


def _is_served(stage: Stage, version: str) -> bool | None:
    try:
        return stage.ask("/burst/cgi-bin/version").text.strip() == f"burst {version}" or None
    except OSError:
        return None


def _is_over(stage: Stage, one: Pushed, is_tip: bool) -> bool:
    """Has the commit its final status?  A superseded README may never get one."""
    told = stage.told(one.commit)
    return bool(told or not (one.version or is_tip)) and not any(state == "pending" for state, _ in told[-1:])


def _with_told(stage: Stage, one: Pushed) -> Pushed:
    at = [status.at for status in stage.repository.statuses(one.commit) if status.context == stage.context]
    return replace(one, told=tuple((when, *told) for when, told in zip(at, stage.told(one.commit), strict=True)))


def checked(told: Told) -> Told:
    """Itself, if it has no faults.  Raises NotTrue."""
    if faults := told.faults():
        raise NotTrue("; ".join(faults))
    return told
