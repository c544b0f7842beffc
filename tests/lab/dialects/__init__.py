"""The languages that the lab's forge speaks: one module for each kind of forge, with that forge's own limits.

A module has

    BASE                          what is appended to the forge's address to get its API
    PATH                          a pattern of the paths that are its own
    MEANS                         what the states of a status mean: pending, success, failure, or error where it is over
                                  without having been either
    admits(headers, token)        does this login carry the token?  Header names are in lower case
    answer(ask)                   the status and the JSON that answer a request, or Refused
    refused(error)                the JSON of an error, as this forge writes it
    limited(until)                the status, headers and JSON of "too many requests" (seconds since 1970)
    delivery(repository, happened, secret)   the headers and the body of a webhook
    moved(ask, name)              optional: the status, headers and JSON for a repository that was renamed to `name`
    ETAGS                         optional: True where its answers have ETags
"""

from __future__ import annotations

import base64
import hmac
import importlib
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tests.lab.repository import Refused, Repository

if TYPE_CHECKING:
    from tests.lab.forge import Forge

Answer = tuple[int, Any]


@dataclass(frozen=True)
class Ask:
    """One request to an API: `path` as it was sent, quoted, without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    forge: Forge

    def json(self) -> dict[str, Any]:
        """The body, which must be a JSON object."""
        try:
            given = json.loads(self.body)
        except ValueError:
            raise Refused(400, "Problems parsing JSON") from None
        if not isinstance(given, dict):
            raise Refused(400, "Body should be a JSON object")
        return given

    def repository(self, name: str) -> Repository:
        """The repository of that name, already unquoted."""
        try:
            return self.forge.repositories[name]
        except KeyError:
            raise Refused(404, "Not Found") from None


def discover() -> dict[str, ModuleType]:
    """Every dialect, by the name that the settings of a server use for the forge."""
    names = [found.name for found in pkgutil.iter_modules(__path__)]
    return {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in names}


def is_token(given: str, token: str) -> bool:
    return hmac.compare_digest(given.encode(), token.encode())


def basic(authorization: str) -> tuple[str, str]:
    """The user and the password of an Authorization header; two empty ones where it has none."""
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        user, _, password = base64.b64decode(given).decode().partition(":")
    except ValueError:
        return "", ""
    return user, password
