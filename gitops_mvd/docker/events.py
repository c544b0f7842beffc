"""The events of an engine, followed for as long as the daemon runs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

from docker.types import CancellableStream

from gitops_mvd.core.backoff import Backoff
from gitops_mvd.core.errors import MvdError
from gitops_mvd.docker.answers import APP
from gitops_mvd.docker.connection import CACHED, Connection
from gitops_mvd.docker.types import EngineEvent

log = logging.getLogger(__name__)

RECONNECT = Backoff(1.0, 30.0)
ACTIONS = (
    *("create", "start", "die", "oom", "pause", "unpause", "health_status", "rename", "destroy"),
    *("pull", "load", "import", "tag", "untag", "delete"),
)

Notice = Callable[[str, str, str], None]


class EventApi(Connection):
    """`GET /events`."""

    def watch(self, notice: Notice, stop: threading.Event) -> None:
        """Follow the engine's events until `stop`, reconnecting as often as it takes.  Raises nothing.

        `notice` gets type, action and name of what happened to a managed container or to any image, network or volume;
        and `("engine", "connected", "")` after every connection, since nobody knows what was missed before it.
        """
        threading.Thread(target=self._hang_up, args=(stop,), name="docker-events-stop", daemon=True).start()
        failures = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                self._follow(notice, stop)
                reason = "it ended"
            except MvdError as error:
                reason = str(error)
            except Exception as error:  # an event that no engine known here would send
                reason = f"internal error: {type(error).__name__}"
                log.exception("internal error")
            finally:
                self.cache.end()
            if not stop.is_set():
                failures = 0 if time.monotonic() - began > RECONNECT.longest else failures + 1
                pause = RECONNECT.pause(failures)
                log.warning("lost the events of Docker, asking again in %.0f s: %s", pause, reason)
                stop.wait(pause)

    def _follow(self, notice: Notice, stop: threading.Event) -> None:
        with self.asking("stream its events") as api:
            filters = {"type": ["container", *CACHED], "event": list(ACTIONS)}
            # `since`, because the engine answers a moment before it listens; an event that comes twice does no harm
            self.stream = api.events(since=int(time.time()), filters=filters, decode=True)
            try:
                if stop.is_set():
                    return
                self.cache.begin()
                notice("engine", "connected", "")
                for event in cast(Iterable[EngineEvent], self.stream):
                    kind, actor = event["Type"], event["Actor"]
                    self.forget(kind)
                    if kind != "container" or APP in actor["Attributes"]:
                        notice(kind, event["Action"], actor["Attributes"].get("name", actor["ID"]))
            finally:
                self.stream, stream = None, self.stream
                _hang_up(stream)

    def _hang_up(self, stop: threading.Event) -> None:
        stop.wait()
        _hang_up(self.stream)


def _hang_up(stream: CancellableStream[Any] | None) -> None:
    if stream is not None:
        with suppress(OSError, AttributeError):  # it had ended by itself: the SDK then finds no socket
            stream.close()
