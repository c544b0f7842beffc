"""By which names and forms a secret is known, wherever it stands.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

SHORTEST_TELLING = 6  # characters of a secret that is looked for where others speak

NAME = re.compile(r"pass|pw|secret|token|key|credential|dsn|auth|licen[cs]e|salt|private|cert|cookie", re.IGNORECASE)
PLAIN_ANSWER = re.compile(
    r"(?i)true|false|yes|no|on|off|none|null|nil|enabled?|disabled?|required|optional|auto|default|basic|plain|login|digest"
    r"|ldap|oauth2?|oidc|saml|jwt|md5|trust|scram[\w-]*|bearer|local|internal|external|env|[0-9]+(?:\.[0-9]+)?[smhdw]?"
)
PLACE = re.compile(r"(?:/|\./|~/|file://)[\w./@-]+|https?://[^@\s?]*")
URL_LOGIN = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{1,30}://[^\s/:@?#]{0,200}:([^\s/@?#]{1,500})@")
IN_A_TEXT = re.compile(
    r"(?i)(?:^|[\s;,?&\"'])(?:--?)?(?:[a-z]{1,20}[-_]){0,5}(?:password|passwd|passphrase|requirepass|pwd|api[-_]?key|secret[-_]?key|"
    r"client[-_]?secret|access[-_]?token|auth[-_]?token|secret)[\"']?(?!\s+:[\"'])(?:\s{0,20}[=:]\s{0,20}|\s{1,20})[\"']?([^\s;&,\"']+)"
)


def is_placeholder(text: str) -> bool:
    """Does it only stand for a secret, as `${TOKEN}` or `***` does?"""
    return text.startswith(("$", "<", "{", "%", "***"))


def literals(text: str) -> list[tuple[int, int]]:
    """Where passwords stand in a text that says that they are some: in an address, behind `--password`."""
    found = [*URL_LOGIN.finditer(text), *IN_A_TEXT.finditer(text)]
    return sorted({it.span(1) for it in found if not is_placeholder(it[1]) and not PLACE.match(it[1])})


def passwords(text: str) -> Iterator[str]:
    """The passwords in a text that says that they are some."""
    return (text[start:end] for start, end in literals(text))


def is_telling(value: str) -> bool:
    """Is a secret so unlike a word that it can be looked for in other texts?"""
    value = value.strip("\"' ")
    if len(value) < SHORTEST_TELLING:
        return False
    return len(value) >= 12 or not value.isalpha() or not (value.islower() or value.istitle() or value.isupper())
