"""Takes the tests marked `server` into a lab server, and runs them there."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import images, service
from tests.lab.images import Release
from tests.lab.lab import Lab
from tests.lab.server import VENV, Server

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
PYTEST = ("pytest", "hypothesis")
OF_AN_OLD_ENGINE = "Docker 25 and newer"  # begins why a test of what these do no more is skipped
# What an old engine and an old systemd may have against it; the rest is the same everywhere.
OF_AN_ENGINE = tuple(f"tests/contract/test_{name}.py" for name in ("create", "docker", "kinds", "units"))
PLACE = "/opt/gitops-mvd-tests"


@pytest.fixture
def release(lab: Lab, request: pytest.FixtureRequest) -> Release:
    """What the server runs: by its name, or "" for what the lab's servers run."""
    chosen = images.release(request.param) if request.param else lab.release
    if request.param and chosen == lab.release:
        pytest.skip("the lab's servers run it all the same")
    return chosen


@pytest.fixture
def inside(lab: Lab, release: Release) -> Iterator[Server]:
    """A server to have the tests."""
    inside = lab.server("inside", release=release)
    inside.install(lab.wheel)
    yield inside
    inside.destroy()


@pytest.fixture
def pytest_wheels(pytestconfig: pytest.Config, release: Release) -> Path:
    """A folder with pytest for the server, which reaches no package index; fetched once a checkout."""
    assert pytestconfig.cache is not None
    folder = Path(pytestconfig.cache.mkdir(f"server-wheels-{release.python}"))
    if not any(folder.iterdir()):
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check")
        what = (f"--dest={folder}", f"--python-version={release.python}", "--only-binary=:all:", *PYTEST)
        subprocess.run([*pip, *what], check=True, timeout=300)
    return folder


@pytest.mark.parametrize("release", ["", "debian12"], indirect=True, ids=["the lab's own", "an old one"])
def test_the_contracts_hold_on_a_real_server(lab: Lab, release: Release, inside: Server, pytest_wheels: Path) -> None:
    image = lab.registry.push("contract/web", "1", service.web("contract", "1"))
    private = lab.private_registry.push("contract/private", "1", service.web("private", "1"))
    assert lab.private_registry.login
    inside.start_gateway()
    inside.exec("mkdir", "-p", PLACE)
    inside.exec("tar", "-x", "-C", PLACE, input=packed(pytest_wheels))
    pip = (f"{VENV}/bin/pip", "install", "--quiet", "--no-index", "--upgrade", f"--find-links={PLACE}/wheels")
    inside.exec(*pip, f"--target={PLACE}/packages", *PYTEST, timeout=120)
    environment = {
        "PYTHONPATH": f"{PLACE}/packages",
        "MVD_INSIDE": "1",
        "MVD_IMAGE": image,
        "MVD_PRIVATE_IMAGE": private,
        "MVD_LOGIN": ":".join(lab.private_registry.login),
        "MVD_KONG": "http://127.0.0.1:8001",
        "MVD_PROXY": "http://127.0.0.1:8000",
    }
    pytest_there = (f"{VENV}/bin/python", "-m", "pytest", "-m", "server", "-p", "no:cacheprovider", "-v", "-ra")
    ran = inside.exec(
        *("env", f"--chdir={PLACE}", *(f"{key}={value}" for key, value in environment.items())),
        *("timeout", "--signal=ABRT", "900"),  # pytest then tells where it hangs
        *(*pytest_there, *(marked() if release == lab.release else OF_AN_ENGINE)),
        timeout=930,
        check=False,
    )
    print(ran.out, ran.err)
    assert ran.code == 0, "tests failed on the server: their own report is above"
    assert not skipped(ran.out), "all others can be run there"


def skipped(said: str) -> list[str]:
    """The lines of pytest's summary about tests that were skipped; only these have why, and several may be on one."""
    summary = [line for line in said.splitlines() if line.startswith("SKIPPED [")]
    assert sum(int(line[len("SKIPPED [") :].partition("]")[0]) for line in summary) == said.count(" SKIPPED "), said
    return [line for line in summary if f": {OF_AN_OLD_ENGINE} " not in line]


def marked() -> list[str]:
    """The files with tests for a server: what only others import is not installed there."""
    files = sorted((ROOT / "tests" / "contract").glob("test_*.py"))
    return [str(file.relative_to(ROOT)) for file in files if "pytest.mark.server" in file.read_text()]


def packed(pytest_wheels: Path) -> bytes:
    """What the server needs: the tests, their settings, and pytest."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(ROOT / "pyproject.toml", "pyproject.toml")
        tar.add(ROOT / "tests", "tests", filter=lambda entry: None if "__pycache__" in entry.name else entry)
        tar.add(pytest_wheels, "wheels")
    return buffer.getvalue()
