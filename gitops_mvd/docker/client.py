"""Docker, asked through its API by one client for all rooms."""

from __future__ import annotations

import re

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.docker.connection import root
from gitops_mvd.docker.containers import ContainerApi
from gitops_mvd.docker.events import EventApi
from gitops_mvd.docker.images import ImageApi
from gitops_mvd.docker.networks import NetworkApi
from gitops_mvd.docker.shape import checked
from gitops_mvd.docker.types import EngineInfo

PING_WITHIN_SECONDS = 5.0


class Engine(ContainerApi, ImageApi, NetworkApi, EventApi):
    """The Docker engine at `url` (by default the one that DOCKER_HOST names, else this host's own socket).

    It may be asked from any thread.  Every method raises Unavailable if the engine or a registry did not answer, and
    StepFailed if it refused.  `logins` maps a registry to user and password; what it lacks is looked up as the docker
    command does: in $DOCKER_CONFIG or ~/.docker, with its credential helpers.
    """

    def ping(self) -> None:
        """Raise Unavailable if the engine does not answer within five seconds."""
        with self.asking("ping Docker") as api:
            answer = api.get(f"{root(api)}/_ping", timeout=PING_WITHIN_SECONDS)
        if not answer.ok:
            raise Unavailable(f"Docker answers a ping with HTTP {answer.status_code}", "see journalctl -u docker")

    def container_root(self) -> tuple[int, int]:
        """The user and the group of this host that root of a container is: 0 and 0, unless `userns-remap` is on."""
        info = self._since_its_start()
        is_remapped = any("name=userns" in option for option in info.get("SecurityOptions") or ())
        found = re.search(r"/(\d+)\.(\d+)$", info.get("DockerRootDir", "")) if is_remapped else None
        return (int(found[1]), int(found[2])) if found else (0, 0)

    def writes_journal(self) -> bool:
        """Can it write what containers print into the journal of this host?"""
        info = self._since_its_start()
        is_rootless = any("rootless" in option for option in info.get("SecurityOptions") or ())
        return "journald" in (info.get("Plugins", {}).get("Log") or ()) and not is_rootless

    def _since_its_start(self) -> EngineInfo:
        """What stays while the engine runs.  It is asked once, as it starts two programs to tell their versions."""
        return self.cached("info", lambda api: checked(api.info(), EngineInfo))
