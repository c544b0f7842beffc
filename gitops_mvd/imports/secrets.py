"""What is taken for a secret, and why: by the name of a variable, and by the form of a value.  Pure.

A reason never has the value in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gitops_mvd.core.secret_words import (
    IN_A_TEXT,
    PLACE,
    PLAIN_ANSWER,
    SHORTEST_TELLING,
    URL_LOGIN,
    is_placeholder,
    is_telling,
    secret_name,
    words_of,
)

_NAMES = {
    *("USER", "USERNAME", "NAME", "LOGIN", "ID", "DB", "DATABASE", "SCHEMA", "HOST", "HOSTNAME", "EMAIL"),
    *("TENANT", "REALM", "ORG", "PREFIX", "BUCKET", "DOMAIN", "URL", "REGION", "NETWORK"),
}
_YES_OR_NO = re.compile(r"(?i)true|false|yes|no|on|off|[01]")
_REFERENCE = re.compile(r"\{(?:file|vault)://[^{}]*\}")

_LOGIN = re.compile(r"(?i)(https?://|://(?=[^\s/@]{0,500}:))[^\s/]{1,1000}@")  # of a user alone: `ssh://git@` is none
_IN_ANY_FILE = re.compile(
    r"^[ \t]{0,80}[-\"']?[ \t]{0,20}([A-Za-z_][A-Za-z0-9_.-]{0,99})[\"']?(?:[ \t]{0,20}[=:][ \t]{0,20}|[ \t]{1,20})"
    r"[\"']?([^\s\"',;#][^\s\"',;]*)[\"']?[,;]?[ \t]{0,20}\r?$",
    re.MULTILINE,
)
_COMMENTS = ("#", "//", ";", "-- ")
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("a private key", re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,4}PRIVATE KEY(?: BLOCK)?-----")),
    ("a token of GitHub", re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})")),
    ("a token of GitLab", re.compile(r"\bgl(?:pat|dt|rt|cbt|soat)-[A-Za-z0-9_-]{16,}")),
    ("a key of AWS", re.compile(r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b")),
    ("a key of Google", re.compile(r"\bAIza[A-Za-z0-9_-]{30,}")),
    ("a token of Slack", re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}")),
    ("a key of Stripe", re.compile(r"\b(?:sk|rk|whsec)_(?:live_|test_)?[A-Za-z0-9]{16,}")),
    (
        "an API key",
        re.compile(r"\bsk-[A-Za-z0-9_-]{20,}|\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}|\bhf_[A-Za-z0-9]{30,}"),
    ),
    (
        "a token of a registry",
        re.compile(r"\b(?:npm_[A-Za-z0-9]{30,}|dckr_pat_[A-Za-z0-9_-]{20,}|pypi-[A-Za-z0-9_-]{50,})"),
    ),
    ("a JWT", re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")),
    ("an age key", re.compile(r"\bAGE-SECRET-KEY-1[A-Z0-9]{20,}")),
    ("a password hash", re.compile(r"\$(?:apr1|2[abxy]|5|6|argon2id?)\$[^\s,]{8,}|\{SHA\}[A-Za-z0-9+/=]{20,}")),
)
_HEX = re.compile(r"[0-9a-f]{32,}|[0-9A-F]{32,}")
_RANDOM = re.compile(r"[A-Za-z0-9+/_-]{40,}={0,2}")
_CHECKSUMS = {
    "SHA",
    "SHA1",
    "SHA256",
    "MD5",
    "DIGEST",
    "CHECKSUM",
    "COMMIT",
    "REVISION",
    "REV",
    "HASH",
    "VERSION",
    "REF",
    "ID",
}


def why_secret(name: str, value: str) -> str:
    """Why a variable with that name and value is taken for a secret; "" if it is not."""
    if not value.strip() or _REFERENCE.fullmatch(value.strip()):
        return ""
    if form := secret_form(value):
        return form
    answer = PLAIN_ANSWER if not _names_a_password(name) else _YES_OR_NO
    if answer.fullmatch(value.strip()):
        return ""
    if word := secret_name(name):
        return "" if PLACE.fullmatch(value.strip()) else f"its name has {word}"
    return _random(name, value)


def last_word(label: str) -> str:
    """What a label is about: `password` of `com.example.password`."""
    return label.rpartition(".")[2]


def secret_form(text: str) -> str:
    """What kind of secret a text is or has in it, by its form; "" if none."""
    if form := _plain_form(text):
        return form
    for found in IN_A_TEXT.finditer(text):
        if not (is_placeholder(found[1]) or PLAIN_ANSWER.fullmatch(found[1]) or PLACE.match(found[1])):
            return "it has a password in it"
    return ""


def secret_line(text: str, names: bool = True) -> str:
    """The line of a file that has a secret, and why; "" if none has.

    `names`: is a secret known by its name, too?  In a comment, no name of a setting makes one: only its form does.
    """
    for number, line in enumerate(text.split("\n"), 1):
        if why := _plain_form(line) if line.lstrip().startswith(_COMMENTS) else secret_form(line):
            return f"line {number}: {why}"
    for found in _IN_ANY_FILE.finditer(text) if names else ():
        name, value = found[1], found[2]
        if secret_name(name) and why_secret(name, value) and not value.startswith(("$", "{", "<", "%", "*", "@")):
            return f"line {text.count(chr(10), 0, found.start()) + 1}: {name}"
    return ""


def without_login(address: str) -> str:
    """An address with `***` in the place of its user and password, or of its token."""
    return _LOGIN.sub(r"\1***@", address)


def _plain_form(text: str) -> str:
    """What kind of secret a text has in it, by a form that nothing else has; "" if none."""
    for what, form in _FORMS:
        if form.search(text):
            return f"it has {what} in it"
    if not all(is_placeholder(found[1]) for found in URL_LOGIN.finditer(text)):
        return "it is an address with a password in it"
    return ""


def is_a_name(name: str) -> bool:
    """Does a variable have the name of something, as of a user or a database?"""
    words = [word.upper() for word in words_of(name)]
    return bool(words) and words[-1] in _NAMES


def is_password(word: str) -> bool:
    """May the word behind `--password` be one, and not a reference, a path or a plain answer?"""
    return bool(word) and not (
        is_placeholder(word) or PLACE.match(word) or PLAIN_ANSWER.fullmatch(word) or word[0] == "-"
    )


class Withheld:
    """The secrets that were taken out of one place, to be found in any other one."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._allowed: set[str] = set()
        self._lengths: dict[str, list[int]] = {}  # of the secrets with that beginning, the longest first

    def allow(self, text: str) -> None:
        """Say of a text that it is no secret, wherever it stands."""
        self._allowed.add(text)

    def add(self, secret: str, name: str) -> None:
        """One more, with the name of its variable; a word of everyday language is not looked for."""
        if secret not in self._names and secret not in self._allowed and is_telling(secret):
            self._names[secret] = name
            lengths = self._lengths.setdefault(secret[:SHORTEST_TELLING], [])
            if len(secret) not in lengths:
                lengths.append(len(secret))
                lengths.sort(reverse=True)

    def places(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Where secrets stand in a text, the longest at each place, and the names of their variables."""
        at = 0
        while self._names and at <= len(text) - SHORTEST_TELLING:
            lengths = self._lengths.get(text[at : at + SHORTEST_TELLING], ())
            found = next((length for length in lengths if text[at : at + length] in self._names), 0)
            if found:
                yield at, at + found, self._names[text[at : at + found]]
            at += found or 1

    def are_in(self, text: str) -> bool:
        return any(True for _ in self.places(text))

    def struck_out(self, text: str) -> str:
        """The text with `***` for each secret."""
        for start, end, _ in reversed(list(self.places(text))):
            text = f"{text[:start]}***{text[end:]}"
        return text


def _names_a_password(name: str) -> bool:
    return secret_name(name) in ("PASSWORD", "PASSWD", "PASS", "PASSPHRASE", "PW", "PWD")


def _random(name: str, value: str) -> str:
    words = {word.upper() for word in words_of(name)} | {name.upper()}
    if words & _CHECKSUMS:
        return ""
    text = value.strip()
    if _HEX.fullmatch(text) and re.search("[0-9]", text) and re.search("[A-Fa-f]", text):
        return f"it is a random text of {len(text)} hex digits"
    mixed = all(re.search(kind, text) for kind in ("[0-9]", "[a-z]", "[A-Z]"))
    if (
        _RANDOM.fullmatch(text)
        and mixed
        and "/" not in text.strip("/")[:1]
        and text.count("/") < 3
        and text.count("-") < 4
    ):
        return f"it is a random text of {len(text)} characters"
    return ""
