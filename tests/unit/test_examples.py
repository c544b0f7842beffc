"""The example repository is what people copy from: it is valid, complete, and says what it seems to say."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

EXAMPLE = Path(__file__).parents[2] / "example-repo"
COMPOSE_FILES = sorted(EXAMPLE.glob("apps/*/compose*.yaml"))


@pytest.fixture(scope="module")
def compose_schema() -> Draft202012Validator:
    """The schema that the Compose Specification publishes, as check-jsonschema carries it."""
    schema = files("check_jsonschema.builtin_schemas").joinpath("vendor/compose-spec.json").read_text("utf-8")
    return Draft202012Validator(json.loads(schema))


@pytest.mark.parametrize("file", COMPOSE_FILES, ids=lambda file: str(file.relative_to(EXAMPLE)))
def test_a_compose_file_passes_the_published_schema(file: Path, compose_schema: Draft202012Validator) -> None:
    document: Any = yaml.safe_load(file.read_text("utf-8"))
    mistakes = [f"{error.json_path}: {error.message}" for error in compose_schema.iter_errors(document)]
    assert mistakes == []
