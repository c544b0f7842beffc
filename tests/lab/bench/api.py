"""The local API of a daemon in a process of its own, at a server that was recorded.

Answers, a scrape, the page in front of it, and the memory of both.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import requests
import yaml
from msgspec.structs import replace

from gitops_mvd.api.views import DONE, CommitView, OperationView, StepView
from gitops_mvd.state.operations import OperationsFile
from tests.lab.bench.figure import Figure
from tests.lab.bench.world import ADDRESS, HOST, World, process, recorded
from tests.lab.java import free_port

SERVICES = 200
STEPS = 1000  # of the operation that is asked for
TIMES = 20
ROUNDS = 3
PATIENCE_SECONDS = 120.0
SETTLE_SECONDS = 3.0  # for what follows the first pass
HEAPS = "MALLOC_ARENA_MAX"  # as the unit of the daemon has it
MIB = 1024
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')"


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def figures(services: int = SERVICES) -> Iterator[Figure]:
    """Nothing but a few processes on this machine: no lab."""
    with (
        tempfile.TemporaryDirectory(prefix="mvd-bench-") as folder,
        recorded(Path(folder), services, "off") as world,
        _two_heaps(),
        process("tests.lab.bench.daemon", str(_settings(world)), f"{folder}/units") as daemon,
    ):
        api = Path(folder) / "run" / "api.sock"
        _wait_for_a_pass(api)
        what = f"{services} services"
        yield Figure(f"{what}: memory after a pass", _resident(daemon.pid), "MiB", target="< 60 MB")
        for name, path in (
            ("status", "/v1/status"),
            (f"an operation of {STEPS:,} steps", "/v1/operations/1"),
            ("a scrape", "/metrics"),
        ):
            wall, cpu, size = min(_asked(daemon.pid, api, path) for _ in range(ROUNDS))
            yield Figure(f"{what}: {name}: by the clock", wall * 1000, "ms", target="< 100 ms")
            yield Figure(f"{what}: {name}: CPU", cpu * 1000, "ms")
            yield Figure(f"{what}: {name}: answer", size / 1000, "kB")
        yield from _of_the_page(what, Path(folder) / "config.yaml")
        yield Figure(f"{what}: memory with API and page in use", _resident(daemon.pid), "MiB", target="< 60 MB")


def _of_the_page(what: str, settings: Path) -> Iterator[Figure]:
    """What `mvd web` takes for the front page of that daemon, and how soon a browser paints it."""
    port = free_port(ADDRESS)
    own = settings.with_name("web.yaml")  # the daemon reads its own anew, and this one ends then
    own.write_text(f"{settings.read_text()}web: {{listen: '{ADDRESS}:{port}'}}\n")
    url = f"http://{ADDRESS}:{port}/"
    with process("gitops_mvd", "--config", str(own), "web") as web:
        requests.get(url, timeout=_until_it_listens(port))
        wall, size = min(_fetched(url) for _ in range(ROUNDS))
        yield Figure(f"{what}: the page: by the clock", wall * 1000, "ms", target="< 100 ms")
        yield Figure(f"{what}: the page: HTML", size / 1000, "kB")
        if paints := list(_paints(url)):
            yield Figure(
                f"{what}: the page: first paint in Chromium", statistics.median(paints), "ms", target="< 100 ms"
            )
        yield Figure(f"{what}: memory of mvd web", _resident(web.pid), "MiB", target="< 60 MB")


def _until_it_listens(port: int) -> float:
    """Waits for a listener, and returns the seconds that are left for an answer."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends:
        with contextlib.suppress(OSError), socket.create_connection((ADDRESS, port), 1):
            return ends - time.monotonic()
        time.sleep(0.1)
    raise RuntimeError("mvd web does not listen")


def _fetched(url: str) -> tuple[float, int]:
    """Seconds for the page, and its size in bytes, over many."""
    began, size = time.monotonic(), 0
    with requests.Session() as session:
        for _ in range(TIMES):
            answer = session.get(url, timeout=30)
            answer.raise_for_status()
            size = len(answer.content)
    return (time.monotonic() - began) / TIMES, size


def _paints(url: str) -> Iterator[float]:
    """Milliseconds from the start of each of some navigations to the first content; none without a browser."""
    chromium = shutil.which("chromium")
    if not (chromium and importlib.util.find_spec("playwright")):
        print("no first paint: needs chromium and playwright")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        for _ in range(TIMES // 2):
            page.goto(url)
            while not (found := page.evaluate(f"{FIRST_PAINT}.map(it => it.startTime)")):
                page.wait_for_timeout(10)
            yield float(found[0])
        browser.close()


def _settings(world: World) -> Path:
    """The settings of a daemon of its own, with an operation that was kept."""
    asked, path = world.wired.settings, world.folder / "config.yaml"
    assert asked.kong
    text = {
        "repository": asked.repository,
        "host": HOST,
        "docker": {"url": asked.docker.url},
        "kong": {"admin": asked.kong.admin, "proxy": asked.kong.proxy, "address": ADDRESS},
        **{name: getattr(asked, name) for name in ("state", "files")},
        "run": str(world.folder / "run"),
    }
    path.write_text(yaml.safe_dump(text))
    step = StepView("app-000", "s0", "create", "unit", "mvd-app-000-s0-12345678", "unit mvd-app-000-s0", state=DONE)
    steps = tuple(replace(step, began=float(number)) for number in range(STEPS))
    file = OperationsFile(Path(asked.state) / "operations.db")
    file.save(OperationView(1, CommitView("1" * 40, "Deploy"), ("push",), 1.0, 2.0, steps=steps))
    file.close()
    return path


@contextlib.contextmanager
def _two_heaps() -> Iterator[None]:
    """Inside, what is started has as few heaps as the daemon's unit says."""
    before = os.environ.get(HEAPS)
    os.environ[HEAPS] = "2"
    try:
        yield
    finally:
        os.environ.pop(HEAPS)
        if before is not None:
            os.environ[HEAPS] = before


def _wait_for_a_pass(api: Path) -> None:
    ends = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends:
        with contextlib.suppress(OSError):
            if _ask(api, "/readyz")[0] == 200:
                time.sleep(SETTLE_SECONDS)
                return
        time.sleep(0.1)
    raise RuntimeError("the daemon has not come to the end of a pass")


def _ask(api: Path, path: str) -> tuple[int, int]:
    """The status of an answer, and its size in bytes."""
    connection = _Connection(api)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, len(answer.read())
    finally:
        connection.close()


def _asked(pid: int, api: Path, path: str) -> tuple[float, float, int]:
    """Seconds by the clock and of the daemon's CPU for one answer, and its size, over many."""
    began, cpu, size = time.monotonic(), _cpu(pid), 0
    for _ in range(TIMES):
        status, size = _ask(api, path)
        assert status == 200, path
    return (time.monotonic() - began) / TIMES, (_cpu(pid) - cpu) / TIMES, size


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> float:
    """Resident memory, in MiB."""
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / MIB
