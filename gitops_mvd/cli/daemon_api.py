"""The daemon of this server, if it runs with the same settings: commands then ask it, and look for themselves if not.

So they start fast and need not be root.  Settings elsewhere mean another daemon, or none.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gitops_mvd.api.client import ANSWERS_WITHIN_SECONDS, Api, NotServed
from gitops_mvd.api.endpoints import ACTING_SOCKET, ALONE, SOCKET
from gitops_mvd.api.views import ChangesView
from gitops_mvd.core.errors import MvdError

RUN = Path(SOCKET).parent


def daemon_of(config: Path, timeout: float = ANSWERS_WITHIN_SECONDS) -> Api | None:
    """The daemon with these settings, None if none answers.

    Raises Refused where this user may not ask it, Unavailable where it does not answer in time.
    """
    if os.environ.get(ALONE):
        return None
    for api in _candidates(config):
        try:
            api.ask("changes", ChangesView, timeout=timeout)
        except NotServed:
            continue
        if str(config) == api.settings:
            return api
    return None


def _candidates(config: Path) -> Iterator[Api]:
    """The daemon where it usually is, and where the settings say that it is."""
    yield at(RUN)
    with suppress(MvdError):  # a command that looks for itself says so
        from gitops_mvd.cli.server import read_settings

        folder = Path(read_settings(config).run)
        if folder != RUN:
            yield at(folder)


def at(folder: Path) -> Api:
    """The daemon with its sockets in that folder."""
    return Api(str(folder / Path(SOCKET).name), str(folder / Path(ACTING_SOCKET).name))


def person() -> str:
    """Who runs this command: behind `sudo`, who called it."""
    with suppress(OSError, KeyError):  # a user without a name
        return os.environ.get("SUDO_USER") or getpass.getuser()
    return str(os.getuid())
