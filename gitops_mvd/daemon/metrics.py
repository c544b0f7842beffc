"""The metrics of this daemon: where their values come from, and the port at which Prometheus asks for them."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gitops_mvd.api.views import DoneView, HostView
from gitops_mvd.config.settings.section import host_and_port
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.redact import told_line
from gitops_mvd.daemon.small_server import LogThrottle, Server, listen
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.forges.api.limits import rate_limits

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry  # loaded by the first who asks

log = logging.getLogger(__name__)

T = TypeVar("T")
OTHER_PORT = "Change `metrics.listen` in the settings"


def registry_of(wired: Wired, status: Callable[[], HostView]) -> CollectorRegistry:
    """All metrics of a daemon; `status` is the server as it is shown."""
    from gitops_mvd.metrics.containers import ContainerUsage
    from gitops_mvd.metrics.exposition import Sources, registry

    return registry(
        Sources(
            status=status,
            counts=wired.counts,
            deliveries=lambda: _or(wired.history.deliveries, dict[tuple[str, str], int]()),
            waiting=lambda: _or(wired.history.count_waiting, 0),
            rate_limits=rate_limits,
            usage=ContainerUsage(),
            traces=wired.traces.outcomes if wired.traces else None,
            forge=wired.settings.forge.kind if wired.settings.forge else "",
        )
    )


def _or(ask: Callable[[], T], otherwise: T) -> T:
    try:
        return ask()
    except Unavailable:
        return otherwise


class MetricsApplication:
    """Answers `/metrics`, `/healthz` and `/readyz`, as WSGI has it, and nothing else.

    It takes what Prometheus's own library takes: text or OpenMetrics, compressed or not.
    """

    def __init__(self, registry: CollectorRegistry, checks: Mapping[str, Callable[[], DoneView]]) -> None:
        from prometheus_client import make_wsgi_app

        self._metrics: WSGIApplication = make_wsgi_app(registry)
        self._checks = checks

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _told(start, HTTPStatus.METHOD_NOT_ALLOWED, "metrics of gitops-mvd are only read", ("Allow", "GET"))
        try:
            if path == "/metrics":
                return self._metrics(environ, start)
            if check := self._checks.get(path):
                return _told(start, HTTPStatus.OK, check().what)
        except MvdError as error:
            return _told(start, HTTPStatus.SERVICE_UNAVAILABLE, told_line(str(error)))
        except Exception as error:
            log.error("internal error port=metrics path=%s", told_line(path, 100), exc_info=error)
            return _told(start, HTTPStatus.INTERNAL_SERVER_ERROR, "internal error, see the log of gitops-mvd")
        return _told(start, HTTPStatus.NOT_FOUND, f"there are /metrics, {', '.join(self._checks)}")


def _told(start: StartResponse, status: HTTPStatus, text: str, *more: tuple[str, str]) -> list[bytes]:
    body = f"{text}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body))), *more]
    start(f"{status.value} {status.phrase}", headers)
    return [body]


class MetricsThread:
    """The thread that answers at the port.  It is one of its own: a port that is taken holds up no other part."""

    def __init__(self, at: str, application: Callable[[], MetricsApplication]) -> None:
        self._at = at
        self._application = application
        self._throttle = LogThrottle()
        self._server: Server | None = None

    def run(self, stop: threading.Event, up: Callable[[], None]) -> None:
        """Answer until `stop`.  Raises Unavailable for a port that cannot be opened."""
        try:
            listener = listen(*host_and_port(self._at))
        except OSError as error:
            why = os.strerror(error.errno).lower() if error.errno else "unknown address"
            raise Unavailable(f"cannot listen for Prometheus at {self._at}: {why}", OTHER_PORT) from error
        self._server = Server(listener, self._application(), self._throttle, refused="scrape refused")
        log.info("listening for Prometheus at=%s", self._at)
        up()
        self._server.run(stop)

    def wake(self) -> None:
        if self._server:
            self._server.wake()
