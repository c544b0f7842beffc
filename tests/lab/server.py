"""One disposable server: a Debian with systemd as PID 1 and its own Docker engine, in a container.

It is unplugged, rebooted and thrown away like a machine; nothing of it outlives `destroy`.
"""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.lab import kong
from tests.lab.claim import CHECKOUT
from tests.lab.command import CommandFailed, Result
from tests.lab.engine import Engine, Say

VENV = "/opt/gitops-mvd"
LAB = "/opt/lab"  # this lab itself, for the programs of it that run on a server: the wheel has none of it
# Everything that `--privileged` gives but for CAP_SYS_RESOURCE, which CI machines may not have to give.
RIGHTS = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined"),
)
# What boot.sh makes the cgroups of: of version 1 it sees the host's, version 2 has a namespace for each container.
CGROUPS = {
    "1": ("--cgroupns=host", "--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw"),
    "2": ("--cgroupns=private",),
}
TMPFS = ("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec")
# Docker's folders are volumes, because overlay2 does not stack on overlay2.
DISKS = {"/var/lib/docker": "", "/var/lib/containerd": ""}


class Server:
    """A server of the lab.  `name` is its host name, by which the other servers find it; `container` is Docker's."""

    def __init__(self, engine: Engine, lab: str, name: str, say: Say) -> None:
        self.name = name
        self.container = f"{lab}-{name}"
        self._engine = engine
        self._network = lab
        self._say = say
        self._holder = ""

    def create(self, image: str, *options: str, disks: Mapping[str, str] = MappingProxyType({})) -> None:
        """Switch it on.  `options` go to `docker run`; `disks` has small ones: folder and options of a tmpfs.

        A container that does nothing holds them while the server is off.
        """
        names = ("--name", self.container, "--hostname", self.name, *self._plug())
        cgroups = (*CGROUPS[self._engine.info("CgroupVersion")], "--env", f"OWN_CGROUP=gitops-mvd-lab/{self.container}")
        folders = [word for disk in {**DISKS, **disks}.items() for word in _mounted(*disk)]
        self._engine.docker("run", "--detach", *names, *RIGHTS, *cgroups, *TMPFS, *folders, *options, image)
        if disks:
            holder = ("--name", f"{self.container}-disks", "--volumes-from", self.container, *options)
            self._engine.docker("run", "--detach", *holder, image, "sleep", "infinity")
            self._holder = f"{self.container}-disks"

    def wait_until_running(self, within: float = 60) -> None:
        """Wait until systemd has started everything.  Raises CommandFailed, which names the failed units."""
        deadline = time.monotonic() + within
        state = ""
        while time.monotonic() < deadline:
            state = self.exec("systemctl", "is-system-running", check=False).out.strip()
            if state == "running":
                return
            if state == "degraded":
                break
            time.sleep(0.1)
        failed = self.exec("systemctl", "--failed", "--no-legend", "--plain", check=False).out
        raise CommandFailed(("systemctl", "is-system-running"), f"{state or 'no answer'}\n{failed}".rstrip())

    def exec(self, *argv: str, input: str | bytes = b"", timeout: float = 60, check: bool = True) -> Result:
        """Run a program on the server, as root.  Raises CommandFailed; with `check=False` not for its exit code."""
        return self._engine.docker(
            "exec", "--interactive", self.container, *argv, input=input, timeout=timeout, check=check
        )

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file, with the folders above it."""
        self.exec("install", "-D", "-m", f"{mode:o}", "/dev/stdin", path, input=content)

    @property
    def ip(self) -> str:
        """Its address in the lab; it may be another one after a reboot.  "" while it is unplugged."""
        field = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._engine.docker("inspect", "--format", field, self.container).out.strip()

    def install(self, wheel: Path) -> None:
        """Install gitops-mvd with its command `mvd`, and this lab; what they need is there already."""
        path = f"/opt/wheels/{wheel.name}"
        self.put(path, wheel.read_bytes())
        self.exec(f"{VENV}/bin/pip", "install", "--quiet", "--no-index", "--no-deps", "--force-reinstall", path)
        self.exec("ln", "-sf", f"{VENV}/bin/mvd", "/usr/local/bin/mvd")
        self.exec("mkdir", "-p", LAB)
        self.exec("tar", "-x", "-C", LAB, input=_packed())
        packages = self.exec("sh", "-c", f"echo {VENV}/lib/python3*/site-packages").out.strip()
        self.put(f"{packages}/lab.pth", f"{LAB}\n")

    def start_gateway(self, mode: str = "off", admin: str = kong.ADMIN) -> str:
        """Start Kong, Admin API at `admin` and proxy on port 8000, and wait until it answers.

        `mode` is Kong's own word for its database: `off` or `postgres`.  Returns what answers; if the
        image of Kong cannot be pulled, that is the stand-in, which needs `install` before.
        """
        return kong.start(self, self._engine, mode, self._say, admin)

    def reboot(self, within: float = 60) -> None:
        """Shut it down in good order, start it again, and wait until it runs."""
        self._engine.docker("restart", "--time", "30", self.container, timeout=within)
        self.wait_until_running(within)

    def disconnect(self) -> None:
        """Pull the network cable."""
        self._engine.docker("network", "disconnect", self._network, self.container)

    def connect(self) -> None:
        """Plug it in again."""
        self._engine.docker("network", "connect", "--alias", self.name, self._network, self.container)

    def cut_power(self) -> None:
        """Kill it, without a shutdown."""
        self._engine.docker("kill", self.container)

    def destroy(self) -> None:
        """Throw the server away, with its disks."""
        self._engine.docker("rm", "--force", "--volumes", self.container, *filter(None, [self._holder]))

    def start(self, within: float = 60) -> None:
        """Switch it on again, and wait until it runs."""
        self._engine.docker("start", self.container, timeout=within)
        self.wait_until_running(within)

    def _plug(self) -> tuple[str, ...]:
        return ("--network", self._network, "--network-alias", self.name)


def _mounted(folder: str, tmpfs: str) -> tuple[str, str]:
    """The option of `docker run` for a disk of its own; without options of a tmpfs it is as large as that of Docker."""
    if not tmpfs:
        return "--volume", folder
    options = ("volume-opt=type=tmpfs", "volume-opt=device=tmpfs", f'"volume-opt=o={tmpfs}"')
    return "--mount", ",".join(("type=volume", f"dst={folder}", *options))


def _packed() -> bytes:
    """The lab as a tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(CHECKOUT / "tests" / "__init__.py", "tests/__init__.py")
        tar.add(
            CHECKOUT / "tests" / "lab",
            "tests/lab",
            filter=lambda entry: None if "__pycache__" in entry.name else entry,
        )
    return buffer.getvalue()
