"""What an operator types while the daemon runs: the commands ask it, start fast, and say what they say without it."""

from __future__ import annotations

import json
import logging
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from gitops_mvd.cli.install import completion_text
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.triggers import STOP, SYNC
from gitops_mvd.daemon.wiring import Wired
from tests.contract.terminal import Said, Terminal
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
def server(world: tuple[Daemon, Wired, Path], capsys: pytest.CaptureFixture[str]) -> Running:
    daemon, wired, run = world
    return Running(Terminal(capsys, wired.settings_path), daemon, wired, run)


@contextmanager
def at_work(server: Running) -> Iterator[None]:
    """Inside, the loop of the daemon runs."""
    thread = threading.Thread(target=server.daemon._loop)
    thread.start()
    try:
        yield
    finally:
        server.wired.mailbox.post(STOP)
        thread.join()
        server.daemon._ending = ""


# ---- what starts fast ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", [["status"], ["history"], ["events"], ["explain"], ["plan"], ["logs", "none"]], ids=" ".join
)
def test_a_command_that_looks_loads_only_what_asks_the_daemon(server: Running, words: list[str]) -> None:
    done = server.typed(*words)
    code, *modules = done.stderr.splitlines()[-1].split()
    rooms = {name.split(".")[1] for name in modules if name.startswith("gitops_mvd.")}
    assert code in ("0", "1"), done
    assert HEAVY & set(modules) == set()
    assert rooms == {"api", "cli", "core"}
    assert "gitops_mvd.core.model" not in modules


def test_help_and_version_load_no_command(server: Running) -> None:
    for words in (["--help"], ["--version"]):
        *_, modules = server.typed(*words).stderr.splitlines()
        assert not {"gitops_mvd.cli.status", "gitops_mvd.cli.plan", "requests", "yaml"} & set(modules.split())


# ---- the same, with a daemon and without -----------------------------------------------------------------------------


def alone(server: Running, monkeypatch: pytest.MonkeyPatch, *words: str) -> Said:
    """What a command says that looks for itself."""
    with monkeypatch.context() as patch:
        patch.setenv("MVD_ALONE", "1")
        patch.setattr("gitops_mvd.cli.look.connect", lambda config: server.wired)
        return server.terminal.mvd(*words)


@pytest.mark.parametrize("words", [["status"], ["status", "app0/s0"], ["history"], ["history", "--json"]], ids=" ".join)
def test_the_daemon_says_what_a_command_finds_out_for_itself(
    server: Running, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    name = json.loads(server.terminal.mvd("status", "--json").out)["apps"][0]["name"]
    words = [word.replace("app0", name) for word in words]
    asked, found = server.terminal.mvd(*words), alone(server, monkeypatch, *words)
    assert asked.code == found.code == 0
    ages = re.compile(r"\b\d+[smhd]\b( ago)?")
    assert ages.sub("", asked.out) == ages.sub("", found.out)


def test_the_status_for_programs_is_the_answer_of_the_api(server: Running) -> None:
    status = json.loads(server.terminal.mvd("status", "--json").out)
    assert (status["sync"], status["health"], len(status["apps"])) == ("Synced", "Healthy", len(status["apps"]))
    name = status["apps"][0]["name"]
    one = json.loads(server.terminal.mvd("status", name, "--json").out)
    assert [app["name"] for app in one["apps"]] == [name]


def test_an_app_that_is_not_there(server: Running) -> None:
    said = server.terminal.mvd("status", "nothing")
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("mvd: no such app on this host: nothing\n     Apps: ")


def test_settings_that_are_not_those_of_the_daemon_are_looked_at_without_it(server: Running, tmp_path: Path) -> None:
    other = tmp_path / "config.yaml"
    other.write_text(yaml.safe_dump({"repository": "/nowhere", "run": str(server.run), "state": str(tmp_path / "s")}))
    said = replace(server.terminal, config=other).mvd("history")
    assert said == Said(0, "WHEN  COMMIT  APP  OPERATION  HEALTH\n", "")


def test_a_daemon_that_has_just_started_shows_what_the_one_before_has_seen(server: Running) -> None:
    before, shown = server.daemon.answers.status(ask=False), Daemon(server.wired).answers.status(ask=False)
    assert (shown.commit, shown.apps, shown.at) == (before.commit, before.apps, 0.0)


def test_new_settings_that_were_rejected_are_told_by_the_daemon_that_goes_on_with_the_old_ones(server: Running) -> None:
    before = server.terminal.mvd("status")
    server.daemon.answers.rejected = "config.yaml:3: branhc: unknown key"
    try:
        said = server.terminal.mvd("status")
    finally:
        server.daemon.answers.rejected = ""
    told = "the settings are rejected, the old ones stay in force: config.yaml:3: branhc: unknown key"
    assert (before.code, said.code) == (0, 1)
    assert told in said.out.splitlines()


def test_a_server_that_is_suspended_shows_its_apps_and_by_whom(server: Running) -> None:
    daemon = Daemon(server.wired)
    server.terminal.mvd("suspend", "--why", "the disk is changed")
    try:
        daemon.reconcile_pass(frozenset({SYNC}))
        shown = daemon.answers.status(ask=True)
    finally:
        server.terminal.mvd("resume")
    assert shown.suspended
    assert [(app.sync, app.health) for app in shown.apps] == [("Synced", "Healthy")]
    assert all(service.instances for app in shown.apps for service in app.services)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")


@needs_root
def test_who_may_not_ask_is_told_which_group_to_join(server: Running) -> None:
    for folder in (server.run, *server.run.parents):
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    os.seteuid(65534)
    try:
        said = server.terminal.mvd("status")
    finally:
        os.seteuid(0)
    assert said == Said(
        1,
        "",
        f"mvd: cannot ask the daemon at {server.run}/api.sock: permission denied\n"
        "     run as root, or join the group mvd: usermod -aG mvd YOUR_NAME\n",
    )


# ---- mvd sync --------------------------------------------------------------------------------------------------------


def test_a_sync_is_made_by_the_daemon_and_its_result_shown(server: Running) -> None:
    with at_work(server):
        said = server.terminal.mvd("sync")
        told = json.loads(server.terminal.mvd("sync", "--json").out)
    assert said.code == 0
    assert said.out.splitlines()[0].split() == ["APP", "OPERATION", "SYNC", "HEALTH"]
    assert {(it["operation"], it["sync"], it["health"]) for it in told} == {("Succeeded", "Synced", "Healthy")}


def test_a_sync_of_a_suspended_server_says_why_nothing_was_changed(server: Running) -> None:
    server.terminal.mvd("suspend", "--why", "the disk is changed")
    try:
        with at_work(server):
            said = server.terminal.mvd("sync")
    finally:
        server.terminal.mvd("resume")
        server.daemon.reconcile_pass(frozenset({SYNC}))
    assert said.code == 1
    assert re.search("mvd: .*: suspended by .*: the disk is changed\nmvd: nothing was changed\n", said.err)


def test_a_sync_that_a_daemon_broke_off_as_it_starts_anew_is_asked_for_again(server: Running) -> None:
    place, aside = server.run / "act.sock", server.run / "aside"
    place.rename(aside)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen(1)

        def break_off() -> None:
            asks, _ = listener.accept()
            asks.recv(1 << 16)
            aside.replace(place)
            asks.close()

        with at_work(server):
            thread = threading.Thread(target=break_off)
            thread.start()
            said = server.terminal.mvd("sync")
            thread.join()
    assert (said.code, said.err) == (0, "")


# ---- mvd logs --------------------------------------------------------------------------------------------------------

ENTRIES = (
    ("app/web", "mvd-app-web-3f9c2a1b-1", "listening"),
    ("app/web", "mvd-app-web-3f9c2a1b-2", "\x1b[32mgreen\x1b[0m and \x07 loud"),
    ("app/db", "mvd-app-db-91be44d0", "<b>ready</b>"),
)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal with a few lines; what it was asked is written to the file `asked`."""
    lines = [
        json.dumps(
            {
                "SYSLOG_IDENTIFIER": identifier,
                "CONTAINER_NAME": instance,
                "MESSAGE": text,
                "__REALTIME_TIMESTAMP": str(1_800_000_000_000_000 + place),
                "__CURSOR": f"s={place}",
            }
        )
        for place, (identifier, instance, text) in enumerate(ENTRIES)
    ]
    (tmp_path / "lines").write_text("\n".join(lines) + "\n")
    (tmp_path / "journalctl").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        f'case "$*" in *--field*) printf "app/web\\napp/db\\n";; *) cat {tmp_path}/lines;; esac\n'
    )
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "asked"


def test_each_line_of_a_log_has_its_time_and_its_replica(server: Running, journal: Path) -> None:
    said = server.terminal.mvd("logs", "app")
    assert said.code == 0
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1_800_000_000))
    assert said.out.splitlines() == [
        f"{at} web-3f9c2a1b-1 | listening",
        f"{at} web-3f9c2a1b-2 | green and \\x07 loud",
        f"{at} db-91be44d0    | <b>ready</b>",
    ]


def test_logs_without_a_daemon_are_the_same(server: Running, journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = server.terminal.mvd("logs", "app")
    assert alone(server, monkeypatch, "logs", "app") == asked


def test_a_log_begins_with_as_many_lines_or_at_the_time_that_one_asks_for(server: Running, journal: Path) -> None:
    for words, option in (
        (["-n", "7"], r"--lines=7 "),
        ([], r"--lines=50 "),
        (["--since", "10m"], r"--lines=10000 --since=@\d+ "),
        (["--since", "2026-12-24T18:00", "-n", "3"], r"--lines=3 --since=@\d+ "),
    ):
        journal.unlink(missing_ok=True)
        assert server.terminal.mvd("logs", "app", *words).code == 0
        assert re.search(option, journal.read_text()), words


def test_a_time_that_is_none(server: Running) -> None:
    said = server.terminal.mvd("logs", "app", "--since", "yesterday")
    assert said.code == 1
    assert "not a time: yesterday. Write 10m, 2h, 1d, or 2026-12-24T18:00" in said.err


def test_a_log_for_programs_is_a_line_of_json_for_each(server: Running, journal: Path) -> None:
    first, *_ = server.terminal.mvd("logs", "app", "--json").out.splitlines()
    line = json.loads(first)
    assert (line["app"], line["service"], line["instance"]) == ("app", "web", "mvd-app-web-3f9c2a1b-1")


# ---- mvd events ------------------------------------------------------------------------------------------------------


def test_the_events_are_the_lines_of_the_daemons_log(server: Running) -> None:
    said = server.terminal.mvd("events")
    assert said.code == 0
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d info    revision fetched commit=", said.out, re.MULTILINE)


def test_without_a_daemon_there_are_no_events(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    said = alone(server, monkeypatch, "events")
    assert said == Said(
        1, "", "mvd: the daemon does not run here\n     What it said before: journalctl -u gitops-mvd\n"
    )


# ---- on a terminal ---------------------------------------------------------------------------------------------------


@dataclass
class Screen:
    """A terminal of 80 columns on which a command runs."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""

    def until(self, text: str) -> str:
        """All that was shown until that text was."""
        gives_up = time.monotonic() + 30
        while text not in self.shown and time.monotonic() < gives_up:
            if select.select([self.master], [], [], 0.2)[0]:
                try:
                    self.shown += os.read(self.master, 65536).decode(errors="replace")
                except OSError:  # its end
                    break
        assert text in self.shown, self.shown
        return self.shown


@contextmanager
def screen(server: Running, *words: str, **environment: str) -> Iterator[Screen]:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 80))
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-c",
        LOADED,
        str(server.run),
        "--config",
        str(server.wired.settings_path),
        *words,
    ]
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=subprocess.DEVNULL, env={**known, "TERM": "xterm", **environment}
    )
    os.close(slave)
    try:
        yield Screen(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


GREEN = "\x1b[32mHealthy\x1b[0m"


def test_on_a_terminal_words_have_colours_and_rows_fit(server: Running) -> None:
    with screen(server, "status") as terminal:
        shown = terminal.until(GREEN)
        terminal.process.wait(30)
    assert all(len(re.sub(r"\x1b\[[0-9;]*m", "", line)) <= 80 for line in shown.splitlines())


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_nobody_who_does_not_want_colours_gets_them(server: Running, environment: dict[str, str]) -> None:
    with screen(server, "status", **environment) as terminal:
        assert "\x1b" not in terminal.until("Healthy")


def test_a_status_that_is_watched_is_shown_again_and_ends_with_ctrl_c(server: Running) -> None:
    with screen(server, "status", "--watch") as terminal:
        terminal.until("Healthy")
        server.terminal.mvd("suspend", "--why", "somebody looks on")
        server.wired.changes.note()
        try:
            terminal.until("somebody looks on")
        finally:
            server.terminal.mvd("resume")
        terminal.process.send_signal(signal.SIGINT)
        terminal.until("\x1b[?1049l")  # the screen of before
        assert "\x1b[?25h" in terminal.shown, "the cursor is shown again"
        assert terminal.process.wait(30) == 0, "which is the exit of what runs it"


# ---- completion ------------------------------------------------------------------------------------------------------


def completed(server: Running, *words: str) -> list[str]:
    """What bash completes the last word to."""
    line = ["mvd", "--config", str(server.wired.settings_path), *words]
    environment = {"_MVD_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(line), "COMP_CWORD": str(len(line) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, str(server.run)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_commands_apps_services_and_pages_are_completed(server: Running) -> None:
    app = json.loads(server.terminal.mvd("status", "--json").out)["apps"][0]
    name, service = app["name"], app["services"][0]["name"]
    assert completed(server, "sta") == ["status"]
    assert name in completed(server, "logs", name[:2])
    assert f"{name}/{service}" in completed(server, "explain", f"{name}/")
    assert completed(server, "suspend", name) == [name]
    assert completed(server, "docs", "gloss") == ["glossary"]
    assert completed(server, "schema", "x-m") == ["x-mvd"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    script = completion_text(shell)
    assert f"_MVD_COMPLETE={shell}_complete" in script
    if shell == "bash":
        line = "COMP_WORDS=(mvd doct); COMP_CWORD=1; _mvd_completion mvd; echo ${COMPREPLY[0]}"
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", f"{script}\n{line}"], capture_output=True, text=True, timeout=60, env={"PATH": path}
        )
        assert done.stdout == "doctor\n", done
