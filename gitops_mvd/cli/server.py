"""The server that a command works on: its settings, and what they connect to."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gitops_mvd.cli.log_lines import OneLine
from gitops_mvd.config import settings
from gitops_mvd.config.settings import Settings
from gitops_mvd.config.settings.log import ECS, OUTCOME
from gitops_mvd.core.errors import Unavailable

if TYPE_CHECKING:
    from gitops_mvd.daemon.wiring import Wired


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


class _Stderr(logging.StreamHandler):  # type: ignore[type-arg]  # it takes none when it runs
    """In text, what an app came to is in the summary of its pass already: one line says so, and not two."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name != OUTCOME or not isinstance(self.formatter, OneLine):
            super().emit(record)


def log_to_stderr(formatter: logging.Formatter) -> logging.Handler:
    """Log in that form from now on; the handler takes another one later."""
    handler = _Stderr(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    return handler


def daemon_format(settings: Settings | None = None) -> logging.Formatter:
    """The form of the daemon's own log, as its settings have it; until they are read it is text."""
    if settings and settings.log.format == ECS:
        from gitops_mvd.cli.ecs import Ecs

        return Ecs(settings.swarm or settings.host or socket.gethostname())
    return OneLine("%(levelname)s %(message)s")
