"""The wheels that a lab server installs: this project, and all that it needs, for the server's own Python.

pip runs here and not in the server, so its settings (index, proxy, certificates) are the user's.  Wheels are
cached by the hash of what they were made from.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from tests.lab.claim import CHECKOUT
from tests.lab.command import run
from tests.lab.engine import LabUnavailable

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SOURCE_ONLY = ("sdnotify",)  # pure Python, but PyPI has no wheel of it
# pip reads `; python_version < "3.13"` with the version that runs it: what only older ones need has to be named.
ALSO_NEEDED = ("typing-extensions",)
PARTS = ("pyproject.toml", "README.md", "LICENSE", "gitops_mvd", "systemd")
LOCKS = ("build.lock", "server.lock")  # what the Debian package is built with, and what it contains


def needed(architecture: str, python: str) -> Path:
    """The folder with a wheel of everything that the project and its lab need.

    `architecture` is the engine's, as Docker names it, `python` the version of the server's, such as 3.13.
    Raises CommandFailed, LabUnavailable.
    """
    project = tomllib.loads(_pyproject().read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["lab"], *ALSO_NEEDED]

    def fetch(folder: Path) -> None:
        pip("wheel", "--no-deps", f"--wheel-dir={folder}", *SOURCE_ONLY)
        pip(
            *("download", f"--dest={folder}", f"--find-links={folder}", "--only-binary=:all:"),
            *(f"--python-version={python}", "--implementation=cp", *_platforms(architecture), *requirements),
        )

    return cached("needed", [python, MACHINES[architecture], *sorted(requirements)], fetch)


def locked(architecture: str, python: str) -> Path:
    """The folder with each package that the locks name, for that Python (`3.11`).  Raises CommandFailed."""
    locks = [_pyproject().with_name(name) for name in LOCKS]

    def fetch(folder: Path) -> None:
        for lock in locks:
            pip(
                *("download", "--no-deps", "--require-hashes", f"--dest={folder}", f"--requirement={lock}"),
                *(f"--python-version={python}", "--implementation=cp", *_platforms(architecture)),
            )

    return cached("locked", [python, architecture, *(lock.read_text() for lock in locks)], fetch)


def project() -> Path:
    """The wheel of this checkout as it is now.  Raises CommandFailed, LabUnavailable."""
    files = source(*PARTS)
    content = (f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for name, file in files.items())

    def build(folder: Path) -> None:
        # A copy, because setuptools builds inside the tree, and packs what an older build left there.
        with tempfile.TemporaryDirectory() as copied:
            copy(files, Path(copied))
            pip("wheel", "--no-deps", f"--wheel-dir={folder}", copied)

    (wheel,) = cached("project", content, build).glob("*.whl")
    return wheel


def source(*parts: str) -> dict[Path, Path]:
    """The files at and below some paths of this checkout, by their names in it."""
    root = _pyproject().parent
    found = [root / part for part in parts if (root / part).exists()]
    files = sorted(file for part in found for file in [part, *part.rglob("*")] if _is_source(file))
    return {file.relative_to(root): file for file in files}


def copy(files: Mapping[Path, Path], folder: Path) -> None:
    """Copy files to their names below another folder; of a link, what it leads to."""
    for name, file in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)


def _is_source(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def _platforms(architecture: str) -> list[str]:
    return [f"--platform={tag}_{MACHINES[architecture]}" for tag in ("manylinux2014", "manylinux_2_28")]


def _pyproject() -> Path:
    file = CHECKOUT / "pyproject.toml"
    if not file.exists():
        raise LabUnavailable("the lab builds the project from its source: use a clone of the repository")
    return file


def pip(*argv: str) -> None:
    """`pip ARGV`, of this Python.  Raises CommandFailed."""
    run(sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *argv, timeout=300)


def cached(name: str, made_from: Iterable[str], make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills, made once for each content of `made_from`."""
    digest = hashlib.sha256("\n".join(made_from).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gitops-mvd"
    folder = cache / f"{name}-{digest}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        fresh = Path(work) / name
        fresh.mkdir()
        make(fresh)
        try:
            fresh.rename(folder)
        except OSError:  # another lab was quicker
            if not folder.exists():
                raise
    return folder
