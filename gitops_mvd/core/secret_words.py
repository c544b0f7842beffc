"""By which names and forms a secret is known, wherever it stands.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

SHORTEST_TELLING = 6  # characters of a secret that is looked for where others speak

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

# A name is secret if its last word is one of these, or ends in one (`DBPASS`).
_SECRET_WORDS = (
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "PASS",
    "PW",
    "PWD",
    "SECRET",
    "TOKEN",
    "APIKEY",
    "CREDENTIAL",
    "DSN",
)
_GLUED = re.compile(r"[A-Z0-9]*(?:PASSWORD|PASSWD|PASSPHRASE|PASS|PASSWORT|SECRET|TOKEN|APIKEY|CREDENTIALS?)S?")
_NO_SECRET_WORDS = {"BYPASS", "COMPASS", "OVERPASS", "UNDERPASS", "SURPASS"}
_ANYWHERE = {"PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "SECRETS", "PRIVATE", "CREDENTIAL", "CREDENTIALS", "APIKEY"}

# What a name is about if it ends in one of these: a secret's length, age or place, not the secret.
_ABOUT = {
    *(
        "FILE",
        "FILES",
        "PATH",
        "DIR",
        "FOLDER",
        "NAME",
        "USER",
        "USERNAME",
        "LENGTH",
        "LEN",
        "SIZE",
        "MIN",
        "MAX",
        "COUNT",
    ),
    *("ENABLED", "ENABLE", "DISABLED", "DISABLE", "REQUIRED", "ALLOWED", "TTL", "TIMEOUT", "EXPIRY", "EXPIRES"),
    *("EXPIRATION", "EXPIRE", "LIFETIME", "DURATION", "INTERVAL", "AGE", "DAYS", "HOURS", "MINUTES", "SECONDS"),
    *("HEADER", "URL", "URI", "ENDPOINT", "HOST", "PORT", "ISSUER", "AUDIENCE", "TYPE", "METHOD", "ALGORITHM", "ALG"),
    *(
        "POLICY",
        "FORMAT",
        "ENCODING",
        "PREFIX",
        "SUFFIX",
        "STRENGTH",
        "HINT",
        "LABEL",
        "FIELD",
        "VERSION",
        "MODE",
        "LIMIT",
    ),
    *("IN", "MS", "BYTES", "RESET", "LOGIN", "ENCRYPTION", "ENGINE", "STORE", "STORAGE", "BACKEND", "PROVIDER", "RATE"),
    *(
        "NETWORK",
        "NETWORKS",
        "SUBNET",
        "IP",
        "DOMAIN",
        "REGISTRY",
        "IMAGE",
        "TAG",
        "REPOSITORY",
        "ROOM",
        "ROOMS",
        "MESSAGES",
    ),
}
_PUBLIC = {"PUBLIC", "PUB", "SITE"}
_KEY_OF_NOTHING = {"KEYBOARD", "KEYMAP", "KEYSPACE", "KEYCLOAK", "HOTKEY", "FOREIGN", "PRIMARY", "SORT", "PARTITION"}

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


def words_of(name: str) -> list[str]:
    """The words of a name, as they are written: `smtp`, `Password` of `smtpPassword`."""
    return _WORDS.findall(name)


def secret_name(name: str) -> str:
    """The word in the name of a variable that says that it holds a secret; "" if none does."""
    words: list[str] = [word.upper() for word in words_of(name)]
    while words and words[-1].isdigit():
        words.pop()
    if not words or words[-1] in _ABOUT or words == ["PWD"] or name.upper() in ("PWD", "OLDPWD"):
        return ""
    for word in words:
        if word in _ANYWHERE and not (word == "PRIVATE" and "KEY" not in words):
            return word
    last = words[-1]
    if last in _NO_SECRET_WORDS:
        return ""
    if last in _SECRET_WORDS or last.removesuffix("S") in _SECRET_WORDS or _GLUED.fullmatch(last):
        return last
    if last in ("KEY", "KEYS", "SALT", "PEPPER") or (last == "BASE" and "KEY" in words):
        return "" if {*words} & (_PUBLIC | _KEY_OF_NOTHING) or words in (["KEY"], ["KEYS"]) else last
    return "AUTH" if last in ("AUTH", "BASICAUTH") else ""


def is_about(name: str) -> bool:
    """Does a name say that it is about a secret, as `TOKEN_TTL` is, and not one?"""
    words = words_of(name)
    return bool(words) and words[-1].upper() in _ABOUT


def is_placeholder(text: str) -> bool:
    """Does it only stand for a secret, as `${TOKEN}` or `***` does?"""
    return text.startswith(("$", "<", "{", "%", "***"))


def literals(text: str) -> list[tuple[int, int]]:
    """Where passwords stand in a text that says that they are some: in an address, behind `--password`."""
    found = [*URL_LOGIN.finditer(text), *IN_A_TEXT.finditer(text)]
    return sorted({it.span(1) for it in found if not is_placeholder(it[1]) and not PLACE.match(it[1])})


def passwords(text: str) -> Iterator[str]:
    """The passwords in a text that says that they are some, also as they are without the escapes of an address."""
    for start, end in literals(text):
        yield from {text[start:end], unquote(text[start:end])}


def is_telling(value: str) -> bool:
    """Is a secret so unlike a word that it can be looked for in other texts?"""
    value = value.strip("\"' ")
    if len(value) < SHORTEST_TELLING:
        return False
    return len(value) >= 12 or not value.isalpha() or not (value.islower() or value.istitle() or value.isupper())
