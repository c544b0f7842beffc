"""`mvd uninstall`: the daemon leaves this server, with its apps or without them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gitops_mvd.cli.install import COMPLETIONS, GROUPS, JOURNAL, STOP_SECONDS, UNIT, WEB_UNIT
from gitops_mvd.cli.output import counted
from gitops_mvd.cli.packaged import drop_in, is_packaged
from gitops_mvd.cli.server import connect
from gitops_mvd.core.errors import MvdError, Unavailable
from gitops_mvd.core.model import Desired, Outcome, Revision, Role
from gitops_mvd.core.reconcile import reconcile

if TYPE_CHECKING:
    from gitops_mvd.daemon.wiring import Wired

UNITS = (WEB_UNIT, UNIT)
NOTHING = Desired(Revision("", ""), ())  # what a server without gitops-mvd should be


@click.command(epilog="Example: mvd uninstall --keep-apps")
@click.option("--keep-apps", is_flag=True, help="Leave the apps running, under systemd alone.")
@click.option("-y", "--yes", is_flag=True, help="Uninstall without asking, for scripts.")
@click.pass_obj
def uninstall(config: Path, keep_apps: bool, yes: bool) -> int:
    """Remove the daemon from this server, and its apps.

    Says first what it removes and what stays.  Volumes, folders of apps, settings and secrets always stay; with
    --keep-apps also the apps, and what the daemon remembers of them.
    """
    if os.geteuid() != 0:
        raise Unavailable("only root can uninstall the daemon", "Run as root: sudo mvd uninstall")
    wired = None if keep_apps else connect(config)
    click.echo("\n".join(_announced(config, wired)))
    if not (yes or click.confirm("Uninstall?", err=True)):
        click.echo("nothing was changed", err=True)
        return 1
    _stop_daemon()
    if wired:
        _remove_apps(wired)
    _remove_files(() if not wired else (JOURNAL, Path(wired.settings.files), Path(wired.settings.state)))
    click.echo("uninstalled")
    return 0


def _announced(config: Path, wired: Wired | None) -> Iterator[str]:
    """What is removed and what stays, one line each.  Raises Unavailable if Docker or Kong does not answer."""
    yield f"removes  the daemon: {', '.join(unit.name for unit in UNITS)}"
    if wired:
        host = wired.host
        host.refresh()
        if wired.tools.kong:
            wired.tools.kong.observe(host.name)
        apps = sorted(host.apps())
        names = f": {', '.join(apps)}" if apps else ""
        yield f"removes  {counted(len(apps), 'app')}{names}, with units, containers, networks, images and routes"
        yield f"removes  what the daemon remembers: {wired.settings.state}"
        for kind in (name for name, role in host.roles.items() if role is Role.DATA):
            for name in sorted(it.name for it in wired.host.everything() if it.kind == kind):
                yield f"stays    {kind} {name}"
    else:
        yield "stays    every app, under systemd: systemctl list-units 'mvd-*'"
        yield "stays    what the daemon remembers; `mvd install` takes it up again"
    yield f"stays    the settings and secrets: {config.parent}"
    command = "apt-get purge gitops-mvd" if is_packaged() else f"{sys.executable} -m pip uninstall gitops-mvd"
    yield f"stays    the program: {command}"


def _stop_daemon() -> None:
    from gitops_mvd.systemd.client import Systemd

    systemd, names = Systemd(), [unit.name for unit in UNITS]
    systemd.disable(names)
    for name, result in systemd.stop(names, within=STOP_SECONDS).items():
        if result != "done":
            raise Unavailable(f"systemd could not stop {name}: {result}", f"systemctl status {name}")


def _remove_apps(wired: Wired) -> None:
    """Remove every app, as a commit that has none of them does.  Raises MvdError if one could not be removed."""
    from gitops_mvd.state.lock import alone

    with alone(Path(wired.settings.state)):
        wired.host.refresh()
        outcomes = reconcile(NOTHING, wired.host, wired.history, allow_empty=True).outcomes
        wired.close()
    _require_removed(outcomes)


def _require_removed(outcomes: Iterable[Outcome]) -> None:
    left = [f"{it.app}: {it.why}" for it in outcomes if not it.removed]
    if left:
        raise MvdError(
            f"the daemon is stopped, and not every app is removed: {'; '.join(left)}",
            "mend that, and run `mvd uninstall` again; `systemctl enable --now gitops-mvd` takes it all back",
        )


def _remove_files(more: Iterable[Path]) -> None:
    from gitops_mvd.systemd.client import Systemd

    own = () if is_packaged() else (*UNITS, GROUPS, *COMPLETIONS.values())
    for path in (*own, *map(drop_in, UNITS), *more):
        try:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot remove {error.filename}: {error.strerror}") from error
    for unit in UNITS:
        with suppress(OSError):  # somebody else has a drop-in there, or nobody has
            drop_in(unit).parent.rmdir()
    Systemd().reload()
