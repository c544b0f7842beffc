"""Who is asked for a secret: one module each.

A name without a colon is a file of the host's own folder; `NAME:PATH` is asked of the provider that the settings call
NAME.  The laws every implementation obeys are tested by tests/contract/test_secret_providers.py.
"""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

from gitops_mvd.config.settings.secrets import ProviderSettings

LARGEST_BYTES = 1 << 20


class Provider(Protocol):
    """The laws:

    1. read(path) is exactly what was put there                  - no byte is lost or changed
    2. what is missing is StepFailed, and says what provides it  - the app waits for that
    3. what does not answer, or not in time, is Unavailable      - what was known stays known
    4. no error has any part of a secret in it
    """

    def stamp(self, path: str) -> object:
        """Another one if the secret may have changed since; asks nobody for it."""
        ...

    def read(self, path: str) -> bytes:
        """The secret, at most LARGEST_BYTES.  Raises StepFailed or Unavailable."""
        ...


def connect(options: ProviderSettings) -> Provider:
    """The provider that the settings describe: the module of the key that is given.  Nobody is asked yet."""
    [(kind, given)] = ((kind, it) for kind in options.__slots__ if (it := getattr(options, kind)))
    provider: Provider = import_module(f"{__name__}.{kind}").connect(given)
    return provider
