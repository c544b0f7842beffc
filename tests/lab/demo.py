"""`make demo`: deploys and a rollback on a real server, each step verified before the next one begins."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from tests.lab import service
from tests.lab.claim import CHECKOUT
from tests.lab.lab import Lab
from tests.lab.stage import NotTrue, Stage

HOST = "rw-web-1"
COMPANY = "myrepo.io/babylon"
# The part of the example repository whose images the lab can make: name -> port and version.
APPS = {"chatbot": (7799, "1.4.2"), "symptom-checker": (8080, "2.9.0"), "ussd": (8080, "0.3.0")}
MOBILE_APP = {"apikey": "EXAMPLE-KEY-mobile-app"}


@dataclass
class Story:
    """The commits so far, what they were for, and how long each took to its final status."""

    console: Console
    stage: Stage
    began: dict[str, float] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)

    def merge(self, files: Mapping[str, str | None], subject: str) -> str:
        return self._merged(self.stage.merge(files, subject), subject)

    def revert(self, commit: str) -> str:
        return self._merged(self.stage.revert(commit), f"Revert “{self.subjects[commit]}”")

    def _merged(self, commit: str, subject: str) -> str:
        self.subjects[commit], self.began[commit] = subject, time.monotonic()
        return commit

    def ends(self, commit: str, state: str) -> str:
        said = self.stage.ends(commit, state)
        self.took[commit] = time.monotonic() - self.began[commit]
        return said

    def answers(self, path: str, expected: str) -> None:
        """Ask through the gateway, with the mobile app's key."""
        self.stage.answers(path, expected, MOBILE_APP)


@contextmanager
def step(console: Console, title: str) -> Iterator[None]:
    started = time.monotonic()
    with console.status(f"[bold]{title}[/] ..."):
        yield
    console.print(f"[green]✓[/] {title}  [dim]{time.monotonic() - started:.1f} s[/]")


def demo(keep: bool) -> None:
    """Run the demo, and leave nothing running unless the lab is to be kept.

    Raises NotTrue, LabUnavailable or CommandFailed.
    """
    console = Console()
    began = time.monotonic()
    with Lab.open(say=lambda text: console.print(f"  [dim]{text}[/]")) as lab:
        story = _set_up(console, lab)
        _deploy_and_roll_back(story)
        _print_table(story)
        console.print(f"\nEvery step was verified. The demo took {time.monotonic() - began:.0f} s.")
        if keep:
            lab.keep()
            _say_how_to_look(console, lab, story.stage)


def _set_up(console: Console, lab: Lab) -> Story:
    console.rule("Set up: a server, a Git server and a registry, in a lab of their own")
    server = lab.server(HOST, release=lab.limiting)  # an app of the example has a limit
    with step(console, "push the images of three apps to the registry"):
        for name, (port, version) in APPS.items():
            lab.registry.push(name, version, service.web(name, version, port))
        lab.registry.push("chatbot", "1.4.3", service.web("chatbot", "1.4.3", APPS["chatbot"][0]))
        lab.registry.push("chatbot", "1.4.4", service.crashing("chatbot", "1.4.4"))
    with step(console, "create the config repository from a part of example-repo/"):
        repository = lab.forge.create("acme/config")
        repository.commit({"fleet.yaml": _fleet()}, "Begin")
    with step(console, "install gitops-mvd on the server: mvd install"):
        stage = Stage.set_up(lab, server, repository)
    console.print(f"  Kong: {stage.gateway}")
    return Story(console, stage)


def _deploy_and_roll_back(story: Story) -> None:
    console = story.console
    console.rule("Merge to deploy, revert to roll back")
    files = {path: _example(path) for path in _paths()}
    with step(console, "merge three apps and a consumer of Kong: the commit turns green"):
        first = story.merge(files, "Deploy the chatbot, the symptom checker and ussd")
        story.ends(first, "success")
        story.answers("/chatbot/", "chatbot 1.4.2")
        story.answers("/symptom-checker/", "symptom-checker 2.9.0")
    before = story.stage.containers()
    with step(console, "merge a new version of one app: only that app is touched"):
        second = story.merge(_chatbot("1.4.3"), "Chatbot 1.4.3")
        story.ends(second, "success")
        story.answers("/chatbot/", "chatbot 1.4.3")
        others = {name: id for name, id in story.stage.containers().items() if "chatbot" not in name}
        if others != {name: id for name, id in before.items() if "chatbot" not in name}:
            raise NotTrue("a container of another app was replaced")
    with step(console, "merge an image that crashes: red, with the cause; the old version still answers"):
        bad = story.merge(_chatbot("1.4.4"), "Chatbot 1.4.4")
        said = story.ends(bad, "failure")
        if "exited with code 1" not in said:
            raise NotTrue(f"the status does not name the cause: {said}")
        story.answers("/chatbot/", "chatbot 1.4.3")
    console.print(f"  [red]✗[/] {said}")
    with step(console, "git revert: the new commit turns green"):
        mended = story.revert(bad)
        story.ends(mended, "success")
        story.answers("/chatbot/", "chatbot 1.4.3")


def _print_table(story: Story) -> None:
    title = f"Commits and their statuses ({story.stage.context})"
    table = Table("commit", "subject", "statuses", "last status says", "took", title=title)
    for commit, subject in story.subjects.items():
        told = story.stage.told(commit)
        states = " → ".join(dict.fromkeys(state for state, _ in told))
        table.add_row(commit[:7], subject, states, told[-1][1], f"{story.took[commit]:.1f} s")
    story.console.print()
    story.console.print(table)


def _say_how_to_look(console: Console, lab: Lab, stage: Stage) -> None:
    host = lab.engine.host
    enter = f"{f'DOCKER_HOST={host} ' if host else ''}docker exec -it {stage.server.container} bash"
    clone = stage.repository.clone_url.replace("://", f"://you:{lab.forge.token}@")
    console.print("\nThe lab stays up.", highlight=False)
    for what, how in (
        ("merge something of your own", f"git clone {clone}"),
        ("open a shell on the server", enter),
        ("commands there", "mvd status; mvd history; mvd logs chatbot; docker ps; systemctl list-units 'mvd-*'"),
        ("remove the lab", "make down"),
    ):
        console.print(f"  {what + ':':<28} {how}", highlight=False, soft_wrap=True)


def _chatbot(version: str) -> dict[str, str | None]:
    path = "apps/chatbot/compose.yaml"
    return {path: _example(path).replace(f"chatbot:{APPS['chatbot'][1]}", f"chatbot:{version}")}


def _paths() -> list[str]:
    root = CHECKOUT / "example-repo"
    folders = [root / "kong", *(root / "apps" / app for app in APPS)]
    return [str(file.relative_to(root)) for folder in folders for file in sorted(folder.rglob("*")) if file.is_file()]


def _fleet() -> str:
    """The fleet of the example without its waves: the one server that there is would wait for those before it."""
    fleet = yaml.safe_load(_example("fleet.yaml"))
    return yaml.safe_dump({name: fleet[name] for name in ("defaults", "lists", "hosts")}, sort_keys=False)


def _example(path: str) -> str:
    """A file of the example repository, with the lab's registry in it, and a shorter time to prove itself."""
    text = (Path(CHECKOUT) / "example-repo" / path).read_text()
    return text.replace(COMPANY, "registry.lab:5000").replace("monitor: 10s", "monitor: 2s")
