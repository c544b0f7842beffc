"""The secrets in the address of a receiver of notifications: passwords, tokens, ids of webhooks.  Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote

SHORTEST_PIECE = 6  # characters
_RANDOM = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[^\s.]{8,}|[A-Za-z0-9_-]{16,}")
_HOST = re.compile(r"(?i)[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:[a-z]{2,}|[0-9]{1,3})|localhost")
# Of a token with dots, a part that no name of a host has: letters of both cases, letters with digits, or very long.
_TOKEN = re.compile(
    r"(?=[^.]*[a-z])(?=[^.]*[A-Z])[A-Za-z0-9_-]{8,}|(?=[^.]*[A-Za-z])(?=[^.]*[0-9])[A-Za-z0-9_]{12,}|[A-Za-z0-9_]{32,}"
)


def pieces(address: str) -> set[str]:
    """All of an address that may be secret, in pieces: what is neither its scheme nor the name of a host."""
    parts = re.split(r"[:/?&=,;#@]", address.partition("://")[2])
    named = {part for part in parts if not _HOST.fullmatch(part) or _is_dotted_token(part)}
    return {it for part in named for it in (part, unquote(part)) if len(it) >= SHORTEST_PIECE} | {address}


def _is_dotted_token(part: str) -> bool:
    """Is it a token such as `SG.k5Jv0bQ.x8Zr2mT`, and no name of a host?"""
    return "." in part and any(map(_TOKEN.fullmatch, part.split(".")))


def secrets_of_address(address: str) -> set[str]:
    """What is surely secret of an address: itself, passwords, and pieces that look random."""
    login = re.split("[/?]", address.partition("://")[2])[0].rpartition("@")[0]
    password = login.partition(":")[2]
    random = {it for it in pieces(address) if it == address or _RANDOM.fullmatch(it) or _is_dotted_token(it)}
    return random | {password, unquote(password)} - {""}
