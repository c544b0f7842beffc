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
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.lab.claim import CHECKOUT
from tests.lab.command import run
from tests.lab.engine import LabUnavailable

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SOURCE_ONLY = ("sdnotify",)  # pure Python, but PyPI has no wheel of it
# pip reads `; python_version < "3.13"` with the version that runs it: what only older ones need has to be named.
ALSO_NEEDED = ("typing-extensions",)
PARTS = ("pyproject.toml", "README.md", "LICENSE", "gitops_mvd", "systemd")


def needed(architecture: str, python: str) -> Path:
    """The folder with a wheel of everything that the project and its lab need.

    `architecture` is the engine's, as Docker names it, `python` the version of the server's, such as 3.13.
    Raises CommandFailed, LabUnavailable.
    """
    project = tomllib.loads(_pyproject().read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["lab"], *ALSO_NEEDED]
    machine = MACHINES[architecture]
    platforms = [f"--platform={tag}_{machine}" for tag in ("manylinux2014", "manylinux_2_28")]

    def fetch(folder: Path) -> None:
        _pip("wheel", "--no-deps", f"--wheel-dir={folder}", *SOURCE_ONLY)
        _pip(
            *("download", f"--dest={folder}", f"--find-links={folder}", "--only-binary=:all:"),
            *(f"--python-version={python}", "--implementation=cp", *platforms, *requirements),
        )

    return cached("needed", [python, machine, *sorted(requirements)], fetch)


def project() -> Path:
    """The wheel of this checkout as it is now.  Raises CommandFailed, LabUnavailable."""
    root = _pyproject().parent
    parts = [root / part for part in PARTS if (root / part).exists()]
    files = sorted(file for part in parts for file in [part, *part.rglob("*")] if _is_source(file))
    content = (f"{file.relative_to(root)} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in files)

    def build(folder: Path) -> None:
        # A copy, because setuptools builds inside the tree, and packs what an older build left there.
        with tempfile.TemporaryDirectory() as copy:
            for file in files:
                target = Path(copy) / file.relative_to(root)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            _pip("wheel", "--no-deps", f"--wheel-dir={folder}", copy)

    (wheel,) = cached("project", content, build).glob("*.whl")
    return wheel


def _is_source(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts


def _pyproject() -> Path:
    file = CHECKOUT / "pyproject.toml"
    if not file.exists():
        raise LabUnavailable("the lab builds the project from its source: use a clone of the repository")
    return file


def _pip(*argv: str) -> None:
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
