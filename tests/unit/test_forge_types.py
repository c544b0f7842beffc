"""A forge is one file: a toy in a folder of its own works from the settings to the webhook, or fails loudly."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gitops_mvd import forges
from gitops_mvd.config.settings import read
from gitops_mvd.core.errors import ManifestError
from gitops_mvd.core.features import IncompleteFeature
from gitops_mvd.core.model import CommitStatus, Health, Operation
from gitops_mvd.daemon.awaited import Awaited
from gitops_mvd.daemon.small_server import LogThrottle
from gitops_mvd.daemon.webhook import Webhooks
from gitops_mvd.forges.api import Account
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.status.outbox import Outbox

TOY = """
from gitops_mvd.core.model import Event, Health, Operation
from gitops_mvd.forges import ForgeType, StateNames


class Toy:
    def __init__(self, account):
        self.account, self.shown = account, []

    def publish(self, commit, status):
        self.shown.append((commit, FORGE.states.of(status)))

    def pull_requests(self, branch):
        return []

    def comment(self, pull_request, text, known):
        return ""


FORGE = ForgeType(
    names={"toybox": ["toys.example"]},
    connect=Toy,
    states=StateNames({each: "red" for each in Operation}, {each: "green" for each in Health}),
    authentic=lambda headers, body, secret: headers.get("x-toy") == secret,
    event=lambda headers, body: Event("push", body.decode()),
)
"""
PAGES = {
    ("github", "", "acme/config"): "https://github.com/acme/config/commit/1a2b",
    ("github", "https://git.acme.example/api/v3", "acme/config"): "https://git.acme.example/acme/config/commit/1a2b",
    ("github", "https://api.acme.ghe.com", "acme/config"): "https://acme.ghe.com/acme/config/commit/1a2b",
    ("gitlab", "", "acme/infra/config"): "https://gitlab.com/acme/infra/config/-/commit/1a2b",
    ("gitea", "https://git.acme.example", "acme/config"): "https://git.acme.example/acme/config/commit/1a2b",
    ("bitbucket-cloud", "", "acme/config"): "https://bitbucket.org/acme/config/commits/1a2b",
    ("bitbucket-dc", "https://git.acme.example", "ACME/config"): (
        "https://git.acme.example/projects/ACME/repos/config/commits/1a2b"
    ),
    ("azure-devops", "", "acme/web shop/config"): "https://dev.azure.com/acme/web%20shop/_git/config/commit/1a2b",
}
SETTINGS = "repository: https://toys.example/acme/config\nforge: {token_file: /token}\n"
STATUS = CommitStatus("mvd/h1", Operation.RUNNING, Health.UNKNOWN, "deploying")


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Adds a module to the folders that forges are found in."""
    folder = tmp_path / "forges"
    folder.mkdir()

    def add(name: str, text: str) -> None:
        (folder / f"{name}.py").write_text(text)
        forges.known.cache_clear()

    monkeypatch.setattr(forges, "__path__", [*forges.__path__, str(folder)])
    yield add
    monkeypatch.undo()
    forges.known.cache_clear()


def test_a_forge_in_a_file_of_its_own_is_told_from_the_address_and_shows_statuses(
    add: Callable[[str, str], None], tmp_path: Path
) -> None:
    add("toy_that_works", TOY)
    settings = read("config.yaml", SETTINGS.encode()).forge
    assert settings
    assert (settings.kind, settings.repository, settings.base_url) == ("toybox", "acme/config", "https://toys.example")
    client = forges.connect(settings.kind, Account(settings.repository, lambda: "t"))
    history = SqliteHistory(tmp_path / "history.db")
    history.post("1" * 40, STATUS)
    Outbox(history, client).deliver()
    history.close()
    assert client.shown == [("1" * 40, "red")]  # type: ignore[attr-defined]


def test_a_webhook_of_a_forge_in_a_file_of_its_own_is_understood(add: Callable[[str, str], None]) -> None:
    add("toy_with_webhooks", TOY)
    events: list[str] = []
    application = Webhooks(forges.known()["toybox"], "s3cret", "main", Awaited(), events.append, LogThrottle())
    request = {"PATH_INFO": "/webhook", "REQUEST_METHOD": "POST", "wsgi.input": io.BytesIO(b"refs/heads/main")}
    answers: list[str] = []
    for secret in ("wrong", "s3cret"):
        list(application({**request, "HTTP_X_TOY": secret}, lambda status, headers: answers.append(status)))  # type: ignore[arg-type,return-value]
    assert answers == ["401 Unauthorized", "202 Accepted"]
    assert events == ["push"]


def test_the_settings_name_every_forge_that_there_is(add: Callable[[str, str], None]) -> None:
    add("toy_in_the_list", TOY)
    with pytest.raises(ManifestError, match="github, gitlab, toybox, not 'guthib'"):
        read("config.yaml", b"repository: https://git.example/acme/config\nforge: {kind: guthib}\n")


HALVES = {
    "no client": ("    connect=Toy,\n", "", "lacks 'connect'"),
    "no way to check a webhook": ("    authentic=lambda", "    # lambda", "lacks 'authentic'"),
    "no way to read a webhook": ("    event=lambda", "    # lambda", "lacks 'event'"),
    "no states": ("    states=", "    # states=", "lacks 'states'"),
    "no state for failed": ("each in Operation}", "each in Operation if each != Operation.FAILED}", "state for Failed"),
    "no state for degraded": ("each in Health}", "each in Health if each != Health.DEGRADED}", "state for Degraded"),
    "no name": ('    names={"toybox": ["toys.example"]},\n', "", "lacks 'names'"),
    "the name of another": ('"toybox"', '"github"', "'github' of another forge"),
    "nothing": ("FORGE = ", "TOY = ", "lacks 'FORGE'"),
}


@pytest.mark.parametrize("half", HALVES)
def test_half_a_forge_is_an_error_that_names_its_file_and_what_is_missing(
    add: Callable[[str, str], None], half: str
) -> None:
    part, instead, message = HALVES[half]
    assert part in TOY
    name = f"toy_with_{half.replace(' ', '_')}"
    add(name, TOY.replace(part, instead))
    with pytest.raises(IncompleteFeature, match=rf"forges/{name}\.py .*{message}"):
        read("config.yaml", SETTINGS.encode())


@pytest.mark.parametrize(("kind", "base_url", "repository"), PAGES)
def test_people_read_a_commit_on_the_page_that_the_forge_has_for_it(kind: str, base_url: str, repository: str) -> None:
    assert forges.known()[kind].page(base_url, repository, "1a2b") == PAGES[kind, base_url, repository]
