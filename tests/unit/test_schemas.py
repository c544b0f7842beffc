"""The JSON Schemas in the package are what the tables make, and accept what mvd accepts.

`ACCEPT=1 pytest tests/unit/test_schemas.py` rewrites the files of the package.  `published/compose-spec.json` is the
schema of the Compose Specification, unchanged; its licence lies beside it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jsonschema import Draft7Validator

import gitops_mvd.schemas
from gitops_mvd.cli.main import mvd
from gitops_mvd.config import settings
from gitops_mvd.config.readers import json as plain
from gitops_mvd.config.tables import Place
from gitops_mvd.config.yamltree import Sink, parse
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.manifest import schemas
from tests.unit.reference_page import DOCS
from tests.unit.test_manifest import CASES, repository

FOLDER = Path(gitops_mvd.schemas.__path__[0])
EXAMPLE = Path(__file__).parents[2] / "example-repo"
PUBLISHED = Path(__file__).parent / "published" / "compose-spec.json"
VALIDATORS = {name: Draft7Validator(schemas.schema(name)) for name in schemas.SCHEMA_NAMES}

YAML = "the file is not YAML as mvd reads it"
TEXT = "what a text says"
ONLY_MVD_TELLS = {  # why a schema cannot
    "clash": "what two apps want",
    "swarm": "what a host is",
    "swarm-no-node": "what no host of the fleet has",
    "swarm-nodes": "which hosts the fleet has",
    "contests": "what two services want",
    "devices": "what two keys say together",
    "environment-list": TEXT,
    "interpolation": TEXT,
    "folders": "what is in the repository",
    "shared-names": "what two apps want",
    "subnets": "what is in a subnet",
    "limits": "how large a number is, with its unit",
    "long-names": "how long a name is",
    "logging": "what a logging driver takes",
    "no-services": "an override may have no services",
    "one-name-twice": "what two entries want",
    "override-pools": "what two files have together",
    "placement-nowhere": "what no host of the fleet has",
    "rollout-circle": "which waves would wait for each other",
    "rollout-hosts": "which hosts the fleet has",
    "rollout-statuses": "which hosts the fleet has",
    "commands": TEXT,
    "scalars": TEXT,
    **dict.fromkeys(["empty", "override-of-broken", "two-documents"], YAML),
    **{case.stem: YAML for case in CASES.glob("invalid/yaml-*.yaml")},
}


def value_of(text: str | bytes) -> Any:
    """What a YAML file says, read as mvd reads it; None for a file that is not YAML."""
    sink: Sink = []
    node = parse("file", text if isinstance(text, bytes) else text.encode(), sink)
    return plain(Place(node, (), sink)) if node and not sink else None


def schema_of(path: str, value: Any) -> str | None:
    """The schema for a file of a config repository; None for a file that has none."""
    if path == "fleet.yaml":
        return "fleet"
    if path.startswith("kong/") and path.endswith((".yaml", ".yml")):
        return "kong"
    is_compose = "compose" in path or (isinstance(value, dict) and "services" in value)
    return "compose" if is_compose and path.endswith((".yaml", ".yml")) else None


def errors(name: str, value: Any) -> list[str]:
    return [f"{error.json_path}: {error.message[:200]}" for error in VALIDATORS[name].iter_errors(value)]


def of_case(case: Path) -> Iterator[tuple[str, Any]]:
    for path, text in repository(case).files.items():
        value = value_of(text)
        if value is not None and (name := schema_of(path, value)):
            yield name, value


@pytest.mark.parametrize("name", schemas.SCHEMA_NAMES)
def test_the_package_has_the_schema_that_the_tables_make(name: str) -> None:
    made = schemas.schema(name)
    Draft7Validator.check_schema(made)
    if name == "compose":
        made = schemas.merged(made, json.loads(PUBLISHED.read_text("utf-8")))
    text = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
    file = FOLDER / f"{name}.json"
    if os.environ.get("ACCEPT"):
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text


def test_no_schema_lies_in_the_package_that_nobody_makes() -> None:
    assert sorted(file.stem for file in FOLDER.glob("*.json")) == sorted(schemas.SCHEMA_NAMES)


def test_a_key_that_compose_publishes_is_supported_or_refused() -> None:
    published = json.loads(PUBLISHED.read_text("utf-8"))
    published["$defs"]["healthcheck"]["properties"]["mood"] = {"type": "string"}
    with pytest.raises(ValueError, match=r"refused: services\.healthcheck\.mood"):
        schemas.merged(schemas.schema("compose"), published)


def test_the_schema_of_compose_has_the_sentences_of_both() -> None:
    merged = json.loads((FOLDER / "compose.json").read_text("utf-8"))
    service = merged["properties"]["services"]["additionalProperties"]["properties"]
    assert service["hostname"]["description"].startswith("The container's host name.\n\n")
    assert "name an image" in service["provider"]["errorMessage"]
    assert service["x-mvd"]["properties"]["health"]["properties"]["within"]["description"].startswith("How long")


@pytest.mark.parametrize("file", sorted(EXAMPLE.rglob("*.yaml")), ids=lambda file: str(file.relative_to(EXAMPLE)))
def test_the_schemas_accept_the_example(file: Path) -> None:
    value = value_of(file.read_bytes())
    name = schema_of(str(file.relative_to(EXAMPLE)), value)
    assert name is None or errors(name, value) == []
    assert name or ".github" in file.parts or "red-flags" in file.name


@pytest.mark.parametrize("case", sorted(CASES.glob("valid/*.yaml")), ids=lambda case: case.stem)
def test_the_schemas_accept_every_valid_case(case: Path) -> None:
    found = [error for name, value in of_case(case) for error in errors(name, value)]
    assert found == []


@pytest.mark.parametrize("case", sorted(CASES.glob("invalid/*.yaml")), ids=lambda case: case.stem)
def test_the_schemas_refuse_an_invalid_case_unless_only_mvd_can_tell(case: Path) -> None:
    refused = any(errors(name, value) for name, value in of_case(case))
    assert refused == (case.stem not in ONLY_MVD_TELLS)


def test_the_schema_of_the_settings_accepts_every_example_of_the_manual() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (DOCS / "settings.md").read_text(), re.DOTALL)
    values = [value for block in blocks if (value := value_of(block)) and "_format_version" not in value]
    values = [value for value in values if value.keys() <= settings.SETTINGS_SECTION.keys.keys()]
    assert len(values) >= 5
    for value in values:
        assert errors("config", {"repository": "/srv/config", **value}) == []


@pytest.mark.parametrize(
    "text",
    [
        "branch: main",
        "repository: /srv/config\nbranhc: main",
        "repository: /srv/config\ninterval: 10",
        "repository: /srv/config\nkong: {admin: 8001}",
        "repository: /srv/config\nkong: {drift: maybe}",
        "repository: /srv/config\nforge: {kind: sourceforge}",
        "repository: /srv/config\ndocker: {registries: {myrepo.io: {username: ci}}}",
        "repository: /srv/config\nverify: {allowed_signers: /a}",
        "repository: /srv/config\nwebhook: {}",
        "repository: /srv/config\nallow_empty: 1",
    ],
)
def test_the_schema_of_the_settings_refuses_what_mvd_refuses(text: str) -> None:
    with pytest.raises(ManifestError):
        settings.read("config.yaml", text.encode())
    assert errors("config", value_of(text)) != []


def test_a_variable_can_stand_for_any_value_of_a_compose_file() -> None:
    text = """
services:
  web:
    image: nginx
    init: $INIT
    mem_limit: ${MEMORY:-64m}
    deploy: {replicas: $N, update_config: {order: "$ORDER", delay: $DELAY}}
    x-mvd: {health: {tcp: $PORT, within: "${WITHIN}"}}
    x-kong: {port: $PORT, protocol: $PROTOCOL, paths: ["$WAY"], strip_path: $STRIP}
"""
    assert errors("compose", value_of(text)) == []


def test_every_pattern_is_one_that_editors_understand() -> None:
    def patterns(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from [value["pattern"]] if isinstance(value.get("pattern"), str) else []
            value = list(value.values())
        for below in value if isinstance(value, list) else ():
            yield from patterns(below)

    python_only = re.compile(r"\(\?[PiLmsux#]|\\[AZU]|\(\?<")
    found = {pattern for name in schemas.SCHEMA_NAMES for pattern in patterns(schemas.schema(name))}
    assert found
    assert [pattern for pattern in found if python_only.search(pattern)] == []


def test_a_schema_is_printed_by_its_name_and_the_names_are_listed() -> None:
    assert json.loads(run("schema", "fleet").output) == schemas.schema("fleet")
    assert [line.split()[0] for line in run("schema").output.splitlines()] == sorted(schemas.SCHEMA_NAMES)


def test_an_unknown_schema_is_answered_with_those_that_there_are() -> None:
    answer = run("schema", "flet")
    assert answer.exit_code == 2
    assert "no such schema: flet. Schemas: compose, config, fleet, kong, x-kong, x-mvd" in answer.output


def run(*arguments: str) -> Result:
    return CliRunner().invoke(mvd, arguments)
