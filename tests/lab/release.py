"""All that a release consists of, made of the checkout as it is tagged: wheel, sdist, Debian package, SBOM, checksums.

Made twice, it is the same byte for byte.  Nothing is published.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from tests.lab.command import run

BUILD_SECONDS = 300.0


def problems(checkout: Path, version: str) -> Iterator[str]:
    """Why this checkout is not that version, one sentence each."""
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]["version"]
    if project != version:
        yield f"pyproject.toml says version {project}, and not {version}"
    if not re.search(rf"^## {re.escape(version)} - \d{{4}}-\d\d-\d\d$", (checkout / "CHANGELOG.md").read_text(), re.M):
        yield f"CHANGELOG.md has no section `## {version} - YYYY-MM-DD`"
    debian = (checkout / "debian/changelog").read_text().partition(")")[0].rpartition("(")[2]
    if debian != version:
        yield f"debian/changelog begins with {debian}, and not with {version}"
    if changed := _git(checkout, "status", "--porcelain").splitlines():
        yield f"the tree is not clean: {', '.join(line[3:] for line in changed)}"
    if f"v{version}" not in _git(checkout, "tag", "--points-at", "HEAD").split():
        yield f"HEAD has no tag v{version}: git tag -s v{version}"


def build(checkout: Path, folder: Path) -> None:
    """Write sdist, wheel and SBOM of the last commit into a folder.  The wheel is built from the sdist."""
    made_at = int(_git(checkout, "log", "-1", "--format=%ct"))
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(made_at)}
    with tempfile.TemporaryDirectory() as tree:
        _git(checkout, "archive", "--output", f"{tree}/source.tar", "HEAD")
        with tarfile.open(f"{tree}/source.tar") as tar:
            tar.extractall(f"{tree}/source", filter="data")
        words = ("-m", "build", "--no-isolation", "--outdir", str(folder), f"{tree}/source")
        run(sys.executable, *words, env=environment, timeout=BUILD_SECONDS)
        [sdist] = folder.glob("*.tar.gz")
        _without_traces(sdist, made_at)
        name = sdist.name.removesuffix(".tar.gz")
        parts = ("--pyproject", f"{tree}/source/pyproject.toml", "--output-reproducible")
        out = ("--output-file", str(folder / f"{name}.cdx.json"), f"{tree}/source/server.lock")
        run(sys.executable, "-m", "cyclonedx_py", "requirements", *parts, *out, env=environment)


def add_sums(folder: Path) -> None:
    """Write SHA256SUMS of all files of a folder, as `sha256sum --check` reads it."""
    files = sorted(file for file in folder.iterdir() if file.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (folder / "SHA256SUMS").write_text("".join(lines))


def _without_traces(archive: Path, made_at: int) -> None:
    """Write a tar archive anew, in order, and without who has packed it, and when."""
    fresh = archive.with_suffix(".new")
    with (
        tarfile.open(archive) as tar,
        fresh.open("wb") as file,
        gzip.GzipFile("", "wb", 9, file, made_at) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as anew,
    ):
        for entry in sorted(tar, key=lambda it: it.name):
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = ""
            entry.mtime, entry.pax_headers = made_at, {}
            entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
            anew.addfile(entry, tar.extractfile(entry) if entry.isfile() else None)
    fresh.replace(archive)


def _git(checkout: Path, *words: str) -> str:
    return run("git", "-C", str(checkout), *words).out
