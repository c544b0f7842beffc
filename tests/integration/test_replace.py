"""The restore drill: a server is dead, and another one takes its place, by what Git, the registry and a backup have."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.stories import HEALTH, Story, manifest
from tests.lab import service
from tests.lab.lab import Lab
from tests.lab.server import Server
from tests.lab.stage import until

pytestmark = pytest.mark.lab

HOST, VOLUME = "keeper", "notes_data"
TYPED_SECONDS = 240.0
BACK_UP = f"""\
mvd suspend notes --stop --why "copy its data"
while docker ps --quiet --filter label=io.gitops-mvd.app=notes | grep .; do sleep 1; done
tar -C "$(docker volume inspect --format '{{{{.Mountpoint}}}}' {VOLUME})" -cf /root/{VOLUME}.tar .
mvd resume notes
mvd sync
"""


def replacement(story: Story, folder: Path, token: str) -> str:
    """What `mvd fleet replace` prints in a clone, on a computer that has neither settings nor a server."""
    helper = f"!f() {{ echo username=x-access-token; echo password={token}; }}; f"
    login = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper", "GIT_CONFIG_VALUE_0": helper}
    environment = {**os.environ, **login, "MVD_CONFIG": str(folder / "none.yaml")}
    clone = ["git", "clone", "--quiet", story.repository.clone_url, str(folder / "config")]
    subprocess.run(clone, env=environment, check=True, timeout=60)
    words = ["fleet", "replace", HOST, "--repository", str(folder / "config"), "--forge", "github"]
    mvd = [sys.executable, "-m", "gitops_mvd", *words]
    return subprocess.run(mvd, env=environment, check=True, timeout=60, capture_output=True, text=True).stdout


def note_of(server: Server) -> str:
    """What the service that runs finds in its volume."""
    found = server.exec("docker", "ps", "--quiet", "--filter", "label=io.gitops-mvd.app=notes").out.split()
    assert len(found) == 1
    mounts = server.exec("docker", "inspect", "--format", "{{range .Mounts}}{{println .Source}}{{end}}", found[0]).out
    [mount] = [mount for mount in mounts.split() if VOLUME in mount]
    return server.exec("cat", f"{mount}/note").out


def test_a_dead_server_is_built_anew_from_git_the_registry_and_a_backup(
    lab: Lab, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    repository = lab.forge.create("acme/drill")
    image = lab.registry.push("notes", "1", service.web("notes", "1"))
    web = {
        "image": image,
        "x-mvd": {"health": HEALTH},
        "volumes": ["data:/data"],
        "environment": {"KEY": "{file://notes.key}"},
    }
    app = manifest("notes", {"services": {"web": web}, "volumes": {"data": None}})
    repository.commit({"fleet.yaml": f"hosts: {{{HOST}: }}\n", **app}, "Take notes")
    dead = lab.server(HOST)
    dead.put("/etc/gitops-mvd/secrets/notes.key", "s3cret-of-the-notes", 0o600)
    old = Story.set_up(lab, dead, repository)
    old.ends(repository.resolve("main"), "success")
    place = old.run("docker", "volume", "inspect", "--format", "{{.Mountpoint}}", VOLUME).strip()
    dead.put(f"{place}/note", "buy milk\n")
    dead.exec("bash", "-ec", BACK_UP, timeout=TYPED_SECONDS)
    backup = base64.b64decode(old.run("base64", f"/root/{VOLUME}.tar"))
    dead.cut_power()
    dead.destroy()
    tip, before = repository.resolve("main"), len(old.told(repository.resolve("main")))

    began = time.monotonic()
    script = replacement(old, tmp_path, str(lab.forge.token))
    new = lab.server(HOST)
    try:
        new.install(lab.wheel)  # and Docker, Git: the lab's servers have what the line with apt-get brings
        new.put(f"/root/{VOLUME}.tar", backup)
        typed = {"gitops-mvd/token": str(lab.forge.token), "notes.key": "s3cret-of-the-notes"}
        for line in script.splitlines():
            if line.startswith(("#", "apt-get")) or not line:
                continue
            given = next((text for name, text in typed.items() if line.partition("    #")[0].endswith(name)), "")
            new.exec("bash", "-ec", f"cd /root; {line}", input=f"{given}\n", timeout=TYPED_SECONDS)
        record_property("seconds until it served again", round(time.monotonic() - began))
        assert note_of(new) == "buy milk\n"
        assert new.exec("mvd", "plan").code == 0
        told = until(lambda: old.told(tip)[before:] or None, "a status of the new server", 60)
        assert {state for state, _ in told} <= {"pending", "success"}
        assert Story(new, repository, "").ends(tip, "success")
    finally:
        new.destroy()
