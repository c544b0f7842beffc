"""The wheel that a production server installs: all that it needs is in it, and nothing of the lab and the tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
NEEDED_TO_BUILD = Version("77")  # of setuptools, as pyproject.toml has it


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, as a build leaves its own files beside what it builds."""
    source, built = tmp_path_factory.mktemp("source") / "gitops-mvd", tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignore)
    pip("wheel", "--no-deps", *without_isolation(), "--wheel-dir", str(built), str(source))
    [wheel] = built.iterdir()
    return wheel


@pytest.fixture(scope="module")
def mvd(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment that has this wheel and what it says that it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    [packages] = folder.glob("lib/python*/site-packages")
    for name in needed("gitops-mvd", set()):
        link(name, packages)
    pip("--python", str(folder / "bin/python"), "install", "--no-deps", "--no-index", str(wheel))
    return folder / "bin/mvd"


def without_isolation() -> list[str]:
    """The option for it, where what builds is installed here; else pip gets it from the index."""
    with suppress(metadata.PackageNotFoundError):
        if Version(metadata.version("setuptools")) >= NEEDED_TO_BUILD:
            return ["--no-build-isolation"]
    return []


def pip(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True)


def needed(package: str, extras: set[str]) -> Iterator[str]:
    """The packages that one needs, and those that they need, as their metadata says."""
    for line in metadata.requires(package) or ():
        requirement = Requirement(line)
        if not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement.name
            yield from needed(requirement.name, requirement.extras)


def link(package: str, folder: Path) -> None:
    """Put a package that is installed here into another environment."""
    for top in {path.parts[0] for path in metadata.files(package) or () if path.parts[0] not in ("..", "__pycache__")}:
        target = folder / top
        if not target.exists():
            target.symlink_to(Path(str(metadata.distribution(package).locate_file(top))))


def test_the_wheel_has_every_file_that_is_needed_and_no_other(wheel: Path) -> None:
    here = {str(path.relative_to(ROOT)) for path in (ROOT / "gitops_mvd").rglob("*") if path.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert inside == {path for path in here if "__pycache__" not in path}
    assert {"gitops_mvd/py.typed", "gitops_mvd/gitops-mvd.service", "gitops_mvd/docs/commands.md"} <= inside


def test_the_lab_and_the_tests_stay_at_home(wheel: Path, mvd: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        assert {name.partition("/")[0].partition("-")[0] for name in archive.namelist()} == {"gitops_mvd"}
    python = mvd.with_name("python")
    for package in ("tests", "aiohttp", "pytest"):
        assert subprocess.run([python, "-c", f"import {package}"], cwd="/", stderr=subprocess.DEVNULL).returncode


def test_the_command_runs_from_it(mvd: Path) -> None:
    assert "Run the reconcile loop" in said(mvd, "--help")
    assert "The command `mvd`" in said(mvd, "docs")
    assert said(mvd, "docs", "operations").startswith("# ")
    assert said(mvd, "--version").startswith("mvd, version ")
    assert said(mvd, "validate", str(ROOT / "example-repo")) == ""


IMPORT_ALL = """
import importlib, pkgutil, sys, gitops_mvd
for module in pkgutil.walk_packages(gitops_mvd.__path__, "gitops_mvd."):
    if not module.name.endswith("__main__") and not module.name.startswith(tuple(sys.argv[1:])):
        importlib.import_module(module.name)
"""
PROGRAMS = "gitops_mvd.probes.programs."  # each is run by itself, and only where its extra is installed


def test_every_module_of_it_can_be_imported(mvd: Path) -> None:
    """Each kind, probe and forge is found by name, so a dependency that is not declared would show on a server only."""
    assert said(mvd.with_name("python"), "-c", IMPORT_ALL, PROGRAMS) == ""


def test_with_its_extras_its_programs_can_be_imported_too(mvd: Path, tmp_path: Path) -> None:
    for name in needed("gitops-mvd", {"kafka", "traces"}):
        link(name, tmp_path)
    assert said("env", f"PYTHONPATH={tmp_path}", mvd.with_name("python"), "-c", IMPORT_ALL) == ""


STARTS_WITHOUT = ("docker", "git", "requests", "jeepney", "cryptography", "h2", "waitress", "watchdog")


@pytest.mark.parametrize(
    "words", [["--help"], ["docs"], ["validate", str(ROOT / "example-repo")]], ids=lambda it: it[0]
)
def test_it_starts_without_what_only_a_server_needs(mvd: Path, words: list[str]) -> None:
    program = f"""
import sys
from gitops_mvd.cli.main import main
try:
    main({words!r})
except SystemExit as ended:
    assert not ended.code
print(*sys.modules, file=sys.stderr)
"""
    command = [mvd.with_name("python"), "-c", program]
    loaded = subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stderr.split()
    assert set(STARTS_WITHOUT) & set(loaded) == set()


def said(*command: str | Path) -> str:
    return subprocess.run(command, cwd="/", check=True, capture_output=True, text=True).stdout
