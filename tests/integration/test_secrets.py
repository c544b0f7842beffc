"""Secrets that are not in Git, on a real server: missing, there, changed, wrong; and nowhere but in the container."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.stories import HEALTH, Story, eventually, manifest
from tests.lab import service
from tests.lab.lab import Lab

pytestmark = pytest.mark.lab

FOLDER = "/etc/gitops-mvd/secrets"
SEALED = Path(__file__).parents[1] / "contract" / "fixtures" / "sops"
FIRST, SECOND, OF_FILE, OF_SOPS = "hunter22-first", "correct-horse-2", "tls-k3y-of-the-shop", "hunter22-in-sops"


@pytest.fixture(scope="module")
def story(lab: Lab) -> Iterator[Story]:
    repository = lab.forge.create("acme/secrets")
    repository.commit({"README.md": "Secrets\n"}, "Begin")
    server = lab.server("secrets")
    yield Story.set_up(lab, server, repository)
    server.destroy()


def provide(story: Story, name: str, text: str) -> None:
    story.run("install", "-d", "-m", "700", FOLDER)
    story.run("install", "-m", "600", "/dev/stdin", f"{FOLDER}/{name}", input=text)


def shop(image: str) -> dict[str, Any]:
    common = {"image": image, "x-mvd": {"health": {**HEALTH, "port": 7799}}, "expose": [7799]}
    web = {
        **common,
        "environment": {"URL": "postgres://app:{file://db}@db"},
        "secrets": [{"source": "tls", "mode": 256}],
    }
    return {"services": {"web": web, "other": common}, "secrets": {"tls": {"external": True, "name": "shop-tls"}}}


def inside(story: Story, app: str, name: str, *argv: str) -> str:
    [container] = [it for it in story.containers(app) if it.startswith(f"mvd-{app}-{name}-")]
    return story.run("docker", "exec", container, *argv).strip()


def test_a_secret_of_the_host_is_waited_for_used_and_deployed_anew_when_it_changes(lab: Lab, story: Story) -> None:
    image = lab.registry.push("shop", "1", service.web("shop", "1"))
    commit = story.merge(manifest("shop", shop(image)), "Deploy shop")
    assert f"install -m 600 /dev/stdin {FOLDER}/db" in story.ends(commit, "failure")
    provide(story, "db", f"{FIRST}\n")
    provide(story, "shop-tls", f"{OF_FILE}\n")
    eventually("the app is there", lambda: story.told(commit)[-1][0] == "success")
    assert inside(story, "shop", "web", "sh", "-c", "echo $URL") == f"postgres://app:{FIRST}@db"
    assert inside(story, "shop", "web", "cat", "/run/secrets/tls") == OF_FILE
    assert inside(story, "shop", "web", "ls", "-ln", "/run/secrets/tls").startswith("-r-------- ")

    before = story.containers("shop")
    provide(story, "db", f"{SECOND}\n")
    eventually("it says why", lambda: "secret db changed on this host" in story.told(commit)[-1][1])
    after = story.containers("shop")
    assert {name for name in before if "-other-" in name} == {name for name in after if "-other-" in name}
    assert inside(story, "shop", "web", "sh", "-c", "echo $URL") == f"postgres://app:{SECOND}@db"
    story.look_again()
    assert story.containers("shop") == after, "a pass without changes changes nothing"

    for secret in (FIRST, SECOND, OF_FILE):
        shown = [*(words for _, words in story.told(commit)), story.log()]
        shown += [story.mvd(*words).out for words in (["plan"], ["status"], ["history"], ["explain", "shop"])]
        assert not [text for text in shown if secret in text]
        places = ("/etc/systemd/system", "/var/lib/gitops-mvd", "/run/systemd")
        assert not story.server.exec("grep", "-rla", secret, *places, check=False).out
    files = story.run("find", "/etc/gitops-mvd/files", "-type", "f", "-printf", "%m %u %p\n")
    assert [line for line in files.splitlines() if "/secrets/0" in line and not line.startswith("600 root")] == []
    assert story.server.exec("grep", "-rla", FIRST, "/etc/gitops-mvd", check=False).out == "", (
        "it went with its version"
    )


def test_a_file_of_sops_is_decrypted_on_the_server(lab: Lab, story: Story) -> None:
    image = lab.registry.push("sealed", "1", service.web("sealed", "1"))
    web = {"image": image, "x-mvd": {"health": HEALTH}, "expose": [7799], "env_file": "environment", "secrets": ["key"]}
    files = {name: (SEALED / name).read_text() for name in ("environment", "app.yaml")}
    app = {"services": {"web": web}, "secrets": {"key": {"file": "app.yaml"}}}
    commit = story.merge(manifest("sealed", app, **files), "Deploy sealed")
    assert "is encrypted with SOPS, and this host has no sops" in story.ends(commit, "failure")
    for name in ("sops", "answers.json"):
        story.server.put(f"/usr/local/bin/{name}", (SEALED / name).read_text(), 0o755)
    eventually("the key is missed", lambda: "this host has no key" in story.told(commit)[-1][1])
    story.server.put("/etc/gitops-mvd/sops/age/keys.txt", (SEALED / "keys.txt").read_text(), 0o600)
    eventually("the app is there", lambda: story.told(commit)[-1][0] == "success")
    assert inside(story, "sealed", "web", "sh", "-c", "echo $URL") == f"postgres://app:{OF_SOPS}@db/app"
    assert OF_SOPS in inside(story, "sealed", "web", "cat", "/run/secrets/key")
    places = ("/etc/systemd/system", "/var/lib/gitops-mvd")
    assert not story.server.exec("grep", "-rla", OF_SOPS, *places, check=False).out
