"""What everybody on a host may read of a service: its command, its labels, its health check.  No secret may be in it.

The process list has the words of a command, and the unit and `docker ps` have the rest.  Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from gitops_mvd.core.model import Service
from gitops_mvd.core.redact import SECRETS_FOLDER, parts_of
from gitops_mvd.core.secret_words import PLACE, PLAIN_ANSWER, is_telling, passwords, secret_name
from gitops_mvd.core.secrets import BEGINS

KEYS = ("command", "entrypoint", "labels", "healthcheck", "annotations")
INSTEAD = (
    "which everybody on the host may read there: let a shell read it in the container, as in "
    "sh -c '... \"$$NAME\"' or $$(cat /run/secrets/NAME), or let the program read it from its environment or a file"
)


def exposed(service: Service, secrets: Mapping[str, Iterable[str]]) -> Iterator[tuple[str, str]]:
    """The keys of a service in which a secret is, each with the name of that; `secrets` has their values by name."""
    for key in KEYS:
        texts = list(_texts(service.run.get(key)))
        for name, values in secrets.items():
            if any(value in text for value in values for text in texts):
                yield key, name
                break


def secrets_by_name(services: Iterable[Service]) -> dict[str, set[str]]:
    """The values of variables that have the name of a secret, passwords in addresses, and what is in secret files.

    Everyday words are none: they may stand anywhere.
    """
    found: dict[str, set[str]] = {}
    for service in services:
        for name, value in service.environment.items():
            if BEGINS not in value:
                named = secret_name(name) and not PLACE.fullmatch(value) and not PLAIN_ANSWER.fullmatch(value)
                found.setdefault(name, set()).update([value] if named else [], passwords(value))
        for file in service.files:
            if file.target.startswith(SECRETS_FOLDER):
                found.setdefault(file.target, set()).update(parts_of(file.files.values()))
    telling = {name: set(filter(is_telling, values)) for name, values in found.items()}
    return {name: values for name, values in telling.items() if values}


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for key, inner in value.items():
                yield str(key)
                yield from _texts(inner)
        case list() | tuple():
            for item in value:
                yield from _texts(item)
