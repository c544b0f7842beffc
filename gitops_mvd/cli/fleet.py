"""`mvd fleet`: every host of a config repository, from Git and the forge alone, on whatever computer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gitops_mvd.cli.completion import hosts_of_folder
from gitops_mvd.cli.output import Screen, as_json, counted, print_json, print_lines, screen, short_time
from gitops_mvd.cli.starter import FORGES, NO_FORGE
from gitops_mvd.cli.table import table
from gitops_mvd.cli.watching import states
from gitops_mvd.cli.watching import watch as watching
from gitops_mvd.core.errors import MvdError
from gitops_mvd.core.model import Revision
from gitops_mvd.core.ports import Forge
from gitops_mvd.core.text import plain_line
from gitops_mvd.status.fleet import MOST_COMMITS, HostStatus

if TYPE_CHECKING:
    from gitops_mvd.git.branch import Source
    from gitops_mvd.git.checkout import Checkout

BRANCH = "main"
POLL_SECONDS = 15.0  # between two looks at Git and the forge
NOTHING = "-"  # an empty cell
FORGE_KINDS = [kind for kind in FORGES if kind != NO_FORGE]


@dataclass(frozen=True, slots=True)
class Seen:
    """The fleet: the tip of the branch, each host, and which of them are `drained`.

    `waves` has the number of each host's wave, from 1, of the rollout of the fleet; nothing without one.
    """

    tip: Revision
    hosts: tuple[HostStatus, ...]
    drained: frozenset[str]
    waves: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say of the repository and the forge."""

    repository: str
    branch: str
    forge: str
    token_file: str
    insecure: bool


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[drain HOST | undrain HOST | replace HOST]",
    epilog="Example: mvd fleet --repository config --token-file token --watch",
)
@click.option("--repository", default="", metavar="PATH|URL", help="A clone, or its address. Default: see above.")
@click.option("--branch", default="", metavar="NAME", help="The branch that the servers follow; main if left out.")
@click.option("--forge", default="", type=click.Choice(["", *FORGE_KINDS]), metavar="KIND", help="Where statuses are.")
@click.option("--token-file", default="", metavar="FILE", help="The file with a token that may read statuses.")
@click.option("--insecure", is_flag=True, help="Send the token over plain http, on a private network.")
@click.option("-w", "--watch", is_flag=True, help="Show it again whenever something changes, until Ctrl-C.")
@as_json
@click.pass_context
def fleet(context: click.Context, /, watch: bool, machine: bool, **options: Any) -> int:
    """Show each host: synced, healthy, and which commit it is at.

    By what each has posted to the commits of the repository; no server is asked.  Without --repository, this server's
    settings say which it is; without settings, the clone that one stands in.  Exit code 1: a host is not green, or has
    not posted to the last commits.
    """
    if context.invoked_subcommand:
        return 0
    look = context.with_resource(_eyes(context.obj, Asked(**options)))
    seen = look()
    if watch:
        watching(states(seen, look, lambda: time.sleep(POLL_SECONDS)), machine, as_builtins, _lines)
    elif machine:
        print_json(as_builtins(seen))
    else:
        print_lines(_lines(seen))
    return 0 if seen.hosts and all(host.is_green for host in seen.hosts) else 1


@contextmanager
def _eyes(config: Path, asked: Asked) -> Iterator[Callable[[], Seen]]:
    """What looks at the fleet, with a folder for what it fetches."""
    from gitops_mvd.manifest import read_fleet
    from gitops_mvd.status.fleet import host_statuses

    with tempfile.TemporaryDirectory(prefix="mvd-fleet-") as folder:
        commits, forge = _connected(config, asked, Path(folder))

        def look() -> Seen:
            tip = commits.fetch()
            fleet = read_fleet(commits.tree(tip))
            line, _ = commits.line(tip, MOST_COMMITS)
            drained = frozenset(name for name, facts in fleet.hosts.items() if facts.drained)
            usual = fleet.rollouts.usual
            waves = {name: usual.place_of(name) + 1 for name in fleet.hosts} if usual else {}
            return Seen(tip, host_statuses(fleet.hosts, line[::-1], forge.statuses), drained, waves)

        with closing(commits):
            yield look


def _connected(config: Path, asked: Asked, folder: Path) -> tuple[Checkout | Source, Forge]:
    """The repository and its forge, by the options or by the settings of this server.  Raises MvdError."""
    from gitops_mvd import forges
    from gitops_mvd.daemon.connections import connect_forge, connect_source, read_secret, repository_account
    from gitops_mvd.forges.api import Account

    if not asked.repository and config.exists():
        from gitops_mvd.cli.server import read_settings

        settings = read_settings(config)
        if not settings.forge:
            raise MvdError(f"no forge: {config} has no `forge`", "Set `forge`: it is where the servers post")
        login = repository_account(settings)
        return connect_source(settings, login), connect_forge(settings.forge, settings, login)
    if not asked.token_file:
        raise MvdError("statuses are read with a token", "name its file: --token-file FILE")
    token = read_secret(asked.token_file, "--token-file")
    commits, url = _repository(asked, token, folder)
    kind = asked.forge or forges.likely(url)
    if not kind:
        raise MvdError(f"{url} does not tell which forge it is", f"--forge {'|'.join(FORGE_KINDS)}")
    origin = forges.locate(url, kind)
    if origin.base_url.startswith("http://") and not asked.insecure:
        hint = "use https, or --insecure on a private network"
        raise MvdError(f"{url}: a token over http can be read on the way", hint)
    return commits, forges.connect(kind, Account(origin.repository, lambda: token, origin.base_url))


def _repository(asked: Asked, token: str, folder: Path) -> tuple[Checkout | Source, str]:
    """The commits, and the address of the repository."""
    from gitops_mvd.git.branch import Source
    from gitops_mvd.git.checkout import Checkout

    where, branch = asked.repository or ".", asked.branch or BRANCH
    if Path(where).is_dir():
        checkout = Checkout(Path(where), branch)
        return checkout, checkout.origin
    return Source(where, branch, folder / "mirror", token=lambda: token, insecure=asked.insecure), where


def as_builtins(seen: Seen) -> Any:
    """The fleet as JSON; times are in seconds since 1970, 0 is "never", and the wave 0 is none."""
    return {
        "commit": seen.tip.commit,
        "subject": seen.tip.subject,
        "branch": seen.tip.ref,
        "hosts": [
            {
                "host": it.host,
                "commit": it.revision.commit if it.revision else "",
                "subject": it.revision.subject if it.revision else "",
                "wave": seen.waves.get(it.host, 0),
                "state": it.posted.state if it.posted else "",
                "sync": str(it.sync),
                "health": str(it.health),
                "drained": it.host in seen.drained,
                "posted": it.posted.at if it.posted else 0,
                "why": it.posted.description if it.posted else "",
                "url": it.posted.url if it.posted else "",
            }
            for it in seen.hosts
        ],
    }


def _lines(seen: Seen, where: Screen | None = None) -> Iterator[str]:
    """The tip, and a row for each host."""
    where = where or screen()
    yield plain_line(f"{seen.tip.ref} is at {seen.tip.short} {seen.tip.subject}".rstrip())
    if not seen.hosts:
        yield f"no host has posted a status to the last {counted(MOST_COMMITS, 'commit')}, and there is no fleet.yaml"
        return
    rows = [_row(it, seen, where) for it in seen.hosts]
    wave = ["WAVE"] if seen.waves else []
    yield from table(("HOST", *wave, "COMMIT", "SYNC", "HEALTH", "POSTED", "WHY"), rows, where.width, where.paint)
    green = sum(it.is_green for it in seen.hosts)
    yield f"{green} of {counted(len(seen.hosts), 'host')} green"


def _row(it: HostStatus, seen: Seen, where: Screen) -> tuple[str, ...]:
    first = (it.host, *([str(seen.waves[it.host])] if it.host in seen.waves else []))
    drained = "drained" if it.host in seen.drained else ""
    if not (it.posted and it.revision):
        why = "; ".join(filter(None, (drained, f"no status on the last {counted(MOST_COMMITS, 'commit')}")))
        return *first, NOTHING, it.sync, it.health, NOTHING, why
    age = short_time(where.now - it.posted.at)
    why = "; ".join(filter(None, (drained, "" if it.is_green else it.posted.description)))
    return *first, it.revision.short, it.sync, it.health, age, why


# ---- drained, told in Git --------------------------------------------------------------------------------------------

_clone = click.option(
    "--repository",
    "folder",
    default=".",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="PATH",
    help="The clone of the config repository; the folder that one stands in if left out.",
)


@fleet.command(epilog="Example: mvd fleet drain web-2")
@click.argument("host", shell_complete=hosts_of_folder)
@_clone
def drain(folder: Path, host: str) -> int:
    """Write into fleet.yaml that HOST gets no requests from the Kong that it shares.

    Its containers go on, and so do deploys.  It is so once the commit is merged, and until `mvd fleet undrain`.
    """
    return _write(folder, host, is_on=True)


@fleet.command(epilog="Example: mvd fleet undrain web-2")
@click.argument("host", shell_complete=hosts_of_folder)
@_clone
def undrain(folder: Path, host: str) -> int:
    """Write into fleet.yaml that HOST gets its share of requests again."""
    return _write(folder, host, is_on=False)


def _write(folder: Path, host: str, is_on: bool) -> int:
    """Change the fleet file of a clone, and say what makes it true."""
    from gitops_mvd.git.tree import FolderTree
    from gitops_mvd.manifest import read_fleet
    from gitops_mvd.manifest.fleet import FILE
    from gitops_mvd.manifest.fleet_text import with_drain

    if read_fleet(FolderTree(folder)).host(host).drained is is_on:
        click.echo(f"{host} is {'drained already' if is_on else 'not drained'}: nothing was changed")
        return 0
    file = folder / FILE
    if not file.exists():
        raise MvdError(f"{folder} has no {FILE}", "name the clone of the config repository: --repository PATH")
    text = with_drain(file.read_text("utf-8"), host, is_on)
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / FILE).write_text(text, "utf-8")
        if read_fleet(FolderTree(Path(scratch))).host(host).drained is not is_on:
            raise MvdError(f"cannot change {file}", f"write `drain: {str(is_on).lower()}` under {host} by hand")
    file.write_text(text, "utf-8")
    click.echo(f"{file}: {host} is {'drained' if is_on else 'no longer drained'} once this is merged:")
    click.echo(f'  git commit -m "{"Drain" if is_on else "Undrain"} {host}" {FILE} && git push')
    return 0


# ---- replaced --------------------------------------------------------------------------------------------------------


@fleet.command(epilog="Example: mvd fleet replace web-2")
@click.argument("host", shell_complete=hosts_of_folder)
@_clone
@click.option("--branch", default=BRANCH, metavar="NAME", help="The branch that the servers follow; main if left out.")
@click.option("--forge", default="", type=click.Choice(["", *FORGE_KINDS]), metavar="KIND", help="Where statuses go.")
@as_json
def replace(folder: Path, host: str, branch: str, forge: str, machine: bool) -> int:
    """Print what a new server must have to become HOST, as commands in their order.

    From Git alone: programs, secrets that only the host has, the data to restore before the first start, and the line
    by which the daemon is installed.  Exit code 1: some of the apps have mistakes.
    """
    from gitops_mvd import forges
    from gitops_mvd.cli.replacing import Replacement
    from gitops_mvd.git.checkout import Checkout
    from gitops_mvd.manifest import load, read_fleet
    from gitops_mvd.manifest.needs import needs

    with closing(Checkout(folder, branch)) as clone:
        tip = clone.fetch()
        tree = clone.tree(tip)
        apps, broken = load(tree, read_fleet(tree).host(host))
        kind = forge or ("" if forges.locate(clone.origin).kind else forges.likely(clone.origin))
        names = tuple(app.name for app in apps if app.services)
        made = Replacement(host, tip, clone.origin, kind, needs(apps), names, tuple(sorted(broken)))
    if machine:
        print_json(made.as_json())
    else:
        print_lines(made.lines())
    return 1 if broken else 0
