"""Decrypts files of the repository with the `sops` program and a key of this host, in memory alone.

Only keys of age and PGP are used: those of a service on a network would be asked for at whatever address the
repository names.  https://getsops.io/docs/
"""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from gitops_mvd.config.yamltree import Sink, mistakes
from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.manifest.dotenv import parse_env
from gitops_mvd.manifest.sealed import foreign_key, format_of
from gitops_mvd.secrets.program import run

WITHIN_SECONDS = 20.0
PAUSE_SECONDS = 60.0  # after which a sops that did not end is run again
LARGEST_BYTES = 4 << 20  # of what a file decrypts to
MOST_FILES = 500  # that are remembered
NO_KEY = 128  # what sops ends with where no key of a file is here
CHANGED = (25, 51, 52)  # and where what is there is not what was signed
_DEAD_PROXY = "http://127.0.0.1:9"  # whatever else sops may think of asking is not reached

_RECIPIENT = re.compile(r"\bage1[a-z0-9-]{20,2000}|(?:map_fp\s*=\s*|\bfp\"?: \"?)([0-9A-F]{40})")


@dataclass(frozen=True)
class Opened:
    """What came of one encrypted file with the keys of then; a failure has a `why`."""

    path: str
    keys: object
    content: bytes = b""
    why: str = ""
    hint: str = ""

    @cached_property
    def variables(self) -> Mapping[str, str]:
        """Those of an env file as Compose reads it.  Raises StepFailed for a mistake."""
        return self._variables(raw=False)

    @cached_property
    def raw_variables(self) -> Mapping[str, str]:
        return self._variables(raw=True)

    def _variables(self, raw: bool) -> Mapping[str, str]:
        sink: Sink = []
        found = parse_env(self.path, self.content, {}, sink, raw)
        if wrong := mistakes(sink):
            raise StepFailed(f"{wrong[0].problem} (once it is decrypted)")
        return found


class Sops:
    """Each file is decrypted once, and again only if it failed and the keys of this host are others by now."""

    def __init__(self, age_key_file: Path, gnupg_home: Path) -> None:
        self._age = age_key_file
        self._gnupg = gnupg_home
        self._opened: OrderedDict[tuple[str, str], Opened] = OrderedDict()  # by path and text
        self._hung: tuple[float, Unavailable] | None = None  # when, and what was said
        self._lock = threading.Lock()

    def content(self, path: str, sealed: Mapping[str, str], raw: bool = False) -> bytes:
        """What is in an encrypted file or, for `path#NAME`, in a variable of it.  Raises StepFailed or Unavailable."""
        if path in sealed:
            return self._decrypted(path, sealed[path]).content
        path, _, name = path.rpartition("#")
        if path not in sealed:
            raise StepFailed(f"{path} is encrypted, and not in the repository any more")
        opened = self._decrypted(path, sealed[path])
        return (opened.raw_variables if raw else opened.variables).get(name, "").encode()

    def _decrypted(self, path: str, text: str) -> Opened:
        with self._lock:  # one at a time: a host has few cores, and many files
            opened = self._opened.get((path, text))
            if opened is None or (opened.why and opened.keys != self._keys()):
                opened = self._opened[path, text] = self._open_or_wait(path, text)
            self._opened.move_to_end((path, text))
            while len(self._opened) > MOST_FILES:
                self._opened.popitem(last=False)
        if opened.why:
            raise StepFailed(f"{path} is encrypted with SOPS, and {opened.why}", opened.hint)
        return opened

    def _open_or_wait(self, path: str, text: str) -> Opened:
        """Raises Unavailable, for a while also without another try, so that not every file waits as long."""
        if self._hung and time.monotonic() - self._hung[0] < PAUSE_SECONDS:
            raise self._hung[1]
        try:
            return self._open(path, text)
        except Unavailable as error:
            self._hung = time.monotonic(), error
            raise

    def _keys(self) -> object:
        """What decides whether a file can be decrypted here; asks nobody."""
        return shutil.which("sops"), _stamp(self._age), _stamp(self._gnupg), _stamp(self._gnupg / "private-keys-v1.d")

    def _open(self, path: str, text: str) -> Opened:
        keys = self._keys()
        if why := foreign_key(path, text):
            return Opened(path, keys, why=why, hint="encrypt it anew, with `age` or `pgp` alone in .sops.yaml")
        program = shutil.which("sops")
        if not program:
            return Opened(path, keys, why="this host has no sops", hint="https://github.com/getsops/sops/releases")
        if not (self._age.exists() or self._gnupg.exists()):
            return Opened(path, keys, why="this host has no key", hint=self._hint(text))
        kind = format_of(path, text)
        words = [program, "--decrypt", "--input-type", kind, "--output-type", kind, "/dev/stdin"]
        given = text.encode("utf-8", "surrogateescape")
        status, content = run(words, self._environment(), WITHIN_SECONDS, LARGEST_BYTES, given)
        if status == 0:
            return Opened(path, keys, content)
        if status == NO_KEY:
            return Opened(path, keys, why="no key of this host decrypts it", hint=self._hint(text))
        what = "was changed by hand since it was encrypted" if status in CHANGED else f"sops ended with {status}"
        return Opened(path, keys, why=what, hint=f"see what it says: sops decrypt {path}")

    def _hint(self, text: str) -> str:
        found = [match[1] or match[0] for match in _RECIPIENT.finditer(text)]
        theirs = f", with the key of {' or '.join(dict.fromkeys(found))}" if found else ""
        return f"install -D -m 600 /dev/stdin {self._age}{theirs}"

    def _environment(self) -> dict[str, str]:
        proxies = {name: _DEAD_PROXY for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")}
        keys = {"SOPS_AGE_KEY_FILE": str(self._age)} if self._age.exists() else {}
        path = os.environ.get("PATH", os.defpath)
        return {
            "PATH": path,
            "HOME": "/nonexistent",
            "GNUPGHOME": str(self._gnupg),
            "LC_ALL": "C.UTF-8",
            **keys,
            **proxies,
        }


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
