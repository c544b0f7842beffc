"""The metrics of this daemon: where their values come from, and the port at which Prometheus asks for them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from gitops_mvd.api.views import DoneView, HostView
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.redact import told_line
from gitops_mvd.daemon.small_server import ServerThread, answer
from gitops_mvd.daemon.wiring import Wired
from gitops_mvd.forges.api.limits import rate_limits

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry  # loaded by the first who asks

log = logging.getLogger(__name__)

T = TypeVar("T")


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
            return answer(start, HTTPStatus.METHOD_NOT_ALLOWED, "metrics of gitops-mvd are only read", ("Allow", "GET"))
        try:
            if path == "/metrics":
                return self._metrics({**environ, "REQUEST_METHOD": "GET"}, start)  # it refuses HEAD
            if check := self._checks.get(path):
                return answer(start, HTTPStatus.OK, check().what)
        except MvdError as error:
            return answer(start, HTTPStatus.SERVICE_UNAVAILABLE, told_line(str(error)))
        except Exception as error:
            log.error("internal error port=metrics path=%s", told_line(path, 100), exc_info=error)
            return answer(start, HTTPStatus.INTERNAL_SERVER_ERROR, "internal error, see the log of gitops-mvd")
        return answer(start, HTTPStatus.NOT_FOUND, f"there are /metrics, {', '.join(self._checks)}")


def metrics_thread(at: str, application: Callable[[], MetricsApplication]) -> ServerThread:
    """The thread that answers at the port; what makes the metrics is loaded by it."""
    return ServerThread(
        at, lambda throttle: application(), setting="metrics.listen", what="Prometheus", refused="scrape refused"
    )
