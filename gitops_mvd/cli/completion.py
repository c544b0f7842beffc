"""What a shell completes: apps and services of this server, and pages of the manual."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from gitops_mvd.api.views import AppView, HostView
from gitops_mvd.cli.daemon_api import daemon_of
from gitops_mvd.core.errors import MvdError

WITHIN_SECONDS = 1.0  # that a person waits for a completion


def apps(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The apps that begin so."""
    return [name for name in _names(context) if "/" not in name and name.startswith(incomplete)]


def apps_and_services(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The apps that begin so or, behind an app and a slash, its services."""
    if "/" in incomplete:
        return [name for name in _names(context) if name.startswith(incomplete)]
    return apps(context, parameter, incomplete)


def pages(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The pages of the manual that begin so."""
    from gitops_mvd.cli import manual

    return [name for name in manual.pages() if name.startswith(incomplete)]


def schemas(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The JSON Schemas that begin so."""
    from gitops_mvd.cli.schema import known

    return sorted(name for name in known() if name.startswith(incomplete))


def apps_of_folder(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The apps of the config repository that begin so."""
    from gitops_mvd.git.tree import FolderTree
    from gitops_mvd.manifest.load import app_names

    try:
        return sorted(name for name in app_names(FolderTree(_folder(context))) if name.startswith(incomplete))
    except (MvdError, OSError):
        return []


def hosts_of_folder(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The hosts of the config repository that begin so: the folder that is named, or the one that one stands in."""
    from gitops_mvd.git.tree import FolderTree
    from gitops_mvd.manifest import read_fleet

    try:
        return sorted(name for name in read_fleet(FolderTree(_folder(context))).hosts if name.startswith(incomplete))
    except (MvdError, OSError):
        return []


def _folder(context: click.Context) -> Path:
    return Path(context.params.get("folder") or ".")


def _names(context: click.Context) -> Iterator[str]:
    """Every app, and every service as `app/service`; of a server without a daemon the apps that it has had."""
    config = Path(context.find_root().params["config"])
    try:
        if api := daemon_of(config, timeout=WITHIN_SECONDS):
            for app in api.ask("status", HostView, timeout=WITHIN_SECONDS).apps:
                yield from _of(app)
            return
        from gitops_mvd.cli.look import names_in_history

        yield from names_in_history(config)
    except MvdError:  # a shell is to show no errors
        return


def _of(app: AppView) -> Iterator[str]:
    yield app.name
    yield from (f"{app.name}/{service.name}" for service in app.services)
