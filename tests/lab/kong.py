"""The Kong of a lab server: Kong itself if its image can be pulled, else the stand-in, which is announced loudly."""

from __future__ import annotations

import functools
import json
import tempfile
import time
from typing import TYPE_CHECKING

from tests.lab import images
from tests.lab.command import CommandFailed
from tests.lab.engine import Engine, Say

if TYPE_CHECKING:
    from tests.lab.server import Server

KONG = "kong:3.9"
POSTGRES = "postgres:16"
ADMIN = "127.0.0.1:8001"
OPEN = "0.0.0.0:8001"  # for a gateway that serves several servers
SETTINGS = {
    "KONG_PROXY_LISTEN": "0.0.0.0:8000",
    "KONG_PROXY_ACCESS_LOG": "off",
    "KONG_PG_HOST": "127.0.0.1",
    "KONG_PG_USER": "kong",
    "KONG_PG_PASSWORD": "kong",
}
STAND_IN = """\
[Unit]
Description=Stand-in for Kong (not Kong)
After=network.target

[Service]
ExecStart=/opt/gitops-mvd/bin/python -m tests.lab.kong_standin --database {mode} \\
    --admin {admin} --proxy 0.0.0.0:8000 --prefix %S/kong
StateDirectory=kong
Restart=always

[Install]
WantedBy=multi-user.target
"""


def start(server: Server, engine: Engine, mode: str, say: Say, admin: str = ADMIN) -> str:
    """Start Kong in `server` and wait until it answers; returns what it is.  Raises CommandFailed."""
    if all(_there(engine, image, say) for image in _images(mode)):
        _start_kong(server, engine, mode, admin)
        return _answer(server, within=90)
    say(f"*** cannot pull {KONG}: {server.name} runs a STAND-IN, which behaves like Kong and is not Kong ***")
    server.put("/etc/systemd/system/kong.service", STAND_IN.format(mode=mode, admin=admin))
    server.exec("systemctl", "daemon-reload")
    server.exec("systemctl", "enable", "--now", "kong.service")
    return f"stand-in for {_answer(server, within=30)}"


def _images(mode: str) -> tuple[str, ...]:
    return (KONG,) if mode == "off" else (KONG, POSTGRES)


@functools.cache  # a registry that does not answer is waited for once
def _there(engine: Engine, image: str, say: Say) -> bool:
    return images.pull(engine, image, say)


def _start_kong(server: Server, engine: Engine, mode: str, admin: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive = f"{folder}/images.tar"
        engine.docker("save", "--output", archive, *_images(mode), timeout=120)
        with open(archive, "rb") as file:
            server.exec("docker", "load", input=file.read(), timeout=120)
    service = ("docker", "run", "--detach", "--network", "host", "--restart", "unless-stopped")
    said = {**SETTINGS, "KONG_DATABASE": mode, "KONG_ADMIN_LISTEN": admin}
    settings = [f"--env={key}={value}" for key, value in said.items()]
    if mode == "postgres":
        login = ("--env=POSTGRES_USER=kong", "--env=POSTGRES_PASSWORD=kong")
        server.exec(*service, "--name", "kong-database", *login, POSTGRES)
        migrate = ("docker", "run", "--rm", "--network", "host", *settings, KONG, "kong", "migrations", "bootstrap")
        _patiently(server, *migrate, within=90)
    server.exec(*service, "--name", "kong", *settings, KONG)


def _answer(server: Server, within: float) -> str:
    about = json.loads(_patiently(server, "curl", "-fsS", "-m", "2", f"http://{ADMIN}/", within=within))
    return f"Kong {about['version']}"


def _patiently(server: Server, *argv: str, within: float) -> str:
    """The output of a command, tried until it succeeds; raises the last CommandFailed."""
    deadline = time.monotonic() + within
    while True:
        try:
            return server.exec(*argv).out
        except CommandFailed:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)
