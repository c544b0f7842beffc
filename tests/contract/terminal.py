"""The command `mvd` as somebody types it, on a server of which every edge is played: Git, Docker, systemd, Kong."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops_mvd.cli.main import main

REFUSES = "127.0.0.1:1"  # where nobody listens


@dataclass(frozen=True)
class Said:
    """What a command printed, and the code that it ended with."""

    code: int
    out: str
    err: str


@dataclass
class Terminal:
    """Where commands are typed; `config` is the settings that they are given."""

    capsys: pytest.CaptureFixture[str]
    config: Path

    def mvd(self, *words: str) -> Said:
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["--config", str(self.config), *words])
        out, err = self.capsys.readouterr()
        assert "Traceback" not in out + err, out + err
        return Said(int(ended.value.code or 0), out, err)

    def set(self, **settings: Any) -> None:
        """Change settings; None removes one."""
        changed = {**yaml.safe_load(self.config.read_text()), **settings}
        self.config.write_text(yaml.safe_dump({key: value for key, value in changed.items() if value is not None}))


def on_a_terminal(*words: str, at: Path | None = None, typed: str = "", env: Mapping[str, str] = os.environ) -> str:
    """What `mvd` shows to a person at a terminal, who types that; it ends with 0."""
    ours, theirs = pty.openpty()
    mvd = [sys.executable, "-m", "gitops_mvd", *words]
    with subprocess.Popen(mvd, stdin=theirs, stdout=theirs, stderr=theirs, cwd=at, env=env) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = b""
        try:
            while more := os.read(ours, 65536):
                shown += more
        except OSError:  # so a terminal of Linux says that nobody holds it any more
            pass
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


@dataclass
class Repository:
    """A bare config repository with one branch, `main`."""

    path: Path
    work: Path = field(init=False)

    def __post_init__(self) -> None:
        self.work = self.path.with_suffix(".work")
        git("init", "--quiet", "--bare", "--initial-branch=main", str(self.path))
        git("init", "--quiet", "--initial-branch=main", str(self.work))

    def commit(self, files: Mapping[str, str], subject: str = "a change") -> str:
        for name, text in files.items():
            file = self.work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        git("-C", str(self.work), "add", "--all")
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        git("-C", str(self.work), *identity, "commit", "--quiet", "--message", subject)
        git("-C", str(self.work), "push", "--quiet", str(self.path), "main")
        return git("-C", str(self.work), "rev-parse", "HEAD").strip()


def git(*words: str) -> str:
    return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout


def compose(**service: Any) -> str:
    """The Compose file of an app with the one service `web`."""
    return yaml.safe_dump({"services": {"web": {"image": "registry.local/hello:1", **service}}})


IMAGE = "registry.local/hello:1"
ENGINE: Mapping[str, Any] = {
    "/version": {"ApiVersion": "1.44", "MinAPIVersion": "1.24", "Version": "28.5.2"},
    "/info": {"ServerVersion": "28.5.2", "Driver": "overlay2", "LiveRestoreEnabled": True},
    "/containers/json": [],
    "/networks": [],
    "/volumes": {"Volumes": []},
    "/images/json": [],
    "distribution": {IMAGE: {"Descriptor": {"digest": f"sha256:{'0' * 64}"}}},
    "inspected": {},
}
SYSTEMD: Mapping[str, Any] = {"units": [], "properties": {}}
