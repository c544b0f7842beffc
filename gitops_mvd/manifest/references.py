"""References in a manifest: `{file://NAME}` is a secret of the host, `{vault://...}` one of Kong's own vaults.  Pure.

They are filled in where Kong gets a declaration, and where a container gets its environment; anywhere else a reference
is a mistake, as somebody would get its text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar, cast

from gitops_mvd.config.tables import Place, Reader, accepts
from gitops_mvd.core import secrets
from gitops_mvd.core.model import File

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

_FILLED_IN = {"environment", "env_file", "label_file", "x-kong"}
_VAULT = re.compile(r"\{vault://[^{}]+\}")


def is_vault_reference(text: str) -> bool:
    """Is all of it a reference that Kong looks up?  Such a text has the place of a secret, not the secret."""
    return _VAULT.fullmatch(text) is not None


def secret_names(value: object) -> frozenset[str]:
    """The secrets that are named in a declaration."""
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
        case str() if inside:
            return secrets.filled(value, read)
    return value


def secrets_in(environment: Mapping[str, str], files: Iterable[File]) -> set[str]:
    """The names of the secrets that a service gets, in its environment and as files."""
    found = {name for value in environment.values() for name in secrets.names_in(value)}
    return found.union(*(file.secrets.values() for file in files))


def refuse_references(entries: Mapping[str, Place]) -> None:
    """Report each reference below the keys of a service, or of the top level, where nobody fills it in."""
    for at, text in (found for key in entries.keys() - _FILLED_IN for found in _texts(entries[key])):
        if secrets.BEGINS in text:
            at.report(
                "refers to a secret, which is filled in only in `environment`, env files and x-kong: "
                "let the container read a variable, or a file of `secrets:`"
            )


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
    if why := secrets.mistake(text):
        return why
    if text.count("{file:") != text.count(secrets.BEGINS):
        return secrets.MALFORMED
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
        for name, at in place.entries().items():
            yield at, name
            yield from _texts(at)
