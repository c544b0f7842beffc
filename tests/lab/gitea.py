"""A real Gitea in place of the lab's forge, by the path of its program: for the one test that follows the README.

It is nothing that the lab installs: whoever has one names it with `MVD_GITEA`.  A program that does not contain its
own pages looks for them in the folder where it lies.
"""

from __future__ import annotations

import subprocess
import time
import urllib.parse
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from tests.lab.command import run
from tests.lab.repository import Repository, Status

OWNER, PASSWORD = "acme", "acme-Acme-1"
SCOPES = "write:repository,write:user"  # of which the second makes repositories
STARTS_WITHIN_SECONDS = 60.0
# It refuses to run as root, as which it would serve the world; this one lives in a folder of a test.
SETTINGS = """\
RUN_MODE = prod
I_AM_BEING_UNSAFE_RUNNING_AS_ROOT = true
[server]
PROTOCOL = https
HTTP_ADDR = {host}
HTTP_PORT = {port}
ROOT_URL = https://{name}/
CERT_FILE = {folder}/certificate
KEY_FILE = {folder}/key
STATIC_ROOT_PATH = {static}
DISABLE_SSH = true
OFFLINE_MODE = true
[database]
DB_TYPE = sqlite3
PATH = {folder}/gitea.db
[security]
INSTALL_LOCK = true
[repository]
ROOT = {folder}/repositories
DEFAULT_BRANCH = main
[log]
LEVEL = Warn
"""


class Gitea:
    """A running Gitea at `host` and `port`, over https, with a certificate for `name`; `token` is that of its owner."""

    def __init__(self, program: Path, folder: Path, host: str, port: int, name: str, pem: tuple[str, str]) -> None:
        self.port = port
        self.repositories: dict[str, Repository] = {}
        self._folder = folder
        self._url = f"https://{host}:{port}"
        (folder / "certificate").write_text(pem[0])
        (folder / "key").write_text(pem[1])
        where = {"host": host, "port": port, "name": name, "folder": folder, "static": program.parent}
        (folder / "app.ini").write_text(SETTINGS.format(**where))
        self._command = (str(program), "--work-path", str(folder), "--config", str(folder / "app.ini"))
        self.token = ""

    def __enter__(self) -> Gitea:
        run(*self._command, "migrate", timeout=120)
        user = ("--username", OWNER)
        made = ("--password", PASSWORD, "--email", "acme@example.com", "--admin", "--must-change-password=false")
        run(*self._command, "admin", "user", "create", *user, *made)
        told = run(*self._command, "admin", "user", "generate-access-token", *user, "--scopes", SCOPES, "--raw")
        self.token = told.out.split()[-1]
        self._process = subprocess.Popen((*self._command, "web"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, "Gitea does not start"
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(30)

    def create(self, name: str) -> Repository:
        """An empty repository of the owner."""
        self.ask("POST", "/user/repos", {"name": name.rpartition("/")[2], "private": True})
        path = self._folder / "repositories" / f"{name}.git"
        self.repositories[name] = _Repository(name, path, f"{self._url}/{name}.git", self)
        return self.repositories[name]

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """One request to its API.  Raises requests' errors."""
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"token {self.token}"
            session.verify = str(self._folder / "certificate")
            host = urllib.parse.urlsplit(self._url).netloc
            session.mount(f"https://{host}", _ByName())
            answer = session.request(method, f"{self._url}/api/v1{path}", json=body, timeout=30)
            answer.raise_for_status()
            return answer.json()

    def _answers(self) -> bool:
        try:
            return bool(self.ask("GET", "/version"))
        except requests.RequestException:
            return False


class _ByName(requests.adapters.HTTPAdapter):
    """Asks an address, whose certificate is for a name."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, assert_hostname=False, **options)


class _Repository(Repository):
    """One whose statuses Gitea has."""

    def __init__(self, name: str, path: Path, clone_url: str, gitea: Gitea) -> None:
        super().__init__(name, path, clone_url)
        self._gitea = gitea

    def statuses(self, sha: str) -> list[Status]:
        listed = self._gitea.ask("GET", f"/repos/{self.name}/commits/{sha}/statuses?sort=oldest&limit=50")
        return [
            Status(
                it["context"],
                it["status"],
                it["description"],
                it["target_url"],
                datetime.fromisoformat(it["created_at"]),
            )
            for it in listed
        ]
