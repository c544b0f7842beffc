"""References to secrets: `{file://NAME}` stands for what the host has under that name.  Pure.

Who merges writes only the reference.  What it stands for is put in on the host, right before a container or Kong gets
it, so that no repository, plan, status or history has more than the name, and a digest that only this host can make.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator

BEGINS = "{file://"
SOPS, SOPS_RAW = "sops", "sops-raw"  # what is in a file of the repository that is encrypted; nobody writes these
MALFORMED = "has an invalid reference: write {file://NAME}"

_REFERENCE = re.compile(r"\{file://([^{}]*)\}")
_NAME = r"(?:[a-z][a-z0-9-]{0,31}:[A-Za-z0-9_/][A-Za-z0-9_./#@=+-]{0,299}|[A-Za-z0-9_][A-Za-z0-9._-]{0,199})"


def reference(name: str) -> str:
    """The text that stands for the secret of that name."""
    return f"{BEGINS}{name}}}"


def filled(text: str, read: Callable[[str], str]) -> str:
    """The text with each reference replaced by what `read` returns for its name."""
    return _REFERENCE.sub(lambda found: read(found[1]), text) if BEGINS in text else text


def names_in(text: str) -> Iterator[str]:
    """The names of the secrets that a text refers to."""
    yield from _REFERENCE.findall(text) if BEGINS in text else ()


def misnamed(name: str) -> str:
    """Why no secret can have that name, as the end of a sentence; "" if one can."""
    provider, colon, _ = name.partition(":")
    is_above = ".." in re.split("[/#]", name)
    if is_above or not re.fullmatch(_NAME, name) or (colon and provider in (SOPS, SOPS_RAW)):
        return (
            "it must be the name of a file in the host's folder for secrets, not a path, or PROVIDER:PATH with a "
            "provider of the host's settings"
        )
    return ""


def mistake(text: str, known: Collection[str] = ()) -> str:
    """What is wrong with a text that has references in it, other than to what is `known`; "" if nothing is."""
    for name in {*names_in(text)}.difference(known):
        if why := misnamed(name):
            return f"refers to the secret {name!r}: {why}"
    return MALFORMED if BEGINS in _REFERENCE.sub("", text) else ""


def provider_of(name: str) -> tuple[str, str]:
    """The provider that a name is asked of, "" for the host's folder, and what it is called there."""
    provider, colon, path = name.partition(":")
    return (provider, path) if colon else ("", name)
