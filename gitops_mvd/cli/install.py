"""`mvd install`: the daemon becomes a systemd service of this server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

import click

from gitops_mvd.api.endpoints import ACTORS, READERS
from gitops_mvd.cli.packaged import drop_in, drop_in_text, is_packaged
from gitops_mvd.config import settings
from gitops_mvd.core.errors import ManifestError, Unavailable

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
SETTINGS = """\
# The settings of this server.  Every key: mvd docs settings
repository: {repository}
#branch: main
#host: the name of this server in fleet.yaml, if it is not its host name
#credentials:
#  token_file: /etc/gitops-mvd/token
#kong: {{admin: "http://127.0.0.1:8001", proxy: "http://127.0.0.1:8000"}}
#forge: {{kind: github}}
"""
SETTINGS_FILE = Path("/etc/gitops-mvd/config.yaml")  # which the unit of the package reads
FOLDERS_OF_APPS = "/srv"  # which the unit allows anyway
STOP_SECONDS = 90.0  # longer than TimeoutStopSec= of the unit
COMPLETE = "_MVD_COMPLETE"  # the variable by which a shell asks what there is


@click.command(epilog="Example: mvd install --repository https://github.com/acme/config")
@click.option("--repository", default="", metavar="URL", help="The config repository, if there are no settings yet.")
@click.option("--web", is_flag=True, help="Also the page, a service of its own (`mvd web`).")
@click.option("--no-start", is_flag=True, help="Only write the files.")
@click.pass_obj
def install(config: Path, repository: str, web: bool, no_start: bool) -> int:
    """Install the daemon as a systemd service.

    Writes its unit and, with --repository, its settings; starts it now and at every boot.  Lets the journal take all
    lines of containers.
    """
    for line in set_up(config, repository, start=not no_start):
        click.echo(line)
    if web:
        for line in set_up_page(config, start=not no_start):
            click.echo(line)
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


def set_up(config: Path, repository: str, *, start: bool) -> Iterator[str]:
    """Write unit, settings and completion, and start the daemon; yields what was done, one line each.

    Settings that are there stay as they are, those of the journal, too.  Raises Unavailable.
    """
    from gitops_mvd.state.files import Entry, write
    from gitops_mvd.systemd.client import Systemd
    from gitops_mvd.systemd.programs import printed

    try:
        if not config.exists():
            if not repository:
                raise Unavailable(f"cannot read {config}: no such file", "`mvd install --repository URL` writes it")
            config.parent.mkdir(parents=True, exist_ok=True)
            write(config, Entry(SETTINGS.format(repository=repository).encode(), 0o644))
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
