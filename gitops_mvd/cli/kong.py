"""`mvd kong dump`, `mvd adopt` and `mvd forget`: what the Kong of this server has beside what gitops-mvd manages."""

from __future__ import annotations

from pathlib import Path

import click

from gitops_mvd.cli.output import as_json, counted, print_json
from gitops_mvd.cli.server import connect
from gitops_mvd.core.errors import MvdError


@click.group(epilog="Example: mvd kong dump . --admin http://127.0.0.1:8001")
def kong() -> None:
    """Write what a Kong has into a config repository."""


@kong.command(epilog="Example: mvd kong dump . --admin http://127.0.0.1:8001")
@click.argument("folder", default=".", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--admin", default="", metavar="URL", help="The Admin API. Default: that of this server's settings.")
@click.option(
    "--token-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The file with the value of the Kong-Admin-Token header, for --admin.",
)
@click.option("--x-kong", "service", default="", metavar="NAME", help="Print this Kong service as `x-kong`.")
@click.option(
    "--secrets",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the secrets that the files refer to into this folder; never one of the repository.",
)
@click.option("--with-secrets", is_flag=True, help="Write secrets in clear into the files.")
@click.option("--force", is_flag=True, help="Overwrite files.")
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
    """Write the unmanaged entities of a Kong as kong/*.yaml of the config repository FOLDER; `-` prints them.

    What cannot be carried over is reported, one line each.  Secrets become references to files of the server.
    """
    from gitops_mvd.daemon.connections import read_secret
    from gitops_mvd.kong.client import Kong
    from gitops_mvd.kong.migrate import export

    if secrets and with_secrets:
        raise click.UsageError("--secrets and --with-secrets exclude each other")
    source = (
        Kong(admin, token=read_secret(str(token_file or ""), "--token-file")) if admin else connect(config).tools.kong
    )
    if not source:
        raise MvdError(f"no Kong: {config} has no `kong`", "Set `kong`, or give the Admin API by --admin URL")
    printed = str(folder) == "-" or bool(service)
    dumped = export.dump(source, service, clear=with_secrets, one_file=printed)
    if printed:
        click.echo("".join(dumped.files.values()).encode(), nl=False)  # as bytes, a secret that is wanted stays
    written = export.write(dumped, None if printed else folder, secrets, force=force)
    for line in (*dumped.notes, *written):
        click.echo(line, err=True)
    return 0


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[volume NAME | network NAME]",
    epilog="Example: mvd adopt volume shop_data",
)
@click.option("-y", "--yes", is_flag=True, help="Adopt without asking, for scripts.")
@as_json
@click.pass_context
def adopt(context: click.Context, yes: bool, machine: bool) -> int:
    """Adopt what this server's Kong has and the repository declares.

    From then on gitops-mvd manages it.  Shows first what would change; nothing else of that Kong is touched.  Exit
    code 1: something cannot be adopted; 2, with --json and without --yes: there is something to adopt.
    """
    return 0 if context.invoked_subcommand else _adopt_entities(context.obj, yes, machine)


def _existing(kind: str) -> click.Command:
    @click.command(name=kind, help=f"Give a {kind} of this host to the app that declares it, as it is.")
    @click.argument("name")
    @click.option("--app", default="", metavar="APP", help="The app that declares it, to be sure.")
    @as_json
    @click.pass_obj
    def command(config: Path, name: str, app: str, machine: bool) -> int:
        from gitops_mvd.cli.adoption import adopt_existing

        adopted = adopt_existing(connect(config), kind, name, app)
        if machine:
            print_json(adopted._asdict())
        elif adopted.is_managed:
            click.echo(f"{kind} {name} was made for {adopted.app}, and is managed: nothing to adopt")
        else:
            click.echo(f"{kind} {name} is used by {adopted.app} as it is, from the next sync on.")
        return 0

    return command


adopt.add_command(_existing("volume"))
adopt.add_command(_existing("network"))


def _adopt_entities(config: Path, yes: bool, machine: bool) -> int:
    from gitops_mvd.cli.adoption import Adopter
    from gitops_mvd.daemon.preview import desired
    from gitops_mvd.kinds import route
    from gitops_mvd.kong.migrate import export

    wired = connect(config)
    if not wired.tools.kong:
        raise MvdError(f"no Kong: {config} has no `kong`", "Set `kong`")
    adopter = Adopter(
        host=wired.host.name,
        kong=wired.tools.kong,
        routes=route.connect(wired.tools),
        history=wired.history,
        settings=config,
        state=Path(wired.settings.state),
    )
    known = desired(wired, fetch=True)
    found = adopter.preview(known)
    adoptions = found.adoptions
    if machine:
        print_json({"revision": known.revision.commit, **export.as_json(adoptions), "broken": found.broken})
    else:
        for name, why in found.broken.items():
            click.echo(f"# {name} cannot be read, and nothing of it is adopted: {why}")
        for line in export.lines(adoptions):
            click.echo(line)
    failed = 1 if adoptions.refused or found.broken else 0
    if not adoptions.adopted:
        click.echo("nothing to adopt", err=True)
        return failed
    if machine and not yes:
        return failed or 2
    entities = counted(len(adoptions.adopted), "entity", "entities")
    if not (yes or click.confirm(f"Adopt {entities} of {wired.host.name}'s Kong?", err=True)):
        click.echo("nothing was changed", err=True)
        return 1
    adopter.adopt(found)
    click.echo(f"{entities} adopted. `mvd plan` shows what is left to change.", err=True)
    return failed


@click.command(epilog="Example: mvd forget web-2")
@click.argument("host")
@click.pass_obj
def forget(config: Path, host: str) -> int:
    """Remove the targets of HOST from a shared Kong.

    For a server that is gone for good.  Exit code 1: HOST has no targets there.
    """
    wired = connect(config)
    shared = wired.tools.kong
    if not shared or not shared.shared:
        raise MvdError("this server shares its Kong with no other server", f"{config} has no `kong.shared`")
    if host == wired.host.name:
        raise MvdError(f"{host} is this server", "Remove its apps from the repository instead")
    targets = [entity for entity in shared.observe(host) if entity.type == "targets"]
    shared.remove_host(host)
    if not targets:
        click.echo(f"{host} has no targets in this Kong", err=True)
        return 1
    click.echo(f"removed {counted(len(targets), 'target')} of {host}")
    return 0
