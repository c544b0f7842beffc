"""What an operator types while the daemon runs: the commands ask it, start fast, and say what they say without it."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.triggers import SYNC
from gitops_mvd.daemon.wiring import Wired
from tests.contract.terminal import Terminal
from tests.lab.bench.world import recorded
from tests.threads import kept

# sdnotify leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SERVICES = 3
# runs `mvd` where the daemon is at a place of its own, and tells what it had to load
LOADED = """
import sys
from pathlib import Path
from gitops_mvd.cli import daemon_api
from gitops_mvd.cli.main import main
daemon_api.RUN = Path(sys.argv[1])
try:
    main(sys.argv[2:])
except SystemExit as ended:
    print(ended.code or 0, *sorted(sys.modules), file=sys.stderr)
"""
HEAVY = {"docker", "git", "requests", "urllib3", "yaml", "jeepney", "rich", "importlib.metadata", "asyncio"}
HEAVY_ROOMS = ("config", "daemon", "docker", "forges", "git", "host", "kinds", "kong", "manifest", "net", "state")


@dataclass
class Running:
    """A server whose daemon answers, and a terminal on it."""

    terminal: Terminal
    daemon: Daemon
    wired: Wired
    run: Path

    def typed(self, *words: str, code: str = LOADED) -> subprocess.CompletedProcess[str]:
        """A command in a process of its own."""
        command = [sys.executable, "-c", code, str(self.run), "--config", str(self.wired.settings_path), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, Wired, Path]]:
    folder = tmp_path_factory.mktemp("served")
    with recorded(folder, SERVICES, "off") as world, ExitStack() as parts:
        settings, run = folder / "config.yaml", folder / "run"
        settings.write_text(yaml.safe_dump({"repository": world.wired.settings.repository, "run": str(run)}))
        wired = replace(world.wired, settings=replace(world.wired.settings, run=str(run)), settings_path=settings)
        daemon = Daemon(wired)
        logger = logging.getLogger("gitops_mvd")
        parts.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.INFO)
        parts.enter_context(daemon.events)
        [(api, wake)] = [(thread, wake) for name, thread, wake in daemon.threads() if name == "api"]
        assert parts.enter_context(kept(api, wake)).wait(10)
        daemon.reconcile_pass(frozenset({SYNC}))
        yield daemon, wired, run


@pytest.fixture
def server(
    world: tuple[Daemon, Wired, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Running:
    daemon, wired, run = world
    return Running(Terminal(capsys, wired.settings_path), daemon, wired, run)


def test_commands_that_look_load_only_what_asks_the_daemon(server: Running) -> None:
    for words in (["status"], ["history"], ["events"], ["explain"], ["plan"], ["logs", "none"]):
        done = server.typed(*words)
        code, *modules = done.stderr.splitlines()[-1].split()
        loaded = {name for name in modules if name in HEAVY or name.startswith("gitops_mvd.")}
        rooms = {name for name in loaded if name.split(".")[1:2] and name.split(".")[1] in HEAVY_ROOMS}
        assert code in ("0", "1"), done
        assert not loaded & HEAVY, words
        assert not rooms, words
        assert "gitops_mvd.core.model" not in loaded, words
