"""Which Compose files of an app's folder are read, and what is said of the others."""

from __future__ import annotations

import pytest

from gitops_mvd.core.model import HostFacts
from gitops_mvd.manifest import load, review
from tests.unit.memory_tree import MemoryTree

WEB = "services: {web: {image: nginx}}\n"
OTHER = "services: {web: {image: apache}}\n"
FLEET = "hosts: {web1: {labels: {region: uk}}}"


def image(files: dict[str, str]) -> str:
    [app], broken = load(MemoryTree({f"apps/shop/{name}": text for name, text in files.items()}), UK)
    assert not broken
    return app.services[0].image


UK = HostFacts("web1", {"region": "uk"})


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"])
def test_each_name_that_compose_knows_is_read(name: str) -> None:
    assert image({name: WEB}) == "nginx"
    assert not review(MemoryTree({f"apps/shop/{name}": WEB})).problems


def test_of_several_the_first_one_counts_as_with_compose() -> None:
    names = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"]
    for first in range(3):
        assert image({name: WEB if at == first else OTHER for at, name in enumerate(names) if at >= first}) == "nginx"


def test_a_second_file_is_noted_if_it_says_the_same_and_else_a_mistake() -> None:
    tree = MemoryTree({"apps/shop/compose.yaml": WEB, "apps/shop/docker-compose.yml": WEB})
    found = review(tree)
    assert not found.problems
    [note] = found.notes
    assert note.file == "apps/shop/docker-compose.yml"
    assert note.message == "is not read, because compose.yaml is beside it, with the same content: remove one"
    [problem] = review(MemoryTree({"apps/shop/compose.yaml": WEB, "apps/shop/docker-compose.yml": OTHER})).problems
    assert str(problem) == "apps/shop/docker-compose.yml:1: is not read, because compose.yaml is beside it: remove one"


@pytest.mark.parametrize("suffix", ["yaml", "yml"])
def test_an_override_has_either_suffix(suffix: str) -> None:
    assert image({"docker-compose.yml": WEB, f"compose.region-uk.{suffix}": OTHER}) == "apache"
    files = {"apps/shop/docker-compose.yml": WEB, f"apps/shop/compose.region-uk.{suffix}": OTHER, "fleet.yaml": FLEET}
    assert not review(MemoryTree(files)).problems


def test_the_same_override_with_both_suffixes_is_a_mistake() -> None:
    names = ("compose.yaml", "compose.region-uk.yaml", "compose.region-uk.yml")
    [problem] = review(MemoryTree({**{f"apps/shop/{name}": WEB for name in names}, "fleet.yaml": FLEET})).problems
    assert problem.message == "is an override by the same name as compose.region-uk.yaml: remove one"


@pytest.mark.parametrize("name", ["compose.override.yaml", "compose.override.yml", "docker-compose.override.yml"])
def test_the_override_of_a_laptop_is_noted(name: str) -> None:
    files = {"compose.yaml": WEB, name: OTHER}
    assert image(files) == "nginx"
    [note] = review(MemoryTree({f"apps/shop/{name}": text for name, text in files.items()})).notes
    assert note.file == f"apps/shop/{name}"
    assert "for `docker compose` on a laptop" in note.message


def test_a_name_that_compose_does_not_know_is_to_be_renamed() -> None:
    [problem] = review(MemoryTree({"apps/shop/Docker-Compose.yml": WEB})).problems
    assert problem.message == "there is no compose.yaml beside it: rename the file to compose.yaml"
