"""What is measured on the server itself, by the server's own Python; each command prints one number or object as JSON.

/opt/gitops-mvd/bin/python -m tests.lab.bench.inside bare 100 IMAGE PORT
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import requests

from gitops_mvd.core.model import Operation
from gitops_mvd.state.history import SqliteHistory

STATE = Path("/var/lib/gitops-mvd")
AT_A_TIME = 8
PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.005
HOUR_SECONDS = 3600
CLIENTS = 5  # attached to have their memory measured
CLIENT_SETTLE_SECONDS = 2.0


# ---- the bare engine -------------------------------------------------------------------------------------------------


class _Docker(http.client.HTTPConnection):
    """The engine's API, with nothing in between."""

    def __init__(self) -> None:
        super().__init__("localhost", timeout=60)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/var/run/docker.sock")

    def ask(self, method: str, path: str, body: object = None) -> Any:
        self.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
        answer = self.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {content.decode()}")
        return json.loads(content) if content else None


def bare(count: str, image: str, port: str) -> float:
    """Seconds until so many containers of an image, eight at a time, have answered /health with 200; then they go."""

    def start(number: int) -> None:
        docker = _Docker()
        wish = {"Image": image, "HostConfig": {"Init": True, "LogConfig": {"Type": "local"}}}
        docker.ask("POST", f"/containers/create?name=bare-{number}", wish)
        docker.ask("POST", f"/containers/bare-{number}/start")
        _until_answered(docker, f"bare-{number}", port)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        began = time.monotonic()
        list(pool.map(start, range(int(count))))
        took = time.monotonic() - began
        list(pool.map(lambda n: _Docker().ask("DELETE", f"/containers/bare-{n}?force=1&v=1"), range(int(count))))
    return took


def _until_answered(docker: _Docker, container: str, port: str) -> None:
    ip = docker.ask("GET", f"/containers/{container}/json")["NetworkSettings"]["IPAddress"]
    _until(lambda: _get(f"http://{ip}:{port}/health") is not None)


def composed(count: str, image: str, port: str) -> float | None:
    """The same with `docker compose up`, of as many services in one file; None if this server does not have it."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        return None
    services = {f"s{number}": {"image": image, "init": True, "network_mode": "bridge"} for number in range(int(count))}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "compose.json"
        file.write_text(json.dumps({"name": "bare", "services": services}))
        command = ["docker", "compose", "--file", str(file)]
        began = time.monotonic()
        subprocess.run([*command, "up", "--detach"], check=True, capture_output=True)
        for service in services:
            _until_answered(_Docker(), f"bare-{service}-1", port)
        took = time.monotonic() - began
        subprocess.run([*command, "down", "--timeout", "0"], check=True, capture_output=True)
    return took


# ---- the daemon ------------------------------------------------------------------------------------------------------


def settles(commit: str) -> float:
    """Seconds from waking the daemon until it has brought this server to a commit, all of it healthy."""
    history = SqliteHistory(STATE / "history.db")
    return _wake(lambda: _healthy_commit(history) == commit)


def rolls_back(commit: str) -> float:
    """Seconds from waking the daemon until it has rolled a commit back."""
    return _wake(partial(_is_rolled_back, SqliteHistory(STATE / "history.db"), commit))


def answers(path: str, text: str) -> float:
    """Seconds from waking the daemon until the gateway answers with that text."""
    return _wake(lambda: text in (_get(f"http://127.0.0.1:8000{path}") or ""))


def looks(times: str) -> dict[str, float]:
    """What a look that finds nothing to do takes, woken as by `mvd sync`: seconds of CPU and by the clock."""
    history = SqliteHistory(STATE / "history.db")
    cpu, wall = _cpu(_daemon()), 0.0
    for _ in range(int(times)):
        asked = time.time()
        wall += _wake(partial(_has_looked, history, asked))
    return {"cpu": (_cpu(_daemon()) - cpu) / int(times), "wall": wall / int(times)}


def idles(seconds: str) -> dict[str, float]:
    """The share of a core that the daemon takes, its resident memory, and what an hour writes, in bytes."""
    pid = _daemon()
    cpu, written, began = _cpu(pid), _written(pid), time.monotonic()
    time.sleep(float(seconds))
    took = time.monotonic() - began
    return {
        "share": (_cpu(pid) - cpu) / took,
        "resident": _field(pid, "status", "VmRSS:"),
        "written": (_written(pid) - written) / took * HOUR_SECONDS,
    }


def memory() -> dict[str, float]:
    """What one service takes on average, in bytes of proportional set size.

    `container` is all that runs in it, with its shim; `beside` all else in the units' slice; `client` an attached
    docker client, of which some are started for this measurement.
    """
    shims = [pid for pid in _pids() if "containerd-shim" in _command(pid)[0]]
    inside = [pid for pid in _pids() if _in_container(pid)]
    beside = [pid for pid in _pids() if "mvd.slice" in Path(f"/proc/{pid}/cgroup").read_text() and pid not in shims]
    names = [container["Names"][0].strip("/") for container in _Docker().ask("GET", "/containers/json")]
    attach = ("docker", "attach", "--no-stdin", "--sig-proxy=false")
    clients = [subprocess.Popen([*attach, name], stdout=subprocess.DEVNULL) for name in names[:CLIENTS]]
    time.sleep(CLIENT_SETTLE_SECONDS)
    pss = [_field(client.pid, "smaps_rollup", "Pss:") for client in clients]
    for client in clients:
        client.kill()
        client.wait()
    services = len(shims)
    return {
        "container": sum(_field(pid, "smaps_rollup", "Pss:") for pid in (*shims, *inside)) / services,
        "beside": sum(_field(pid, "smaps_rollup", "Pss:") for pid in beside) / services,
        "client": sum(pss) / len(pss),
    }


def _wake(until: Callable[[], bool]) -> float:
    began = time.monotonic()
    os.kill(_daemon(), signal.SIGUSR1)
    _until(until)
    return time.monotonic() - began


def _has_looked(history: SqliteHistory, since: float) -> bool:
    return history.last_report(since=since) is not None


def _healthy_commit(history: SqliteHistory) -> str:
    """The commit at which all apps were healthy last: one row, so that to ask for it takes nothing from the daemon."""
    healthy = history.revisions().get("healthy")
    return healthy.commit if healthy else ""


def _is_rolled_back(history: SqliteHistory, commit: str) -> bool:
    report = history.last_report()
    if report is None or report.revision.commit != commit:
        return False
    return any(outcome.operation is Operation.ROLLED_BACK for outcome in report.outcomes)


def _daemon() -> int:
    return int((STATE / "lock").read_text())


# ---- what /proc tells ------------------------------------------------------------------------------------------------


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process took, and those of its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _written(pid: int) -> int:
    """The bytes that a process and its ended children had to write to the disk."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes:"))


def _field(pid: int, file: str, name: str) -> float:
    """A size in bytes; 0 for a process that has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0.0
    return next((float(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0.0)


def _pids() -> Iterable[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _command(pid: int) -> list[str]:
    try:
        return (Path(f"/proc/{pid}/cmdline").read_text().split("\0")) or [""]
    except OSError:
        return [""]


def _in_container(pid: int) -> bool:
    """Is it a process of a container of this server's own engine?"""
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/1/ns/mnt") and _is_below_shim(pid)
    except OSError:
        return False


def _is_below_shim(pid: int) -> bool:
    while pid > 1:
        if "containerd-shim" in _command(pid)[0]:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def _get(url: str) -> str | None:
    """The text of an answer with 200, else None."""
    try:
        answer = requests.get(url, timeout=1)
    except requests.RequestException:
        return None
    return answer.text if answer.ok else None


def _until(seen: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not seen():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(POLL_SECONDS)


COMMANDS: dict[str, Callable[..., object]] = {
    command.__name__: command for command in (bare, composed, settles, rolls_back, answers, looks, idles, memory)
}

if __name__ == "__main__":
    print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
