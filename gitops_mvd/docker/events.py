"""The events of an engine, followed for as long as the daemon runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress

from docker.types import CancellableStream

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.docker.answers import APP, lines, message, verdict
from gitops_mvd.docker.connection import CACHED, Connection, chunks, root
from gitops_mvd.docker.shape import checked
from gitops_mvd.docker.types import EngineEvent

ACTIONS = (
    *("create", "start", "die", "oom", "pause", "unpause", "health_status", "rename", "destroy"),
    *("pull", "load", "import", "tag", "untag", "delete"),
)

Notice = Callable[[str, str, str], None]


class EventApi(Connection):
    """`GET /events`."""

    def follow(self, notice: Notice) -> None:
        """Follow the engine's events.  Raises Unavailable once they are lost, or by `hang_up`.

        `notice` gets type, action and name of what happened to a managed container or to any image, network or volume;
        and `("engine", "connected", "")` at first, since nobody knows what was missed before.
        """
        with self.asking("stream its events") as api:
            # `since`, because the engine answers a moment before it listens; an event that comes twice does no harm
            what = {"type": ["container", *CACHED], "event": list(ACTIONS)}
            asked = {"since": str(int(time.time())), "filters": json.dumps(what)}
            answer = api.get(f"{root(api)}/events", params=asked, stream=True, timeout=(api.timeout, None))
            if not answer.ok:
                raise verdict(answer.status_code, message(answer.text), "stream its events")
            self.stream = CancellableStream(iter(()), answer)
            try:
                self.cache.begin()
                notice("engine", "connected", "")
                for line in lines(chunks(answer)):
                    self._tell(notice, checked(json.loads(line), EngineEvent))
                raise Unavailable("Docker ended the stream of its events")
            finally:
                self.cache.end()
                self.hang_up()

    def hang_up(self) -> None:
        """End `follow`, from any thread."""
        stream, self.stream = self.stream, None
        if stream is not None:
            with suppress(OSError, AttributeError):  # it had ended by itself: the SDK then finds no socket
                stream.close()

    def _tell(self, notice: Notice, event: EngineEvent) -> None:
        kind, actor = event["Type"], event["Actor"]
        self.forget(kind)
        if kind != "container" or APP in actor["Attributes"]:
            notice(kind, event["Action"], actor["Attributes"].get("name", actor["ID"]))
