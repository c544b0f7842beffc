"""The lock files have what pyproject.toml asks for, and nothing without a hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

CHECKOUT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
ASKED = {
    "build.lock": PYPROJECT["build-system"]["requires"],
    "lab.lock": [*PROJECT["dependencies"], *EXTRAS["lab"]],
    "server.lock": [*PROJECT["dependencies"], *EXTRAS["kafka"], *EXTRAS["traces"]],
    "site.lock": [*PROJECT["dependencies"], *EXTRAS["site"]],
    "test.lock": [*PROJECT["dependencies"], *(it for extra in EXTRAS.values() for it in extra)],
}
PYTHONS = re.findall(r"Programming Language :: Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))


def locked(file: str) -> dict[str, tuple[Requirement, int]]:
    """Each package of a lock file by its name, with the number of its hashes."""
    packages = {}
    for entry in (CHECKOUT / file).read_text().replace("\\\n", "").splitlines():
        if not entry.startswith("#"):
            package, *hashes = entry.split("--hash=sha256:")
            requirement = Requirement(package)
            packages[canonicalize_name(requirement.name)] = (requirement, len(hashes))
    return packages


@pytest.mark.parametrize("file", ASKED)
def test_every_requirement_is_locked_in_a_version_that_it_allows(file: str) -> None:
    packages = locked(file)
    for wanted in map(Requirement, ASKED[file]):
        if wanted.name != PROJECT["name"]:
            assert canonicalize_name(wanted.name) in packages, f"{wanted} is not in {file}: make lock"
            (version,) = packages[canonicalize_name(wanted.name)][0].specifier
            assert version.operator == "=="
            assert wanted.specifier.contains(version.version), f"{file} has {wanted.name} {version.version}: make lock"


@pytest.mark.parametrize("file", ASKED)
def test_every_locked_package_has_a_hash_and_no_address(file: str) -> None:
    assert [name for name, (package, hashes) in locked(file).items() if not hashes or package.url] == []
    assert "://" not in (CHECKOUT / file).read_text()


@pytest.mark.parametrize("file", ["lab.lock", "server.lock", "site.lock"])
def test_what_is_used_has_the_versions_that_are_tested(file: str) -> None:
    used, test = locked(file), locked("test.lock")
    assert {name: used[name][0].specifier for name in used} == {name: test[name][0].specifier for name in used}


def test_the_makefile_tries_every_python_that_is_named() -> None:
    assert f"PYTHONS = {' '.join(PYTHONS)}\n" in (CHECKOUT / "Makefile").read_text()
