"""`mvd install`: the daemon becomes a service of this server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import resources
from pathlib import Path

from gitops_mvd.config import settings
from gitops_mvd.core.errors import ManifestError, Unavailable
from gitops_mvd.state.files import Entry, write
from gitops_mvd.systemd.client import Systemd

UNIT = Path("/etc/systemd/system/gitops-mvd.service")
COMPLETION = Path("/usr/share/bash-completion/completions/mvd")
SETTINGS = """\
# The settings of this server.  Every key: `mvd docs settings`.
repository: {repository}
#branch: main
#host: the name of this server in fleet.yaml, where that is not its host name
#credentials:
#  token_file: /etc/gitops-mvd/token
#kong: {{admin: "http://127.0.0.1:8001", proxy: "http://127.0.0.1:8000"}}
#forge: {{kind: github}}
"""
COMPLETE = 'eval "$(_MVD_COMPLETE=bash_source mvd)"\n'


def install(config: Path, repository: str, *, start: bool) -> Iterator[str]:
    """Put unit, settings and completion into their places, and start it; what is there is left as it is, but the unit.

    Yields what was done, a line each.  Raises Unavailable.
    """
    try:
        if not config.exists():
            if not repository:
                raise Unavailable(f"there are no settings at {config}", "`mvd install --repository URL` makes them")
            config.parent.mkdir(parents=True, exist_ok=True)
            write(config, Entry(SETTINGS.format(repository=repository).encode(), 0o644))
            yield f"wrote {config}"
        write(UNIT, Entry(_unit(config).encode(), 0o644))
        yield f"wrote {UNIT}"
        if COMPLETION.parent.is_dir():
            write(COMPLETION, Entry(COMPLETE.encode(), 0o644))
            yield f"wrote {COMPLETION}"
    except OSError as error:
        raise Unavailable(f"{error.filename} can not be written: {error.strerror}", "run it as root") from error
    systemd = Systemd()
    systemd.reload()
    if start:
        systemd.enable([UNIT.name])
        systemd.stop([UNIT.name], within=90)
        systemd.start([UNIT.name])
        yield "started gitops-mvd.service, now and at every boot; `journalctl -fu gitops-mvd` shows what it does"


def _unit(config: Path) -> str:
    """Our unit, with this very installation and these settings in it."""
    text = (resources.files("gitops_mvd") / "gitops-mvd.service").read_text()
    mvd = shutil.which("mvd", path=str(Path(sys.executable).parent)) or f"{sys.executable} -m gitops_mvd"
    text = text.replace("ExecStart=/usr/local/bin/mvd run", f"ExecStart={mvd} --config {config} run")
    written = "ReadWritePaths=/etc/systemd/system"
    return text.replace(written, " ".join([written, *_opened(config)]))


def _opened(config: Path) -> Iterator[str]:
    """The folders that the settings have the daemon write to beside its own; one that is not there is no fault yet."""
    with suppress(ManifestError):  # the daemon will tell
        gateway = settings.read(str(config), config.read_bytes()).kong
        if gateway and gateway.boot_file:
            folder = str(Path(gateway.boot_file).parent).replace("%", "%%").replace('"', '\\"')
            yield f'"-{folder}"'
