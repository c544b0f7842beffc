"""The Debian package and the image of the command, built of this checkout in the Debian of a lab server, offline."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.lab import wheels
from tests.lab.claim import CHECKOUT
from tests.lab.engine import Engine, Say

TOOLS = ("debhelper", "dpkg-dev", "lintian")
PARTS = (*wheels.PARTS, *wheels.LOCKS, "CHANGELOG.md", "debian", ".ci")
INSTALL = f"""\
RUN export DEBIAN_FRONTEND=noninteractive && apt-get -qq update \
    && apt-get -qq install -y --no-install-recommends {" ".join(TOOLS)} && rm -rf /var/lib/apt/lists/*
"""
PYTHON = "import sys; print('%d.%d' % sys.version_info[:2])"
WORK = "/work"
WITHIN_SECONDS = 600.0


@dataclass(frozen=True)
class Builder:
    """What builds and checks packages, for servers of that `image`."""

    engine: Engine
    image: str
    say: Say

    def build(self, folder: Path, inside: str = "gitops-mvd") -> Path:
        """The package, in that folder; `inside` is the name of that in which it is built.  Raises CommandFailed."""
        with tempfile.TemporaryDirectory() as work:
            self._lay_out(Path(work) / inside)
            self.say("building the Debian package")
            # Of what a package may always need to be built, such as compilers, it needs nothing: hence -d.
            build = "PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels dpkg-buildpackage -us -uc -b -d"
            script = f"cd {WORK}/{inside} && {build}; ended=$?; chown -R {os.geteuid()} {WORK}; exit $ended"
            self._run("sh", "-c", script, at=work)
            [package] = Path(work).glob("*.deb")
            return Path(shutil.copy(package, folder))

    def errors(self, package: Path) -> list[str]:
        """What lintian calls an error in that package."""
        words = ("lintian", "--allow-root", "--fail-on=none", "--tag-display-limit=0", f"{WORK}/{package.name}")
        found = self._run(*words, at=str(package.parent)).splitlines()
        return [line for line in found if line.startswith("E: ")]

    def command(self) -> str:
        """The image of the command `mvd`, by its tag."""
        tag = f"gitops-mvd-lab/command:{hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:12]}"
        with tempfile.TemporaryDirectory() as work:
            self._lay_out(Path(work))
            self.say("building the image of the command")
            offline = ("BASE=" + self.image, "PIP_NO_INDEX=1", "PIP_FIND_LINKS=wheels")
            arguments = [word for argument in offline for word in ("--build-arg", argument)]
            words = ("--quiet", "--network", "none", *arguments, "--file", f"{work}/.ci/Dockerfile", "--tag", tag)
            self.engine.docker("build", *words, work, timeout=WITHIN_SECONDS)
        return tag

    def _lay_out(self, tree: Path) -> None:
        """What is built, and all that it is built of."""
        python = self._run("python3", "-c", PYTHON).strip()
        wheels.copy(wheels.source(*PARTS), tree)
        shutil.copytree(wheels.locked(self.engine.architecture(), python), tree / "wheels")

    def _run(self, *argv: str, at: str = "") -> str:
        """What a program prints in a container of its own, without a network; `at` is what it sees as WORK."""
        tag = f"gitops-mvd-lab/builder:{hashlib.sha256(f'{self.image}{INSTALL}'.encode()).hexdigest()[:12]}"
        if not self.engine.has_image(tag):
            self.say("installing what builds Debian packages")
            build = ("build", "--quiet", "--network", "host", "--tag", tag, "-")
            self.engine.docker(*build, input=f"FROM {self.image}\n{INSTALL}", timeout=WITHIN_SECONDS)
        mounted = ("--volume", f"{at}:{WORK}") if at else ()
        return self.engine.docker("run", "--rm", "--network", "none", *mounted, tag, *argv, timeout=WITHIN_SECONDS).out
