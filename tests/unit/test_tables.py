"""Half a key is an error where its table is made, not on a server."""

from typing import TypedDict

import pytest

from gitops_mvd.config.readers import integer, word
from gitops_mvd.config.tables import Ignored, Key, Place, Unsupported, record
from gitops_mvd.config.yamltree import Found, Node, Sink, mistakes
from gitops_mvd.core.model import App, Problem
from gitops_mvd.manifest.reading import Reading


class Point(TypedDict, total=False):
    x: int


def test_a_table_whose_keys_are_not_those_of_its_type_is_refused() -> None:
    with pytest.raises(TypeError, match="Point and its table do not match: x, y"):
        record(Point, {"y": Key("The other one.", integer()), "z": Unsupported("is not supported")})


def test_the_type_of_a_table_has_no_key_that_changes_nothing() -> None:
    table = {"x": Key("How far.", integer()), "z": Ignored("for readers only.", word)}
    node = Node({"x": Node(1, "a.yaml", 1), "z": Node("here", "a.yaml", 2)}, "a.yaml", 1)
    assert record(Point, table)(Place(node, (), Sink())) == {"x": 1}


def test_the_schema_of_a_table_tells_what_each_key_does() -> None:
    schema = record(dict, {"x": Key("How far.", word, "`0`"), "y": Unsupported("is not supported")}, ["x"]).schema
    assert schema["properties"]["x"]["description"] == "How far. Default: `0`."
    assert schema["properties"]["y"]["errorMessage"] == "`y` is not supported"
    assert schema["required"] == ["x"]


def test_a_note_is_kept_beside_the_mistakes_and_is_none() -> None:
    sink: Sink = []
    place = Place(Node("web", "a.yaml", 3), ("services", "web", "attach"), sink)
    place.note("is ignored")
    place.report("is wrong")
    note = Found(place.path, Problem("a.yaml", 3, "services.web.attach", "is ignored"), note=True)
    mistake = Found(place.path, Problem("a.yaml", 3, "services.web.attach", "is wrong"))
    assert sink == [note, mistake]
    assert mistakes(sink) == [mistake]
    assert Reading(App("a"), tuple(sink)).problems == (mistake.problem,)
