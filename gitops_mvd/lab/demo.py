"""`make demo`: the whole story on a real server, and every step of it is looked at before the next one is told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

from gitops_mvd.lab import service
from gitops_mvd.lab.claim import CHECKOUT
from gitops_mvd.lab.lab import Lab
from gitops_mvd.lab.repository import Repository
from gitops_mvd.lab.server import Server

HOST = "rw-web-1"
CONTEXT = f"mvd/{HOST}"
COMPANY = "myrepo.io/babylon"
# The part of the example repository whose images the lab can make: name -> port and version.
APPS = {"chatbot": (7799, "1.4.2"), "symptom-checker": (8080, "2.9.0"), "ussd": (8080, "0.3.0")}
KEY = "EXAMPLE-KEY-mobile-app"
PATIENCE = 90.0  # seconds for a commit to come to its end

SETTINGS = """\
repository: {repository}
host: {host}
interval: 2s
credentials: {{token_file: /etc/gitops-mvd/token, insecure: true}}
kong: {{admin: "http://127.0.0.1:8001", proxy: "http://127.0.0.1:8000"}}
forge: {{kind: github, base_url: "{forge}/api/v3"}}
"""


Seen = TypeVar("Seen")


class NotTrue(Exception):
    """A step of the story was not seen to be true."""


@dataclass
class Story:
    """What is told, and what was seen."""

    console: Console
    lab: Lab
    server: Server
    repository: Repository
    began: dict[str, float] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        started = time.monotonic()
        with self.console.status(f"[bold]{title}[/] ..."):
            yield
        self.console.print(f"[green]✓[/] {title}  [dim]{time.monotonic() - started:.1f} s[/]")

    def merge(self, files: Mapping[str, str | None], subject: str) -> str:
        return self._merged(self.repository.commit(files, subject), subject)

    def revert(self, commit: str) -> str:
        return self._merged(self.repository.revert(commit), f"Revert “{self.subjects[commit]}”")

    def _merged(self, commit: str, subject: str) -> str:
        self.subjects[commit], self.began[commit] = subject, time.monotonic()
        return commit

    def ends(self, commit: str, state: str) -> str:
        """Wait for the commit's status to come to its one end, see that it is `state`, and return what it says."""

        def end() -> str | None:
            told = [status for status in self.repository.statuses(commit) if status.context == CONTEXT]
            if not told or told[-1].state == "pending":
                return None
            if told[0].state != "pending":
                raise NotTrue(f"the first status of {commit[:7]} was {told[0].state}, not pending")
            if told[-1].state != state:
                raise NotTrue(f"{commit[:7]} became {told[-1].state}, not {state}: {told[-1].description}")
            return told[-1].description

        said = until(end, f"a status of {commit[:7]}", PATIENCE)
        self.took[commit] = time.monotonic() - self.began[commit]
        return said

    def answers(self, path: str, expected: str) -> None:
        """Ask through the gateway, with the mobile app's key."""

        def asked() -> str | None:
            url = f"http://127.0.0.1:8000{path}"
            said = self.server.exec("curl", "-sS", "-m", "5", "-H", f"apikey: {KEY}", url, check=False).out
            return said if expected in said else None

        until(asked, f"an answer with {expected!r} from {path}", 10)

    def containers(self) -> dict[str, str]:
        """The running containers of the server: name -> id."""
        rows = self.server.exec("docker", "ps", "--no-trunc", "--format", "{{.Names}} {{.ID}}").out.splitlines()
        return dict(row.split(" ", 1) for row in rows if row.startswith("mvd-"))


def until(look: Callable[[], Seen | None], what: str, within: float) -> Seen:
    """What `look` sees, as soon as that is something."""
    deadline = time.monotonic() + within
    while (seen := look()) is None:
        if time.monotonic() > deadline:
            raise NotTrue(f"{what} did not come within {within:g} s")
        time.sleep(0.1)
    return seen


def demo(keep: bool) -> None:
    """Tell it, and leave nothing running unless it shall `keep` the lab.

    Raises NotTrue, LabUnavailable or CommandFailed.
    """
    console = Console()
    began = time.monotonic()
    with Lab.open(say=lambda text: console.print(f"  [dim]{text}[/]")) as lab:
        story = _set_the_stage(console, lab)
        _tell(story)
        _print_table(story)
        console.print(f"\nAll of it was seen to be true, in {time.monotonic() - began:.0f} s.")
        if keep:
            lab.keep()
            _say_how_to_look(story)


def _set_the_stage(console: Console, lab: Lab) -> Story:
    console.rule("A server, a Git server and a registry, all in a lab of their own")
    server = lab.server(HOST)
    story = Story(console, lab, server, lab.forge.create("acme/config"))
    with story.step("the images of the company lie in a registry"):
        for name, (port, version) in APPS.items():
            lab.registry.push(name, version, service.web(name, version, port))
        lab.registry.push("chatbot", "1.4.3", service.web("chatbot", "1.4.3", APPS["chatbot"][0]))
        lab.registry.push("chatbot", "1.4.4", service.crashing("chatbot", "1.4.4"))
    with story.step("the config repository begins with part of example-repo/"):
        story.repository.commit({"fleet.yaml": _example("fleet.yaml")}, "Begin")
    with story.step("gitops-mvd is installed on the server: mvd install"):
        server.install(lab.wheel)
        gateway = server.start_gateway()
        settings = SETTINGS.format(repository=story.repository.clone_url, host=HOST, forge=lab.forge.url)
        server.put("/etc/gitops-mvd/config.yaml", settings)
        server.put("/etc/gitops-mvd/token", f"{lab.forge.token}\n", 0o600)
        server.exec("mvd", "install")
    console.print(f"  the gateway is: {gateway}")
    return story


def _tell(story: Story) -> None:
    story.console.rule("Merge to deploy, revert to roll back")
    files = {path: _example(path) for path in _paths()}
    with story.step("merged: three apps. Containers, routes, a green status"):
        first = story.merge(files, "Deploy the chatbot, the symptom checker and ussd")
        story.ends(first, "success")
        story.answers("/chatbot/", "chatbot 1.4.2")
        story.answers("/symptom-checker/", "symptom-checker 2.9.0")
    before = story.containers()
    with story.step("merged: one of them changes, and only that one is touched"):
        second = story.merge(_chatbot("1.4.3"), "Chatbot 1.4.3")
        story.ends(second, "success")
        story.answers("/chatbot/", "chatbot 1.4.3")
        others = {name: id for name, id in story.containers().items() if "chatbot" not in name}
        if others != {name: id for name, id in before.items() if "chatbot" not in name}:
            raise NotTrue("a container of another app was replaced")
    with story.step("merged: an image that crashes. A red status with the cause, and the old version still answers"):
        bad = story.merge(_chatbot("1.4.4"), "Chatbot 1.4.4")
        said = story.ends(bad, "failure")
        if "exited with code 1" not in said:
            raise NotTrue(f"the status does not name the cause: {said}")
        story.answers("/chatbot/", "chatbot 1.4.3")
    story.console.print(f"  [red]✗[/] {said}")
    with story.step("git revert: green again"):
        mended = story.revert(bad)
        story.ends(mended, "success")
        story.answers("/chatbot/", "chatbot 1.4.3")


def _print_table(story: Story) -> None:
    table = Table("commit", "what", "statuses", "said", "took", title=f"Commits and their statuses ({CONTEXT})")
    for commit, subject in story.subjects.items():
        told = [status for status in story.repository.statuses(commit) if status.context == CONTEXT]
        states = " → ".join(dict.fromkeys(status.state for status in told))
        table.add_row(commit[:7], subject, states, told[-1].description, f"{story.took[commit]:.1f} s")
    story.console.print()
    story.console.print(table)


def _say_how_to_look(story: Story) -> None:
    host = story.lab.engine.host
    enter = f"{f'DOCKER_HOST={host} ' if host else ''}docker exec -it {story.server.container} bash"
    story.console.print(f"\nThe lab stays up. The Git server went with this command; the server goes on.\n  {enter}")
    story.console.print("  there: mvd status, mvd history, mvd logs chatbot, docker ps, systemctl list-units 'mvd-*'")
    story.console.print("  and in the end: make down")


def _chatbot(version: str) -> dict[str, str | None]:
    path = "apps/chatbot/compose.yaml"
    return {path: _example(path).replace(f"chatbot:{APPS['chatbot'][1]}", f"chatbot:{version}")}


def _paths() -> list[str]:
    root = CHECKOUT / "example-repo"
    folders = [root / "kong", *(root / "apps" / app for app in APPS)]
    return [str(file.relative_to(root)) for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]


def _example(path: str) -> str:
    """A file of the example repository, with the lab's registry in it, and a shorter time to prove itself."""
    text = (Path(CHECKOUT) / "example-repo" / path).read_text()
    return text.replace(COMPANY, "registry.lab:5000").replace("monitor: 10s", "monitor: 2s")
