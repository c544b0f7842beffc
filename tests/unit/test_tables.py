"""Half a key is an error where its table is made, not on a server."""

from typing import TypedDict

import pytest

from gitops_mvd.config.readers import integer, word
from gitops_mvd.config.tables import Key, Unsupported, record


class Point(TypedDict, total=False):
    x: int


def test_a_table_whose_keys_are_not_those_of_its_type_is_refused() -> None:
    with pytest.raises(TypeError, match="Point and its table do not match: x, y"):
        record(Point, {"y": Key("The other one.", integer()), "z": Unsupported("is not supported")})


def test_the_schema_of_a_table_tells_what_each_key_does() -> None:
    schema = record(dict, {"x": Key("How far.", word, "`0`"), "y": Unsupported("is not supported")}, ["x"]).schema
    assert schema["properties"]["x"]["description"] == "How far. Default: `0`."
    assert schema["properties"]["y"]["errorMessage"] == "`y` is not supported"
    assert schema["required"] == ["x"]
