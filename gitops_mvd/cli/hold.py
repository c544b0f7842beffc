"""`mvd suspend`, `mvd resume` and `mvd retry`: what an operator holds back, and what is tried again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mvd.api.views import DoneView, HostView
from gitops_mvd.cli.completion import apps
from gitops_mvd.cli.daemon_api import daemon_of, person
from gitops_mvd.cli.server import connect, read_settings
from gitops_mvd.core.errors import ManifestError, MvdError, Unavailable

if TYPE_CHECKING:
    from gitops_mvd.daemon.wiring import Wired

STILL = "the server itself is still suspended: mvd resume"


@click.command(epilog="Example: mvd retry chatbot")
@click.argument("app", shell_complete=apps)
@click.pass_obj
def retry(config: Path, app: str) -> int:
    """Try the failed version of APP again.

    Exit code 1: no version of APP is marked failed.
    """
    if api := daemon_of(config):
        click.echo(api.ask("retry", DoneView, app=app, by=person()).what)
        return 0
    if not connect(config).history.clear_failure(app):
        click.echo(f"{app}: no version is marked failed, so there is nothing to retry. See `mvd status`.", err=True)
        return 1
    click.echo(f"{app}: its failed version is tried again at the next sync. Now: mvd sync")
    return 0


@click.command(epilog="Example: mvd suspend chatbot --why 'the disk is changed' --until 2h")
@click.argument("words", nargs=-1, metavar="[APP]", shell_complete=apps)
@click.option("--why", default="", metavar="TEXT", help="The reason, which statuses show.")
@click.option("--until", default="", metavar="TIME", help="When it ends by itself: 30m, 2h, 1d, 2026-12-24T18:00.")
@click.option("--stop", is_flag=True, help="Stop the instances of APP meanwhile; its data stays.")
@click.pass_obj
def suspend(config: Path, words: Sequence[str], why: str, until: str, stop: bool) -> int:
    """Pause all changes on this server, or those of APP.

    Nothing of it is deployed, repaired or removed until `mvd resume`; statuses show by whom, why and until when.
    """
    from gitops_mvd.state import suspension

    app = _app(words)
    if stop and not app:
        raise MvdError("--stop is for one app: mvd suspend APP --stop", "To stop the daemon: systemctl stop gitops-mvd")
    since = suspension.now()
    end = suspension.until(until, since) if until else None
    if api := daemon_of(config):
        at = end.timestamp() if end else 0.0
        api.ask("suspend", DoneView, app=app, by=person(), why=why, until=at, stop=stop)
    else:
        read_settings(config)
        _check_known(config, app)
        suspension.suspend(config, suspension.Suspension(person(), why, since, end, stop), app)
    command = f"mvd resume {app}".strip()
    ends = f"{end:%Y-%m-%d %H:%M} or `{command}`" if end else f"`{command}`"
    what = f"{app} {'stops, and nothing of it is changed,' if stop else 'is left as it is'}"
    click.echo(f"suspended: {what if app else 'nothing is changed on this server'} until {ends}")
    return 0


@click.command(epilog="Example: mvd resume chatbot")
@click.argument("app", default="", shell_complete=apps)
@click.pass_obj
def resume(config: Path, app: str) -> int:
    """Allow changes on this server again, or those of APP.

    Exit code 1: it was not suspended.
    """
    from gitops_mvd.state.suspension import resume as end
    from gitops_mvd.state.suspension import suspended

    if api := daemon_of(config):
        click.echo(api.ask("resume", DoneView, app=app, by=person()).what)
        if api.ask("status", HostView).suspended:
            click.echo(STILL)
        return 0
    read_settings(config)
    if not end(config, app):
        click.echo(f"{app or 'this server'} is not suspended{_others(config, app)}", err=True)
        return 1
    click.echo("resumed: the daemon syncs now; without it, run `mvd sync`")
    if suspended(config).host:
        click.echo(STILL)
    return 0


def _others(config: Path, app: str) -> str:
    """What is suspended instead, as the end of a sentence."""
    from gitops_mvd.state.suspension import suspended

    found = suspended(config)
    if app and found.host:
        return "; the server is: mvd resume"
    names = ", ".join(found.apps)
    return f"; apps that are: {names} (mvd resume APP)" if names else ""


def _app(words: Sequence[str]) -> str:
    """The app that is meant, "" for the whole server.  Raises MvdError for anything else, such as a reason."""
    if len(words) > 1:
        raise MvdError("mvd suspend takes one app, or none for the whole server", _as_reason(words))
    return words[0] if words else ""


def _check_known(config: Path, app: str) -> None:
    """Raises MvdError for an app that neither Git nor this host has."""
    known = _apps(connect(config)) if app else set()
    if known and app not in known:
        raise MvdError(f"no app {app} on this host; {_as_reason([app])}", f"Apps: {', '.join(sorted(known))}")


def _as_reason(words: Sequence[str]) -> str:
    return f"give a reason by --why: mvd suspend --why '{' '.join(words)}'"


def _apps(wired: Wired) -> set[str]:
    """The apps that Git has for this host or that run here, as far as that can be told now."""
    from gitops_mvd.daemon.preview import desired

    known: set[str] = set()
    with suppress(Unavailable, ManifestError):
        wanted = desired(wired)
        known |= {app.name for app in wanted.apps} | wanted.broken.keys()
    with suppress(Unavailable):
        wired.host.refresh()
        known |= set(wired.host.apps())
    return known
