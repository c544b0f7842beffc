"""An engine on which no service could run is refused with a true sentence, before anything is deployed on it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.errors import Unavailable
from gitops_mvd.docker.client import Engine
from gitops_mvd.docker.fit import Fit
from gitops_mvd.systemd.programs import outside
from tests.contract import recorded
from tests.contract.terminal import ENGINE, Repository, Terminal, compose

# sdnotify leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PODMAN = {"ApiVersion": "1.41", "Version": "5.4.2", "Components": [{"Name": "Podman Engine"}]}


@pytest.fixture
def answers() -> dict[str, Any]:
    return copy.deepcopy(dict(ENGINE))


@pytest.fixture
def engine(answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
    with recorded.docker(answers, recorded.Played()) as url, ExitStack() as parts:
        engine = Engine(url)
        parts.callback(engine.close)
        yield engine


def command(folder: Path, script: str) -> str:
    """A docker command that is this script."""
    path = folder / "docker"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_docker_engine_fits_and_is_asked_once(engine: Engine, answers: dict[str, Any]) -> None:
    fit = Fit(engine, outside)
    fit.require()
    answers["/info"]["SecurityOptions"] = ["name=rootless"]
    fit.require()


@pytest.mark.parametrize(
    ("path", "more", "told"),
    [
        ("/version", PODMAN, "Podman Engine answers at unix://"),
        ("/info", {"SecurityOptions": ["name=seccomp", "name=rootless"]}, "a rootless Docker answers at unix://"),
        ("/info", {"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}, "Docker from a snap answers at unix://"),
        ("/info", {"OperatingSystem": "Docker Desktop"}, "Docker Desktop answers at unix://"),
        ("/version", {"ApiVersion": "1.40"}, "Docker 28.5.2 is too old: 20.10 or newer is needed"),
    ],
    ids=["podman", "rootless", "snap", "desktop", "old"],
)
def test_another_engine_is_named(engine: Engine, answers: dict[str, Any], path: str, more: Any, told: str) -> None:
    answers[path].update(more)
    with pytest.raises(Unavailable, match=told):
        Fit(engine, outside).require()


@pytest.mark.parametrize("url", ["tcp://10.0.0.7:2376", "ssh://root@web-2", "http+unix://var/run/docker.sock"])
def test_an_engine_that_is_not_at_a_socket_of_this_server_is_never_asked(url: str) -> None:
    engine = Engine(url)
    with pytest.raises(Unavailable, match=r"docker.url is .*: the engine must be one of this server") as refused:
        Fit(engine, outside).require()
    assert "unix:///var/run/docker.sock" in refused.value.hint


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ('echo "Error response from daemon: client version 1.41 is too old." >&2; exit 1', ""),
        ("echo 5.4.2", ": it tells of 5.4.2"),
        ('[ "$DOCKER_HOST" ] || echo 28.5.2', ""),
    ],
    ids=["too old", "another program", "asks the engine of the settings"],
)
def test_a_docker_command_that_does_not_reach_the_engine_is_told(
    engine: Engine, tmp_path: Path, script: str, told: str
) -> None:
    path = command(tmp_path, script)
    with pytest.raises(Unavailable) as refused:
        Fit(engine, outside, lambda: path).require()
    assert refused.value.message == f"{path} does not reach the engine at {engine.url}{told}"
    assert refused.value.hint == f"See why: DOCKER_HOST={engine.url} {path} version"


def test_a_server_without_the_docker_command_is_told_what_to_install(engine: Engine) -> None:
    with pytest.raises(Unavailable, match="there is no docker command") as refused:
        Fit(engine, outside, lambda: "").require()
    assert "docker-cli" in refused.value.hint


def test_the_doctor_and_a_sync_say_it_and_nothing_is_deployed(
    answers: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers["/version"].update(PODMAN)
    Repository(tmp_path / "config.git").commit({"apps/hello/compose.yaml": compose()})
    played = recorded.Played()
    with recorded.docker(answers, played) as url, recorded.systemd({"units": [], "properties": {}}, played) as bus:
        config = tmp_path / "config.yaml"
        config.write_text(f"repository: file://{tmp_path}/config.git\nhost: srv1\ndocker: {{url: '{url}'}}\n")
        monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
        terminal = Terminal(capsys, config)
        terminal.set(**{folder: str(tmp_path / folder) for folder in ("state", "files", "secrets")})
        doctor, sync = terminal.mvd("doctor"), terminal.mvd("sync")
    told = f"Podman Engine answers at {url}: gitops-mvd needs Docker Engine, run as root"
    assert f"fail  engine         {told}\n" in doctor.out
    assert f"waiting for=host reason={told}" in caplog.text, "the log of the sync has it"
    assert (doctor.code, sync.code) == (1, 1)
    assert played.refused == played.ordered == []
