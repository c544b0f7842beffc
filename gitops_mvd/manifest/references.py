"""Secrets by reference: `{file://NAME}` is a file of the host, `{vault://...}` one of Kong's own vaults.  Pure.

Who merges writes only the reference.  A `{file://NAME}` is filled in on the host, right before Kong gets it, so that
no repository, plan, status or history ever has more than the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar, cast

from gitops_mvd.config.tables import Place, Reader, accepts

T = TypeVar("T")

# Fields in which references are filled in; plans and messages show only digests of texts below them.
SECRET_FIELDS = {
    "config",
    "key",
    "password",
    "secret",
    "rsa_public_key",
    "client_secret",
    "cert",
    "cert_alt",
    "key_alt",
    "jwk",
    "pem",
    "headers",
}

_FILE = re.compile(r"\{file://([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_VAULT = re.compile(r"\{vault://[^{}]+\}")


def is_vault_reference(text: str) -> bool:
    """Is all of it a reference that Kong looks up?  Such a text has the place of a secret, not the secret."""
    return _VAULT.fullmatch(text) is not None


def file_names(value: object) -> frozenset[str]:
    """The files that are named in a declaration."""
    found: set[str] = set()

    def note(name: str) -> str:
        found.add(name)
        return ""

    filled_in(value, note)
    return frozenset(found)


def filled_in(value: T, read: Callable[[str], str], *, inside: bool = False) -> T:
    """The declaration with each `{file://NAME}` replaced by what `read` returns for the name; tuples become lists."""
    return cast(T, _filled_in(value, read, inside))


def _filled_in(value: object, read: Callable[[str], str], inside: bool) -> object:
    match value:
        case Mapping():
            return {name: _filled_in(below, read, inside or name in SECRET_FIELDS) for name, below in value.items()}
        case list() | tuple():
            return [_filled_in(item, read, inside) for item in value]
        case str() if inside and "{file://" in value:
            return _FILE.sub(lambda found: read(found[1]), value)
    return value


def referring(read: Reader[T], vaults: bool = True) -> Reader[T]:
    """A reader of what may have references in it; without `vaults`, of what Kong takes literally."""

    @accepts(read.schema)
    def checked(place: Place) -> T:
        for leaf, text in _texts(place):
            if mistake := _mistake(text, vaults):
                leaf.report(mistake)
        return read(place)

    return checked


def _mistake(text: str, vaults: bool) -> str:
    for name in _FILE.findall(text):
        if not _NAME.fullmatch(name):
            return (
                f"refers to the file {name!r}: it must be the name of one in the host's folder for secrets, not a path"
            )
    if "{file:" in _FILE.sub("", text):
        return "has an invalid reference: write {file://NAME}"
    if not vaults and is_vault_reference(text):
        return "is taken literally by Kong, not looked up in a vault: write {file://NAME}"
    return ""


def _texts(place: Place) -> Iterator[tuple[Place, str]]:
    value = place.node.value
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, list):
        for item in place.items():
            yield from _texts(item)
    elif isinstance(value, dict) and place.node.tag != "!broken":
        for at in place.entries().values():
            yield from _texts(at)
