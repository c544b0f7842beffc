"""Somebody who does what a page says, letter by letter, on a server that knows nothing of it yet.

What a server of the lab cannot reach is stood in for outside of the commands: the forge by that of the lab, over https
and by the name that the page has; PyPI by a folder of wheels, Debian's mirrors by packages that are installed, and
Docker Hub by the registry.  Their own computer is an account on the server.
"""

from __future__ import annotations

import json
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tests.lab import wheels
from tests.lab.certificate import self_signed
from tests.lab.command import Result
from tests.lab.forge import Forge
from tests.lab.gitea import Gitea
from tests.lab.images import DAEMON
from tests.lab.java import free_port
from tests.lab.lab import Lab
from tests.lab.repository import git
from tests.lab.server import Server
from tests.lab.service import Service
from tests.pages import CHECKOUT, SERVER, Block

FORGE = "git.example.com"
USER = "anna"
SECONDS = 240.0  # for a block of commands
TO_BUILD = "setuptools>=77"  # as pyproject.toml has it
GITCONFIG = """\
[user]
name = Anna
email = anna@example.com
[credential]
helper = store
"""
# `mvd plan` ends with 2 if there is something to do, `mvd status` and `mvd fleet` with 1 if not all is well.  Where a
# block ends, the next one goes on.
BEFORE = """\
set -e
mvd() {
    command mvd "$@" || { code=$?; case "$1 $code" in "plan 2" | "status 1" | "fleet 1") ;; *) return $code ;; esac; }
}
cd "$(cat ~/.where 2>/dev/null || echo ~)"
trap 'pwd > ~/.where' EXIT
"""
MERGE = """\
if test -n "$(git status --porcelain 2>/dev/null)"; then
    git add --all; git commit --quiet --message "Do what the guide says"; git push --quiet origin HEAD:main
fi
"""


class Newcomer:
    """They have a server and an account on a forge, and `said` has what the last block of commands printed.

    What they have written into the config repository is merged before they turn to the server, if it is not yet.
    """

    def __init__(self, server: Server, forge: Forge | Gitea) -> None:
        self.server = server
        self.forge = forge
        self.said = ""
        self._token = f"{forge.token}\n"

    def follow(self, block: Block) -> None:
        """Do what one block says.  Raises CommandFailed if one of its commands does."""
        if block.is_commands:
            if block.place == SERVER:
                self._type(MERGE, is_root=False)
            typed = self._type(block.text, is_root=block.place == SERVER)
            self.said = typed.out + typed.err
        elif block.place.startswith("/"):
            self.server.put(block.place, block.text)
        else:
            folder = PurePosixPath(block.place).parent
            self._type(f"mkdir -p {folder}; cat > {block.place}", is_root=False, input=block.text)

    def _type(self, commands: str, *, is_root: bool, input: str = "") -> Result:
        shell = ("bash", "-c") if is_root else ("runuser", "--login", USER, "--command")
        return self.server.exec(*shell, BEFORE + commands, input=input or self._token, timeout=SECONDS)


@contextmanager
def newcomers_server(lab: Lab, name: str, hub: Mapping[str, Service]) -> Iterator[Newcomer]:
    """A server, and a forge with the source of this checkout.  `hub` is what Docker Hub has."""
    lab.forge.create("acme/nothing")  # a firewall would keep the server from any forge
    certificate, key = self_signed(FORGE)
    with tempfile.TemporaryDirectory() as folder, _forge(Path(folder), lab.address, certificate, key) as forge:
        publish_source(forge)
        server = lab.server(name)
        _reach(server, lab.address, forge.port, certificate)
        _reach_hub(server, lab, hub)
        _prepare_pip(server)
        _account(server, str(forge.token))
        try:
            yield Newcomer(server, forge)
        finally:
            server.destroy()


def _forge(folder: Path, address: str, certificate: str, key: str) -> Forge | Gitea:
    """The lab's, or the Gitea whose program MVD_GITEA names."""
    if program := os.environ.get("MVD_GITEA"):
        return Gitea(Path(program), folder, address, free_port(address), FORGE, (certificate, key))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (folder / "pem").write_text(key + certificate)
    tls.load_cert_chain(folder / "pem")
    return Forge(folder, address, tls=tls)


def publish_source(forge: Forge | Gitea) -> None:
    """Push what a wheel is made of, as it is in this checkout."""
    repository = forge.create("acme/gitops-mvd")
    at = ("--git-dir", str(repository.path), "--work-tree", str(CHECKOUT))
    git(*at, "add", "--all", "--", *wheels.PARTS, at=CHECKOUT)
    tree = git(*at, "write-tree", at=CHECKOUT)
    commit = git(*at, "commit-tree", tree, "-m", "Release", at=CHECKOUT)
    git(*at, "update-ref", "refs/heads/main", commit, at=CHECKOUT)


def _reach(server: Server, address: str, port: int, certificate: str) -> None:
    """The forge at the port of https and by its name, with a certificate that the server trusts."""
    server.exec("tee", "--append", "/etc/hosts", input=f"{address} {FORGE}\n")
    to = ("--destination", address, "--protocol", "tcp", "--dport", "443")
    server.exec("iptables", "-t", "nat", "-A", "OUTPUT", *to, "-j", "DNAT", "--to-destination", f"{address}:{port}")
    server.put("/usr/local/share/ca-certificates/forge.crt", certificate)
    server.exec("update-ca-certificates")


def _reach_hub(server: Server, lab: Lab, hub: Mapping[str, Service]) -> None:
    for image, service in hub.items():
        repository, _, tag = image.partition(":")
        lab.registry.push(repository if "/" in repository else f"library/{repository}", tag, service)
    mirrors = {"registry-mirrors": [f"http://{lab.registry.address}"]}
    server.put("/etc/docker/daemon.json", json.dumps({**DAEMON, **mirrors}))
    server.exec("systemctl", "restart", "docker")


def _prepare_pip(server: Server) -> None:
    """An index that is a folder, and no list of packages that apt would ask for."""
    server.exec("sh", "-c", "rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*")
    for wheel in wheels.cached("to-build", [TO_BUILD], _fetch_what_builds).iterdir():
        server.put(f"/opt/wheels/{wheel.name}", wheel.read_bytes())
    server.put("/etc/pip.conf", "[global]\nno-index = true\nfind-links = /opt/wheels\n")


def _fetch_what_builds(folder: Path) -> None:
    wheels.pip("download", "--no-deps", "--only-binary=:all:", f"--dest={folder}", TO_BUILD)


def _account(server: Server, token: str) -> None:
    """Their computer, where Git knows them and the forge."""
    server.exec("useradd", "--create-home", "--shell", "/bin/bash", USER)
    home = f"/home/{USER}"
    server.put(f"{home}/.gitconfig", GITCONFIG)
    server.put(f"{home}/.git-credentials", f"https://x-access-token:{token}@{FORGE}\n", 0o600)
    server.exec("cp", f"{home}/.gitconfig", f"{home}/.git-credentials", "/root")
    server.exec("chown", "--recursive", f"{USER}:", home)
