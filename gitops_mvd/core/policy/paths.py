"""Which paths of the host an app may mount.  Pure: where links lead, the host says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from gitops_mvd.core.policy.rules import Policy, Server, plain_path

_PROCESS = re.compile(r"/proc/([0-9]+|self|thread-self)(/|$)")  # its `root` and `cwd` lead anywhere


def forbidden_path(policy: Policy, server: Server, path: str) -> str:
    """Why a path may not be mounted, as the end of a sentence; "" if it may."""
    written, real = plain_path(path), plain_path(server.real_path(plain_path(path)))
    led = "" if written == real else f", which leads to {real}"
    if any(map(_PROCESS.match, (written, real))):
        return f"mounting {path}{led}, which is of a process of the host"
    for private in server.private:
        if any(_overlap(it, other) for it in (written, real) for other in _both(server, private)):
            return f"mounting {path}{led}: {private} is for the daemon and the engine alone"
    allowed = policy.level == "privileged" or (
        _is_below(written, map(plain_path, policy.mounts))
        and _is_below(real, [it for folder in policy.mounts for it in _both(server, folder)])
    )
    return "" if allowed else f"mounting {path}{led}"


def private_option(server: Server, options: Mapping[str, Any]) -> str:
    """Why a path among the options of a driver may be mounted by nobody; "" if there is no such path."""
    words = (word for value in options.values() for word in re.split(r"[,=\s]", str(value)) if word.startswith("/"))
    anything = Policy(level="privileged")
    found = (forbidden_path(anything, server, path) for word in words for path in word.split(":") if path)
    return next(filter(None, found), "")


def _both(server: Server, path: str) -> set[str]:
    """A path as it is written, and where it leads."""
    return {plain_path(path), plain_path(server.real_path(plain_path(path)))}


def _overlap(one: str, other: str) -> bool:
    return PurePosixPath(one).is_relative_to(other) or PurePosixPath(other).is_relative_to(one)


def _is_below(path: str, folders: Iterable[str]) -> bool:
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)
