"""The stage of every story: a server with the daemon installed, and a config repository that it follows.

stage = Stage.set_up(lab, lab.server("h1"), lab.forge.create("acme/config"))
commit = stage.merge({"apps/web/compose.yaml": text}, "Deploy web")
stage.ends(commit, "success")
stage.answers("/web", "web 1.0")
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self, TypeVar

import requests

from tests.lab.dialects import discover
from tests.lab.lab import Lab
from tests.lab.repository import Repository
from tests.lab.server import Server

PATIENCE_SECONDS = 180.0  # for a commit to get its final status
SETTINGS = "/etc/gitops-mvd/config.yaml"
SETTINGS_TEXT = """\
repository: {repository}
host: {host}
interval: 2s
credentials: {{token_file: /etc/gitops-mvd/token, insecure: true}}
kong: {{{kong}}}
forge: {{kind: github, base_url: "{forge}/api/v3", every_commit: true}}
"""

OWN = 'admin: "http://127.0.0.1:8001", proxy: "http://127.0.0.1:8000"'
SHARED = 'shared: lab, admin: "http://{edge}:8001", proxy: "http://{edge}:8000", address: {address}'

Seen = TypeVar("Seen")


class NotTrue(Exception):
    """A step could not be verified."""


@dataclass(frozen=True)
class Stage:
    """One server and its repository; it is observed from outside: by the forge, Kong, Docker.

    `dialect` is the kind of forge that its settings name.
    """

    server: Server
    repository: Repository
    gateway: str
    dialect: str = "github"

    @classmethod
    def set_up(
        cls, lab: Lab, server: Server, repository: Repository, *, mode: str = "off", edge: Server | None = None
    ) -> Self:
        """Start the gateway of a booted server (`mode` is Kong's word for its database), and install the daemon.

        With an `edge`, it shares the gateway of that server, which has to be open.
        """
        server.install(lab.wheel)
        gateway = "that of another server" if edge else server.start_gateway(mode)
        kong = SHARED.format(edge=edge.ip, address=server.ip) if edge else OWN
        where = {"repository": repository.clone_url, "host": server.name, "forge": lab.forge.url, "kong": kong}
        server.put(SETTINGS, SETTINGS_TEXT.format(**where))
        server.put("/etc/gitops-mvd/token", f"{lab.forge.token}\n", 0o600)
        server.exec("mvd", "install")
        return cls(server, repository, gateway)

    @property
    def context(self) -> str:
        """The name under which the server reports on a commit."""
        return f"mvd/{self.server.name}"

    def merge(self, files: Mapping[str, str | None], subject: str) -> str:
        """Commit to the branch that the server follows; None for a text deletes the file.  Returns the commit."""
        return self.repository.commit(files, subject)

    def revert(self, commit: str) -> str:
        return self.repository.revert(commit)

    def told(self, commit: str) -> list[tuple[str, str]]:
        """Every status of the commit that the server posted, oldest first: state and description.

        Whatever the dialect, the state is pending, success, failure, or error if it was superseded.
        """
        means = discover()[self.dialect].MEANS
        posted = self.repository.statuses(commit)
        return [(means[status.state], status.description) for status in posted if status.context == self.context]

    def ends(self, commit: str, state: str) -> str:
        """Wait for the commit's final status, see that it is `state`, and return its description.

        A commit that is over at once may never have been pending.
        """

        def end() -> str | None:
            told = self.told(commit)
            if not told or told[-1][0] == "pending":
                return None
            if told[-1][0] != state:
                raise NotTrue(f"{commit[:7]} became {told[-1][0]}, not {state}: {told[-1][1]}")
            return told[-1][1]

        return until(end, f"a status of {commit[:7]}", PATIENCE_SECONDS)

    def ask(self, path: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """One request through the gateway.  Raises requests' errors."""
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between us and the lab
            return session.get(f"http://{self.server.ip}:8000{path}", headers=headers, timeout=5)

    def answers(self, path: str, expected: str, headers: Mapping[str, str] | None = None) -> None:
        """See that the gateway leads to what answers so."""

        def asked() -> str | None:
            try:
                said = self.ask(path, headers).text
            except requests.RequestException:
                return None
            return said if expected in said else None

        until(asked, f"an answer with {expected!r} from {path}", 10)

    def containers(self, app: str = "") -> dict[str, str]:
        """The running containers of the server, or of one app: name -> id."""
        rows = self.server.exec("docker", "ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}").out.splitlines()
        return dict(row.split(" ", 1) for row in rows if row.startswith(f"mvd-{app}"))


def until(look: Callable[[], Seen | None], what: str, within: float) -> Seen:
    """What `look` sees, as soon as that is something."""
    deadline = time.monotonic() + within
    while (seen := look()) is None:
        if time.monotonic() > deadline:
            raise NotTrue(f"{what} did not come within {within:g} s")
        time.sleep(0.1)
    return seen
