"""The questions of the local API, one a row.  Pure.

The server answers them, the client asks them, OpenAPI describes them.  What acts is a POST with a JSON body and is
answered on the socket for that alone; all else only reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from gitops_mvd.api.views import (
    ChangesView,
    CommandView,
    DoneView,
    EventsView,
    HistoryView,
    HostView,
    LogLine,
    OperationView,
)

SOCKET = "/run/gitops-mvd/api.sock"  # for whoever may read: root, and the group READERS
ACTING_SOCKET = "/run/gitops-mvd/act.sock"  # for whoever may act, too: root, and the group ACTORS
READERS, ACTORS = "mvd", "mvd-act"
SETTINGS_HEADER = "Mvd-Settings"  # of every answer: the path of the settings that the daemon was started with
ALONE = "MVD_ALONE"  # in the environment of a command of `mvd`: it looks for itself, and asks no daemon
MOST_LINES = 10_000
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
LONGEST_WAIT_SECONDS = 30.0


class Parameter(Struct, frozen=True):
    """A part of the query or of the body; `default` None says that it is required, `most` is for numbers.

    With one that `is_slow`, an answer takes its time.
    """

    name: str
    kind: type[str] | type[int] | type[float] | type[bool]
    what: str
    default: str | int | float | bool | None = None
    most: float = 0.0
    is_slow: bool = False


class Endpoint(Struct, frozen=True):
    """A question: `answer` is the type of its answer; an `is_stream` answers with a line of JSON for each.

    A `form` is the media type of an answer that is a text instead.  One that `is_slow` takes seconds of work, so only
    so many are answered at once.
    """

    name: str
    method: str
    path: str
    what: str
    answer: Any
    parameters: tuple[Parameter, ...] = ()
    is_stream: bool = False
    form: str = ""
    is_slow: bool = False

    def is_slow_with(self, parameters: Mapping[str, Any]) -> bool:
        """Does the answer take its time, by itself or by one of these parameters?"""
        return self.is_slow or any(one.is_slow and parameters.get(one.name) for one in self.parameters)


def _name(what: str) -> Parameter:
    return Parameter("name", str, what, "")


_BY = Parameter("by", str, "Who asks, a name for people.", "")
_APP = Parameter("app", str, "The app; all of the server without it.", "")

ENDPOINTS = (
    Endpoint(
        "status",
        "GET",
        "/v1/status",
        "This server with its apps, services and instances.",
        HostView,
        (
            Parameter(
                "ask", bool, "Ask every probe now, instead of what the daemon has seen last.", False, is_slow=True
            ),
        ),
    ),
    Endpoint(
        "changes",
        "GET",
        "/v1/changes",
        "Wait until something else is to be seen: a new status, a step, an event.",
        ChangesView,
        (
            Parameter("after", int, "The number that is known.", 0),
            Parameter("within", float, "Seconds to wait at most.", 0.0, LONGEST_WAIT_SECONDS, is_slow=True),
        ),
    ),
    Endpoint(
        "operations",
        "GET",
        "/v1/operations",
        "The operations that changed something, the newest first, the running one included, without their steps.",
        tuple[OperationView, ...],
        (
            Parameter("limit", int, "At most so many.", 20, 200),
            Parameter("commit", str, "Only those of this commit, or of those that begin so.", ""),
            Parameter("app", str, "Only those that changed this app.", ""),
        ),
    ),
    Endpoint(
        "operation",
        "GET",
        "/v1/operations/{id}",
        "One operation with its steps and their times.",
        OperationView,
        (Parameter("id", int, "Its id."),),
    ),
    Endpoint(
        "history",
        "GET",
        "/v1/history",
        "How apps came out of passes, the newest first.",
        tuple[HistoryView, ...],
        (Parameter("limit", int, "At most so many.", 20, 1000), Parameter("app", str, "Only this app.", "")),
    ),
    Endpoint(
        "events",
        "GET",
        "/v1/events",
        "The latest lines of the daemon's own log.",
        EventsView,
        (
            Parameter("after", int, "Only those behind this id.", 0),
            Parameter("limit", int, "At most so many.", 100, 1000),
        ),
    ),
    Endpoint(
        "logs",
        "GET",
        "/v1/logs",
        "What an app or a service printed, across versions and replicas.",
        LogLine,
        (
            Parameter("name", str, "APP or APP/SERVICE."),
            Parameter("lines", int, "Begin with so many.", 50, MOST_LINES),
            Parameter("follow", bool, "Go on with what comes.", False),
            Parameter("after", str, "Only what is behind this cursor.", ""),
            Parameter("since", float, "Only what was printed since then, in seconds since 1970.", 0.0),
        ),
        is_stream=True,
    ),
    Endpoint(
        "plan",
        "GET",
        "/v1/plan",
        "What a sync would change, as `mvd plan --json` says it.",
        CommandView,
        is_slow=True,
    ),
    Endpoint(
        "explain",
        "GET",
        "/v1/explain",
        "How apps are deployed, as `mvd explain --json` says it.",
        CommandView,
        (_name("APP or APP/SERVICE, or nothing for all."),),
        is_slow=True,
    ),
    Endpoint("doctor", "GET", "/v1/doctor", "What `mvd doctor --json` finds.", CommandView, is_slow=True),
    Endpoint("metrics", "GET", "/metrics", "All metrics, as Prometheus reads them.", str, form=PROMETHEUS),
    Endpoint("openapi", "GET", "/v1/openapi.json", "This description.", dict[str, Any]),
    Endpoint("health", "GET", "/healthz", "Is the loop at work?  503 if it hangs.", DoneView),
    Endpoint("ready", "GET", "/readyz", "Has there been a pass, and does Git answer?  503 if not.", DoneView),
    Endpoint("sync", "POST", "/v1/sync", "Fetch and reconcile now.", DoneView, (_BY,)),
    Endpoint(
        "retry",
        "POST",
        "/v1/retry",
        "Try the failed version of an app again.",
        DoneView,
        (Parameter("app", str, "The app."), _BY),
    ),
    Endpoint(
        "suspend",
        "POST",
        "/v1/suspend",
        "Leave an app, or the whole server, as it is.",
        DoneView,
        (
            _APP,
            _BY,
            Parameter("why", str, "The reason.", ""),
            Parameter("until", float, "When it ends by itself, in seconds since 1970.", 0.0),
            Parameter("stop", bool, "Stop the app as well.", False),
        ),
    ),
    Endpoint("resume", "POST", "/v1/resume", "End a suspension.", DoneView, (_APP, _BY)),
)
BY_NAME = {endpoint.name: endpoint for endpoint in ENDPOINTS}
