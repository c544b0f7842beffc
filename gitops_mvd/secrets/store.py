"""Every secret that apps of this host refer to: asked for once, and again only after it may have changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gitops_mvd.core.errors import MvdError, StepFailed, Unavailable
from gitops_mvd.core.redact import learn
from gitops_mvd.core.secrets import SOPS, SOPS_RAW, provider_of
from gitops_mvd.secrets.digest_key import DigestKey, KeyFile
from gitops_mvd.secrets.providers import Provider
from gitops_mvd.secrets.providers.files import Files
from gitops_mvd.secrets.sops import Sops

MOST_IDLE_PASSES = 10  # after which a secret is forgotten

log = logging.getLogger(__name__)


@dataclass
class Known:
    """A secret as it was read: with a `content` of None it could not be.  What is `stale` may have changed since.

    `idle` counts the passes in which nobody has asked for it.
    """

    stamp: object
    content: bytes | None
    stale: bool = False
    idle: int = 0


class Secrets:
    """Content is kept in memory alone.  May be used by several threads at once; `refresh` by one of them.

    A provider that does not answer leaves what is known of it as it is, so that nothing is deployed anew.
    """

    def __init__(
        self,
        folder: Path,
        providers: Mapping[str, Provider] | None = None,
        sops: Sops | None = None,
        key: Callable[[], bytes] | None = None,
    ) -> None:
        """`key` returns that of the digests, and is asked in each pass; without, it is a file of the `folder`."""
        self._providers: Mapping[str, Provider] = {"": Files(folder), **(providers or {})}
        self._sops = sops or Sops(folder.parent / "sops/age/keys.txt", folder.parent / "sops/gnupg")
        self._ask_key = key
        self._key = DigestKey(key or KeyFile(folder))
        self._known: dict[str, Known] = {}
        self._locks = {name: threading.Lock() for name in self._providers}
        self._down: dict[str, Unavailable] = {}  # provider -> why it did not answer in this pass
        self._missing: dict[str, MvdError] = {}  # name -> why there is no such secret in this pass
        self._told: dict[str, str] = {}  # provider -> what was logged about it
        self._asked: dict[str, bytes] = {}  # digest -> content, of what was asked for since the last refresh
        self._asked_before: dict[str, bytes] = {}
        self.version = 0  # another one after every refresh that found that something may have changed

    def refresh(self) -> None:
        """A new pass: what may have changed is read again when somebody asks for it.  One stat for each file."""
        for known in self._known.values():
            known.idle += 1
        self._known = {name: known for name, known in self._known.items() if known.idle <= MOST_IDLE_PASSES}
        fresh = {name: known for name, known in self._known.items() if not known.stale}
        stale = [name for name, known in fresh.items() if known.stamp != self._stamp(name)]
        for name in stale:
            self._known[name].stale = True
        self.version += bool(stale)
        if self._ask_key:
            self._key = DigestKey(self._ask_key)
        self._down, self._missing = {}, {}
        self._asked_before, self._asked = self._asked, {}

    def require(self, names: Iterable[str]) -> None:
        """Raise StepFailed or Unavailable for the first that cannot be had."""
        for name in sorted(names):
            self.read(name)

    def read(self, name: str) -> str:
        """A secret as text, without the line's end.  Raises StepFailed or Unavailable, never with any of the text."""
        return as_text(name, self._content(name))

    def digest(self, name: str, sealed: Mapping[str, str]) -> str:
        """What stands for the content of a secret, which may be in one of the encrypted files `sealed`.

        Raises StepFailed or Unavailable.
        """
        provider, path = provider_of(name)
        if provider in (SOPS, SOPS_RAW):
            content = self._sops.content(path, sealed, raw=provider == SOPS_RAW)
            learn(f"secret {name}", content.decode("utf-8", "replace"))
        else:
            content = self._content(name)
        digest = self._key.digest(content)
        self._asked[digest] = content
        return digest

    def digest_of(self, content: bytes) -> str:
        """The digest of what was found on the disk."""
        return self._key.digest(content)

    def content(self, name: str, digest: str) -> bytes:
        """The content that a digest stands for.  Raises Unavailable if the secret has another one by now."""
        for asked in (self._asked, self._asked_before):
            if digest in asked:
                return asked[digest]
        raise Unavailable(f"the secret {name} has changed since, and what it was is not on this host any more")

    def values(self, secrets: Mapping[str, str]) -> Iterator[str]:
        """What is known of the contents of secrets, each with its digest."""
        for name, digest in secrets.items():
            with suppress(Unavailable):
                yield self.content(name, digest).decode("utf-8", "replace")

    def _stamp(self, name: str) -> object:
        provider, path = provider_of(name)
        return self._providers[provider].stamp(path)

    def _content(self, name: str) -> bytes:
        provider, path = provider_of(name)
        if provider not in self._providers:
            raise StepFailed(
                f"the secret {name} is that of a provider {provider}, which this host does not have",
                f"name it in the settings of the host: providers.{provider}",
            )
        with self._locks[provider]:
            known = self._known.get(name)
            if known:
                known.idle = 0
            if known and known.content is not None and not known.stale:
                return known.content
            if name in self._missing:
                raise self._missing[name]
            stamp = self._stamp(name)
            try:
                content = self._ask(provider, path)
            except Unavailable:
                if known and known.content is not None:
                    known.stamp, known.stale = stamp, False
                    return known.content
                raise
            except MvdError as error:
                self._known[name] = Known(stamp, None)  # so that a change is found
                self._missing[name] = error
                raise
            self._known[name] = Known(stamp, content)
            learn(f"secret {name}", content.decode("utf-8", "replace"))
            return content

    def _ask(self, provider: str, path: str) -> bytes:
        """Raises Unavailable at once if the provider did not answer in this pass."""
        if error := self._down.get(provider):
            raise error
        try:
            content = self._providers[provider].read(path)
        except Unavailable as error:
            self._down[provider] = error
            if str(error) != self._told.get(provider):
                log.warning("secrets wait provider=%s reason=%s", provider, error)
            self._told[provider] = str(error)
            raise
        if self._told.pop(provider, ""):
            log.info("secrets go on provider=%s", provider)
        return content


def as_text(name: str, content: bytes) -> str:
    """A secret as a value: without the line's end that a file has.  Raises StepFailed, with the name alone."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise StepFailed(
            f"the secret {name} is not UTF-8 text", "only a file of `secrets:` can be other bytes"
        ) from None
    if provider_of(name)[0] in (SOPS, SOPS_RAW):
        return text
    return text.removesuffix("\n").removesuffix("\r")
