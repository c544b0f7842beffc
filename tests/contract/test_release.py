"""What a release consists of: complete, the same byte for byte whenever it is made, and never of another version."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.release import add_sums, build, problems

ROOT = Path(__file__).parents[2]
VERSION = "1.2.3"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This checkout, as a repository of its own with one commit."""
    folder = tmp_path_factory.mktemp("release") / "checkout"
    others = ("__pycache__", ".hypothesis", "screenshots", "site")  # where other tests write meanwhile
    ignored = shutil.ignore_patterns(".git", ".venv", "build", "dist", ".*_cache", *others)
    shutil.copytree(ROOT, folder, symlinks=True, ignore=ignored)
    git(folder, "init", "--quiet")
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def released(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build(checkout, folder)
    add_sums(folder)
    return folder


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=Anna", "-c", "user.email=anna@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *who, *words], check=True, stdout=subprocess.DEVNULL)


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "Release")


def module(*words: str | Path) -> str:
    return subprocess.run([sys.executable, "-m", *words], check=True, capture_output=True, text=True).stdout


def test_it_is_the_same_whenever_it_is_made(checkout: Path, released: Path, tmp_path: Path) -> None:
    build(checkout, tmp_path)
    add_sums(tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == (released / "SHA256SUMS").read_text()


def test_its_sums_are_those_of_its_files(released: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=released, check=True)
    listed = [line.split()[1] for line in (released / "SHA256SUMS").read_text().splitlines()]
    assert [re.sub(r"-[0-9.]+[0-9]", "-N", name) for name in listed] == [
        "gitops_mvd-N-py3-none-any.whl",
        "gitops_mvd-N.cdx.json",
        "gitops_mvd-N.tar.gz",
    ]


def test_an_index_of_packages_takes_it(released: Path) -> None:
    assert (
        module("twine", "--no-color", "check", "--strict", *released.glob("*.whl"), *released.glob("*.tar.gz")).count(
            "PASSED"
        )
        == 2
    )


def test_the_sdist_builds_the_same_wheel_again(
    released: Path, checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [wheel], [sdist] = released.glob("*.whl"), released.glob("*.tar.gz")
    made_at = subprocess.run(
        ["git", "-C", checkout, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=True
    )
    monkeypatch.setenv("SOURCE_DATE_EPOCH", made_at.stdout.strip())
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    [source] = tmp_path.iterdir()
    module("build", "--wheel", "--no-isolation", "--outdir", tmp_path, source)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_its_bill_of_materials_has_each_package_of_the_lock(released: Path) -> None:
    [file] = released.glob("*.cdx.json")
    bill = json.loads(file.read_text())
    locked = re.findall(r"^([a-z0-9-]+)==(\S+)", (ROOT / "server.lock").read_text(), re.M)
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "gitops-mvd"
    assert {(it["name"], it["version"]) for it in bill["components"]} == set(locked)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A checkout that is VERSION."""
    (tmp_path / "debian").mkdir()
    (tmp_path / "pyproject.toml").write_text(f'[project]\nversion = "{VERSION}"\n')
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n## {VERSION} - 2026-12-24\n")
    (tmp_path / "debian/changelog").write_text(f"gitops-mvd ({VERSION}) unstable; urgency=medium\n")
    git(tmp_path, "init", "--quiet")
    commit(tmp_path)
    git(tmp_path, "tag", f"v{VERSION}")
    return tmp_path


def test_a_checkout_that_is_the_version_is_released(small: Path) -> None:
    assert list(problems(small, VERSION)) == []


def test_a_release_of_another_version_is_refused(small: Path) -> None:
    assert list(problems(small, "1.3.0")) == [
        "pyproject.toml says version 1.2.3, and not 1.3.0",
        "CHANGELOG.md has no section `## 1.3.0 - YYYY-MM-DD`",
        "debian/changelog begins with 1.2.3, and not with 1.3.0",
        "HEAD has no tag v1.3.0: git tag -s v1.3.0",
    ]


def test_a_tree_that_is_not_as_it_was_tagged_is_refused(small: Path) -> None:
    (small / "new.py").write_text("")
    assert list(problems(small, VERSION)) == ["the tree is not clean: new.py"]
    commit(small)
    assert list(problems(small, VERSION)) == ["HEAD has no tag v1.2.3: git tag -s v1.2.3"]
