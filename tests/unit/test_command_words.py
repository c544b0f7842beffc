"""How Compose (go-shellwords) splits a command that is one string: recorded, and compared by `make oracle`."""

import pytest

from gitops_mvd.config.words import split

SPLIT = {
    "": [],
    "  ": [],
    "sleep 5": ["sleep", "5"],
    "a\tb\nc\r\n": ["a", "b", "c"],
    "a\u00a0b": ["a\u00a0b"],
    "a # b": ["a", "#", "b"],
    "a=$B {c} [d] *": ["a=$B", "{c}", "[d]", "*"],
    "sh -c 'a && b > c'": ["sh", "-c", "a && b > c"],
    'sh -c "a; b"': ["sh", "-c", "a; b"],
    "a '' \"\" b": ["a", "", "", "b"],
    "a\"b c\"'d e'f": ["ab cd ef"],
    "a\\ b \\'c\\'": ["a b", "'c'"],
    "'a\\b'": ["a\\b"],
    '"a\\"b"': ['a"b'],
    '"a\\nb \\$C"': ["anb $C"],
    "echo $(date -u) `id -u`": ["echo", "$(date -u)", "`id -u`"],
    '$(a "b c")': ['$(a "b c")'],
    "a '(' \"|\" \\; \\&": ["a", "(", "|", ";", "&"],
    "a\\\nb": ["a\nb"],
}


@pytest.mark.parametrize("text", SPLIT)
def test_a_command_is_split_as_compose_splits_it(text: str) -> None:
    assert split(text) == SPLIT[text]


@pytest.mark.parametrize(
    ("text", "operator"),
    [
        ("a && b", "&&"),
        ("a || b", "||"),
        ("a; b", ";"),
        ("a | b", "|"),
        ("a &", "&"),
        ("a > b", ">"),
        ("a >> b", ">>"),
        ("a < b", "<"),
        ("a 2>&1", ">&"),
        ("a 'b'&&c", "&&"),
    ],
)
def test_an_operator_of_a_shell_is_refused(text: str, operator: str) -> None:
    with pytest.raises(ValueError, match="no shell runs it") as refused:
        split(text)
    assert str(refused.value) == f"has `{operator}`, but no shell runs it: write [sh, -c, ...]"


@pytest.mark.parametrize("text", ["(a)", "a (b", "a )", "a 'b", 'a "b', "a \\", "a `b", "$(a", "$(a (b))"])
def test_what_compose_cannot_split_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^has a "):
        split(text)
