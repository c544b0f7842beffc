"""`mvd status`: how this server is, once or as it changes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
from msgspec.structs import replace

from gitops_mvd.api.client import Api, Refused
from gitops_mvd.api.views import ChangesView, HostView, OperationView
from gitops_mvd.cli.completion import apps_and_services
from gitops_mvd.cli.daemon_api import daemon_of
from gitops_mvd.cli.host_text import chosen, host_lines, is_green
from gitops_mvd.cli.output import as_json, print_json, print_lines, screen
from gitops_mvd.cli.watching import POLL_SECONDS, states
from gitops_mvd.cli.watching import watch as watching

PROBES_SECONDS = 60.0  # for an answer for which every probe is asked
REDRAW_SECONDS = 5.0  # after which ages are shown anew, though nothing has changed
PAUSE_SECONDS = 0.1  # between two looks: changes come faster than anybody reads


class Seen(NamedTuple):
    """The server, and the operation that runs on it, if one does."""

    view: HostView
    operation: OperationView | None = None


@click.command(epilog="Example: mvd status chatbot/web --watch")
@click.argument("name", metavar="[APP[/SERVICE]]", default="", shell_complete=apps_and_services)
@click.option("-w", "--watch", is_flag=True, help="Show it again whenever something changes, until Ctrl-C.")
@as_json
@click.pass_obj
def status(config: Path, name: str, watch: bool, machine: bool) -> int:
    """Show each app: synced, healthy, and which commit runs.

    With APP also its services, with APP/SERVICE also its instances.  Exit code 1: an app that is shown is not synced or
    not healthy, its last deploy failed, Git could not be asked for the newest commit, or the settings are rejected.
    """
    look, wait = _eyes(config, ask=not watch)
    seen = look()
    apps, _ = chosen(seen.view, name)
    if watch:
        shown = states(seen, look, wait)
        watching(shown, machine, lambda now: as_builtins(now.view, name), lambda now: _lines(now, name))
    else:
        _print(seen, name, machine)
    view = seen.view
    is_whole = view.commit and not (view.git or view.error or view.settings)
    return 0 if is_whole and all(map(is_green, apps)) else 1


def _eyes(config: Path, ask: bool) -> tuple[Callable[[], Seen], Callable[[], None]]:
    """What looks at the server, and what waits until there may be something else to see; to `ask` probes is slow."""
    if api := daemon_of(config):
        return lambda: seen_by(api, ask), _Waiting(api)
    from gitops_mvd.cli.look import Server

    server = Server(config)
    return lambda: Seen(server.status()), lambda: time.sleep(POLL_SECONDS)


def seen_by(api: Api, ask: bool = False) -> Seen:
    """The server as its daemon sees it, which may `ask` every probe for it."""
    view = api.ask("status", HostView, timeout=PROBES_SECONDS, ask=ask)
    if view.deploying:
        with suppress(Refused):  # it is not kept
            return Seen(view, api.ask("operation", OperationView, id=view.deploying))
    return Seen(view)


class _Waiting:
    """Waits for a change that the daemon tells of, and no longer than until ages are to be shown anew."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._number = 0

    def __call__(self) -> None:
        timeout = 2 * REDRAW_SECONDS
        told = self._api.ask("changes", ChangesView, timeout=timeout, after=self._number, within=REDRAW_SECONDS)
        self._number = told.number
        time.sleep(PAUSE_SECONDS)


def as_builtins(view: HostView, name: str) -> Any:
    """The view as JSON, with what is chosen of it; `revision` and `app` are as programs have always found them."""
    apps, services = chosen(view, name)
    if "/" in name:
        apps = tuple(replace(app, services=services) for app in apps)
    value = msgspec.to_builtins(replace(view, apps=apps))
    value["revision"] = view.commit.commit if view.commit else ""
    value["apps"] = [{"app": app["name"], **app} for app in value["apps"]]
    return value


def _print(seen: Seen, name: str, machine: bool) -> None:
    if machine:
        print_json(as_builtins(seen.view, name))
    else:
        print_lines(_lines(seen, name))


def _lines(seen: Seen, name: str) -> Iterator[str]:
    return host_lines(seen.view, name, seen.operation, screen())
