"""The verbs that the integration tests are told in: a stage, and what an operator does and sees on its server."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import yaml

from tests.lab.command import Result
from tests.lab.lab import Lab
from tests.lab.outage import asked
from tests.lab.repository import git
from tests.lab.service import TALKER_VOLUMES
from tests.lab.stage import SETTINGS, Stage, until

DAEMON = "gitops-mvd.service"
CHECKED = {"healthchecks": {"passive": {"unhealthy": {"tcp_failures": 1, "timeouts": 1}}}}  # of an upstream of Kong
HEALTH = {"http": "/health", "port": 7799, "within": "60s"}  # what is healthy is given time, on a busy machine, too


@dataclass(frozen=True)
class Story(Stage):
    """A stage, with the tools that are at hand on every server."""

    # ---- Git ---------------------------------------------------------------------------------------------------------

    def deploy(self, app: str, compose: Mapping[str, Any], **files: str) -> str:
        """Merge an app, see the commit turn green, and return it.  `files` lie beside its Compose file."""
        commit = self.merge(manifest(app, compose, **files), f"Deploy {app}")
        self.ends(commit, "success")
        return commit

    def remove(self, app: str) -> None:
        """Delete an app from Git, and see the commit turn green."""
        listed = git("ls-tree", "-r", "--name-only", "main", f"apps/{app}/", at=self.repository.path).splitlines()
        self.ends(self.merge(dict.fromkeys(listed), f"Remove {app}"), "success")

    def put_back(self, commit: str) -> None:
        """Merge what main had at that commit, and have the server follow it, whatever a test has left behind."""
        tree, at = f"{commit}^{{tree}}", self.repository.path
        self.run("systemctl", "start", "docker", DAEMON)
        has_apps = git("ls-tree", "--name-only", commit, "apps/", at=at)
        with nullcontext() if has_apps else settings(self, "allow_empty: true"):
            merged = git("commit-tree", tree, "-p", "main", "-m", f"Put back what {commit[:7]} had", at=at)
            git("update-ref", "refs/heads/main", merged, at=at)
            self.ends(merged, "success")

    # ---- the server --------------------------------------------------------------------------------------------------

    def run(self, *argv: str, input: str = "") -> str:
        """What a program on the server prints; it must end well."""
        return self.server.exec(*argv, input=input).out

    def mvd(self, *words: str) -> Result:
        """The command, however it ends."""
        return self.server.exec("mvd", *words, check=False, timeout=120)

    def look_again(self) -> None:
        """Have the daemon look, and wait until all is well."""
        until(lambda: self.mvd("sync").code == 0 or None, "that all is well", 30)

    @contextmanager
    def without_daemon(self) -> Iterator[None]:
        self.run("systemctl", "stop", DAEMON)
        try:
            yield
        finally:
            self.run("systemctl", "start", DAEMON)

    def log(self) -> str:
        """What the daemon has said so far."""
        return self.run("journalctl", "--unit", DAEMON, "--output=cat", "--no-pager")

    def units(self, app: str) -> list[str]:
        """The unit files of an app."""
        return self.run("find", "/etc/systemd/system", "-maxdepth", "1", "-name", f"mvd-{app}-*.service").split()

    def unit(self, app: str) -> str:
        """The one unit of an app."""
        [path] = self.units(app)
        return path.rpartition("/")[2]

    def images(self, app: str) -> list[str]:
        """The names that hold the images of an app, also those that were here before it."""
        return self.run(
            "docker", "images", "--format", "{{.Repository}}:{{.Tag}}", f"gitops-mvd.local/*:{app}.*"
        ).split()

    # ---- the gateway -------------------------------------------------------------------------------------------------

    def kong(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """One request to the Admin API, which is open to the server alone."""
        curl = ("curl", "-sS", "--fail-with-body", "-m", "10", "-X", method, "-H", "Content-Type: application/json")
        data = ("--data-binary", "@-") if body is not None else ()
        said = self.run(*curl, *data, f"http://127.0.0.1:8001{path}", input=json.dumps(body))
        return json.loads(said) if said else None

    def routes(self, app: str) -> dict[str, Any]:
        """The routes of an app that Kong has, by name."""
        listed = self.kong("/routes?size=1000")["data"]
        return {route["name"]: route for route in listed if f"app:{app}" in (route["tags"] or ())}

    @contextmanager
    def never_failing(self, path: str, *expected: str) -> Iterator[None]:
        """Ask through the gateway all the while, and see that every answer is one of those expected."""
        with asked(f"http://{self.server.ip}:8000{path}", within=5) as seen:
            yield
            until(lambda: len(seen) > 10 or None, "that enough was asked", 30)
        wrong = [it.said for it in seen if it.said.strip() not in expected]
        assert not wrong, f"{len(wrong)} of {len(seen)} answers were wrong, such as {wrong[0]!r}"


def manifest(app: str, compose: Mapping[str, Any], **files: str) -> dict[str, str | None]:
    """The files of an app in the config repository."""
    return {
        f"apps/{app}/compose.yaml": yaml.safe_dump(dict(compose), sort_keys=False),
        **{f"apps/{app}/{name}": text for name, text in files.items()},
    }


def routed(image: str, path: str, **more: Any) -> dict[str, Any]:
    """A service that is asked for its health and reached through the gateway."""
    return {
        "image": image,
        "x-mvd": {"health": HEALTH},
        "x-kong": {"port": 7799, "routes": [{"paths": [path]}]},
        **more,
    }


def talking(image: str, path: str, version: str, **more: Any) -> dict[str, Any]:
    """A routed service of `service.talker`, which is another version by its environment; its image may be the same."""
    return {**routed(image, path), "environment": {"VERSION": version}, "volumes": list(TALKER_VOLUMES), **more}


def eventually(what: str, look: Any, within: float = 60) -> None:
    """See that something comes true."""
    until(lambda: look() or None, what, within)


# ---- the forge and the settings --------------------------------------------------------------------------------------


@contextmanager
def no_api(lab: Lab) -> Iterator[None]:
    lab.forge.api_down = True
    try:
        yield
    finally:
        lab.forge.api_down = False


@contextmanager
def settings(story: Story, more: str, reaction: str = "daemon started") -> Iterator[None]:
    """One line more of them, while the daemon runs."""
    before = story.run("cat", SETTINGS)
    write_settings(story, f"{before}{more}\n", reaction)
    try:
        yield
    finally:
        write_settings(story, before, "daemon started")


def write_settings(story: Story, text: str, reaction: str) -> None:
    times = story.log().count(reaction)
    story.server.put(SETTINGS, text)
    eventually(reaction, lambda: story.log().count(reaction) > times)
