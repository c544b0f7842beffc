"""How a container gets and loses the names by which others find it, by a docker command that only notes its words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.docker.aliases import Aliases
from gitops_mvd.docker.command import DockerCommand
from gitops_mvd.docker.types import ListedContainer

Install = Callable[[str], DockerCommand]


class Engine:
    """Has one container, which is found by these names on each network; counts how often it is asked."""

    def __init__(self, **names: list[str]) -> None:
        self.names = names
        self.asked = 0

    def aliases(self, container: str) -> dict[str, list[str]]:
        self.asked += 1
        return self.names


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a docker command first in the path: a shell script, which finds its words in `$*`."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def installed(script: str) -> DockerCommand:
        program = tmp_path / "docker"
        program.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/words\n{script}\n')
        program.chmod(0o755)
        return DockerCommand()

    return installed


def words(folder: Path) -> list[str]:
    return (folder / "words").read_text().splitlines()


def container(*networks: str, staged: str = "", address: str = "10.0.0.9", asked: bool = False) -> ListedContainer:
    labels = {"io.gitops-mvd.service": "web", **({"io.gitops-mvd.staged": staged} if staged else {})}
    given: dict[str, object] | None = {"IPv4Address": address} if asked else None
    return {
        "Id": "c1",
        "Names": ["/mvd-shop-web-1"],
        "Labels": labels,
        "State": "running",
        "Status": "Up 3 seconds",
        "Created": 7,
        "HostConfig": {"NetworkMode": networks[0]},
        "NetworkSettings": {
            "Networks": {
                name: {"IPAMConfig": given, "EndpointID": f"e-{name}", "IPAddress": address}
                for name in networks
                if name not in {"none", "host"}
            }
        },
    }


def of(engine: Engine, command: DockerCommand) -> Aliases:
    edge: Any = engine
    return Aliases(edge, command)


@pytest.mark.parametrize(
    ("there", "staged"),
    [
        (container("front"), False),
        (container("front", staged="front"), True),
        (container("none"), False),
        (container("host"), False),
        (container("container:abc"), False),
    ],
)
def test_a_container_as_it_was_made_says_by_a_label_whether_it_is_staged(
    install: Install, there: ListedContainer, staged: bool
) -> None:
    engine = Engine()
    assert of(engine, install("")).is_staged(there) is staged
    assert engine.asked == 0


def test_a_container_that_joined_anew_is_inspected_once(install: Install) -> None:
    engine = Engine(front=["web"])
    aliases = of(engine, install(""))
    there = container("front", staged="front", asked=True)
    assert [aliases.is_staged(there), aliases.is_staged(there), engine.asked] == [False, False, 1]
    assert of(Engine(front=[]), install("")).is_staged(there)


def test_aliases_are_taken_first_where_they_are_looked_for(install: Install, tmp_path: Path) -> None:
    of(Engine(), install("")).take(container("front", "back"))
    assert words(tmp_path) == [
        "network disconnect --force front mvd-shop-web-1",
        "network connect --ip=10.0.0.9 front mvd-shop-web-1",
        "network disconnect --force back mvd-shop-web-1",
        "network connect --ip=10.0.0.9 back mvd-shop-web-1",
    ]


def test_aliases_are_given_last_where_they_are_looked_for(install: Install, tmp_path: Path) -> None:
    of(Engine(), install("")).give(container("front", "back"), {"front": {"aliases": ["web"]}, "back": {}})
    assert words(tmp_path)[1::2] == [
        "network connect --ip=10.0.0.9 back mvd-shop-web-1",
        "network connect --alias=web --ip=10.0.0.9 front mvd-shop-web-1",
    ]


REFUSES_ADDRESSES = 'case "$*" in *--ip*) echo "user specified IP address is supported only when" >&2; exit 1;; esac'


def test_a_network_whose_subnet_was_not_given_is_joined_without_an_address(install: Install, tmp_path: Path) -> None:
    of(Engine(), install(REFUSES_ADDRESSES)).give(container("front"), {"front": {"aliases": ["web"]}})
    assert words(tmp_path)[-1] == "network connect --alias=web front mvd-shop-web-1"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("echo 'endpoint already exists in network front' >&2; exit 1", None),
        ("echo 'no such network' >&2; exit 1", StepFailed),
        ("echo 'Cannot connect to the Docker daemon at unix:///x' >&2; exit 1", Unavailable),
    ],
)
def test_what_the_docker_command_says_is_told_apart(
    install: Install, script: str, error: type[Exception] | None
) -> None:
    command = install(script)
    if error is None:
        command.run("network", "connect", "front", "mvd-shop-web-1")
        return
    with pytest.raises(error, match="could not run docker network connect"):
        command.run("network", "connect", "front", "mvd-shop-web-1")


def test_a_server_without_the_docker_command_is_told_what_to_install(tmp_path: Path) -> None:
    command = DockerCommand(str(tmp_path / "docker"))
    with pytest.raises(Unavailable, match=r"cannot run .*/docker: No such file or directory") as caught:
        command.run("start", "x")
    assert caught.value.hint == "install the docker command"
