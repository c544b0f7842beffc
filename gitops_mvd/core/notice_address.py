"""The secrets in the address of a receiver of notifications: passwords, tokens, ids of webhooks.  Pure."""

from __future__ import annotations

import re
from urllib.parse import unquote

SHORTEST_PIECE = 6  # characters
_RANDOM = re.compile(r"(?=.*[A-Za-z])(?=.*[0-9])[^\s.]{8,}|[A-Za-z0-9_-]{16,}")
_HOST = re.compile(r"(?i)[a-z0-9-]+(?:\.[a-z0-9-]+)+|localhost")


def pieces(address: str) -> set[str]:
    """All of an address that may be secret, in pieces: what is neither its scheme nor the name of a host."""
    parts = re.split(r"[:/?&=,;#@]", address.partition("://")[2])
    named = {part for part in parts if not _HOST.fullmatch(part)}
    return {it for part in named for it in (part, unquote(part)) if len(it) >= SHORTEST_PIECE} | {address}


def secrets_of_address(address: str) -> set[str]:
    """What is surely secret of an address: itself, passwords, and pieces that look random."""
    login = re.split("[/?]", address.partition("://")[2])[0].rpartition("@")[0]
    password = login.partition(":")[2]
    return {it for it in pieces(address) if it == address or _RANDOM.fullmatch(it)} | {password, unquote(password)} - {
        ""
    }
