"""Whose commits a server follows: signatures, and a branch that was rewound, under the daemon's hardened unit."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from tests.contract.test_signatures import Keyring, Person, run, with_ssh_key
from tests.integration.stories import DAEMON, Story, eventually, manifest, routed, write_settings
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.repository import ENVIRONMENT, git
from tests.lab.stage import SETTINGS

pytestmark = pytest.mark.lab

SIGNERS, GPG_KEY = "/etc/gitops-mvd/allowed_signers", "/etc/gitops-mvd/gerda.asc"
NOBODY = Person([], Path())


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    """A server of our own."""
    repository = lab.forge.create("acme/signed")
    repository.commit({"README.md": "Signed\n"}, "Begin")
    server = lab.server("signed")
    yield Story.set_up(lab, server, repository)
    server.destroy()


@pytest.fixture(scope="module")
def jane(tmp_path_factory: pytest.TempPathFactory) -> Person:
    return with_ssh_key(tmp_path_factory.mktemp("jane"), "jane")


@pytest.fixture(scope="module")
def gerda() -> Iterator[Person]:
    place = Path(run("mktemp", "-d", "/tmp/mvd-test-XXXXXX"))  # short, or the agent's socket has no room
    keyring = Keyring(place / "gpg")
    yield keyring.person("gerda")
    run("gpgconf", "--kill", "all", environment=keyring.environment)
    shutil.rmtree(place, ignore_errors=True)


@contextmanager
def verified(story: Story, verify: Mapping[str, object]) -> Iterator[None]:
    before = story.run("cat", SETTINGS)
    write_settings(story, yaml.safe_dump({**yaml.safe_load(before), "verify": verify}), "daemon started")
    try:
        yield
    finally:
        write_settings(story, before, "daemon started")


def merge(story: Story, folder: Path, files: Mapping[str, str | None], who: Person) -> str:
    """A commit that somebody signs; nobody does not."""
    work = folder / f"work-{len(list(folder.iterdir()))}"
    git("clone", "--quiet", str(story.repository.path), str(work), at=folder)
    for name, text in files.items():
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(text or "")
    run("git", "add", "--all", at=work)
    sign = () if who is NOBODY else ("--gpg-sign",)
    run("git", *who.settings, "commit", "--quiet", "--message", "Change", *sign, environment=who.home, at=work)
    with story.repository.pushing():
        run("git", "push", "--quiet", "origin", "main", environment=ENVIRONMENT, at=work)
    return story.repository.resolve("main")


@pytest.mark.parametrize("kind", ["ssh", "gpg"])
def test_only_what_somebody_allowed_has_signed_is_deployed(
    lab: Lab, story: Story, tmp_path: Path, jane: Person, gerda: Person, kind: str
) -> None:
    image = lab.registry.push("signed", kind, service.web("signed", kind))
    files = manifest(kind, {"services": {"web": routed(image, f"/{kind}")}})
    who = jane if kind == "ssh" else gerda
    story.server.put(SIGNERS, jane.public.read_text())
    story.server.put(GPG_KEY, gerda.public.read_text())
    allowed = {"allowed_signers": SIGNERS} if kind == "ssh" else {"gpg_keys": [GPG_KEY]}
    with verified(story, {"mode": "head", **allowed}):
        unsigned = merge(story, tmp_path, files, NOBODY)
        assert story.ends(unsigned, "failure").startswith(f"commit {unsigned[:7]} is not signed (git commit -S")
        assert not story.containers(kind)
        other = merge(story, tmp_path, {"README.md": f"{kind}\n"}, gerda if who is jane else jane)
        assert "is signed by a key that is not allowed here" in story.ends(other, "failure")
        assert not story.containers(kind)
        signed = merge(story, tmp_path, {"README.md": f"{kind}, well signed\n"}, who)
        story.ends(signed, "success")
        story.answers(f"/{kind}", f"signed {kind}")
        assert [state for state, _ in story.told(unsigned)] == ["failure"]


def test_a_rewind_is_refused_even_where_all_that_the_daemon_remembers_is_lost(lab: Lab, story: Story) -> None:
    image = lab.registry.push("kept", "1", service.web("kept", "1"))
    before = story.repository.resolve("main")
    applied = story.deploy("kept", {"services": {"web": routed(image, "/kept")}})
    running = story.containers("kept")
    with story.without_daemon():
        story.run("sh", "-c", "rm -rf /var/lib/gitops-mvd/*")
        git("update-ref", "refs/heads/main", before, at=story.repository.path)
        rewound = story.merge({"README.md": "rewound\n"}, "Rewind")
    said = story.ends(rewound, "failure")
    assert f"branch main went from {applied[:7]} to {rewound[:7]}, which does not build on it" in said
    eventually("that it is said", lambda: "which does not build on it" in story.log())
    assert story.containers("kept") == running
    git("update-ref", "refs/heads/main", applied, at=story.repository.path)
    story.run("systemctl", "is-active", DAEMON)
    after = story.merge({"README.md": "forward\n"}, "Go on")
    assert story.ends(after, "success")
    assert story.containers("kept") == running
