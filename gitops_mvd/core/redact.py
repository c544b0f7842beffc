"""Text without the secrets in it.  Pure."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

from gitops_mvd.core.model import Service
from gitops_mvd.core.secrets import BEGINS

SHORTEST_SECRET = 4  # characters; anything shorter would black out ordinary words
SHORTEST_PART = 6  # characters of its beginning, as in a log line that was cut off
MOST_LINES = 200  # of one file
SECRETS_FOLDER = "/run/secrets/"

_NAME = re.compile(r"pass|pw|secret|token|key|credential|dsn|auth|licen[cs]e|salt|private|cert|cookie", re.IGNORECASE)
_PASSWORD = re.compile(r"://[^\s/:@]*:([^\s/@]+)@")
_ASSIGNED = re.compile(r"""^\s*["']?([\w.-]+)["']?\s*[=:]\s*["']?(.*?)["']?,?\s*$""")
_RANDOM = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[^\s./:]{8,}")


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with `***` for every secret in it, written plainly, in base64, as in a URL or in JSON.

    So is the beginning of one, from 6 characters on.  The longest come first, as one may be part of another.
    """
    for secret in sorted({secret for secret in secrets if len(secret) >= SHORTEST_SECRET}, key=len, reverse=True):
        for written in _written(secret):
            text = text.replace(written, "***")
        if len(secret) > SHORTEST_PART and "://" not in secret:
            text = _without_beginnings(text, secret)
    return text


def secrets_of(service: Service) -> set[str]:
    """What may be secret of what a service is given.

    That are values of variables that are called so or look so, passwords in addresses, and of its files each line, and
    the values on it.  All that lies in /run/secrets is secret.
    """
    found = set()
    for name, value in service.environment.items():
        if BEGINS not in value:  # else it has the name of a secret, and not the secret
            found |= set(_values(name, value))
    for file in service.files:
        is_secret = file.target.startswith(SECRETS_FOLDER)
        for content in file.files.values():
            found |= {content.strip()} | set(_lines(content, is_secret))
    return {secret for secret in found if SHORTEST_SECRET <= len(secret) <= 4096}


def parts_of(contents: Iterable[str]) -> set[str]:
    """The contents of secrets, each line of them, and the values on it."""
    found = {part for content in contents for part in (content.strip(), *_lines(content, is_secret=True))}
    return {part for part in found if SHORTEST_SECRET <= len(part) <= 4096}


def _values(name: str, value: str) -> Iterator[str]:
    yield from _PASSWORD.findall(value)
    if _NAME.search(name) or _RANDOM.fullmatch(value):
        yield value
        yield from (line.strip() for line in value.splitlines()[:MOST_LINES])


def _lines(content: str, is_secret: bool) -> Iterator[str]:
    for line in content.splitlines()[:MOST_LINES]:
        if is_secret:
            yield line.strip()
        yield from _PASSWORD.findall(line)
        if assigned := _ASSIGNED.match(line):
            yield from [assigned[2]] if is_secret else _values(*assigned.groups())


def _written(secret: str) -> set[str]:
    """A secret in all ways that programs print it."""
    raw = secret.encode("utf-8", "surrogateescape")
    encoded = base64.b64encode(raw).decode().rstrip("=")
    return {secret, quote(raw, safe=""), quote_plus(raw), json.dumps(secret)[1:-1], encoded, raw.hex()}


def _without_beginnings(text: str, secret: str) -> str:
    """`text` without the longest beginning of a secret, wherever one stands."""
    beginning, place = secret[:SHORTEST_PART], 0
    while (place := text.find(beginning, place)) >= 0:
        end = SHORTEST_PART
        while end < len(secret) and text[place + end : place + end + 1] == secret[end]:
            end += 1
        text = f"{text[:place]}***{text[place + end :]}"
        place += 3
    return text
