"""What `mvd fleet replace` prints: the way from an empty server to one of the fleet, as commands to read and to run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from gitops_mvd.cli.output import counted
from gitops_mvd.core.model import Revision
from gitops_mvd.core.text import plain_line
from gitops_mvd.manifest.needs import Needs, Users

TOKEN = "/etc/gitops-mvd/token"
SECRETS, FOLDERS = "/etc/gitops-mvd/secrets", "/srv/mvd"
AGE_KEY = "/etc/gitops-mvd/sops/age/keys.txt"
CONFIG = "/etc/gitops-mvd/config.yaml"
PACKAGES = ("docker.io", "git", "python3-venv")
WRITE = "install -D -m 600 /dev/stdin"


@dataclass(frozen=True, slots=True)
class Replacement:
    """A host that is to be built anew, as of a revision; `broken` are the apps that cannot be read."""

    host: str
    revision: Revision
    repository: str
    forge: str
    needs: Needs
    apps: tuple[str, ...]
    broken: tuple[str, ...] = ()

    @property
    def install(self) -> str:
        """The command that writes the settings and starts the daemon."""
        branch = "" if self.revision.ref == "main" else f" --branch {shlex.quote(self.revision.ref)}"
        forge = f" --forge {self.forge}" if self.forge else ""
        kong = " --kong" if self.needs.routed else ""
        words = f"--repository {shlex.quote(self.repository)}{branch} --host {shlex.quote(self.host)}"
        insecure = " --insecure" if self.repository.startswith("http://") else ""
        return f"mvd install {words} --token-file {TOKEN}{insecure}{forge}{kong}"

    def as_json(self) -> dict[str, Any]:
        needs = {name: list(value) if name == "routed" else dict(value) for name, value in asdict(self.needs).items()}
        facts = {
            "host": self.host,
            "commit": self.revision.commit,
            "apps": list(self.apps),
            "broken": list(self.broken),
        }
        return {**facts, "packages": list(PACKAGES), **needs, "install": self.install}

    def lines(self) -> Iterator[str]:
        """Steps in order: a `#` begins what is to be read, all else can be run as root."""
        needs = self.needs
        apps = f"{counted(len(self.apps), 'app')}: {', '.join(self.apps)}" if self.apps else "no app"
        yield plain_line(f"# {self.host} on a new server, as of {self.revision.short}, with {apps}")
        yield from (f"# {name} has mistakes (`mvd validate`): what it needs is not known" for name in self.broken)
        yield from ("", f"# 1. See that the old server is off for good: two under the name {self.host} would fight.")
        yield from ("", "# 2. Programs, and gitops-mvd as `mvd docs upgrading` has it.")
        yield f"apt-get update && apt-get install -y {' '.join(PACKAGES)}"
        yield from (
            ["# sops, and its key below: files of the repository are encrypted (`mvd docs secrets`)"]
            if needs.sealed
            else ()
        )
        yield from ("", "# 3. What only you have: a token for the repository and its statuses, and secrets.")
        yield f"{WRITE} {TOKEN}"
        yield from _each(needs.secrets, lambda name: f"{WRITE} {shlex.quote(f'{SECRETS}/{name}')}")
        yield from ([f"{WRITE} {AGE_KEY}    # {', '.join(needs.sealed)}"] if needs.sealed else ())
        yield from _each(needs.asked, lambda name: f"# {name}: its provider in {CONFIG} (`providers`)")
        yield from _each(needs.registries, lambda name: f"# images of {name}: its login in {CONFIG}, if it has one")
        yield from self._data()
        yield from ("", "# 5. The daemon. Whatever else the old server's settings had, such as `kong.shared` or")
        yield f"#    `policy`: write {CONFIG} from its backup first, and run `mvd install` alone."
        yield self.install
        yield from ("", "# 6. See it run.")
        yield from ("mvd sync", "mvd status")
        yield from (f"mvd adopt volume {shlex.quote(name)}" for name in needs.volumes)

    def _data(self) -> Iterator[str]:
        """Data is there before the apps are: a database that finds an empty folder begins anew."""
        needs = self.needs
        kept = [*needs.volumes, *needs.folders, *needs.paths]
        yield from ("", f"# 4. Data, from the newest backup, before the daemon is there{'.' if kept else ': none.'}")
        if kept:
            yield "systemctl enable --now docker"
        for name, users in needs.volumes.items():
            yield f"docker volume create {shlex.quote(name)}"
            place = f"docker volume inspect --format '{{{{.Mountpoint}}}}' {shlex.quote(name)}"
            yield f'tar -C "$({place})" -xf {shlex.quote(name)}.tar    # {", ".join(users)}'
        for name, users in needs.folders.items():
            folder = shlex.quote(f"{FOLDERS}/{name}")
            archive = shlex.quote(f"{name.replace('/', '_')}.tar")
            yield f"mkdir -p {folder} && tar -C {folder} -xf {archive}    # {', '.join(users)}"
        yield from _each(needs.paths, lambda name: f"# {name} of the old server, if it has data")
        yield from _each(needs.networks, lambda name: f"docker network create {shlex.quote(name)}")


def _each(users: Users, line: Callable[[str], str]) -> Iterator[str]:
    """A line for each, with who needs it."""
    for name, by in users.items():
        text = line(name)
        yield f"{text} ({', '.join(by)})" if text.startswith("#") else f"{text}    # {', '.join(by)}"
