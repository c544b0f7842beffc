"""This host's key for digests of secrets: without it, a digest tells nothing, not even of a weak password.

A Swarm has one, too, which all of its managers know: `Manager.digest_key`.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from gitops_mvd.core.errors import Unavailable

NAME = ".digest-key"  # no secret can have a name with a dot in front
LENGTH_BYTES = 32


class DigestKey:
    """Makes the digests; `key` is asked once.

    If that is lost, every digest is another one, and each service with a secret is deployed anew, once.
    """

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._ask = key

    def digest(self, content: bytes) -> str:
        """The digest of a secret, in hex.  Raises Unavailable if there is no key, and none can be made."""
        return hmac.new(self._key, content, hashlib.sha256).hexdigest()

    @cached_property
    def _key(self) -> bytes:
        return self._ask()


class KeyFile:
    """The key of a plain host: it lies in the folder of secrets, and is made there when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME

    def __call__(self) -> bytes:
        try:
            return self._found() or self._made()
        except OSError as error:
            raise Unavailable(
                f"cannot read or make {self._path}, the key of all digests of secrets: {error.strerror}"
            ) from error

    def _found(self) -> bytes:
        try:
            key = self._path.read_bytes()
        except FileNotFoundError:
            return b""
        if len(key) != LENGTH_BYTES:
            hint = f"restore it from a backup, or remove it: rm {self._path}"
            raise Unavailable(f"{self._path} is not the key of {LENGTH_BYTES} bytes that it was", hint)
        return key

    def _made(self) -> bytes:
        """One that is there whole or not at all; of two processes, the later one takes that of the other."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = self._path.with_name(f"{NAME}.{os.getpid()}")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(LENGTH_BYTES))
                file.flush()
                os.fsync(descriptor)
            with suppress(FileExistsError):
                os.link(new, self._path)
        finally:
            new.unlink(missing_ok=True)
        return self._found()
