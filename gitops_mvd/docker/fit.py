"""Is the engine one that services can run on, and does the `docker` command of the units reach it?

Asked before anything is deployed and by `mvd doctor`.  An engine of another kind answers the same API, and fails only
later: at a probe, a host port, a reboot.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.connection import SOCKET
from gitops_mvd.docker.types import EngineInfo, EngineVersion

OLDEST_API, OLDEST = (1, 41), "20.10"
INSTALL_DOCKER = (
    "Install Docker Engine from Docker's or the distribution's packages, and start it: systemctl start docker"
)
INSTALL_CLIENT = "Install it: apt-get install docker-cli, or docker-ce-cli from Docker's own packages"


def client() -> str:
    """The absolute path of the docker command; "" if there is none."""
    return shutil.which("docker") or ""


class Fit:
    """Finds out once whether an engine fits; one that does is not asked again.

    `outside` runs a program on the host as a unit would, outside of any sandbox, and returns what it prints.
    """

    def __init__(self, engine: Engine, outside: Callable[..., str], client: Callable[[], str] = client) -> None:
        self._engine = engine
        self._outside = outside
        self._client = client
        self._fits = False

    def require(self) -> None:
        """Raise Unavailable with the first reason why nothing can be deployed with this engine."""
        if self._fits:
            return
        for message, hint in self._faults():
            raise Unavailable(message, hint)
        self._fits = True

    def _faults(self) -> Iterator[tuple[str, str]]:
        url = self._engine.url
        if not url.startswith("unix:///"):
            yield (
                f"docker.url is {url}: the engine must be one of this server, at a socket of it",
                f"Set it to {SOCKET}, or leave it out",
            )
        version, info = self._engine.version(), self._engine.info()
        if kind := _another(version, info):
            yield f"{kind} answers at {url}: gitops-mvd needs Docker Engine, run as root", INSTALL_DOCKER
        if self._engine.api_version() < OLDEST_API:
            yield f"Docker {info['ServerVersion']} is too old: {OLDEST} or newer is needed", INSTALL_DOCKER
        path = self._client()
        if not path:
            yield "there is no docker command, by which the units start their containers", INSTALL_CLIENT
            return
        words = ("env", f"DOCKER_HOST={url}", path, "version", "--format", "{{.Server.Version}}")
        if (told := self._outside(*words).strip()) != info["ServerVersion"]:
            instead = f": it tells of {told}" if told else ""
            yield f"{path} does not reach the engine at {url}{instead}", f"See why: DOCKER_HOST={url} {path} version"


def _another(version: EngineVersion, info: EngineInfo) -> str:
    """What an engine is, in words, if it is none that can be used."""
    names = [component["Name"] for component in version.get("Components") or ()]
    if podman := next((name for name in names if "podman" in name.lower()), ""):
        return podman
    if any("rootless" in option for option in info.get("SecurityOptions") or ()):
        return "a rootless Docker"
    if info.get("DockerRootDir", "").startswith("/var/snap/"):
        return "Docker from a snap"
    if info.get("OperatingSystem", "").startswith("Docker Desktop"):
        return "Docker Desktop"
    return ""
