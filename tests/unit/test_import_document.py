"""Edits of a YAML text leave alone what they do not touch, to the last space."""

from __future__ import annotations

import itertools

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gitops_mvd.imports.document import Document, Spot, Text, quoted

FILE = """\
# head
version: "3"   # quoted
x-base: &base
    restart:   always\t# behind a tab
    environment: {A: 1,  B:  "x"}
services:
  web:
    <<: *base
    image: 'nginx:1'
    command: >
      sh -c "a
      # no comment
      b"

    ports:
    - 80:80
    - "81:81"   
    labels: [ 'a=ü😀', "b=\\u00e9#c" ]
  # between
  db: { image: pg, volumes: [ "a:/b" ], }
"""


def spot(document: Document, *path: str | int) -> Spot:
    found = document.root
    assert found
    for part in path:
        if isinstance(part, str):
            inner = found.get(part)
        else:
            assert found.items
            inner = found.items[part]
        assert inner
        found = inner
    return found


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_a_text_without_edits_stays_as_it_was(line_end: str, bom: str) -> None:
    text = FILE.replace("\n", line_end)
    assert Document(text).edited() == text


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_an_edit_changes_its_value_and_nothing_else(line_end: str) -> None:
    text = FILE.replace("\n", line_end)
    document = Document(text)
    document.write(spot(document, "services", "web", "image"), "it's new")
    document.write(spot(document, "services", "web", "labels", 0), "a=$ö")
    document.write(spot(document, "x-base", "environment", "A"), "1")
    document.clear(spot(document, "services", "db", "image"))
    new = text.replace("'nginx:1'", "'it''s new'").replace("'a=ü😀'", "'a=$ö'").replace("{A: 1,", '{A: "1",')
    assert document.edited() == new.replace("image: pg", "image:")


def test_keys_and_items_are_added_as_the_others_are_written() -> None:
    document = Document(FILE.replace("\n", "\r\n"))
    web, db = spot(document, "services", "web"), spot(document, "services", "db")
    assert web.pairs
    assert db.pairs
    document.add_item(spot(document, "services", "web", "ports"), "82:82")
    document.add_item(spot(document, "services", "db", "volumes"), "./c:/d")
    document.add_pair(web, web.pairs[-1], "volumes", ["./a: b", "c"])
    document.add_pair(db, db.pairs[0], "init", "true")
    text = document.edited()
    assert '    - "81:81"   \r\n    - "82:82"\r\n' in text or '    - "81:81"   \r\n    - 82:82\r\n' in text
    assert '{ image: pg, init: "true", volumes: [ "a:/b", ./c:/d ], }' in text
    assert '#c" ]\r\n    volumes:\r\n      - "./a: b"\r\n      - c\r\n  # between' in text
    assert "\n" not in text.replace("\r\n", "")


def test_a_last_line_without_an_end_gets_one_before_what_is_added() -> None:
    document = Document("services:\n  web:\n    image: a")
    web = spot(document, "services", "web")
    assert web.pairs
    document.add_pair(web, web.pairs[0], "init", "x")
    assert document.edited() == "services:\n  web:\n    image: a\n    init: x"


CONTAINERS = (
    "{x: 1, y: 2, z: 3, w: 4}\n",
    "x: 1\ny:\n  - 2\nz: 3 # c\nw: |\n  4\n",
    "- a\n-   b # x\n- {c: 1}\n- d",
    "[a, b, {c: 1}, d]\n",
    "a:\n- x: 1\n  y: 2\n  z: 3\n  w: 4\n",
)


@pytest.mark.parametrize("text", CONTAINERS)
def test_what_is_taken_out_is_gone_and_the_rest_is_there(text: str) -> None:
    for number in (1, 2, 3):
        for gone in itertools.combinations(range(4), number):
            document = Document(text)
            assert document.root
            container = spot(document, "a", 0) if text.startswith("a:") else document.root
            for index in gone:
                if container.pairs:
                    document.remove_pair(container, container.pairs[index])
                else:
                    assert container.items
                    document.remove_item(container, container.items[index])
            before, now = yaml.safe_load(text), yaml.safe_load(document.edited())
            if text.startswith("a:"):
                before, now = before["a"][0], now["a"][0]
            if isinstance(before, dict):
                assert now == {name: value for index, (name, value) in enumerate(before.items()) if index not in gone}
            else:
                assert now == [value for index, value in enumerate(before) if index not in gone]


def test_an_alias_is_known_with_what_it_stands_for() -> None:
    document = Document("a: &one {b: &two x}\nc: *one\nd: {<<: *one, e: *two}\n")
    assert spot(document, "c").real is spot(document, "a")
    assert spot(document, "d").lookup("b") is spot(document, "a", "b")
    assert document.is_shared(spot(document, "a"))
    assert not document.is_shared(spot(document, "d"))


def test_comments_are_told_from_values() -> None:
    document = Document(FILE)
    comments = [document.text[start:end] for start, end in document.comments()]
    assert comments == [" head", " quoted", " behind a tab", " between"]


def test_a_line_of_the_result_is_known_where_it_came_from() -> None:
    text = Text("one\ntwo\nthree\nfour\n")
    text.replace(4, 8, "")  # the second line
    text.insert(14, "new\nlines\n")  # behind the third
    edited = text.edited().splitlines()
    assert edited == ["one", "three", "new", "lines", "four"]
    assert [text.source_line(number) for number in range(1, 6)] == [1, 3, 4, 4, 4]


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=30), st.sampled_from(["", "'", '"', "|"]))
@example("0?", "")
def test_any_text_can_be_written_in_the_place_of_any_other(value: str, style: str) -> None:
    if "\0" in value or not value.replace("\n", "").isprintable():
        value = "".join(character for character in value if character.isprintable())
    document = Document(f"a: {quoted(value, style)}\nb: [{quoted(value, style)}, x]\n")
    assert [it.value for it in (spot(document, "a"), spot(document, "b", 0))] == [value, value]
    loaded = yaml.safe_load(document.text)
    assert loaded == {"a": value, "b": [value, "x"]}
