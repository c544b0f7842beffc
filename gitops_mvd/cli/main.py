"""The command `mvd`: the daemon run once, and windows on what it does.

Exit codes: 0 well, 1 an error or something is not well, and for `mvd plan` 2 where there is something to change.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import click

from gitops_mvd import __version__
from gitops_mvd.config import settings
from gitops_mvd.core.errors import ManifestError, MvdError, Unavailable
from gitops_mvd.core.model import Sync

log = logging.getLogger(__name__)

as_json = click.option("--json", "machine", is_flag=True, help="Print JSON, for programs.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mvd")
@click.option(
    "-c",
    "--config",
    default=settings.PATH,
    envvar="MVD_CONFIG",
    show_default=True,
    type=click.Path(path_type=Path),
    help="The settings of this server.",
)
@click.pass_context
def mvd(context: click.Context, config: Path) -> None:
    """Minimum Viable Docker, driven by Git."""
    context.obj = config


def main() -> None:
    """The console script."""
    try:
        sys.exit(mvd(standalone_mode=False) or 0)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
    except ManifestError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
    except MvdError as error:
        click.echo(f"mvd: {error.message}", err=True)
        if error.hint:
            click.echo(f"     {error.hint}", err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


# ---- doing -----------------------------------------------------------------------------------------------------------


@mvd.command()
@click.pass_obj
def run(config: Path) -> int:
    """Keep this server equal to the repository, for ever.  This is what the systemd unit starts."""
    from gitops_mvd.daemon.loop import Daemon
    from gitops_mvd.daemon.wiring import wire
    from gitops_mvd.state.lock import alone

    _log_to_stderr("%(levelname)s %(message)s")
    wired = wire(_read(config), config)
    with alone(Path(wired.settings.state)):
        while Daemon(wired).run():
            try:
                anew = wire(_read(config), config)
            except MvdError as error:
                log.error("the new settings are not taken up: %s", error)
            else:
                wired.close()
                wired = anew
    return 0


@mvd.command()
@as_json
@click.pass_obj
def sync(config: Path, machine: bool) -> int:
    """Look at the repository now and bring this server to it; where the daemon runs, it is the one who does."""
    from gitops_mvd.daemon.loop import Daemon
    from gitops_mvd.daemon.wiring import wire
    from gitops_mvd.state.lock import Taken, alone
    from gitops_mvd.status import report as say

    _log_to_stderr("%(message)s")
    wired = wire(_read(config), config)
    try:
        with alone(Path(wired.settings.state)):
            report = Daemon(wired).once()
    except Taken as daemon:
        report = daemon.sync(wired.history)
    if not report:
        return 1
    _print_outcomes(report.outcomes, machine, say.summary(report))
    return 0 if report.is_green else 1


@mvd.command()
@as_json
@click.pass_obj
def plan(config: Path, machine: bool) -> int:
    """Show what a sync would do, and do nothing.  Exit code 2: there is something to change."""
    from gitops_mvd.core import plan as plans
    from gitops_mvd.daemon.preview import preview
    from gitops_mvd.daemon.wiring import wire

    looked = preview(wire(_read(config), config))
    if machine:
        steps = {app.name: plans.as_json(app.plan) for app in looked.apps}
        _print_json(
            {"revision": looked.revision.commit, "apps": steps, "held": {a.name: a.why for a in looked.apps if a.why}}
        )
    else:
        for app in looked.apps:
            if app.why:
                click.echo(f"# {app.name} is held: {app.why}")
            for line in plans.lines(app.plan):
                click.echo(line)
        changes = sum(1 for app in looked.apps if app.plan)
        click.echo(f"{changes or 'no'} of {len(looked.apps)} apps to change at {looked.revision.short}", err=True)
    if any(app.sync is Sync.UNKNOWN for app in looked.apps):
        return 1
    return 2 if any(app.plan for app in looked.apps) else 0


@mvd.command()
@click.argument("name", metavar="APP[/SERVICE]", default="")
@as_json
@click.pass_obj
def explain(config: Path, name: str, machine: bool) -> int:
    """Show how an app or one of its services is deployed, and why so: in what order, past which gates."""
    from gitops_mvd.daemon.preview import desired
    from gitops_mvd.daemon.wiring import wire
    from gitops_mvd.manifest.explain import explain as explained

    wanted, _, service = name.partition("/")
    known = desired(wire(_read(config), config))
    if wanted in known.broken:
        raise ManifestError(known.broken[wanted])
    apps = {app.name: explained(app) for app in known.apps if wanted in ("", app.name) and app.services}
    told = {app: {one: told[one] for one in told if service in ("", one)} for app, told in apps.items()}
    if not any(told.values()):
        raise click.UsageError(f"this host has no {name or 'app'}; it has {', '.join(app.name for app in known.apps)}")
    if machine:
        _print_json(told)
        return 0
    for app, services in told.items():
        for one, lines in services.items():
            click.echo(f"{app}/{one}")
            for what, why in lines.items():
                click.echo(f"  {what:<10}  {why}")
    return 0


@mvd.command()
@click.argument("app")
@click.pass_obj
def retry(config: Path, app: str) -> int:
    """Try a condemned version of APP once more, at the next look."""
    from gitops_mvd.daemon.wiring import wire

    wired = wire(_read(config), config)
    pardoned = wired.history.clear_failure(app)
    click.echo(
        f"{app} is tried again at the next look: `mvd sync` makes that now" if pardoned else f"{app} is not held"
    )
    return 0 if pardoned else 1


@mvd.command()
@click.argument("why", nargs=-1)
@click.pass_obj
def suspend(config: Path, why: Sequence[str]) -> int:
    """Leave this server as it is, for the reason WHY, until `mvd resume`: nothing is deployed, healed or removed."""
    from gitops_mvd.state.suspension import suspend as begin

    _read(config)
    begin(config, " ".join(why))
    click.echo("suspended: this server stays as it is until `mvd resume`")
    return 0


@mvd.command()
@click.pass_obj
def resume(config: Path) -> int:
    """Keep this server equal to the repository again."""
    from gitops_mvd.state.suspension import resume as end

    _read(config)
    ended = end(config)
    click.echo("resumed" if ended else "this server is not suspended")
    return 0 if ended else 1


@mvd.command()
@click.argument("host")
@click.pass_obj
def forget(config: Path, host: str) -> int:
    """Take the targets of HOST out of the Kong that is shared with it: of a server that will not come back."""
    from gitops_mvd.daemon.wiring import wire

    wired = wire(_read(config), config)
    kong = wired.tools.kong
    if not kong or not kong.shared:
        raise click.UsageError("this server shares its Kong with no other: its settings have no `kong.shared`")
    if host == wired.host.name:
        raise click.UsageError(f"{host} is this server; what it should have no more goes with the app, out of Git")
    there = [entity for entity in kong.look(host) if entity.type == "targets"]
    kong.forget(host)
    click.echo(f"{len(there)} targets of {host} were taken away" if there else f"{host} has no targets in Kong")
    return 0 if there else 1


@mvd.command()
@click.option("-y", "--yes", is_flag=True, help="Do it without asking, for scripts.")
@as_json
@click.pass_obj
def adopt(config: Path, yes: bool, machine: bool) -> int:
    """Take over what this server's Kong has already and the repository declares, after showing what would change.

    Nothing else of that Kong is touched.  Exit code 1: there is something that can not be adopted; with --json and
    without --yes nothing is done, and 2 says that there is something to do.
    """
    from gitops_mvd.cli import adoption
    from gitops_mvd.daemon.preview import desired
    from gitops_mvd.daemon.wiring import wire
    from gitops_mvd.kong.migrate import export

    wired = wire(_read(config), config)
    known = desired(wired, fetch=True)
    found = adoption.look(wired, known)
    adoptions = found.adoptions
    if machine:
        _print_json({"revision": known.revision.commit, **export.as_json(adoptions), "broken": found.broken})
    else:
        for name, why in found.broken.items():
            click.echo(f"# {name} can not be read, and nothing of it is adopted: {why}")
        for line in export.lines(adoptions):
            click.echo(line)
    failed = 1 if adoptions.refused or found.broken else 0
    if not adoptions.adopted:
        click.echo("nothing to adopt", err=True)
        return failed
    if machine and not yes:
        return failed or 2
    question = f"make these {len(adoptions.adopted)} of {wired.host.name}'s Kong ours?"
    if not (yes or click.confirm(question, err=True)):
        click.echo("nothing was changed", err=True)
        return 1
    adoption.take_over(wired, found)
    click.echo(f"{len(adoptions.adopted)} adopted; `mvd plan` shows what is left to do", err=True)
    return failed


# ---- looking ---------------------------------------------------------------------------------------------------------


@mvd.command()
@as_json
@click.pass_obj
def status(config: Path, machine: bool) -> int:
    """Show every app: in sync, healthy, and how its last deploy went.  Exit code 1: something is not well."""
    from gitops_mvd.daemon.preview import preview
    from gitops_mvd.daemon.wiring import wire
    from gitops_mvd.state.suspension import reason

    looked, suspended = preview(wire(_read(config), config), fetch=False, ask=True), reason(config)
    if machine:
        apps = [app.as_json() for app in looked.apps]
        _print_json({"revision": looked.revision.commit, "suspended": suspended, "apps": apps})
    else:
        click.echo(f"{looked.host} at {looked.revision.short} {looked.revision.subject}")
        if suspended:
            click.echo(f"suspended: {suspended}")
        rows = [(app.name, app.sync, app.health, app.why or app.ails) for app in looked.apps]
        _print_table(("APP", "SYNC", "HEALTH", ""), rows)
    return 0 if all(app.is_green for app in looked.apps) else 1


@mvd.command()
@click.option("-n", "--lines", default=20, show_default=True, help="How many.")
@click.option("--app", default="", help="Of this app only.")
@as_json
@click.pass_obj
def history(config: Path, lines: int, app: str, machine: bool) -> int:
    """Show what was done here, newest first."""
    from gitops_mvd.daemon.wiring import wire

    events = wire(_read(config), config).history.events(lines, app or None)
    if machine:
        _print_json([event.as_json() for event in events])
    else:
        rows = [(_when(e.at), e.commit[:7], e.app, e.operation, e.health, e.why) for e in events]
        _print_table(("WHEN", "COMMIT", "APP", "OPERATION", "HEALTH", ""), rows)
    return 0


@mvd.command()
@click.argument("name", metavar="APP[/SERVICE]")
@click.option("-f", "--follow", is_flag=True, help="Go on as more comes.")
@click.option("-n", "--lines", default=50, show_default=True, help="How many.")
@click.pass_obj
def logs(config: Path, name: str, follow: bool, lines: int) -> int:
    """Show what an app or one of its services printed, across its versions."""
    from gitops_mvd.systemd.client import journal_command

    command = journal_command(name, lines, follow)
    sys.stdout.flush()
    os.execvp(command[0], command)


@mvd.group(name="kong")
def kong_group() -> None:
    """See what the Kong of this server has beside ours."""


@kong_group.command()
@click.argument("folder", default=".", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--admin", default="", metavar="URL", help="The Admin API; that of this server's settings by default.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file that has the value of the Kong-Admin-Token header, for --admin.",
)
@click.option("--x-kong", "service", default="", metavar="NAME", help="Print this service of Kong's as `x-kong`.")
@click.option(
    "--secrets",
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to write the secrets to that the files refer to; never one of the repository.",
)
@click.option("--with-secrets", is_flag=True, help="Write secrets in clear into the files.")
@click.option("--force", is_flag=True, help="Write over files that are there.")
@click.pass_obj
def dump(
    config: Path,
    folder: Path,
    admin: str,
    token_file: Path | None,
    service: str,
    secrets: Path | None,
    with_secrets: bool,
    force: bool,
) -> int:
    """Write what a Kong has, and is not ours, as kong/*.yaml of the config repository FOLDER; `-` prints it.

    What can not be carried over is told, a line each.  Secrets become references to files of the server.
    """
    from gitops_mvd.daemon.wiring import secret, wire
    from gitops_mvd.kong.client import Kong
    from gitops_mvd.kong.migrate import export

    if secrets and with_secrets:
        raise click.UsageError("--secrets and --with-secrets exclude each other")
    if admin:
        kong: Kong | None = Kong(admin, token=secret(str(token_file or "")))
    else:
        kong = wire(_read(config), config).tools.kong
    if not kong:
        raise Unavailable("this host has no gateway", "--admin URL says where Kong's Admin API is")
    printed = str(folder) == "-" or bool(service)
    dumped = export.dump(kong, service, clear=with_secrets, one_file=printed)
    if printed:
        click.echo("".join(dumped.files.values()), nl=False)
    written = export.write(dumped, None if printed else folder, secrets, force=force)
    for line in (*dumped.told, *written):
        click.echo(line, err=True)
    return 0


@mvd.command()
@click.argument("folder", default=".", type=click.Path(exists=True, file_okay=False, path_type=Path))
@as_json
def validate(folder: Path, machine: bool) -> int:
    """Check a config repository, FOLDER, for every host of its fleet; needs no server and no settings."""
    from gitops_mvd.git.tree import FolderTree
    from gitops_mvd.manifest import validate as problems_in

    problems = problems_in(FolderTree(folder))
    if machine:
        _print_json([{"file": p.file, "line": p.line, "key": p.key, "message": p.message} for p in problems])
    else:
        for problem in problems:
            click.echo(str(problem))
        click.echo(f"{len(problems)} problems" if problems else f"{folder}: all is well", err=True)
    return 1 if problems else 0


@mvd.command()
@as_json
@click.pass_obj
def doctor(config: Path, machine: bool) -> int:
    """Check all that this server needs, and say what to do about it."""
    from gitops_mvd.cli.doctor import examine

    findings = list(examine(config))
    if machine:
        _print_json([{"what": f.what, "verdict": f.verdict, "told": f.told, "hint": f.hint} for f in findings])
    else:
        for finding in findings:
            click.echo(f"{finding.verdict:<5} {finding.what:<14} {finding.told}")
            if finding.hint:
                click.echo(f"{'':<20} {finding.hint}")
    return 1 if any(finding.verdict == "fail" for finding in findings) else 0


@mvd.command()
@click.option(
    "--repository", prompt=False, default="", help="The config repository, for settings that are not there yet."
)
@click.option("--no-start", is_flag=True, help="Only put the files into their places.")
@click.pass_obj
def install(config: Path, repository: str, no_start: bool) -> int:
    """Make a service of the daemon on this server: its unit, its settings, started now and at every boot."""
    from gitops_mvd.cli.install import install as put

    for line in put(config, repository, start=not no_start):
        click.echo(line)
    return 0


@mvd.command()
@click.argument("page", default="")
def docs(page: str) -> int:
    """Read the manual: a PAGE of it, or the list of them."""
    pages = {
        Path(file.name).stem: file for file in resources.files("gitops_mvd.docs").iterdir() if file.name.endswith(".md")
    }
    if not page:
        for name, file in sorted(pages.items()):
            click.echo(f"{name:<12} {file.read_text().splitlines()[0].lstrip('# ')}")
        return 0
    if page not in pages:
        raise click.UsageError(f"there is no page {page!r}; there are {', '.join(sorted(pages))}")
    click.echo_via_pager(pages[page].read_text())
    return 0


# ---- how it looks ----------------------------------------------------------------------------------------------------


def _read(config: Path) -> settings.Settings:
    try:
        return settings.read(str(config), config.read_bytes())
    except FileNotFoundError:
        raise Unavailable(f"there are no settings at {config}", "`mvd install --repository URL` makes them") from None
    except OSError as error:
        raise Unavailable(f"{config} can not be read: {error.strerror}") from None


def _log_to_stderr(form: str) -> None:
    logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _print_outcomes(outcomes: Iterable[Any], machine: bool, summary: str) -> None:
    if machine:
        told = ("app", "sync", "health", "operation", "why")
        _print_json([{key: getattr(outcome, key) for key in told} for outcome in outcomes])
        return
    rows = [(o.app, o.operation, o.sync, o.health, o.why) for o in outcomes]
    _print_table(("APP", "OPERATION", "SYNC", "HEALTH", ""), rows)
    click.echo(summary, err=True)


def _print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, *rows):
        click.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


def _when(at: float) -> str:
    ago = time.time() - at
    return (
        f"{ago:.0f}s ago" if ago < 100 else datetime.fromtimestamp(at, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    )
