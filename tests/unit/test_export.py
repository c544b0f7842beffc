"""What an app becomes on Kubernetes: valid whatever it is, with a comment for all that has no counterpart.

A file of `exports/` is a repository, and beside it is what is exported of it.
`ACCEPT=1 pytest tests/unit/test_export.py` rewrites that.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from gitops_mvd.exports.app import Choices
from gitops_mvd.exports.remarks import plain
from gitops_mvd.exports.report import Export, export, summary, text_of
from gitops_mvd.exports.source import read
from gitops_mvd.git.tree import FolderTree
from tests.unit.kubernetes_schemas import mistakes
from tests.unit.memory_tree import MemoryTree
from tests.unit.test_manifest import repository

HERE = Path(__file__).parent
CASES = sorted(path for path in (HERE / "exports").glob("*.yaml") if ".k8s" not in path.suffixes)
MANIFESTS = sorted((HERE / "manifests" / "valid").glob("*.yaml"))
EXAMPLE = HERE.parents[1] / "example-repo"


def exported(files: dict[str, str], app: str = "", host: str = "", choices: Choices | None = None) -> list[Export]:
    return [export(source, choices or Choices()) for source in read(MemoryTree(files), app, host)]


def check(one: Export) -> None:
    """Every document is what Kubernetes takes, no two have one name, and the text says the same."""
    documents = [plain(body) for body in one.documents]
    assert {f"{it['kind']} {it['metadata']['name']}": mistakes(it) for it in documents if mistakes(it)} == {}
    names = [(it["apiVersion"], it["kind"], it["metadata"]["name"]) for it in documents]
    assert len(names) == len(set(names))
    assert list(yaml.safe_load_all(text_of(one))) == documents


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_app_becomes_these_documents(case: Path) -> None:
    exports = [export(source, Choices()) for source in read(repository(case))]
    told = "".join(f"# {line}\n" for line in summary(exports))
    text = told + "".join(map(text_of, exports))
    golden = case.with_suffix(".k8s.yaml")
    if os.environ.get("ACCEPT"):
        golden.write_text(text)
    assert text == golden.read_text()
    for one in exports:
        check(one)


@pytest.mark.parametrize("case", MANIFESTS, ids=lambda case: case.stem)
def test_whatever_can_be_deployed_can_be_exported(case: Path) -> None:
    for source in read(repository(case)):
        check(export(source, Choices()))


def test_the_whole_example_is_exported() -> None:
    exports = [export(source, Choices()) for source in read(FolderTree(EXAMPLE))]
    assert {one.app for one in exports} == {folder.name for folder in (EXAMPLE / "apps").iterdir()} | {"gateway"}
    for one in exports:
        check(one)
