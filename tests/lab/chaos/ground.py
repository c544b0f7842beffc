"""The ground that shakes: a lab server with wires to all that it asks, and what is seen of it from outside."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import requests

from tests.lab import kong, service
from tests.lab.chaos.commits import STEADY, App, Commit
from tests.lab.command import Result
from tests.lab.lab import Lab
from tests.lab.stage import SETTINGS, Stage
from tests.lab.wire import Wire

DAEMON = "gitops-mvd.service"
STATE, FILES, DOCKER = "/var/lib/gitops-mvd", "/etc/gitops-mvd/files", "/var/lib/docker"
DISKS = {STATE: "size=48m,nr_inodes=6000,mode=0700", FILES: "size=2m,mode=0755", DOCKER: "size=400m"}
SETTINGS_TEXT = """\
repository: {git}/{name}.git
host: {host}
interval: 2s
credentials: {{token_file: /etc/gitops-mvd/token, insecure: true}}
kong: {{admin: "{kong}", proxy: "http://127.0.0.1:8000"}}
forge: {{kind: github, repository: "{name}", base_url: "{forge}/api/v3", every_commit: true}}
"""
LABEL = "io.gitops-mvd."


class Ground:
    """A server with the daemon on it; `wires` lead to `git`, `forge` and `kong`."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self._open = ExitStack()
        repository = lab.forge.create(f"acme/{name}")
        repository.commit({"README.md": "Chaos\n"}, "Begin")
        server = lab.server(name, DISKS)
        self.wires = {
            "git": self._open.enter_context(Wire(lab.address, lambda: lab.forge.url)),
            "forge": self._open.enter_context(Wire(lab.address, lambda: lab.forge.url)),
            "kong": self._open.enter_context(Wire(lab.address, lambda: f"http://{self.ip}:8001")),
        }
        server.install(lab.wheel)
        self.ip = server.ip
        self.stage = Stage(server, repository, server.start_gateway("off", kong.OPEN))
        urls = {kind: wire.url for kind, wire in self.wires.items()}
        server.put(SETTINGS, SETTINGS_TEXT.format(host=name, name=repository.name, **urls))
        server.put("/etc/gitops-mvd/token", f"{lab.forge.token}\n", 0o600)
        server.exec("mvd", "install")
        self.traffic = self._open.enter_context(Traffic(self))

    def close(self) -> None:
        self._open.close()
        self.stage.server.destroy()

    # ---- Git ---------------------------------------------------------------------------------------------------------

    def push(self, commit: Commit, before: Mapping[str, App]) -> str:
        """Have it on main; returns its id."""
        if commit.revert:
            return self.stage.revert("main")
        files: dict[str, str | None] = {}
        for name in before.keys() - commit.apps.keys():
            files |= {f"apps/{name}/compose.yaml": None, f"apps/{name}/mark": None}
        for name, app in commit.apps.items():
            if app != before.get(name):
                files |= app.files(lambda *image, name=app.image: self._image(name, *image))
        return self.stage.merge(files or {"README.md": f"{time.time_ns()}\n"}, commit.subject)

    def _image(self, name: str, version: str, port: int, kind: str) -> str:
        make: Any = {"": service.web, "sick": service.sick, "crashing": service.crashing}[kind]
        made = make(name, version) if kind == "crashing" else make(name, version, port)
        return self.lab.registry.push(name, f"{version}-{port}{'-' + kind if kind else ''}", made)

    # ---- the server --------------------------------------------------------------------------------------------------

    def run(self, *argv: str, timeout: float = 60) -> str:
        """What a program on the server prints.  Raises CommandFailed."""
        return self.stage.server.exec(*argv, timeout=timeout).out

    def sh(self, script: str, timeout: float = 90) -> Result:
        """A shell script on the server, however it ends."""
        return self.stage.server.exec("sh", "-c", script, timeout=timeout, check=False)

    def is_here_again(self) -> None:
        """It was off: it may have another address."""
        self.ip = self.stage.server.ip

    def containers(self) -> list[dict[str, Any]]:
        """All that are managed, as Docker describes them."""
        script = f"docker ps --all --quiet --filter label={LABEL}app | xargs --no-run-if-empty docker inspect"
        found: list[dict[str, Any]] = json.loads(self.run("sh", "-c", script) or "[]")
        return found

    def names(self, app: App) -> list[str]:
        """The containers of an app that run."""
        return self.run("docker", "ps", "--filter", f"label={LABEL}app={app.name}", "--format", "{{.Names}}").split()


class Traffic:
    """Requests to the steady app through the gateway, twenty a second; `failures` has when and why."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self.asked = 0
        self.failures: list[tuple[float, str]] = []

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(0.05):
            began, why = time.monotonic(), ""
            with requests.Session() as session:
                session.trust_env = False
                try:
                    answer = session.get(f"http://{self._ground.ip}:8000/{STEADY}", timeout=5)
                    why = "" if answer.text.startswith(f"{STEADY} ") else f"{answer.status_code} {answer.text[:80]!r}"
                except requests.RequestException as error:
                    why = str(error)[:160]
            self.asked += 1
            if why:
                self.failures.append((began, why))

    def failed_between(self, began: float, ended: float) -> list[str]:
        return [why for at, why in list(self.failures) if began <= at <= ended]
