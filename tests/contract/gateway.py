"""A gateway for the contract suites: the stand-in of the lab or, if the environment names one, a real Kong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from gitops_mvd.core.model import Json

REAL = {"off": "MVD_KONG_OFF", "postgres": "MVD_KONG_POSTGRES"}  # the URL of an Admin API, by mode
ROUTES_WITHIN_SECONDS = 1.0  # in which each worker of the stand-in uses a changed route; 5 s in a real Kong
CONNECTIONS = 8
KINDS = (  # each before those that it refers to
    *("plugins", "routes", "services", "upstreams", "consumers", "snis", "certificates", "ca_certificates", "vaults"),
    *("keys", "key-sets"),
)


@dataclass
class Gateway:
    """A gateway that runs, spoken to as an operator would."""

    admin: str
    proxy: str
    mode: str
    session: requests.Session = field(default_factory=requests.Session)

    def ask(self, method: str, path: str, **more: Any) -> Any:
        answer = self.session.request(method, self.admin + path, timeout=10, **more)
        assert answer.status_code < 400 or method == "GET", answer.text
        return answer.json() if answer.content else None

    def config(self) -> dict[str, Any]:
        return yaml.safe_load(self.ask("GET", "/config")["config"])

    def load(self, document: Json) -> None:
        self.ask("POST", "/config", json={"config": json.dumps({"_format_version": "3.0", **document})})

    def clear(self) -> None:
        if self.mode == "off":
            return self.load({})
        for path in KINDS:
            for entity in self.ask("GET", f"/{path}?size=1000")["data"]:
                self.ask("DELETE", f"/{path}/{entity['id']}")
        return None

    def all(self, path: str) -> list[dict[str, Any]]:
        return sorted(self.ask("GET", f"/{path}?size=1000")["data"], key=lambda entity: entity["id"])

    def statuses(self, path: str, headers: Mapping[str, str] | None = None) -> set[int]:
        """What a path is answered with, by new connections: as many as reach each worker."""
        asked = (requests.get(self.proxy + path, headers=headers, timeout=10) for _ in range(CONNECTIONS))
        return {answer.status_code for answer in asked}

    def await_route(
        self, path: str, statuses: Set[int] = frozenset({200}), headers: Mapping[str, str] | None = None
    ) -> None:
        """Wait until each worker answers a path with one of these."""
        end = time.monotonic() + 20
        while not self.statuses(path, headers) <= statuses:
            assert time.monotonic() < end, f"{path} is not answered with {statuses} by each worker"
            time.sleep(0.05)


@contextmanager
def running_gateway(mode: str, prefix: Path) -> Iterator[Gateway]:
    """A gateway that holds nothing: what a suite leaves there is deleted before each test, and in the end."""
    if url := os.environ.get(REAL[mode], ""):
        gateway = _real(mode, url.rstrip("/"))
        yield gateway
        gateway.clear()
        gateway.session.close()
        return
    options = ["--database", mode, "--admin", "127.0.0.1:0", "--proxy", "127.0.0.1:0", "--prefix", str(prefix)]
    options += ["--worker-state-update-frequency", str(ROUTES_WITHIN_SECONDS)]
    command = [sys.executable, "-m", "tests.lab.kong_standin", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("proxy"):
                break
        admin, proxy = re.findall(r"^(?:admin|proxy) (http://\S+)$", said, re.MULTILINE)
        gateway = Gateway(admin, proxy, mode)
        gateway.session.trust_env = False
        yield gateway
        gateway.session.close()
        process.terminate()
        process.wait(10)


def _real(mode: str, admin: str) -> Gateway:
    """A real Kong, which must be empty: the suites delete all that they find."""
    gateway = Gateway(admin, "", mode)
    gateway.session.trust_env = False
    configuration = gateway.ask("GET", "/")["configuration"]
    if configuration["database"] != mode:
        pytest.fail(f"{REAL[mode]}: the Kong at {admin} has database={configuration['database']}, not {mode}")
    if held := [path for path in KINDS if gateway.all(path)]:
        pytest.fail(f"{REAL[mode]}: the Kong at {admin} holds {', '.join(held)}, which the tests would delete")
    listener = next(words for words in configuration["proxy_listen"] if " ssl" not in words)
    port = listener.split()[0].rpartition(":")[2]
    gateway.proxy = f"http://{urlsplit(admin).hostname}:{port}"
    return gateway
