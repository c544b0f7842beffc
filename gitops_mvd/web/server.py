"""The page, served: the settings become a site, and one event loop serves it until the process is told to end."""

from __future__ import annotations

import logging
import resource
import socket
from functools import partial
from pathlib import Path

import uvicorn

from gitops_mvd.api.client import Api
from gitops_mvd.config.settings.section import host_and_port
from gitops_mvd.config.settings.web import WebSettings
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.web.connection import Connection, Limits
from gitops_mvd.web.fleet import Fleet
from gitops_mvd.web.guard import Guard
from gitops_mvd.web.live import MOST_BROWSERS
from gitops_mvd.web.site import Site

log = logging.getLogger(__name__)

SHORTEST_TOKEN = 16  # characters
LARGEST_TOKEN_FILE = 4096
BACKLOG = 1024
END_SECONDS = 2  # for which answers may go on when the process is told to end
LARGEST_HEADERS = 32 << 10
MOST_FILES = 4096
OTHER_FILES = 500  # that are no connections of browsers


def serve(settings: WebSettings, here: str, api: Api) -> None:
    """Serve until SIGTERM or SIGINT; `here` is the name of this server.

    Raises Unavailable if the token cannot be read, or the address not be listened at.
    """
    site = Site(settings, Guard(settings, _token(settings)), Fleet(settings.hosts, here, api))
    listener = _listen(settings.listen)
    limits = Limits(min(MOST_BROWSERS + 500, _open_as_many_as_allowed() - OTHER_FILES))
    config = uvicorn.Config(
        site.application,
        http=partial(Connection, limits=limits),  # type: ignore[arg-type]  # it is called as the class is
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=END_SECONDS,
        h11_max_incomplete_event_size=LARGEST_HEADERS,
    )
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # what a browser does wrong is no news
    logging.getLogger("uvicorn.error").addFilter(_is_worth_telling)
    log.info("the page is at http://%s", settings.listen)
    uvicorn.Server(config).run(sockets=[listener])


def _is_worth_telling(record: logging.LogRecord) -> bool:
    """Pages that stay open are cut off at the end of the process: that is no error."""
    return "graceful shutdown" not in record.getMessage()


def _open_as_many_as_allowed() -> int:
    """Each browser is a file; what a shell allows is often less than the system does.  Returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def _token(settings: WebSettings) -> str:
    if not settings.token_file:
        return ""
    try:
        with Path(settings.token_file).open("rb") as file:
            token = file.read(LARGEST_TOKEN_FILE).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise Unavailable(
            f"cannot read {settings.token_file} (web.token_file): {why}",
            f"chgrp mvd-act {settings.token_file}; chmod 640 {settings.token_file}",
        ) from error
    if len(token) < SHORTEST_TOKEN:
        raise MvdError(
            f"the token in {settings.token_file} is too short: it must have {SHORTEST_TOKEN} characters or more",
            f"openssl rand -hex 32 > {settings.token_file}",
        )
    return token


def _listen(where: str) -> socket.socket:
    host, port = host_and_port(where)
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise Unavailable(f"cannot listen at {where}: {error.strerror}", "another port: web.listen") from error
    listener.listen(BACKLOG)
    return listener
