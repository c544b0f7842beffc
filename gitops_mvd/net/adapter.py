"""How requests uses connections with limits; a module of its own, as requests is loaded only by who asks something."""

from __future__ import annotations

import errno
import os
import ssl
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from gitops_mvd.net.http import HttpPool, HttpsPool

POOLS = {"http": HttpPool, "https": HttpsPool}


class Adapter(HTTPAdapter):
    """Mounted in a session, it makes connections over Lines, also to a proxy."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def proxy_manager_for(self, *args: Any, **options: Any) -> Any:
        manager = super().proxy_manager_for(*args, **options)
        manager.pool_classes_by_scheme = POOLS
        return manager


def session() -> requests.Session:
    """A session whose connections have limits, and which trusts the authorities that this machine trusts."""
    made = requests.Session()
    for scheme in ("http://", "https://"):
        made.mount(scheme, Adapter())
    made.verify = _authorities()
    return made


def content(answer: requests.Response, most: int) -> bytes:
    """All of an answer.  Raises OSError if it has more than `most` bytes."""
    said = bytearray()
    for piece in answer.iter_content(64 * 1024):  # as it unfolds, if it is packed
        said += piece
        if len(said) > most:
            raise OSError(errno.EMSGSIZE, "the answer is too large")
    return bytes(said)


def _authorities() -> str | bool:
    """Where this machine keeps the certificates that it trusts; those that requests brings along where it has none."""
    paths = ssl.get_default_verify_paths()
    if paths.cafile:
        return paths.cafile
    return paths.capath if paths.capath and os.listdir(paths.capath) else True
