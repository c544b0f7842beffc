"""Disruptions: the server goes down, or Docker or containerd ends or starts, and takes along what runs on them.

The end of a container, a refused command and a failed probe say something about a version only if nothing of that kind
happened from the start of what is judged until a moment after it was judged.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.docker.client import Engine
from gitops_mvd.systemd.client import Systemd

DOCKER, CONTAINERD = "docker.service", "containerd.service"
PASSING = {"activating", "deactivating", "reloading"}  # states that a unit has only for a while
DOCKER_START_GRACE = 10.0  # seconds after a start of Docker in which containers, networks and units come back


class Disruptions:
    """What happened to this server and its Docker engine.

    `now` is the monotonic clock, which systemd uses too, and `wall` the clock that Docker stamps containers by.
    """

    def __init__(
        self,
        engine: Engine,
        systemd: Systemd,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._engine = engine
        self._systemd = systemd
        self._now = now
        self._wall = wall

    def since(self, began: float) -> str:
        """The disruption between `began`, on the monotonic clock, and now; "" if there was none.

        Docker is asked first.  An engine that answers had not begun to go down when what is judged was seen: before it
        stops a container it closes its API.  systemd learns of a killed engine a moment later than its clients do, but
        not later than the next engine answers.
        """
        try:
            self._engine.ping()
            if self._systemd.is_going_down():
                return "the server is going down"
            return next(filter(None, (self._disruption(unit, began) for unit in (DOCKER, CONTAINERD))), "")
        except (StepFailed, Unavailable) as error:
            return error.message

    def _disruption(self, unit: str, began: float) -> str:
        """A unit that was inactive all the time says nothing: Docker may run under another name."""
        phase = self._systemd.phase(unit)
        if phase and phase.active in PASSING:
            return f"{unit} is {phase.active}"
        if phase and phase.changed > began:
            return f"{unit} became {phase.active} a moment ago"
        return ""

    def since_unix(self, began: float) -> str:
        """As `since`, for a moment in Unix time."""
        return self.since(self._now() - (self._wall() - began))

    def since_pass(self, began: float) -> str:
        """As `since`, for a pass that began then.

        What Docker took along comes back only after its start: a pass that began shortly after it is disrupted, too.
        """
        return self.since(began - DOCKER_START_GRACE)
