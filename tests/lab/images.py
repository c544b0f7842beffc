"""The image that a lab server boots, made once and kept in the engine.

Its base is `debian:bookworm`, pulled if a registry answers, else made from Debian's own packages by
`mmdebstrap`.
"""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import subprocess
import tempfile
from importlib.resources import files
from pathlib import Path

from tests.lab import wheels
from tests.lab.command import CommandFailed, run
from tests.lab.engine import Engine, LabUnavailable, Say, install_packages

RELEASE = "bookworm"
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


def server(engine: Engine, say: Say) -> str:
    """The tag of the server image, made if it is missing.  Raises LabUnavailable, CommandFailed."""
    architecture = engine.architecture()
    needed = wheels.needed(architecture)
    dockerfile = files("tests.lab").joinpath("server.Dockerfile").read_text()
    daemon = json.dumps(DAEMON, indent=2)
    tag = _tag("server", dockerfile, daemon, needed.name, *PACKAGES)
    if engine.has_image(tag):
        return tag
    base = _base(engine, say)
    say("building the image of a lab server")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        shutil.copytree(needed, context / "wheels")
        (context / "daemon.json").write_text(daemon)
        (context / "Dockerfile").write_text(dockerfile)
        build = ("build", "--quiet", "--network", "none", "--build-arg", f"BASE={base}", "--tag", tag)
        engine.docker(*build, folder, timeout=300)
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


def _base(engine: Engine, say: Say) -> str:
    tag = _tag("base", RELEASE, *PACKAGES)
    if engine.has_image(tag):
        return tag
    official = f"debian:{RELEASE}"
    if pull(engine, official, say):
        say(f"installing Debian's packages onto {official}")
        install = f"apt-get -qq update && apt-get -qq install -y --no-install-recommends {' '.join(PACKAGES)}"
        dockerfile = (
            f"FROM {official}\nRUN export DEBIAN_FRONTEND=noninteractive && {install} && rm -rf /var/lib/apt/lists/*\n"
        )
        engine.docker("build", "--quiet", "--network", "host", "--tag", tag, "-", input=dockerfile, timeout=600)
    else:
        say(f"cannot pull {official}: making it from Debian's packages, which takes a minute")
        _bootstrap(engine, tag, say)
    return tag


def _bootstrap(engine: Engine, tag: str, say: Say) -> None:
    if os.geteuid() != 0:
        raise LabUnavailable(f"cannot pull debian:{RELEASE}, and only root can make it instead")
    if not shutil.which("mmdebstrap"):
        install_packages(say, "mmdebstrap", "debian-archive-keyring")
    without = (
        "path-exclude=/usr/share/doc/*",
        "path-exclude=/usr/share/man/*",
        "path-exclude=/usr/share/locale/*",
    )
    options = ("--quiet", "--variant=minbase", f"--include={','.join(PACKAGES)}")
    with tempfile.TemporaryDirectory() as folder:
        root = f"{folder}/root.tar"
        try:
            run("mmdebstrap", *options, *(f"--dpkgopt={option}" for option in without), RELEASE, root, timeout=600)
        except CommandFailed as error:
            raise LabUnavailable(f"could not make a Debian: {error}") from error
        engine.docker("import", root, tag, timeout=120)


def _tag(name: str, *made_from: str) -> str:
    return f"gitops-mvd-lab/{name}:{hashlib.sha256(chr(10).join(made_from).encode()).hexdigest()[:12]}"
