"""The example repository is what people copy from: it is valid, complete, and does what it seems to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from gitops_mvd import forges
from gitops_mvd.core.model import App, Service
from gitops_mvd.git.tree import FolderTree
from gitops_mvd.manifest import load, read_fleet, validate

EXAMPLE = Path(__file__).parents[2] / "example-repo"
COMPOSE_FILES = sorted(EXAMPLE.glob("apps/*/compose*.yaml"))

Placed = Mapping[str, Mapping[str, App]]  # host -> name -> app


@pytest.fixture(scope="module")
def compose_schema() -> Draft202012Validator:
    """The schema that the Compose Specification publishes, as check-jsonschema carries it."""
    schema = files("check_jsonschema.builtin_schemas").joinpath("vendor/compose-spec.json").read_text("utf-8")
    return Draft202012Validator(json.loads(schema))


@pytest.fixture(scope="module")
def tree() -> FolderTree:
    return FolderTree(EXAMPLE)


@pytest.fixture(scope="module")
def placed(tree: FolderTree) -> Placed:
    return {name: {app.name: app for app in load(tree, facts)[0]} for name, facts in read_fleet(tree).hosts.items()}


def the_only_service(app: App) -> Service:
    (service,) = app.services
    return service


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: str(file.relative_to(EXAMPLE)))
def test_a_compose_file_passes_the_published_schema(file: Path, compose_schema: Draft202012Validator) -> None:
    document = yaml.safe_load(file.read_text("utf-8"))
    assert [f"{error.json_path}: {error.message}" for error in compose_schema.iter_errors(document)] == []


def test_the_example_is_valid_for_every_host(tree: FolderTree) -> None:
    assert [str(problem) for problem in validate(tree)] == []


def test_every_app_runs_somewhere(placed: Placed) -> None:
    written = {folder.name for folder in EXAMPLE.joinpath("apps").iterdir()}
    assert set().union(*placed.values()) == written | {"gateway"}


def test_every_host_runs_something(placed: Placed) -> None:
    assert [host for host, apps in placed.items() if not apps.keys() - {"gateway"}] == []


def test_a_service_that_needs_a_gpu_runs_only_where_there_is_one(placed: Placed, tree: FolderTree) -> None:
    needing = {host for host, apps in placed.items() if any("gpus" in s.run for a in apps.values() for s in a.services)}
    having = {host.name for host in read_fleet(tree).hosts.values() if host.labels.get("gpu") == "true"}
    assert needing == having != set()


def test_one_file_says_different_things_in_two_regions(placed: Placed) -> None:
    uk, rw = (the_only_service(placed[host]["chatbot"]) for host in ("uk-web-1", "rw-web-1"))
    assert (uk.replicas, uk.environment["REGION"], uk.environment["LANGUAGES"]) == (4, "uk", "en")
    assert (rw.replicas, rw.environment["REGION"], rw.environment["LANGUAGES"]) == (2, "rw", "rw,en,fr")
    assert uk.image == rw.image
    assert "ussd" in placed["rw-web-1"]
    assert "ussd" not in placed["uk-web-1"]


def test_whoever_calls_with_a_key_is_a_consumer_of_the_gateway(placed: Placed) -> None:
    consumers = placed["rw-web-1"]["gateway"].kong_entities["consumers"]
    known = {credential["key"] for consumer in consumers for credential in consumer["keyauth_credentials"]}
    used = {
        service.environment["GATEWAY_KEY"]
        for app in placed["rw-web-1"].values()
        for service in app.services
        if "GATEWAY_KEY" in service.environment
    }
    assert used != set()
    assert used <= known


def test_its_ci_is_the_one_that_a_new_repository_gets_and_says_once_where_mvd_comes_from() -> None:
    pipeline = forges.known()["github"].pipelines["github"]
    assert (EXAMPLE / pipeline.path).read_text() == pipeline.text
    [package] = [line for line in (EXAMPLE / "requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert package.startswith("gitops-mvd @ git+https://")
    texts = [path.read_text() for path in EXAMPLE.rglob("*") if path.suffix in (".md", ".yaml")]
    assert not any("pip install gitops-mvd" in text for text in texts), "it is not on PyPI"
