"""`mvd validate` is never content with nothing, and tells what it has looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from gitops_mvd.git.tree import FolderTree
from gitops_mvd.manifest import review
from tests.unit.memory_tree import MemoryTree

WEB = "services: {web: {image: nginx}}\n"


def told(*paths: str) -> list[str]:
    return [str(problem) for problem in review(MemoryTree(dict.fromkeys(paths, WEB))).problems]


@pytest.mark.parametrize(
    ("paths", "why"),
    [
        (["README.md"], "there is no folder apps/ here, so this is no config repository (README.md)"),
        (["compose.yaml"], "there is no folder apps/ here, and compose.yaml is not read where it is"),
        (
            ["docker-compose.yml", "x/y"],
            "there is no folder apps/ here, and docker-compose.yml is not read where it is",
        ),
        (["shop/compose.yml"], "there is no folder apps/ here, and the Compose file in shop/ is not read where it is"),
        (["kong/README.md"], "there is no folder apps/ here, so this is no config repository (kong/)"),
        (["apps/README.md"], "has no app"),
    ],
)
def test_a_repository_without_an_app_is_a_mistake(paths: list[str], why: str) -> None:
    assert told(*paths) == [f"apps:1: {why}: an app is a folder such as apps/shop/compose.yaml"]


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    [problem] = review(FolderTree(tmp_path)).problems
    assert "so this is no config repository (the folder is empty)" in problem.message
    (tmp_path / "apps").mkdir()
    [problem] = review(FolderTree(tmp_path)).problems
    assert problem.message.startswith("has no app")


@pytest.mark.parametrize("name", ["app", "Apps", "appps"])
def test_a_misspelt_folder_is_told_by_its_name(name: str) -> None:
    wanted = f"{name}:1: is not read: the folder of the apps is called apps, rename it"
    assert told(f"{name}/shop/compose.yaml") == [wanted]
    assert told(f"{name}/shop/compose.yaml", "apps/shop/compose.yaml") == [wanted]


def test_a_folder_of_another_kind_is_nobody_s_business() -> None:
    assert told("app/main.py", "services/shop/compose.yaml", "apps/shop/compose.yaml") == []


def test_a_compose_file_at_the_top_is_noted_beside_apps() -> None:
    found = review(MemoryTree({"compose.yaml": WEB, "compose.override.yaml": WEB, "apps/shop/compose.yaml": WEB}))
    assert not found.problems
    [note] = found.notes
    assert str(note) == "compose.yaml:1: is not read: an app is a folder of its own, apps/<app>/compose.yaml"


def test_kong_alone_is_something() -> None:
    assert not review(MemoryTree({"kong/consumers.yaml": "consumers: [{username: a}]"})).problems


def test_what_was_checked_is_counted() -> None:
    files = {"apps/a/compose.yaml": WEB, "apps/b/compose.yaml": WEB, "fleet.yaml": "hosts: {web1: , web2: , web3: }"}
    found = review(MemoryTree(files))
    assert (found.apps, found.hosts) == (2, 3)
    alone = review(MemoryTree({"apps/a/compose.yaml": WEB}))
    assert (alone.apps, alone.hosts) == (1, 0)


def placed(*constraints: str, fleet: str = "") -> list[str]:
    service = f"web: {{image: nginx, deploy: {{placement: {{constraints: [{', '.join(constraints)}]}}}}}}"
    files = {"apps/shop/compose.yaml": f"services: {{{service}}}"} | ({"fleet.yaml": fleet} if fleet else {})
    return [problem.message for problem in review(MemoryTree(files)).problems]


def test_a_label_that_no_host_can_have_is_a_mistake_without_a_fleet_file() -> None:
    assert placed("node.labels.disk == ssd") == [
        "runs on no host: it is fleet.yaml that gives hosts their labels, and there is none"
    ]
    assert len(placed("node.labels.disk == ssd", "node.labels.zone != a")) == 1
    assert placed("node.labels.zone != a") == []
    assert placed("node.hostname == web1") == []
    assert placed("node.labels.disk == ssd", fleet="hosts: {web1: {labels: {disk: ssd}}}") == []


def test_a_fleet_without_hosts_is_a_mistake() -> None:
    [problem] = review(MemoryTree({"apps/a/compose.yaml": WEB, "fleet.yaml": "hosts: {}"})).problems
    assert (
        str(problem)
        == "fleet.yaml:1: hosts: has no host: no server may use the repository; add one, or remove the file"
    )
