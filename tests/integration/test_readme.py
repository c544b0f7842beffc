"""The README is followed letter by letter on a server that has nothing of it, up to the green commit and back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.integration.newcomer import Newcomer, newcomers_server
from tests.lab.lab import Lab
from tests.lab.server import VENV
from tests.lab.service import web
from tests.lab.stage import until
from tests.pages import README, blocks

WELCOME = "Welcome to nginx!"
HUB = {"nginx:1.28-alpine": web("nginx", "1.28", port=80, pages={"/": f"{WELCOME}\n"})}
GREEN_SECONDS = 30.0  # until the forge has the status of what was synced

pytestmark = pytest.mark.lab


@pytest.fixture
def newcomer(lab: Lab) -> Iterator[Newcomer]:
    with newcomers_server(lab, "web-1", HUB) as newcomer:
        newcomer.forge.create("acme/config")
        newcomer.server.exec("rm", "-r", VENV)
        yield newcomer


def test_the_readme_leads_to_a_green_commit_and_back(newcomer: Newcomer, capsys: pytest.CaptureFixture[str]) -> None:
    page = iter(blocks(README))

    def follow_to(command: str) -> str:
        """Go on in the page, up to the block with that command; what it printed."""
        for block in page:
            newcomer.follow(block)
            if block.is_commands and command in block.text:
                return newcomer.said
        raise AssertionError(f"the README has no block with: {command}")

    began = time.monotonic()
    assert WELCOME in follow_to("curl http://127.0.0.1:8080")
    turns_green(newcomer)
    with capsys.disabled():
        print(f"\nREADME: the first commit is green after {time.monotonic() - began:.0f} s")

    follow_to("git revert")
    newcomer.server.exec("mvd", "sync")
    turns_green(newcomer)
    before = container(newcomer)
    assert WELCOME in newcomer.server.exec("curl", "-sS", "http://127.0.0.1:8080").out

    follow_to("git -C gitops-mvd pull")
    newcomer.server.exec("mvd", "sync")
    assert container(newcomer) == before

    follow_to("mvd uninstall --keep-apps")
    assert container(newcomer) == before
    assert WELCOME in newcomer.server.exec("curl", "-sS", "http://127.0.0.1:8080").out


def turns_green(newcomer: Newcomer) -> None:
    """Wait until the newest commit has its final status at the forge, and see that it is success."""
    repository = newcomer.forge.repositories["acme/config"]

    def last() -> tuple[str, str] | None:
        posted = repository.statuses(repository.resolve("main"))
        return (posted[-1].context, posted[-1].state) if posted and posted[-1].state != "pending" else None

    assert until(last, "the final status", GREEN_SECONDS) == ("mvd/web-1", "success")


def container(newcomer: Newcomer) -> str:
    """The one container of the app, and since when it runs."""
    words = ("--format", "{{.Id}} {{.State.StartedAt}}")
    [name] = newcomer.server.exec("docker", "ps", "--format", "{{.Names}}").out.split()
    return newcomer.server.exec("docker", "inspect", *words, name).out
