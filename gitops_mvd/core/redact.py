"""Text without the secrets in it.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

SHORTEST_SECRET = 4  # characters; anything shorter would black out ordinary words


def redact(text: str, secrets: Iterable[str]) -> str:
    """`text` with `***` for every secret in it; the longest first, as one may be part of another."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text
