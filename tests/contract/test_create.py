"""The request for a container is the one that the docker command makes of the same service, but for what it cannot say.

The command of this server asks an engine that only notes the request: two encodings of every key, written apart.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from gitops_mvd.core.model import File, Service
from gitops_mvd.docker.command_line import equivalent
from gitops_mvd.docker.create import Place, request, too_new
from tests.unit.test_command_line import IMAGE, TABLE

pytestmark = pytest.mark.server

NAME = "mvd-shop-web-01234567"
UNSET = (None, "", 0, False, [], {}, -1)
# What only the command says: it would be attached, and it spells out some of the engine's defaults.
OF_THE_COMMAND = {"AttachStdin", "AttachStdout", "AttachStderr", "StdinOnce", "ConsoleSize", "MaximumRetryCount"}
OF_THE_REQUEST = {"CreateMountpoint"}  # the command has no word for it
DEFAULTS = {"NetworkMode": "default"}
FORGOTTEN = {"BlkioDeviceReadBps", "BlkioDeviceReadIOps", "BlkioDeviceWriteBps", "BlkioDeviceWriteIOps"}
FORGETFUL = (1, 45)  # the command of Docker 26 takes these and leaves them out of its request


def asked_by_command(service: Service, place: Place, folder: Path) -> tuple[Any, tuple[int, int]]:
    """What the docker command asks for, and in which version of the API."""
    (folder / "env").write_text("".join(f"{key}={value}\n" for key, value in sorted(service.environment.items())))
    version = installed()
    [words, *_] = equivalent("shop", service, NAME, place)
    with engine(version) as (url, asked):
        command = ["docker", "--host", url, "create", "--pull=never", "--restart=no", *words[2:]]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert not ran.returncode, ran.stderr
    major, _, minor = version.partition(".")
    return asked[0], (int(major), int(minor))


@contextlib.contextmanager
def engine(version: str) -> Iterator[tuple[str, list[Any]]]:
    """One that creates nothing; gives its URL, and the list of what it is asked to create."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def carry(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "/containers/create" in self.path:
                asked.append(json.loads(body))
            content = json.dumps({"Id": "0" * 64, "Warnings": [], "ApiVersion": version}).encode()
            self.send_response(201 if asked else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Api-Version", version)
            self.send_header("Ostype", "linux")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = carry

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join(10)


def installed() -> str:
    """The newest version of the API that the docker command speaks."""
    asked = ["docker", "--host=tcp://127.0.0.1:1", "version", "--format={{.Client.DefaultAPIVersion}}"]
    return subprocess.run(asked, capture_output=True, text=True, timeout=30).stdout.strip()


def plain(value: Any, key: str = "") -> Any:
    """A request without what says nothing, and with its lists of one order."""
    match value:
        case dict():
            entries = {
                name: plain(it, name) for name, it in value.items() if name not in OF_THE_COMMAND | OF_THE_REQUEST
            }
            keep = {name: it for name, it in entries.items() if it not in UNSET or (name == "Init" and it is False)}
            return {name: it for name, it in keep.items() if DEFAULTS.get(name) != it}
        case list() if key in ("Capabilities", "CapAdd", "CapDrop"):  # sets, and the command writes CAP_ in front
            every = [name for it in value for name in (it if isinstance(it, list) else [it])]
            return sorted(name.removeprefix("CAP_") for name in every)
        case list():
            return [plain(it) for it in value]
    return value


EXTRA = [
    ({"command": ["run", "--all"]}, {}),
    ({"entrypoint": ["/init"], "command": ["run"]}, {}),
    ({"entrypoint": []}, {}),
    ({"init": True}, {}),
    ({"init": False}, {}),
    ({"logging": {"driver": "syslog", "options": {"tag": "x"}}}, {}),
    ({"logging": {"driver": "", "options": {"max-size": "1m"}}}, {}),
    ({"networks": {"front": {"aliases": ["web", "www"], "ipv4_address": "10.0.0.2", "driver_opts": {"a": "b"}}}}, {}),
    ({"stop_grace_period": 1.2}, {}),
    ({"expose": ["3000-3003/udp", "80"]}, {}),
    ({}, {"environment": {"A": "b c", "PATTERN": "^[0-9]+$"}}),
    ({}, {"files": (File("/etc/one", {"": "x"}), File("/etc/many", {"a": "x"}), File("/z", {"": ""}, options=("Z",)))}),
    ({}, {"kong": {"port": 8080}}),
]
# The command hands a health check's words to a shell; a profile or a device is read by it on the host.
CASES = [(run, {}) for run, _ in TABLE if run.get("healthcheck", {}).get("test", [""])[0] != "CMD"] + EXTRA


@pytest.mark.parametrize(("run", "more"), CASES, ids=lambda case: " ".join(case) if isinstance(case, dict) else "")
def test_the_command_would_ask_for_the_same_container(run: Any, more: Any, tmp_path: Path) -> None:
    service = Service("web", IMAGE, run, **more)
    place = Place(str(tmp_path), "/srv/mvd", port=20000 if service.kong else 0, address="127.0.0.1", follows="systemd")
    if too_new(service.run, tuple(map(int, installed().split(".")))):  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match=r"unknown flag|unexpected key|invalid|not an absolute path"):
            asked_by_command(service, place, tmp_path)
        return
    theirs, api = asked_by_command(service, place, tmp_path)
    ours = plain(json.loads(json.dumps(request("shop", service, place, api).body)))
    if api == FORGETFUL:
        ours["HostConfig"] = {key: value for key, value in ours["HostConfig"].items() if key not in FORGOTTEN}
    assert ours == plain(theirs)
