"""Debian's Prometheus and promtool, unpacked into a cache: nothing is installed, and no service of it is started."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from tests.lab.command import CommandFailed, run
from tests.lab.engine import LabUnavailable, Say

PACKAGE = "prometheus"
PROGRAMS = ("prometheus", "promtool")


def programs(say: Say) -> dict[str, str]:
    """The path of each program, by name.  Raises LabUnavailable where they are not, and cannot be had."""
    found = {name: shutil.which(name) for name in PROGRAMS}
    if all(found.values()):
        return {name: str(path) for name, path in found.items()}
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gitops-mvd" / PACKAGE
    if not folder.exists():
        _unpack(folder, say)
    return {name: str(folder / "usr/bin" / name) for name in PROGRAMS}


def _unpack(folder: Path, say: Say) -> None:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise LabUnavailable(f"please install {PACKAGE}: only on Debian and Ubuntu is it fetched for you")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        say(f"fetching Debian's {PACKAGE}")
        try:
            _download(work)
            [package] = Path(work).glob("*.deb")
            run("dpkg-deb", "--extract", str(package), f"{work}/unpacked", timeout=120)
        except CommandFailed as error:
            raise LabUnavailable(f"could not fetch {PACKAGE}: {error}") from error
        try:
            Path(f"{work}/unpacked").rename(folder)
        except OSError:  # another one was quicker
            if not folder.exists():
                raise


def _download(folder: str) -> None:
    """Fetch the package into a folder; root may ask for newer lists of packages before."""
    download = ("sh", "-c", f"cd '{folder}' && chmod 755 . && apt-get -qq download {PACKAGE}")
    if os.geteuid() != 0:
        run(*download, timeout=300)
        return
    run("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120", "update", timeout=180)
    run(*download, timeout=300)
