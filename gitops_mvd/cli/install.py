"""`mvd install`: the daemon becomes a systemd service of this server."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import click

from gitops_mvd import forges
from gitops_mvd.api.endpoints import ACTORS, READERS
from gitops_mvd.cli.doctor import findings, show
from gitops_mvd.cli.output import in_a_line
from gitops_mvd.cli.packaged import drop_in, drop_in_text, is_packaged
from gitops_mvd.cli.starter import FORGES, NO_FORGE
from gitops_mvd.config import settings
from gitops_mvd.core.errors import ManifestError, MvdError, Unavailable

UNIT = Path("/etc/systemd/system/gitops-mvd.service")
WEB_UNIT = UNIT.with_name("gitops-mvd-web.service")
COMPLETIONS = {  # where each shell looks for them, on the distributions that have it
    "bash": Path("/usr/share/bash-completion/completions/mvd"),
    "zsh": Path("/usr/share/zsh/vendor-completions/_mvd"),
    "fish": Path("/usr/share/fish/vendor_completions.d/mvd.fish"),
}
JOURNAL = Path("/etc/systemd/journald.conf.d/50-gitops-mvd.conf")
JOURNAL_TEXT = """\
# Written once by `mvd install`; change it as you like.  The engine writes what all containers print, and journald takes
# 10,000 lines in 30 seconds from one service, and drops the rest: one container would cost the others their lines.
[Journal]
RateLimitBurst=0
"""
GROUPS = Path("/etc/sysusers.d/gitops-mvd.conf")
GROUPS_TEXT = f"""\
# Who may use the sockets of gitops-mvd without being root: its members may look, or may also sync, retry and suspend.
g {READERS} -
g {ACTORS} -
"""
ADMIN = "http://127.0.0.1:8001"
SETTINGS = """\
# The settings of this server.  Every key: mvd docs settings
repository: {repository}
"""
OPTIONAL = {  # the keys that are written if they are said, and what stands in their place if not
    "branch": "#branch: main",
    "host": "#host: the name of this server in fleet.yaml, if it is not its host name",
    "credentials": "#credentials: {token_file: /etc/gitops-mvd/token}",
    "kong": '#kong: {admin: "http://127.0.0.1:8001", proxy: "http://127.0.0.1:8000"}',
    "forge": "#forge: {kind: gitea}",
}
SETTINGS_FILE = Path("/etc/gitops-mvd/config.yaml")  # which the unit of the package reads
FOLDERS_OF_APPS = "/srv"  # which the unit allows anyway
STOP_SECONDS = 90.0  # longer than TimeoutStopSec= of the unit
COMPLETE = "_MVD_COMPLETE"  # the variable by which a shell asks what there is


@dataclass(frozen=True, slots=True)
class Said:
    """What the options say of the settings, None for what they leave open."""

    repository: str | None
    branch: str | None
    host: str | None
    token_file: str | None
    insecure: bool | None
    forge: str | None
    forge_url: str | None
    kong: str | None


@click.command(
    epilog="Example: mvd install --repository https://github.com/acme/config --token-file /etc/gitops-mvd/token"
)
@click.option("--repository", metavar="URL", help="The config repository.")
@click.option("--branch", metavar="NAME", help="The branch to follow; main if left out.")
@click.option("--host", metavar="NAME", help="The name of this server in fleet.yaml; its host name if left out.")
@click.option("--token-file", metavar="FILE", help="The file with a token for the repository and its statuses.")
@click.option("--insecure", is_flag=True, default=None, help="Send the token over plain http, on a private network.")
@click.option("--forge", type=click.Choice(FORGES), help="Where commit statuses go.")
@click.option("--forge-url", metavar="URL", help="Its API, if the repository's address does not tell.")
@click.option("--kong", is_flag=False, flag_value=ADMIN, metavar="URL", help=f"Kong's Admin API; {ADMIN} without URL.")
@click.option("--web", is_flag=True, help="Also the page, a service of its own (`mvd web`).")
@click.option("--no-start", is_flag=True, help="Only write the files.")
@click.pass_obj
def install(config: Path, /, web: bool, no_start: bool, **options: Any) -> int:
    """Install the daemon as a systemd service.

    Writes its unit and, with --repository, its settings; starts it now and at every boot, and checks the server as `mvd
    doctor` does.  Lets the journal take all lines of containers.
    """
    for line in set_up(config, Said(**options), start=not no_start):
        click.echo(line)
    if web:
        for line in set_up_page(config, start=not no_start):
            click.echo(line)
    if no_start:
        click.echo("Nothing was started. What this server lacks: mvd doctor")
    else:
        show(findings(config))
    return 0


def set_up_page(config: Path, *, start: bool) -> Iterator[str]:
    """Write the unit of the page, and start it; yields what was done, one line each.  Raises Unavailable."""
    from gitops_mvd.systemd.client import Systemd

    try:
        yield from _write_unit(config, WEB_UNIT, "web")
    except OSError as error:
        raise Unavailable(f"cannot write {error.filename}: {error.strerror}", "Run as root") from error
    systemd = Systemd()
    systemd.reload()
    if start:
        systemd.enable([WEB_UNIT.name])
        systemd.stop([WEB_UNIT.name], within=STOP_SECONDS)
        systemd.start([WEB_UNIT.name])
        where = settings.read(str(config), config.read_bytes()).web
        at = where.url or f"http://{where.listen}"
        yield f"started {WEB_UNIT.name}, now and at every boot: {at}. Its log: journalctl -u {WEB_UNIT.stem}"


def set_up(config: Path, said: Said, *, start: bool) -> Iterator[str]:
    """Write unit, settings and completion, and start the daemon; yields what was done, one line each.

    Settings that are there stay as they are, those of the journal, too.  Raises MvdError, also if they say otherwise.
    """
    from gitops_mvd.state.files import Entry, write
    from gitops_mvd.systemd.client import Systemd
    from gitops_mvd.systemd.programs import printed

    try:
        if config.exists():
            _compare(config, said)
        else:
            text = settings_text(config, said)
            config.parent.mkdir(parents=True, exist_ok=True)
            write(config, Entry(text.encode(), 0o644))
            yield f"wrote {config}"
        yield from _write_unit(config, UNIT, "run")
        if not is_packaged():
            write(GROUPS, Entry(GROUPS_TEXT.encode(), 0o644))
            yield f"wrote {GROUPS}: members of {READERS} may look, those of {ACTORS} may act"
            for shell, file in COMPLETIONS.items():
                if file.parent.is_dir():
                    write(file, Entry(completion_text(shell).encode(), 0o644))
                    yield f"wrote {file}"
        is_new = not JOURNAL.exists()
        if is_new:
            write(JOURNAL, Entry(JOURNAL_TEXT.encode(), 0o644))
            yield f"wrote {JOURNAL}: no line of a container is dropped"
    except OSError as error:
        raise Unavailable(f"cannot write {error.filename}: {error.strerror}", "Run as root") from error
    systemd = Systemd()
    systemd.reload()
    if start and is_new:
        printed("systemctl", "restart", "systemd-journald.service")
    if start:
        printed("systemd-sysusers", GROUPS.name)
        systemd.enable([UNIT.name])
        systemd.stop([UNIT.name], within=STOP_SECONDS)
        systemd.start([UNIT.name])
        yield "started gitops-mvd.service, now and at every boot. Watch it: journalctl -fu gitops-mvd"


def settings_text(config: Path, said: Said) -> str:
    """The settings that the options say.  Raises MvdError for options that do not make settings."""
    if not said.repository:
        raise Unavailable(f"cannot read {config}: no such file", "`mvd install --repository URL` writes it")
    token_file = os.path.abspath(said.token_file) if said.token_file else None
    if token_file and not os.path.exists(token_file):
        hint = f"write the token into it: install -D -m 600 /dev/stdin {shlex.quote(token_file)}"
        raise MvdError(f"cannot read {token_file} (--token-file): no such file", hint)
    if token_file and said.repository.startswith("http://") and not said.insecure:
        hint = "use https, or --insecure on a private network"
        raise MvdError(f"{said.repository}: a token over http can be read on the way", hint)
    if said.insecure and not token_file:
        raise MvdError("--insecure is about a token, and there is none", "name its file: --token-file FILE")
    sections = {
        "branch": said.branch,
        "host": said.host,
        "credentials": token_file and {"token_file": token_file, **({"insecure": True} if said.insecure else {})},
        "kong": said.kong and {"admin": said.kong},
        "forge": _forge(said, said.repository),
    }
    text = SETTINGS.format(repository=in_a_line(said.repository))
    for key, value in sections.items():
        text += f"{OPTIONAL[key]}\n" if value is None else f"{key}: {in_a_line(value)}\n"
    settings.read(str(config), text.encode())
    return text


def _forge(said: Said, repository: str) -> dict[str, str] | None:
    """The section `forge`, None for none.  Raises MvdError if nobody says which forge it is."""
    if said.forge == NO_FORGE or not (said.forge or said.forge_url or said.token_file):
        if said.forge_url:
            raise MvdError(f"--forge-url {said.forge_url} is the API of a forge, and --forge {NO_FORGE} is none")
        return None
    if not said.token_file:
        raise MvdError("a forge takes statuses only with a token", "name its file: --token-file FILE")
    known = forges.locate(repository).kind
    kind = said.forge or forges.likely(repository)
    if not kind:
        hint = f"--forge {'|'.join(forges.kinds())}, or --forge {NO_FORGE} for no commit statuses"
        raise MvdError(f"{repository} does not tell which forge it is", hint)
    section = {} if kind == known else {"kind": kind}
    return {**section, "base_url": said.forge_url} if said.forge_url else section


def _compare(config: Path, said: Said) -> None:
    """Raise MvdError if the options say otherwise than the settings that are there, which stay as they are."""
    options = {name: value for name, value in asdict(said).items() if value is not None}
    if not options:
        return
    there = settings.read(str(config), config.read_bytes())
    has = {
        "repository": there.repository,
        "branch": there.branch,
        "host": there.host,
        "token_file": there.credentials.token_file,
        "insecure": there.credentials.insecure,
        "forge": there.forge.kind if there.forge else NO_FORGE,
        "forge_url": there.forge.base_url if there.forge else "",
        "kong": there.kong.admin if there.kong else "",
    }
    if "token_file" in options:
        options["token_file"] = os.path.abspath(options["token_file"])
    if others := [f"--{name.replace('_', '-')}" for name, value in options.items() if value != has[name]]:
        verb = "says" if len(others) == 1 else "say"
        raise MvdError(
            f"{config} is there already, and {', '.join(others)} {verb} otherwise: nothing was changed",
            "change it in the file, which the daemon reads again by itself; or remove the file first",
        )


def _write_unit(config: Path, unit: Path, command: str) -> Iterator[str]:
    """Write a unit or, if the package brings it, what it lacks for these settings; yields what was written."""
    from gitops_mvd.state.files import Entry, write

    if not is_packaged():
        write(unit, Entry(unit_text(config, unit.name, command).encode(), 0o644))
        yield f"wrote {unit}"
        return
    unit.unlink(missing_ok=True)  # of an installation before, which would hide that of the package
    start = "" if config == SETTINGS_FILE else f"{_mvd()} --config {config} {command}"
    writable = [*_writable_folders(config)] if command == "run" else []
    file = drop_in(unit)
    if text := drop_in_text(start, writable):
        file.parent.mkdir(exist_ok=True)
        write(file, Entry(text.encode(), 0o644))
        yield f"wrote {file}"
    else:
        file.unlink(missing_ok=True)


def unit_text(config: Path, unit: str, command: str) -> str:
    """A unit that runs a command of `mvd`, with the path of this installation and of these settings in it."""
    text = (resources.files("gitops_mvd") / unit).read_text()
    text = text.replace(f"ExecStart=/usr/local/bin/mvd {command}", f"ExecStart={_mvd()} --config {config} {command}")
    writable = "ReadWritePaths=/etc/systemd/system"
    return text.replace(writable, " ".join([writable, *_writable_folders(config)]))


def _mvd() -> str:
    """The command of this installation, as a unit has it."""
    return shutil.which("mvd", path=str(Path(sys.executable).parent)) or f"{sys.executable} -m gitops_mvd"


def completion_text(shell: str) -> str:
    """The script by which `bash`, `zsh` or `fish` completes `mvd`."""
    from click.shell_completion import get_completion_class

    from gitops_mvd.cli.main import mvd

    complete = get_completion_class(shell)
    assert complete
    return complete(mvd, {}, "mvd", COMPLETE).source()


def _writable_folders(config: Path) -> Iterator[str]:
    """The folders that the daemon writes to because of its settings, as ReadWritePaths= has them."""
    with suppress(ManifestError):  # which the daemon reports when it starts
        read = settings.read(str(config), config.read_bytes())
        folders = [] if Path(read.folders).is_relative_to(FOLDERS_OF_APPS) else [read.folders]
        if read.kong and read.kong.boot_file:
            folders.append(str(Path(read.kong.boot_file).parent))
        for folder in folders:
            escaped = folder.replace("%", "%%").replace('"', '\\"')
            yield f'"-{escaped}"'
