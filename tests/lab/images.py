"""The image that a lab server boots, made once and kept in the engine.

Its base is `debian:trixie` or what MVD_LAB_SERVER names, pulled if a registry answers, else made from Debian's own
packages by `mmdebstrap`.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tests.lab import wheels
from tests.lab.command import CommandFailed, run
from tests.lab.engine import Engine, LabUnavailable, Say, install_packages


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian that a server may be: its name there, its Python, and whether its systemd takes cgroup v1."""

    suite: str
    python: str
    takes_v1: bool
    packages: tuple[str, ...] = ("docker-cli",)


RELEASES = {
    "debian12": Release("bookworm", "3.11", takes_v1=True, packages=()),
    "debian13": Release("trixie", "3.13", takes_v1=False),
    "debian14": Release("forky", "3.14", takes_v1=False),
}
NEWEST_STABLE = "debian13"
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "init", "docker.io", "iptables"),
    *("python3", "python3-venv", "git", "openssh-client", "gnupg", "ca-certificates"),
    *("curl", "iproute2", "procps", "openssh-server", "docker-registry", "apache2-utils", "busybox-static"),
    *("rsyslog", "rsyslog-elasticsearch", "systemd-journal-remote"),
)
REGISTRIES = ("registry.lab:5000", "private.lab:5000")
DAEMON = {
    "live-restore": True,
    "userland-proxy": False,
    "log-driver": "local",
    "insecure-registries": list(REGISTRIES),
}
PULL_ANSWER_SECONDS = 10.0  # within which a registry must answer
PULL_SECONDS = 600.0


def release(name: str = "") -> Release:
    """The release of that name; by default the one that MVD_LAB_SERVER names, else NEWEST_STABLE."""
    name = name or os.environ.get("MVD_LAB_SERVER") or NEWEST_STABLE
    if name not in RELEASES:
        raise LabUnavailable(f"MVD_LAB_SERVER is {name!r}: it must be one of {', '.join(RELEASES)}")
    return RELEASES[name]


def server(engine: Engine, release: Release, say: Say) -> str:
    """The tag of the server image, made if it is missing.  Raises LabUnavailable, CommandFailed."""
    needed = wheels.needed(engine.architecture(), release.python)
    dockerfile, boot = (files("tests.lab").joinpath(name).read_text() for name in ("server.Dockerfile", "boot.sh"))
    daemon = json.dumps(DAEMON, indent=2)
    tag = _tag("server", dockerfile, boot, daemon, needed.name, release.suite, *_packages(release))
    if engine.has_image(tag):
        return tag
    base = _base(engine, release, say)
    say(f"building the image of a lab server, Debian {release.suite}")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        shutil.copytree(needed, context / "wheels")
        (context / "daemon.json").write_text(daemon)
        (context / "Dockerfile").write_text(dockerfile)
        (context / "boot.sh").write_text(boot)
        (context / "boot.sh").chmod(0o755)
        arguments = ("--build-arg", f"BASE={base}", "--build-arg", f"TAKES_V1={'yes' if release.takes_v1 else 'no'}")
        engine.docker("build", "--quiet", "--network", "none", *arguments, "--tag", tag, folder, timeout=300)
    return tag


def pull(engine: Engine, image: str, say: Say) -> bool:
    """Is `image` there, after a pull if needed?  If no registry answers, this does not wait."""
    if engine.has_image(image):
        return True
    say(f"pulling {image}")
    command = ("docker", "pull", image)
    with subprocess.Popen(
        command, env=engine.environment(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        try:  # the first line, `bookworm: Pulling from ...`, says that the registry knows the image
            answered, _, _ = select.select([process.stdout], [], [], PULL_ANSWER_SECONDS)
            if answered and os.read(process.stdout.fileno(), 4096):
                process.communicate(timeout=PULL_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        process.kill()
    return engine.has_image(image)


def _packages(release: Release) -> tuple[str, ...]:
    return (*PACKAGES, *release.packages)


def _base(engine: Engine, release: Release, say: Say) -> str:
    packages = _packages(release)
    tag = _tag("base", release.suite, *packages)
    if engine.has_image(tag):
        return tag
    official = f"debian:{release.suite}"
    if pull(engine, official, say):
        say(f"installing Debian's packages onto {official}")
        install = f"apt-get -qq update && apt-get -qq install -y --no-install-recommends {' '.join(packages)}"
        dockerfile = (
            f"FROM {official}\nRUN export DEBIAN_FRONTEND=noninteractive && {install} && rm -rf /var/lib/apt/lists/*\n"
        )
        engine.docker("build", "--quiet", "--network", "host", "--tag", tag, "-", input=dockerfile, timeout=600)
    else:
        say(f"cannot pull {official}: making it from Debian's packages, which takes a minute")
        _bootstrap(engine, release, tag, say)
    return tag


def _bootstrap(engine: Engine, release: Release, tag: str, say: Say) -> None:
    if os.geteuid() != 0:
        raise LabUnavailable(f"cannot pull debian:{release.suite}, and only root can make it instead")
    if not shutil.which("mmdebstrap"):
        install_packages(say, "mmdebstrap", "debian-archive-keyring")
    without = (
        "path-exclude=/usr/share/doc/*",
        "path-exclude=/usr/share/man/*",
        "path-exclude=/usr/share/locale/*",
    )
    # A mirror of testing may lag behind for longer than its list of packages is valid.
    options = ("--quiet", "--variant=minbase", '--aptopt=Acquire::Check-Valid-Until "false"')
    with tempfile.TemporaryDirectory() as folder:
        root = f"{folder}/root.tar"
        try:
            packages = (f"--include={','.join(_packages(release))}", *(f"--dpkgopt={option}" for option in without))
            run("mmdebstrap", *options, *packages, release.suite, root, timeout=600)
        except CommandFailed as error:
            raise LabUnavailable(f"could not make a Debian: {error}") from error
        engine.docker("import", root, tag, timeout=120)


def _tag(name: str, *made_from: str) -> str:
    return f"gitops-mvd-lab/{name}:{hashlib.sha256(chr(10).join(made_from).encode()).hexdigest()[:12]}"
