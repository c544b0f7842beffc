"""What `make fuzz` has found, tried again; and a few inputs of every surface, so that it goes on working."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutants import of_shape, of_yaml
from tests.fuzz.surfaces import SURFACES
from tests.fuzz.verdict import Input, Wrong, smaller, tried

CASES = sorted((Path(__file__).parent / "fuzzed").glob("*.json"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_what_was_found_ends_in_a_result_or_in_an_error_of_ours(case: Path) -> None:
    kept = json.loads(case.read_text())
    given = {name: text.encode("utf-8", "surrogateescape") for name, text in kept["input"].items()}
    assert tried(SURFACES[kept["surface"]].read, given) == "", f"it was: {kept['was']}"


@pytest.mark.parametrize("name", SURFACES)
def test_an_input_is_told_by_its_number_and_read_without_a_mistake(name: str) -> None:
    for number in range(3):
        given = SURFACES[name].make(Random(f"0 {name} {number}"))
        assert given == SURFACES[name].make(Random(f"0 {name} {number}"))
        assert tried(SURFACES[name].read, given) == ""


def test_a_foreign_error_is_wrong_with_its_place_and_an_error_of_ours_is_not() -> None:
    def foreign(given: Input) -> None:
        raise KeyError("x")

    def unclear(given: Input) -> None:
        raise Wrong("it is not so")

    assert tried(foreign, {}) == "KeyError at outside of our code: \"'x'\""
    assert tried(unclear, {}) == "it is not so"


def test_an_input_is_made_as_small_as_it_can_be() -> None:
    large = {"a": b"one\ntwo three\nfour", "b": b"x"}
    assert smaller(large, lambda given: b"three" in given.get("a", b"")) == {"a": b"three"}


def test_documents_stay_documents_however_they_are_changed() -> None:
    random = Random("shapes")
    document = {"a": [1, {"b": None}], "c": "d"}
    for _ in range(300):
        of_shape(random, document)
        assert of_yaml(random, b"a: [1, {b: c}]\n") is not None
    assert document == {"a": [1, {"b": None}], "c": "d"}
