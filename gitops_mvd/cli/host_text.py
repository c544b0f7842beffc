"""This server as the lines of `mvd status`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from gitops_mvd.api.views import (
    RUNNING,
    AppView,
    CommitView,
    DrainView,
    GitView,
    HeldView,
    HostView,
    InstanceView,
    OperationView,
    ServiceView,
    StepView,
    SuspensionView,
    ThreadView,
)
from gitops_mvd.cli.output import Screen, counted, how_long, short_time, when
from gitops_mvd.cli.table import table
from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.suspension import Suspension
from gitops_mvd.core.text import plain_line, reason

if TYPE_CHECKING:
    from gitops_mvd.core.model import ThreadState

SYNCED, UNKNOWN, HEALTHY, SUCCEEDED = "Synced", "Unknown", "Healthy", "Succeeded"
NOTHING = "-"  # an empty cell
_DIGEST = re.compile(r"(:[\w.-]+)?@sha256:([0-9a-f]{12})[0-9a-f]{52}")


def is_green(app: AppView) -> bool:
    return (app.sync, app.health, app.operation) == (SYNCED, HEALTHY, SUCCEEDED)


def chosen(view: HostView, name: str) -> tuple[tuple[AppView, ...], tuple[ServiceView, ...]]:
    """The apps that `APP[/SERVICE]` names, all without a name, and of one app its services, or the one that is named.

    Raises MvdError if there is none.
    """
    if not name:
        return view.apps, ()
    wanted, has_service, service = name.partition("/")
    apps = tuple(app for app in view.apps if app.name == wanted)
    services = tuple(it for app in apps for it in app.services if service in ("", it.name))
    if not apps:
        known = ", ".join(app.name for app in view.apps) or "none"
        raise MvdError(f"no such app on this host: {wanted}", f"Apps: {known}")
    if has_service and not services:
        known = ", ".join(it.name for it in apps[0].services) or "none"
        raise MvdError(f"{wanted} has no service {service} that runs here", f"Services: {known}")
    return apps, services


def host_lines(view: HostView, name: str, operation: OperationView | None, screen: Screen) -> Iterator[str]:
    """All that `mvd status` shows of the server, or of `APP[/SERVICE]`; `operation` is the running one."""
    apps, services = chosen(view, name)
    yield _first(view, screen)
    yield from map(plain_line, _remarks(view, operation, screen))
    yield from _apps(apps, screen)
    if services:
        yield ""
        yield from _services(apps[0], services, screen)
    if "/" in name:
        for service in services:
            yield ""
            yield from map(plain_line, _facts(service))
            yield ""
            yield from _instances(service.instances, screen)


def _first(view: HostView, screen: Screen) -> str:
    """Which commit Git has, and whether it is what runs."""
    if not view.commit:
        return plain_line(f"{view.host}: the repository was never fetched here")
    behind = sum(1 for app in view.apps if app.sync != SYNCED)
    how = f"{screen.paint(view.sync)} {'at' if view.sync == UNKNOWN else 'with'}" if view.apps else "at"
    of = f" ({behind} of {counted(len(view.apps), 'app')})" if behind else ""
    return f"{plain_line(view.host)}: {how} {plain_line(_commit(view.commit))}{of}"


def _commit(commit: CommitView) -> str:
    return f"{commit.commit[:7]} {commit.subject}".rstrip()


def _remarks(view: HostView, operation: OperationView | None, screen: Screen) -> Iterator[str]:
    """What is not as it should be, or goes on, about the server as a whole."""
    if operation:
        yield f"deploying {_commit(operation.commit)} for {_age(operation.began, screen)}: {progress(operation)}"
    if view.held:
        yield held_text(view.held)
    if view.drained:
        yield f"{drain_text(view.drained)} (`mvd fleet undrain {view.host}` ends it)"
    if view.git:
        yield git_text(view.git, screen.now)
    if view.error:
        yield f"the last pass came to nothing: {view.error}"
    if view.settings:
        yield f"the settings are rejected, the old ones stay in force: {view.settings}"
    if view.suspended:
        yield f"{suspension_text(view.suspended)} (`mvd resume` ends it)"
    for thread in view.threads:
        yield f"thread {thread.name} {thread_text(thread, screen.now)}"


def held_text(held: HeldView) -> str:
    """`1a2b3c4 Deploy shop waits: wave 1 (canary) is not green yet`."""
    return f"{_commit(held.commit)} waits: {held.why}"


def drain_text(drained: DrainView) -> str:
    """`drained since 1a2b3c4 Drain web-2`."""
    return f"drained since {_commit(drained.since)}" if drained.since else "drained"


def progress(operation: OperationView) -> str:
    """What is done at this moment: `shop/web: wait unit until http /health succeeds, and 2 more`."""
    running = [step for step in operation.steps if step.state == RUNNING]
    if not running:
        return f"{counted(len(operation.steps) + operation.more_steps, 'step')} done"
    first = running[0]
    more = f", and {len(running) - 1} more" if len(running) > 1 else ""
    return f"{'/'.join(filter(None, (first.app, first.service)))}: {step_text(first)}{more}"


def step_text(step: StepView) -> str:
    """`wait unit until http /health succeeds`, `create image registry/shop@sha256:...`."""
    return f"{step.verb} {step.kind} {short_image(step.what or step.name)}"


def thread_text(thread: ThreadView | ThreadState, now: float) -> str:
    """How a thread of the daemon is: `not running since 10:42:13: ...`."""
    how = "started again" if thread.is_up else "not running since"
    return f"{how} {when(thread.since, now)}: {thread.cause}"


def git_text(git: GitView, now: float) -> str:
    """Since when the newest commit is unknown or refused: `Git could not be asked since 12:31 (3 minutes): ...`."""
    since, today = _time(git.since), _time(now).date()
    at = since.strftime("%H:%M" if since.date() == today else "%Y-%m-%d %H:%M")
    what = "the newest commit is refused" if git.is_refused else "Git could not be asked"
    return f"{what} since {at} ({how_long(now - git.since)}): {git.why}"


def suspension_text(suspension: SuspensionView) -> str:
    """`suspended by anna until 14:00: the disk is changed`."""
    since, until = (_time(at) if at else None for at in (suspension.since, suspension.until))
    return Suspension(suspension.by, suspension.why, since, until, suspension.stop).text


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at).astimezone()


def _age(at: float, screen: Screen) -> str:
    return short_time(screen.now - at) if at else NOTHING


def _apps(apps: Sequence[AppView], screen: Screen) -> list[str]:
    rows = [
        (
            *(app.name, app.sync, app.health, _ready(app.services)),
            *(_short(app.running), _age(app.since, screen), app_why(app)),
        )
        for app in apps
    ]
    return table(("APP", "SYNC", "HEALTH", "READY", "COMMIT", "SINCE", "WHY"), rows, screen.width, screen.paint)


def app_why(app: AppView) -> str:
    """By whom it is suspended, and what is wrong with it or waited for."""
    suspended = suspension_text(app.suspended) if app.suspended else ""
    why = "" if suspended and app.why in suspended else reason(app.operation, app.why)
    return "; ".join(filter(None, (suspended, why)))


def _short(commit: CommitView | None) -> str:
    return commit.commit[:7] if commit else NOTHING


def _ready(services: Sequence[ServiceView]) -> str:
    """`2/3` of those that are to run all the time; a job is none of them."""
    serving = [service for service in services if service.wanted]
    return f"{sum(it.ready for it in serving)}/{sum(it.wanted for it in serving)}" if serving else NOTHING


def _services(app: AppView, services: Sequence[ServiceView], screen: Screen) -> list[str]:
    rows = [
        (
            *(it.name, it.health, _ready([it]), short_image(it.image)),
            *(_short(app.running), _age(it.since, screen), it.why),
        )
        for it in services
    ]
    return table(("SERVICE", "HEALTH", "READY", "IMAGE", "COMMIT", "SINCE", "WHY"), rows, screen.width, screen.paint)


def short_image(image: str) -> str:
    """An image with its tag or, without one, with the first twelve digits of its digest."""
    return _DIGEST.sub(lambda found: found[1] or f"@{found[2]}", image)


def _facts(service: ServiceView) -> Iterator[str]:
    routes = (f"{', '.join(route.matches)}{_plugins(route.plugins)}" for route in service.routes)
    facts = [("digest", service.digest), ("probe", service.probe), ("schedule", service.schedule)]
    for what, text in [*facts, *(("route", route) for route in routes)]:
        if text:
            yield f"{what:<10}{text}"


def _plugins(plugins: Sequence[str]) -> str:
    return f" ({', '.join(plugins)})" if plugins else ""


def _instances(instances: Sequence[InstanceView], screen: Screen) -> list[str]:
    rows = [
        (it.name, it.state, it.health, _age(it.since, screen), " ".join(it.ports) or NOTHING, it.why)
        for it in instances
    ]
    head = ("INSTANCE", "STATE", "HEALTH", "SINCE", "PORTS", "WHY")
    return table(head, rows, screen.width, screen.paint) if rows else []
