"""From nothing to a green commit, with what a newcomer types: `mvd init`, `git push`, `mvd install`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml

from tests.integration.stories import Story
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.repository import git
from tests.lab.server import VENV, Server
from tests.lab.service import MERGED_USR, TALKER_VOLUMES, Service

pytestmark = pytest.mark.lab

TOKEN_FILE = "/etc/gitops-mvd/token"
PACKAGE = "git+https://git.acme.example/platform/gitops-mvd@v0.1.0"
# Kong's stand-in, which is not Kong, under Kong's own settings of ports, with the Python of the server.
STAND_IN = "httpd -p 8100 -h /www && exec {venv}/bin/python -m tests.lab.kong_standin --admin 127.0.0.1:8001 {more}"


@pytest.fixture
def bare(lab: Lab) -> Iterator[Server]:
    """A server with the package and a token, and nothing else."""
    server = lab.server("newcomer")
    server.install(lab.wheel)
    server.put(TOKEN_FILE, f"{lab.forge.token}\n", 0o600)
    yield server
    server.destroy()


def begun(lab: Lab, folder: Path, name: str, *words: str) -> tuple[Path, str]:
    """A clone of a new repository in which `mvd init` was run, and what that said."""
    repository = lab.forge.create(name)
    clone = folder / "config"
    git("init", "--quiet", "--initial-branch=main", str(clone), at=folder)
    address = repository.clone_url.replace("://", f"://me:{lab.forge.token}@")
    git("remote", "add", "origin", address, at=clone)
    image = lab.registry.push("hello", "1", service.web("hello", "1"))
    app = ("--image", image, "--port", "7799", "--health", "/health")
    init = (sys.executable, "-m", "gitops_mvd", "init", str(clone), "--yes", "--host", "newcomer", "--forge", "gitea")
    done = subprocess.run([*init, "--package", PACKAGE, *app, *words], check=True, capture_output=True, text=True)
    assert str(lab.forge.token) not in done.stdout
    return clone, done.stdout


def pushed(clone: Path) -> str:
    git("add", "--all", at=clone)
    git("commit", "--quiet", "--message", "Begin", at=clone)
    git("push", "--quiet", "origin", "main", at=clone)
    return git("rev-parse", "HEAD", at=clone)


def asked(url: str) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False  # no proxy stands between us and the lab
        return session.get(url, timeout=5)


def install(server: Server, init_said: str) -> str:
    """Type what `mvd init` has said, and return what that says."""
    [line] = re.findall(r"^  (mvd install .*)$", init_said, re.M)
    return server.exec("sh", "-c", line, timeout=120).out


def test_a_new_repository_is_deployed_and_turns_green_without_kong(lab: Lab, bare: Server, tmp_path: Path) -> None:
    clone, said = begun(lab, tmp_path, "acme/first")
    commit = pushed(clone)
    installed = install(bare, said)
    story = Story(bare, lab.forge.repositories["acme/first"], "none", "gitea")
    assert (
        "ok    token          may post statuses to acme/first, tried with a commit that does not exist\n" in installed
    )
    assert "ok    fleet.yaml     newcomer: no labels\n" in installed
    assert "ok    secrets        1 file, closed to other users\n" in installed
    assert "\nfail" not in installed, installed
    story.ends(commit, "success")
    assert story.repository.statuses("0" * 40) == []
    assert asked(f"http://{bare.ip}:8080/health").text == "ok 1\n"
    doctor = story.mvd("doctor")
    assert doctor.code == 0, doctor.out
    assert re.search("^ok    clock ", doctor.out, re.M)
    assert "/var/lib/docker" in doctor.out, "the disk of the engine is looked at"
    again = story.mvd("install", "--host", "another")
    assert again.code == 1
    assert "--host says otherwise: nothing was changed" in again.err


def test_kong_as_an_app_is_deployed_with_the_first_route(lab: Lab, bare: Server, tmp_path: Path) -> None:
    """Unit, volume, ports and health check are those of `mvd init`; the image is a stand-in, which is not Kong."""
    clone, said = begun(lab, tmp_path, "acme/gateway", "--kong", "app")
    file = clone / "apps/kong/compose.yaml"
    more = "--proxy 0.0.0.0:8000 --prefix /usr/local/kong/dbless.lmdb"
    command = ("sh", "-c", STAND_IN.format(venv=VENV, more=more))
    stand_in = Service(command, {"/www/status": "{}"}, links=MERGED_USR)
    kong = yaml.safe_load(file.read_text())
    assert kong["services"]["kong"]["image"] == "kong:3.9"
    kong["services"]["kong"]["image"] = lab.registry.push("kong", "3.9", stand_in)
    kong["services"]["kong"]["volumes"] += TALKER_VOLUMES
    bare.exec("mkdir", "-p", "/usr/local/kong/dbless.lmdb")  # where its volume is mounted, in the /usr of the server
    kong["services"]["kong"]["stop_signal"] = "SIGTERM"
    del kong["services"]["kong"]["ulimits"]  # which nobody may raise on a server of the lab
    file.write_text(yaml.safe_dump(kong))
    commit = pushed(clone)
    install(bare, said)
    story = Story(bare, lab.forge.repositories["acme/gateway"], "stand-in for Kong", "gitea")
    story.ends(commit, "success")
    story.answers("/hello/health", "ok 1")
    listening = bare.exec("ss", "-Hltn").out
    assert "127.0.0.1:8001 " in listening
    assert "0.0.0.0:8001 " not in listening
    doctor = story.mvd("doctor")
    assert "ok    kong proxy     listens at http://127.0.0.1:8000\n" in doctor.out
    assert doctor.code == 0, doctor.out
