"""What the daemon answers: frozen values that are JSON outside.  Pure.

Times are seconds since 1970, spans seconds, and 0 is "never" or "not yet".  `sync`, `health` and `operation` are the
words of `core.model`.  No text has a secret, a control character or more than one line, unless it says so.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class CommitView(Struct, frozen=True):
    """A commit of the config repository: `subject` is its first line, `url` its page at the forge, "" without one."""

    commit: str
    subject: str = ""
    author: str = ""
    at: float = 0.0
    url: str = ""


class SuspensionView(Struct, frozen=True):
    """Who has suspended an app or the server, why, since when and until when; `stop` says that it was stopped, too."""

    by: str
    why: str
    since: float = 0.0
    until: float = 0.0
    stop: bool = False


class RouteView(Struct, frozen=True):
    """A route of the gateway: what it matches, as `example.org/shop`, and the plugins on it."""

    name: str
    matches: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()


class InstanceView(Struct, frozen=True):
    """One container: `state` is Docker's word, `since` when it was created, `ports` as `127.0.0.1:20001->8080`.

    `id` is the one that Docker gave it.
    """

    name: str
    state: str
    health: str
    why: str = ""
    since: float = 0.0
    ports: tuple[str, ...] = ()
    id: str = ""


class ServiceView(Struct, frozen=True):
    """One service as it runs: `ready` of `wanted` instances run and are healthy.

    Of a job, and of what runs on a schedule, no instance is `wanted` at any time.

    `image` is what the manifest says, `digest` what runs.  `since` is when its newest instance was created, `probe`
    what its health is told by, and `schedule` when it runs, "" for one that always does.
    """

    name: str
    image: str
    health: str
    ready: int = 0
    wanted: int = 0
    digest: str = ""
    why: str = ""
    since: float = 0.0
    probe: str = ""
    schedule: str = ""
    routes: tuple[RouteView, ...] = ()
    instances: tuple[InstanceView, ...] = ()


class AppView(Struct, frozen=True):
    """One app: `why` is what is wrong or waited for, `changed` what its last deploy changed.

    `running` is the commit whose version runs, None if nothing of ours does; `since` is when that version was deployed.
    """

    name: str
    sync: str
    health: str
    operation: str
    why: str = ""
    changed: str = ""
    running: CommitView | None = None
    since: float = 0.0
    suspended: SuspensionView | None = None
    services: tuple[ServiceView, ...] = ()


class ThreadView(Struct, frozen=True):
    """A thread of the daemon that had to be started again: is it up, since when, and why it ended."""

    name: str
    is_up: bool
    since: float
    cause: str = ""
    restarts: int = 0


class GitView(Struct, frozen=True):
    """Why the newest commit is not known or, if it `is_refused`, not followed, and since when."""

    since: float
    why: str
    is_refused: bool = False


class HeldView(Struct, frozen=True):
    """A newer commit that changes this server and is not followed yet, and what it waits for: `wave 1 (canary) ...`."""

    commit: CommitView
    why: str


class DrainView(Struct, frozen=True):
    """`fleet.yaml` has this server drained; `since` is the commit by which it is, None if that is unknown."""

    since: CommitView | None = None


class HostView(Struct, frozen=True):
    """This server as the last pass left it.

    `commit` is the newest one that is followed, None before the first fetch; `held` is a newer one that waits, such as
    for other hosts, None if none does.  `wave` is the number of this server's wave in the rollout of the fleet, 0
    without one, and `drained` is None if it is not.  `at` is when a pass has looked at the server last, `asked_git`
    when Git was asked for the last pass, and `error` why that came to nothing, "" if it did not.
    `deploying` is the id of the running operation, 0 without one; `threads` are those that are down or were started
    again lately.  `settings` is why the settings of now are rejected, "" if they are in force.
    """

    host: str
    version: str
    at: float
    sync: str
    health: str
    commit: CommitView | None = None
    git: GitView | None = None
    error: str = ""
    suspended: SuspensionView | None = None
    deploying: int = 0
    asked_git: float = 0.0
    apps: tuple[AppView, ...] = ()
    threads: tuple[ThreadView, ...] = ()
    settings: str = ""
    held: HeldView | None = None
    wave: int = 0
    drained: DrainView | None = None


class PhaseView(Struct, frozen=True):
    """A part of an operation: `fetch`, `read`, `look` or `apply`."""

    name: str
    began: float
    seconds: float = 0.0


RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"


class StepView(Struct, frozen=True):
    """One step: `verb` is create, update, delete or wait; `state` is running, done, failed or stopped.

    `why` is the reason of a failure; what is stopped was given up because of another one.
    """

    app: str
    service: str
    verb: str
    kind: str
    name: str
    what: str = ""
    began: float = 0.0
    seconds: float = 0.0
    state: str = RUNNING
    why: str = ""


class ResultView(Struct, frozen=True):
    """How one app came out of an operation.

    `fault` says whose fault a failure is: `version`, `not_now`, `lacking`, `unanswered` or `defect`.
    """

    app: str
    sync: str
    health: str
    operation: str
    why: str = ""
    changed: str = ""
    fault: str = ""


class OperationView(Struct, frozen=True):
    """One pass in which something was changed, or is being changed while `ended` is 0.

    `causes` are what woke the daemon: `push`, `sync`, `poll`, ...  `more_steps` counts steps that were not kept.
    `error` is why the pass was given up, as if Docker did not answer.
    """

    id: int
    commit: CommitView
    causes: tuple[str, ...]
    began: float
    ended: float = 0.0
    phases: tuple[PhaseView, ...] = ()
    steps: tuple[StepView, ...] = ()
    results: tuple[ResultView, ...] = ()
    more_steps: int = 0
    error: str = ""

    @property
    def is_green(self) -> bool:
        """Has every app of it succeeded?"""
        return not self.error and all((it.health, it.operation) == ("Healthy", "Succeeded") for it in self.results)


class HistoryView(Struct, frozen=True):
    """How one app came out of one pass, and what was done: `did` has lines such as `create unit mvd-web-3f9c2a1b`."""

    at: float
    commit: str
    app: str
    sync: str
    health: str
    operation: str
    why: str = ""
    changed: str = ""
    did: tuple[str, ...] = ()


class EventView(Struct, frozen=True):
    """A line of the daemon's own log; `id` grows by one with each line since its start."""

    id: int
    at: float
    level: str
    text: str


class EventsView(Struct, frozen=True):
    """Events, the oldest first; `last` is the id to ask `after` next, `missed` counts those that were not kept."""

    events: tuple[EventView, ...]
    last: int
    missed: int = 0


class LogLine(Struct, frozen=True):
    """A line that a container printed.  `cursor` is where to go on behind it."""

    at: float
    app: str
    service: str
    instance: str
    text: str
    cursor: str = ""


class ChangesView(Struct, frozen=True):
    """`number` grows whenever something else is to be seen; it begins anew with each start of the daemon."""

    number: int


class CommandView(Struct, frozen=True):
    """What a command of `mvd` says with `--json`: its `answer`, and the `exit_code` with which it ended."""

    answer: Any
    exit_code: int


class DoneView(Struct, frozen=True):
    """What was asked is done, or begun; `what` says so in a sentence."""

    what: str


class ErrorView(Struct, frozen=True):
    """Why there is no answer, and what to do about it."""

    error: str
    hint: str = ""
