"""The Docker engine of the lab: the user's own, or else a private one.

If no engine answers and we are root on Debian or Ubuntu, `docker.io` is installed and a `dockerd` of the lab's own
is started beside whatever else is there: its data, its socket and its process id lie in folders of their own.  Later
runs find it again; its data (the images) outlives it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.lab.command import CommandFailed, Result, run

Say = Callable[[str], None]

DATA = Path("/var/lib/gitops-mvd-lab")
RUN = Path("/run/gitops-mvd-lab")
SOCKET = RUN / "docker.sock"
PIDFILE = RUN / "dockerd.pid"
LOG = DATA / "dockerd.log"


class LabUnavailable(Exception):
    """This machine cannot run the lab; the message says why, and what to install."""


@dataclass(frozen=True)
class Engine:
    """A Docker engine, spoken to through the `docker` command."""

    host: str = ""  # DOCKER_HOST; "" is the engine that the docker command finds by itself

    def docker(self, *argv: str, input: str | bytes = b"", timeout: float = 60, check: bool = True) -> Result:
        """`docker ARGV`.  Raises CommandFailed."""
        return run("docker", *argv, input=input, timeout=timeout, env=self.environment(), check=check)

    def environment(self) -> dict[str, str]:
        """The environment in which `docker` speaks to this engine."""
        return {**os.environ, "DOCKER_HOST": self.host} if self.host else dict(os.environ)

    def info(self, field: str) -> str:
        """One field of `docker info`, such as `CgroupVersion`."""
        return self.docker("info", "--format", "{{." + field + "}}").out.strip()

    def architecture(self) -> str:
        """As Docker names it: `amd64`, `arm64`."""
        return self.docker("version", "--format", "{{.Server.Arch}}").out.strip()

    def silence(self) -> str:
        """Why the engine does not answer; "" if it does."""
        try:
            self.docker("version", "--format", "{{.Server.Version}}", timeout=5)
        except CommandFailed as error:
            return error.why.splitlines()[-1]
        return ""

    def has_image(self, tag: str) -> bool:
        return self.docker("image", "inspect", tag, check=False).code == 0


OWN = Engine()
PRIVATE = Engine(f"unix://{SOCKET}")


def find(say: Say) -> Engine:
    """An engine that answers; the private one is installed and started if needed.  Raises LabUnavailable."""
    silence = OWN.silence()
    if not silence:
        return OWN
    if os.geteuid() != 0:
        raise LabUnavailable(
            f"no Docker engine answers ({silence}): install Docker and be a member of the group `docker`; "
            "root on Debian or Ubuntu needs nothing, the lab then installs it"
        )
    if not PRIVATE.silence():
        return PRIVATE
    if not _works("dockerd", "--version") or not _works("iptables", "--version"):
        install_packages(say, "docker.io", "iptables")
    if not OWN.silence():  # where systemd runs, the package has started one
        return OWN
    say(f"starting a private Docker engine ({PRIVATE.host})")
    _start()
    return PRIVATE


def install_packages(say: Say, *names: str) -> None:
    """Install Debian packages, without what they only recommend.  Raises LabUnavailable."""
    wish = f"install {' '.join(names)}"
    if os.geteuid() != 0:
        raise LabUnavailable(f"please {wish}: only root can do it for you")
    if not _works("apt-get", "--version"):
        raise LabUnavailable(f"please {wish}: only on Debian and Ubuntu does the lab do it for you")
    say(f"installing {', '.join(names)} with apt-get")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    apt = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120")
    try:
        run(*apt, "update", env=env, timeout=180)
        run(*apt, "install", "-y", "--no-install-recommends", *names, env=env, timeout=600)
    except CommandFailed as error:
        raise LabUnavailable(f"could not {wish}: {error}") from error


def stop_private() -> None:
    """Stop the private engine, unless somebody runs containers in it; its images stay."""
    pid = _pid()
    if pid and not PRIVATE.docker("ps", "--quiet").out:
        os.kill(pid, signal.SIGTERM)
        _wait(lambda: not _pid(), 30)


def _start() -> None:
    for folder in (DATA, RUN):
        folder.mkdir(parents=True, exist_ok=True)
    if not _pid():
        PIDFILE.unlink(missing_ok=True)
        _spawn()
    if not _wait(lambda: not PRIVATE.silence(), 30):
        tail = "\n".join(LOG.read_text(errors="replace").splitlines()[-5:])
        raise LabUnavailable(f"the private Docker engine does not start, see {LOG}:\n{tail}")


def _spawn() -> None:
    """dockerd, in a session of its own: it outlives us and does not hear our Ctrl-C."""
    folders = ("--data-root", f"{DATA}/docker", "--exec-root", f"{RUN}/exec")
    files = ("--pidfile", str(PIDFILE), "--host", PRIVATE.host)
    with LOG.open("w") as log:
        subprocess.run(
            ("setsid", "--fork", "dockerd", *folders, *files),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            timeout=10,
            check=True,
        )


def _pid() -> int:
    """The process id of the private engine; 0 if it does not run."""
    try:
        pid = int(PIDFILE.read_text())
        alive = Path(f"/proc/{pid}/comm").read_text().strip() == "dockerd"
    except (OSError, ValueError):
        return 0
    return pid if alive else 0


def _works(*argv: str) -> bool:
    try:
        run(*argv, timeout=10)
    except CommandFailed:
        return False
    return True


def _wait(until: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (seen := until()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen
