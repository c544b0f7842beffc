"""What each page shows of one server: the answers of its daemon, and the template that they go into.

A page is a value: the same one is drawn as HTML, again for each change, and is the `.json` of the page.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from gitops_mvd.api.client import Refused
from gitops_mvd.api.views import AppView, CommandView, EventsView, HostView, OperationView
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.web import shown, timeline
from gitops_mvd.web.drawing import draw, told
from gitops_mvd.web.host import Host
from gitops_mvd.web.logs import Followers

MOST_OPERATIONS = 50
OF_ONE_APP = 6
OF_ONE_COMMIT = 20
WITH_STEPS = 3  # of a commit's operations, the newest, that are shown step by step
MOST_EVENTS = 200
FIRST_LINES_WITHIN_SECONDS = 1.5
_COMMIT = re.compile(rf"[0-9a-f]{{{shown.SHORTEST_PREFIX},64}}")


class NotThere(MvdError):
    """There is no such page, as there is no such thing; `names` are those that exist, each with its address."""

    def __init__(self, message: str, names: Mapping[str, str]) -> None:
        super().__init__(message)
        self.names = names


@dataclass(frozen=True)
class Asked:
    """What a browser wants to see: `named` are the parts of the path, `query` what is behind it."""

    host: Host
    logs: Followers
    named: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """What is drawn by `template`: `json` is the answer of the API, `mood` the word for how all is.

    `tells` is what a screen reader says if it has changed; `ticks` if something on it goes on by the second.  One that
    is not `is_live` is not drawn again by itself.
    """

    template: str
    title: str
    json: object
    values: Mapping[str, Any] = field(default_factory=dict)
    mood: str = ""
    tells: str = ""
    ticks: bool = False
    is_live: bool = True


T = TypeVar("T")
Show = Callable[[Asked], Awaitable[Page]]


async def overview(asked: Asked) -> Page:
    """The server, and all of its apps."""
    status = await asked.host.ask("status", HostView)
    words = asked.query.get("q", "").lower().split()
    apps = sorted(status.apps, key=lambda it: (-shown.rank(it.health), it.sync == "Synced", it.name))
    shown_apps = [app for app in apps if all(word in searched(app) for word in words)]
    counts = [
        (health, sum(app.health == health for app in status.apps))
        for health in dict.fromkeys(app.health for app in apps)
    ]
    running = await _one(asked.host, status.deploying) if status.deploying else None
    return Page(
        "overview.html",
        status.host,
        status,
        {
            "status": status,
            "apps": shown_apps,
            "counts": counts,
            "deploying": running,
            "out_of_sync": sum(app.sync != "Synced" for app in status.apps),
            "q": asked.query.get("q", ""),
        },
        mood=status.health,
        tells=f"{status.host} is {status.health} and {status.sync}",
    )


def searched(app: AppView) -> str:
    """The words by which an app is found, in small letters."""
    services = (f"{it.name} {it.image} {it.health}" for it in app.services)
    running = f"{app.running.commit[:7]} {app.running.author}" if app.running else ""
    return " ".join((app.name, app.health, app.sync, app.operation, running, *services)).lower()


async def app(asked: Asked) -> Page:
    """One app: how it is reached, its instances, its last deploys."""
    status = await asked.host.ask("status", HostView)
    one = _app(status, asked.named["app"])
    operations = await _or_none(asked.host.ask("operations", tuple[OperationView, ...], app=one.name, limit=OF_ONE_APP))
    is_on = any(not it.ended for it in operations or ())
    return Page(
        "app.html",
        one.name,
        one,
        {"status": status, "app": one, "operations": operations or (), "drawing": draw(one), "told": told(one)},
        mood=one.health,
        tells=f"{one.name} is {one.health} and {one.sync}",
        ticks=is_on,
    )


async def plan(asked: Asked) -> Page:
    """What a sync would change now."""
    status = await _or_none(asked.host.ask("status", HostView))
    answer = await asked.host.ask("plan", CommandView)
    said = answer.answer if isinstance(answer.answer, dict) else {}
    values = {"status": status, "plan": said, "exit_code": answer.exit_code}
    return Page("plan.html", "Plan", answer.answer, values, is_live=False)


async def deploys(asked: Asked) -> Page:
    """The latest operations of the server."""
    status = await _or_none(asked.host.ask("status", HostView))
    found = await asked.host.ask("operations", tuple[OperationView, ...], limit=MOST_OPERATIONS)
    is_on = any(not it.ended for it in found)
    return Page(
        "deploys.html",
        "Deploys",
        found,
        {"status": status, "operations": found, "longest": max(map(shown.seconds, found), default=1.0)},
        ticks=is_on,
    )


async def deploy(asked: Asked) -> Page:
    """All that was done for one commit, step by step."""
    commit = commit_of(asked.named["commit"], {"All deploys": "/deploys"})
    status = await _or_none(asked.host.ask("status", HostView))
    found = await asked.host.ask("operations", tuple[OperationView, ...], commit=commit, limit=OF_ONE_COMMIT)
    whole = await asyncio.gather(*(_one(asked.host, it.id) for it in found[:WITH_STEPS]))
    operations = [one or short for one, short in zip(whole, found, strict=False)]
    now = time.time()
    drawn = [
        {
            "operation": it,
            "groups": timeline.groups(it, now),
            "phases": timeline.phases(it, now),
            "marks": timeline.marks(it, now),
            "touched": {step.app for step in it.steps},
        }
        for it in operations
    ]
    how = shown.outcome(found[0]) if found else ""
    known = next((it.commit for it in found), status.commit if status and _is(status, commit) else None)
    return Page(
        "deploy.html",
        f"Deploy {commit[:7]}",
        operations,
        {
            "status": status,
            "commit": commit,
            "about": known,
            "drawn": drawn,
            "others": found[WITH_STEPS:],
            "how": how,
        },
        mood=how,
        tells=f"The deploy of {commit[:7]}: {how or 'not here yet'}",
        ticks=any(not it.ended for it in found),
    )


def commit_of(named: str, others: Mapping[str, str]) -> str:
    """A commit, or its beginning, as it is in a path.  Raises NotThere, with the pages that there are."""
    commit = named.lower()
    if not _COMMIT.fullmatch(commit):
        raise NotThere(f"{commit} is not a commit: 4 to 64 of the characters 0-9 and a-f", others)
    return commit


def _is(status: HostView, commit: str) -> bool:
    return status.commit is not None and status.commit.commit.startswith(commit)


async def logs(asked: Asked) -> Page:
    """What an app or a service prints."""
    name, status = await name_of_log(asked)
    app, _, service = name.partition("/")
    lines = await asked.logs.follower(name).first(FIRST_LINES_WITHIN_SECONDS)
    words = asked.query.get("q", "")
    found = [line for line in lines if words.lower() in line.lower()] if words else lines
    one = _app(status, app) if status else None
    values = {"status": status, "app": one, "name": name, "service": service, "lines": found, "q": words}
    return Page("logs.html", f"Logs of {name}", None, values)


async def name_of_log(asked: Asked) -> tuple[str, HostView | None]:
    """APP or APP/SERVICE, and the status that has it, None if there is no status.  Raises NotThere."""
    status = await _or_none(asked.host.ask("status", HostView))
    name, service = asked.named["app"], asked.named.get("service", "")
    if status:
        one = _app(status, name)
        if service and service not in {it.name for it in one.services}:
            services = {f"{name}/{it.name}": f"/logs/{name}/{it.name}" for it in one.services}
            raise NotThere(f"the app {name} has no service {service}", services)
    return (f"{name}/{service}" if service else name), status


async def events(asked: Asked) -> Page:
    """The latest lines of the daemon's own log."""
    status = await _or_none(asked.host.ask("status", HostView))
    found = await asked.host.ask("events", EventsView, limit=MOST_EVENTS)
    return Page(
        "events.html", "Events", found, {"status": status, "events": found.events[::-1], "missed": found.missed}
    )


async def doctor(asked: Asked) -> Page:
    """What a check of the server finds."""
    status = await _or_none(asked.host.ask("status", HostView))
    answer = await asked.host.ask("doctor", CommandView)
    found = answer.answer if isinstance(answer.answer, list) else []
    order = {"fail": 0, "warn": 1}
    findings = sorted(found, key=lambda it: order.get(it.get("verdict", ""), 2))
    return Page("doctor.html", "Doctor", answer.answer, {"status": status, "findings": findings}, is_live=False)


PAGES: Mapping[str, Show] = {
    "/": overview,
    "/apps/{app}": app,
    "/plan": plan,
    "/deploys": deploys,
    "/deploys/{commit}": deploy,
    "/logs/{app}": logs,
    "/logs/{app}/{service}": logs,
    "/events": events,
    "/doctor": doctor,
}
STILL = frozenset({plan, doctor})  # these cost the server a process, so they do not follow it
COSTLY = STILL | {logs}  # no other site may have a browser ask for these


def json_path(path: str) -> str:
    """The address of a page's JSON."""
    return "/index.json" if path == "/" else f"{path}.json"


# ---- what pages have in common ---------------------------------------------------------------------------------------


def _app(status: HostView, name: str) -> AppView:
    if found := next((it for it in status.apps if it.name == name), None):
        return found
    raise NotThere(f"there is no app {name} on {status.host}", {it.name: f"/apps/{it.name}" for it in status.apps})


async def _one(host: Host, id: int) -> OperationView | None:
    """An operation with its steps, None if it is not kept any more."""
    return await _or_none(host.ask("operation", OperationView, id=id))


async def _or_none(answer: Awaitable[T]) -> T | None:
    """An answer that a page can do without."""
    try:
        return await answer
    except (Unavailable, Refused):
        return None
