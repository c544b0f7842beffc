"""The Debian package of this checkout, built where nothing but Debian is: in the lab server's own Debian, and offline."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

from tests.lab import images, wheels
from tests.lab.engine import Engine, Say

TOOLS = ("debhelper", "dpkg-dev", "lintian")
PARTS = (*wheels.PARTS, *wheels.LOCKS, "CHANGELOG.md", "debian")
WORK = "/work"
BUILD_SECONDS = 600.0


def build(engine: Engine, say: Say, folder: Path, inside: str = "gitops-mvd") -> Path:
    """The package, as a file in that folder; `inside` is the name of the folder that it is built in.

    Raises LabUnavailable, CommandFailed.
    """
    image = _builder(engine, say)
    python = _in(engine, image, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work) / inside
        wheels.copy(wheels.source(*PARTS), tree)
        shutil.copytree(wheels.locked(engine.architecture(), python), tree / "wheels")
        say("building the Debian package")
        build = f"cd {WORK}/{inside} && PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels dpkg-buildpackage -us -uc -b"
        _in(engine, image, "sh", "-c", f"{build}; ended=$?; chown -R {os.geteuid()} {WORK}; exit $ended", at=work)
        [package] = Path(work).glob("*.deb")
        return Path(shutil.copy(package, folder))


def complaints(engine: Engine, say: Say, package: Path) -> list[str]:
    """What lintian calls an error in that package."""
    image = _builder(engine, say)
    words = ("lintian", "--fail-on=none", "--tag-display-limit=0", f"{WORK}/{package.name}")
    found = _in(engine, image, *words, at=str(package.parent)).splitlines()
    return [line for line in found if line.startswith("E: ")]


def _builder(engine: Engine, say: Say) -> str:
    """The image of a lab server, and what builds packages."""
    server = images.server(engine, say)
    tag = images._tag("builder", server, json.dumps(TOOLS))
    if not engine.has_image(tag):
        say("installing what builds Debian packages")
        install = f"apt-get -qq update && apt-get -qq install -y --no-install-recommends {' '.join(TOOLS)}"
        engine.docker(
            *("build", "--quiet", "--network", "host", "--tag", tag, "-"),
            input=f"FROM {server}\nRUN export DEBIAN_FRONTEND=noninteractive && {install} && rm -rf /var/lib/apt/lists/*\n",
            timeout=BUILD_SECONDS,
        )
    return tag


def _in(engine: Engine, image: str, *argv: str, at: str = "") -> str:
    """What a program prints in a container of its own, without a network; `at` is what it sees as WORK."""
    mounted = ("--volume", f"{at}:{WORK}") if at else ()
    return engine.docker("run", "--rm", "--network", "none", *mounted, image, *argv, timeout=BUILD_SECONDS).out
