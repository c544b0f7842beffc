"""The server that a command works on: its settings, and what they connect to."""

from __future__ import annotations

import logging
import socket
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from gitops_mvd.cli.output import OneLine, how_long, when
from gitops_mvd.config import settings
from gitops_mvd.config.settings import Settings
from gitops_mvd.config.settings.log import ECS
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.model import ThreadState

if TYPE_CHECKING:
    from gitops_mvd.daemon.wiring import Wired
    from gitops_mvd.state.history import GitFailure


def read_settings(config: Path) -> Settings:
    """Raises Unavailable for a file that cannot be read, ManifestError for mistakes in it."""
    try:
        return settings.read(str(config), config.read_bytes())
    except FileNotFoundError:
        raise Unavailable(f"cannot read {config}: no such file", "`mvd install --repository URL` writes it") from None
    except PermissionError:
        raise Unavailable(f"cannot read {config}: permission denied", "Run as root: sudo mvd ...") from None
    except OSError as error:
        raise Unavailable(f"cannot read {config}: {error.strerror}") from None


def connect(config: Path) -> Wired:
    """The wiring of this server.  Raises Unavailable for a secret file that cannot be read."""
    from gitops_mvd.daemon.wiring import wire

    return wire(read_settings(config), config)


def restarted_threads(wired: Wired) -> list[ThreadState]:
    """The threads of the running daemon that are down, or were started again in the last hour; empty without one."""
    from gitops_mvd.state.lock import daemon_runs

    if not daemon_runs(Path(wired.settings.state)):
        return []
    return [state for state in wired.history.threads() if state.is_news(time.time())]


def told(state: ThreadState) -> str:
    """How a thread of the daemon is: `not running since 10:42:13: ...`."""
    how = "started again" if state.is_up else "not running since"
    return f"{how} {when(state.since)}: {state.cause}"


def told_git(failure: GitFailure) -> str:
    """Since when the newest commit is unknown or refused: `Git could not be asked since 12:31 (3 minutes): ...`."""
    since, now = datetime.fromtimestamp(failure.since).astimezone(), datetime.now().astimezone()
    at = since.strftime("%H:%M" if since.date() == now.date() else "%Y-%m-%d %H:%M")
    what = "the newest commit is refused" if failure.is_refused else "Git could not be asked"
    return f"{what} since {at} ({how_long((now - since).total_seconds())}): {failure.why}"


def log_to_stderr(formatter: logging.Formatter) -> logging.Handler:
    """Log in that form from now on; the handler takes another one later."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return handler


def daemon_format(settings: Settings | None = None) -> logging.Formatter:
    """The form of the daemon's own log, as its settings have it; until they are read it is text."""
    if settings and settings.log.format == ECS:
        from gitops_mvd.cli.ecs import Ecs

        return Ecs(settings.host or socket.gethostname())
    return OneLine("%(levelname)s %(message)s")
