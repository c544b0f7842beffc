"""Text from outside is plain before it is a key, a row, a status or a line of a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import Health, Outcome, Problem, Revision, Sync
from gitops_mvd.core.text import plain_line, plain_text

ANY = st.text(st.characters(exclude_categories=())) | st.binary().map(lambda b: b.decode("utf-8", "surrogateescape"))


def is_plain(text: str, kept: str = "") -> bool:
    text.encode("utf-8")  # raises UnicodeEncodeError for half a character
    return all(
        c in kept + "\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text
    )


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("shop", "shop"),
        ("übung ☕ 👩\u200d🔧", "übung ☕ 👩\u200d🔧"),
        ("\udcff\udcfe", r"\xff\xfe"),
        ("\ud800", r"\ud800"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\tb\nc\r\nd", "a b c  d"),
        ("pay \u202elatot", r"pay \u202elatot"),
        ("\x85\u2028", "  "),
    ],
)
def test_a_line_shows_what_cannot_be_printed(given: str, line: str) -> None:
    assert plain_line(given) == line


def test_long_text_is_cut() -> None:
    assert plain_line("x" * 11, most=10) == "x" * 9 + "…"
    assert plain_line("\x1b" * 10, most=10) == r"\x1b\x1b\…"
    assert plain_text("a\nb" * 10, most=4) == "a\nb…"


@given(ANY)
def test_whatever_comes_in_is_plain_and_stays_so(text: str) -> None:
    line, several = plain_line(text), plain_text(text)
    assert is_plain(line)
    assert is_plain(several, kept="\n\t")
    assert (plain_line(line), plain_text(several)) == (line, several)


@given(ANY, ANY)
def test_every_value_that_is_told_holds_plain_text(one: str, other: str) -> None:
    problem = Problem(one, 1, other, one)
    outcome = Outcome(one, Sync.UNKNOWN, Health.UNKNOWN, why=other)
    for text in (str(problem), outcome.app, Revision("0" * 40, "main", one).subject):
        assert is_plain(text)
    assert is_plain(outcome.why, kept="\n\t")
    assert is_plain(str(Unavailable(one, other)), kept="\n\t")
