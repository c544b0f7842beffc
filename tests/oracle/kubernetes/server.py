"""A kube-apiserver with its etcd, built from Go modules once, and started for as long as it is asked.

There is no node and no controller: what it says is whether a document is one, by the same code as on a cluster.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

HERE = Path(__file__).parent
ETCD, APISERVER = "go.etcd.io/etcd/server/v3", "k8s.io/kubernetes/cmd/kube-apiserver"
VERSION = "v1.36.3"  # of k8s.io/kubernetes in go.mod, which the program itself is told when it is linked
BUILD_SECONDS = 2 * 60 * 60
START_SECONDS = 180.0
ASK_SECONDS = 60.0
TOKEN = "of-this-run-alone"
USUAL = "/api/v1"


@dataclass(frozen=True)
class Cluster:
    """Where it answers."""

    url: str
    session: requests.Session

    def create(self, document: dict[str, Any], *, keep: bool = False) -> str:
        """Why a document is refused, "" if it is taken; nothing of it is kept, unless that is asked for."""
        kind, metadata = document["kind"], document["metadata"]
        version = document["apiVersion"]
        base = USUAL if version == "v1" else f"/apis/{version}"
        inside = f"/namespaces/{metadata['namespace']}" if "namespace" in metadata else ""
        options = {"fieldValidation": "Strict", **({} if keep else {"dryRun": "All"})}
        url = f"{self.url}{base}{inside}/{plural(kind)}"
        answer = self.session.post(url, json=document, params=options, timeout=ASK_SECONDS)
        return "" if answer.status_code in (200, 201, 409) else str(answer.json().get("message", answer.status_code))

    def define(self, definition: dict[str, Any]) -> None:
        """Take up a custom resource, and wait until it is served."""
        if why := self.create(definition, keep=True):
            raise RuntimeError(why)
        name = definition["metadata"]["name"]
        url = f"{self.url}/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"
        _until(lambda: self._is_established(url), f"{name} is not established")

    def _is_established(self, url: str) -> bool:
        found = self.session.get(url, timeout=ASK_SECONDS).json().get("status", {}).get("conditions") or []
        return any(it["type"] == "Established" and it["status"] == "True" for it in found)


def plural(kind: str) -> str:
    lower = kind.lower()
    return f"{lower[:-1]}ies" if lower.endswith("y") else lower if lower.endswith("s") else f"{lower}s"


def build(folder: Path) -> None:
    """Both programs, in that folder.  It takes a quarter of an hour of two idle cores, and once built, a second."""
    folder.mkdir(parents=True, exist_ok=True)
    number = VERSION.removeprefix("v").split(".")
    about = {"gitVersion": VERSION, "gitMajor": number[0], "gitMinor": number[1]}
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in about.items())
    for name, package in (("etcd", ETCD), ("kube-apiserver", APISERVER)):
        command = ["go", "build", "-trimpath", f"-ldflags=-s -w {flags}", "-o", str(folder / name), package]
        subprocess.run(command, cwd=HERE, check=True, timeout=BUILD_SECONDS)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """The two programs of that folder, with nothing in them."""
    with tempfile.TemporaryDirectory() as work:
        at = Path(work)
        etcd, peers, port = _free_port(), _free_port(), _free_port()
        subprocess.run(["openssl", "genrsa", "-out", at / "key", "2048"], check=True, capture_output=True)
        (at / "tokens").write_text(f"{TOKEN},tests,tests,system:masters\n")
        store = f"http://127.0.0.1:{etcd}"
        peer = f"http://127.0.0.1:{peers}"
        of_etcd = ["--data-dir", str(at / "etcd"), "--listen-client-urls", store, "--advertise-client-urls", store]
        of_etcd += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        of_etcd += ["--initial-cluster", f"default={peer}", "--unsafe-no-fsync"]
        of_server = [f"--etcd-servers={store}", f"--secure-port={port}", "--bind-address=127.0.0.1"]
        of_server += [f"--cert-dir={at / 'certificates'}", "--authorization-mode=AlwaysAllow"]
        of_server += [f"--token-auth-file={at / 'tokens'}", "--service-account-issuer=https://tests.invalid"]
        of_server += [f"--service-account-key-file={at / 'key'}", f"--service-account-signing-key-file={at / 'key'}"]
        of_server += ["--service-cluster-ip-range=10.0.0.0/16", "--disable-admission-plugins=ServiceAccount"]
        of_server += ["--allow-privileged"]
        with _started(folder / "etcd", of_etcd, at), _started(folder / "kube-apiserver", of_server, at) as server:
            session = requests.Session()
            session.trust_env = False  # or the authorities of the environment outrank that of the server
            session.headers["Authorization"] = f"Bearer {TOKEN}"
            session.verify = str(at / "certificates" / "apiserver.crt")
            cluster = Cluster(f"https://127.0.0.1:{port}", session)
            _until(lambda: _is_ready(cluster, server), f"kube-apiserver does not get ready: see {at}")
            yield cluster


def _is_ready(cluster: Cluster, server: subprocess.Popen[bytes]) -> bool:
    if server.poll() is not None:
        raise RuntimeError("kube-apiserver has ended")
    try:
        return cluster.session.get(f"{cluster.url}/readyz", timeout=ASK_SECONDS).ok
    except (requests.ConnectionError, OSError):  # it does not listen yet, or has made no certificate
        return False


@contextmanager
def _started(program: Path, options: Sequence[str], at: Path) -> Iterator[subprocess.Popen[bytes]]:
    with open(at / f"{program.name}.log", "wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log, cwd=at, env=dict(os.environ))
        try:
            yield process
        finally:
            process.terminate()
            process.wait(START_SECONDS)


def _until(holds: Any, why: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise RuntimeError(why)
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        port: int = line.getsockname()[1]
        return port
