"""Every file in manifests/ is a case that carries its own expectation.

A file of `invalid/` ends in lines `# error: [file:]line: key: message`, and exactly those errors are found.
A file of `valid/` has a JSON file beside it: the apps of each host.  Both have a line `# note: ...` for each note.
Further files of the repository follow in the same file, each behind a line `#--- path`.
`ACCEPT=1 pytest tests/unit/test_manifest.py` rewrites the expectations.
"""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.compose import Run, RunKeys
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.model import App, HostFacts, Problem
from gitops_mvd.docker import swarm_request
from gitops_mvd.manifest import Fleet, load, read_fleet, review, swarm
from tests.unit.memory_tree import MemoryTree

CASES = Path(__file__).parent / "manifests"
MAIN = "apps/demo/compose.yaml"


def repository(case: Path) -> MemoryTree:
    first, *rest = re.split(r"^#--- ", case.read_text(), flags=re.MULTILINE)
    more = (part.partition("\n") for part in rest)
    return MemoryTree({MAIN: first, **{path.strip(): text for path, _, text in more}})


def as_line(word: str, problem: Problem) -> str:
    at = "" if problem.file == MAIN else f"{problem.file}:"
    return f"# {word}: {at}{problem.line}: {problem.key + ': ' if problem.key else ''}{problem.message}\n"


def lines(case: Path) -> list[str]:
    return case.read_text().splitlines(keepends=True)


def expected(case: Path) -> list[str]:
    return [line for line in lines(case) if line.startswith(("# error: ", "# note: "))]


def accept(case: Path, found: list[str]) -> None:
    kept = "".join(line for line in lines(case) if line not in expected(case))
    first, marker, rest = kept.partition("#--- ")
    case.write_text(first + "".join(found) + marker + rest)


@pytest.mark.parametrize("case", sorted(CASES.glob("invalid/*.yaml")), ids=lambda case: case.stem)
def test_every_mistake_is_told_with_its_line_and_key(case: Path) -> None:
    found = review(repository(case))
    told = [as_line("error", it) for it in found.problems] + [as_line("note", it) for it in found.notes]
    if os.environ.get("ACCEPT"):
        accept(case, told)
    assert found.problems
    assert told == expected(case)


@pytest.mark.parametrize("case", sorted(CASES.glob("valid/*.yaml")), ids=lambda case: case.stem)
def test_a_valid_manifest_becomes_these_apps(case: Path) -> None:
    tree = repository(case)
    checked = review(tree)
    notes = [as_line("note", it) for it in checked.notes]
    if os.environ.get("ACCEPT"):
        accept(case, notes)
    assert not checked.problems
    assert notes == expected(case)
    found: dict[str, object] = {}
    for facts in read_fleet(tree).hosts.values() or [HostFacts("web1")]:
        apps, broken = load(tree, facts)
        assert not broken
        assert [App.from_json(json.loads(json.dumps(app.to_json()))) for app in apps] == list(apps)
        found[facts.name] = {app.name: brief(shown(app)) for app in apps}
    golden = case.with_suffix(".json")
    if os.environ.get("ACCEPT"):
        golden.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    assert json.loads(json.dumps(found)) == json.loads(golden.read_text())


def shown(app: App) -> dict[str, Any]:
    """What is stored of an app, but for each check, which is stored as older versions had it."""
    checks = {service.name: dataclasses.asdict(service.check) for service in app.services}
    value = app.to_json()
    return {**value, "services": [{**service, "check": checks[service["name"]]} for service in value["services"]]}


def brief(value: dict[str, Any]) -> dict[str, Any]:
    """An app or a service without its empty fields, so that a golden file is read in one look."""
    services = [brief(service) for service in value.get("services", ())]
    return {name: it for name, it in {**value, "services": services}.items() if it not in ({}, [], (), None, "")}


def test_a_swarm_is_given_every_key_that_it_takes() -> None:
    assert swarm_request.KEYS.keys() | swarm_request.LIMITS.keys() == swarm.TAKEN
    assert RunKeys.__annotations__.keys() | Run.__annotations__.keys() >= swarm.TAKEN


def test_a_host_and_its_settings_agree_whether_it_is_a_swarm() -> None:
    fleet = Fleet({"prod": HostFacts("prod", swarm=True), "web1": HostFacts("web1")}, open=False)
    assert fleet.host("prod", swarm=True).swarm
    assert not fleet.host("web1", swarm=False).swarm
    with pytest.raises(ManifestError, match=r"hosts\.web1: is a Swarm by its settings: have `swarm: true`"):
        fleet.host("web1", swarm=True)
    with pytest.raises(ManifestError, match=r"hosts\.prod: is no Swarm by its settings"):
        fleet.host("prod", swarm=False)
    with pytest.raises(ManifestError, match="is a Swarm by its settings"):
        Fleet().host("prod", swarm=True)
