"""Every mistake that a person makes with `mvd` is answered in plain words: what, where, why, and what to do."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract import recorded
from tests.contract.terminal import ENGINE, REFUSES, SYSTEMD, Repository, Said, Terminal, compose

# the SDK of Docker leaves a socket that it could not connect to the garbage collector, and sdnotify its own
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else for a while")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository(tmp_path_factory.mktemp("git") / "config.git")
    routed = compose(**{"x-kong": {"port": 80, "routes": [{"paths": ["/shop"]}]}})
    repository.commit({"apps/hello/compose.yaml": compose(), "apps/shop/compose.yaml": routed}, "Say hello")
    return repository


@pytest.fixture
def server(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Terminal]:
    """A server of which Git, Docker and systemd answer, and that has no Kong."""
    played = recorded.Played()
    with ExitStack() as parts:
        engine = parts.enter_context(recorded.docker(ENGINE, played))
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", parts.enter_context(recorded.systemd(SYSTEMD, played)))
        monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
        (tmp_path / "units").mkdir()
        monkeypatch.setattr("gitops_mvd.daemon.wiring.UNITS", tmp_path / "units")
        monkeypatch.setenv("NO_PROXY", "*")
        config = tmp_path / "etc/config.yaml"
        config.parent.mkdir()
        settings = {
            "repository": f"file://{repository.path}",
            "host": "srv1",
            "docker": {"url": engine},
            **{folder: str(tmp_path / folder) for folder in ("state", "files", "secrets")},
        }
        config.write_text(yaml.safe_dump(settings))
        yield Terminal(capsys, config)
    assert played.unknown == []
    assert played.refused == []


def is_plain(said: Said) -> None:
    """It names no class of a library and no number of an error."""
    assert not re.search(r"\b[A-Z]\w*(Error|Exception|Pool)\b|\bErrno\b|object at 0x|\(\d+, '", said.out + said.err), (
        said
    )


# ---- what is typed ---------------------------------------------------------------------------------------------------


def test_an_unknown_command(server: Terminal) -> None:
    said = server.mvd("pan")
    assert said.code == 1
    assert "No such command 'pan'" in said.err
    assert "Try 'mvd --help' for help." in said.err


def test_an_unknown_option(server: Terminal) -> None:
    said = server.mvd("plan", "--jsn")
    assert said.code == 1
    assert "No such option" in said.err
    assert "Did you mean --json?" in said.err.replace("'", "")


def test_no_such_app(server: Terminal) -> None:
    server.mvd("plan")
    assert server.mvd("explain", "helo") == Said(
        1, "", "mvd: no such app or service on this host: helo\n     Apps: hello, shop\n"
    )
    assert server.mvd("explain", "hello/db").code == 1


def test_nothing_to_retry(server: Terminal) -> None:
    assert server.mvd("retry", "hello") == Said(
        1, "", "hello: no version is marked failed, so there is nothing to retry. See `mvd status`.\n"
    )


def test_no_such_page_of_the_manual(server: Terminal) -> None:
    said = server.mvd("docs", "postgres")
    assert said.code == 1
    assert said.err.startswith("mvd: no such page: postgres\n     Pages: how-it-works, ")


def test_no_such_folder_to_validate(server: Terminal) -> None:
    said = server.mvd("validate", "/nowhere")
    assert said.code == 1
    assert "Directory '/nowhere' does not exist." in said.err


def test_two_options_that_exclude_each_other(server: Terminal, tmp_path: Path) -> None:
    said = server.mvd("kong", "dump", "-", "--with-secrets", "--secrets", str(tmp_path / "secrets"))
    assert said.code == 1
    assert "--secrets and --with-secrets exclude each other" in said.err


# ---- the settings ----------------------------------------------------------------------------------------------------

COMMANDS = [
    *(["sync"], ["plan"], ["status"], ["history"], ["explain"], ["retry", "hello"], ["suspend"], ["resume"]),
    *(["adopt"], ["forget", "srv2"], ["kong", "dump", "-"], ["run"], ["install"], ["uninstall"]),
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_settings(server: Terminal, words: list[str]) -> None:
    server.config.unlink()
    assert server.mvd(*words) == Said(
        1, "", f"mvd: cannot read {server.config}: no such file\n     `mvd install --repository URL` writes it\n"
    )


def test_no_settings_for_the_doctor(server: Terminal) -> None:
    server.config.unlink()
    said = server.mvd("doctor")
    assert said.code == 1
    assert said.out.split() == [
        *f"fail settings cannot read {server.config}: no such file".split(),
        *["`mvd", "install", "--repository", "URL`", "writes", "it"],
    ]


def test_an_unknown_key(server: Terminal) -> None:
    server.set(branhc="trunk")
    line = 1 + server.config.read_text().splitlines().index("branhc: trunk")
    said = server.mvd("plan")
    assert said.code == 1
    assert said.err.startswith(f"{server.config}:{line}: branhc: ")
    assert "did you mean `branch`?" in said.err
    assert len(said.err.splitlines()) == 1


def test_every_mistake_in_the_settings_is_told_by_the_doctor(server: Terminal) -> None:
    server.set(branhc="trunk", interval="soon")
    said = server.mvd("doctor")
    assert said.code == 1
    assert "did you mean `branch`?" in said.out
    assert "interval: " in said.out


def test_settings_that_are_no_file(server: Terminal) -> None:
    server.config.unlink()
    server.config.mkdir()
    assert server.mvd("status") == Said(1, "", f"mvd: cannot read {server.config}: Is a directory\n")


def test_a_token_that_is_not_there(server: Terminal) -> None:
    server.set(credentials={"token_file": "/nowhere/token"})
    assert server.mvd("plan") == Said(
        1, "", "mvd: cannot read /nowhere/token (credentials.token_file): No such file or directory\n"
    )


def test_a_token_that_is_no_text(server: Terminal, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    server.set(credentials={"token_file": f"{tmp_path}/token"})
    assert server.mvd("plan") == Said(
        1, "", f"mvd: cannot read {tmp_path}/token (credentials.token_file): not a text file\n"
    )


def test_a_webhook_secret_that_can_be_guessed(server: Terminal, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("1234\n")
    server.set(forge={"kind": "github", "repository": "a/b"}, webhook={"secret_file": f"{tmp_path}/secret"})
    assert server.mvd("status") == Said(
        1,
        "",
        f"mvd: {tmp_path}/secret (webhook.secret_file) has 4 characters, and needs 16\n"
        "     Make one: openssl rand -hex 32\n",
    )


# ---- who types it ----------------------------------------------------------------------------------------------------


def as_somebody_else(server: Terminal, *words: str) -> Said:
    """What is said to somebody who is not root."""
    for name in ("loop", "preview"):  # Python itself may lie where only root can read
        importlib.import_module(f"gitops_mvd.daemon.{name}")
    server.mvd("history")
    os.seteuid(65534)
    try:
        return server.mvd(*words)
    finally:
        os.seteuid(0)


def open_to_all(folder: Path) -> None:
    """Let everybody get there, through what pytest keeps for its user alone."""
    for each in (folder, *folder.parents):
        if not each.stat().st_mode & 0o001:
            each.chmod(0o755)


@needs_root
def test_not_root_and_the_settings_are_for_root_alone(server: Terminal) -> None:
    open_to_all(server.config.parent)
    server.config.chmod(0o600)
    said = as_somebody_else(server, "status")
    assert said == Said(1, "", f"mvd: cannot read {server.config}: permission denied\n     Run as root: sudo mvd ...\n")


@needs_root
def test_not_root_and_the_token_is_for_root_alone(server: Terminal, tmp_path: Path) -> None:
    open_to_all(tmp_path)
    (tmp_path / "token").write_text("secret")
    (tmp_path / "token").chmod(0o600)
    server.set(credentials={"token_file": f"{tmp_path}/token"})
    said = as_somebody_else(server, "status")
    assert said == Said(
        1, "", f"mvd: cannot read {tmp_path}/token (credentials.token_file): permission denied\n     Run as root\n"
    )


@needs_root
@pytest.mark.parametrize("words", [["sync"], ["suspend", "--why", "now"]], ids=" ".join)
def test_not_root_and_something_is_to_be_written(server: Terminal, tmp_path: Path, words: list[str]) -> None:
    open_to_all(tmp_path)
    said = as_somebody_else(server, *words)
    assert said.code == 1
    assert str(tmp_path) in said.err
    assert "ermission denied" in said.err
    is_plain(said)


# ---- the repository --------------------------------------------------------------------------------------------------


def test_a_wrong_path_of_the_repository(server: Terminal) -> None:
    server.set(repository="/nowhere/config.git")
    said = server.mvd("plan")
    assert said.code == 1
    assert "/nowhere/config.git" in said.err
    assert "check the URL" in said.err
    is_plain(said)


def test_a_wrong_branch(server: Terminal, repository: Repository) -> None:
    server.set(branch="trunk")
    said = server.mvd("plan")
    assert said.code == 1
    assert said.err.startswith(f"mvd: file://{repository.path} has no branch trunk\n")


def test_a_git_server_that_is_down(server: Terminal) -> None:
    server.set(repository=f"http://{REFUSES}/acme/config.git")
    said = server.mvd("plan")
    assert said.code == 1
    assert said.err.startswith(f"mvd: http://{REFUSES}/acme/config.git does not answer\n")
    is_plain(said)


def test_a_wrong_token(server: Terminal, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-wrong-token")
    with recorded.http(lambda method, target, body: (401, {})) as url:
        repository = f"{url}/acme/config.git"
        server.set(repository=repository, credentials={"token_file": f"{tmp_path}/token", "insecure": True})
        said = server.mvd("plan")
    assert said.code == 1
    assert said.err.startswith(f"mvd: {repository} refused the login\n")
    assert "credentials" in said.err
    assert "a-wrong-token" not in said.err
    is_plain(said)


def test_a_status_before_the_first_fetch(server: Terminal) -> None:
    said = server.mvd("status")
    assert said.code == 1
    assert "never fetched" in said.err
    assert "`mvd sync`" in said.err


# ---- Docker and Kong -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [("unix:///nowhere/docker.sock", "no such file or directory"), (f"tcp://{REFUSES}", "connection refused")],
)
@pytest.mark.parametrize("command", ["plan", "status"])
def test_docker_is_down(server: Terminal, url: str, why: str, command: str) -> None:
    server.mvd("plan")
    server.set(docker={"url": url})
    assert server.mvd(command) == Said(
        1, "", f"mvd: Docker does not answer at {url}: {why}\n     Start it: systemctl start docker\n"
    )


def test_docker_is_down_and_the_doctor_says_all_the_rest(server: Terminal) -> None:
    server.set(docker={"url": f"tcp://{REFUSES}"})
    said = server.mvd("doctor", "--json")
    assert said.code == 1
    assert f"Docker does not answer at tcp://{REFUSES}: connection refused" in said.out
    assert '"what": "repository",\n    "verdict": "ok"' in said.out
    is_plain(said)


def test_kong_is_down_and_only_the_app_with_a_route_cannot_be_planned(server: Terminal) -> None:
    server.set(kong={"admin": f"http://{REFUSES}", "proxy": f"http://{REFUSES}"})
    said = server.mvd("plan", "--verbose")
    assert said.code == 1
    assert "+ unit     mvd-hello-web-" in said.out
    assert f"# shop: cannot be planned now: Kong at http://{REFUSES} " in said.out
    is_plain(said)


def test_no_kong_is_a_warning_of_the_doctor(server: Terminal) -> None:
    said = server.mvd("doctor")
    assert said.code == 0, said.out
    assert "warn  kong           not set up: services with x-kong wait\n" in said.out
    assert "Set `kong` in the settings. To have one as an app: mvd init NEW --kong app" in said.out


@pytest.mark.parametrize("words", [["adopt"], ["kong", "dump", "-"], ["forget", "srv2"]], ids=" ".join)
def test_a_command_about_kong_on_a_server_without_one(server: Terminal, words: list[str]) -> None:
    said = server.mvd(*words)
    assert said.code == 1
    assert "kong" in said.err.lower()
    assert len(said.err.splitlines()) == 2
    is_plain(said)


# ---- the daemon ------------------------------------------------------------------------------------------------------

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from gitops_mvd.state.lock import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_another_daemon_runs_already(server: Terminal, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path / "state")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        try:
            said = server.mvd("run")
        finally:
            other.kill()
    assert said.code == 1
    assert f"process {other.pid}" in said.err
    assert "systemctl status gitops-mvd" in said.err


def test_the_state_cannot_be_written(server: Terminal) -> None:
    server.set(state="/proc/nowhere")
    said = server.mvd("sync")
    assert said.code == 1
    assert "/proc/nowhere" in said.err
    is_plain(said)


def test_resume_on_a_server_that_is_not_suspended(server: Terminal) -> None:
    assert server.mvd("resume") == Said(1, "", "this server is not suspended\n")


@pytest.fixture
def anna(server: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A server that knows its apps, at which anna types behind `sudo`."""
    monkeypatch.setenv("SUDO_USER", "anna")
    server.mvd("plan")
    return server


def test_one_app_is_suspended_and_shown_so(anna: Terminal) -> None:
    assert anna.mvd("suspend", "hello", "--why", "the disk is changed") == Said(
        0, "suspended: hello is left as it is until `mvd resume hello`\n", ""
    )
    told = "suspended by anna: the disk is changed"
    status = anna.mvd("status")
    assert re.search(rf"hello +OutOfSync +Suspended .* {told}; web: its container is missing", status.out)
    assert status.code == 1
    plan = anna.mvd("plan")
    assert f"# hello: left as it is: {told}\n" in plan.out
    assert "hello: nothing of it runs yet" not in plan.out
    assert "hello" not in json.loads(anna.mvd("plan", "--json").out)["changes"]
    assert f"warn  suspended      hello: {told}\n" in anna.mvd("doctor").out
    assert anna.mvd("resume") == Said(1, "", "this server is not suspended; apps that are: hello (mvd resume APP)\n")
    assert anna.mvd("resume", "hello").out == "resumed: the daemon syncs now; without it, run `mvd sync`\n"
    assert "Suspended" not in anna.mvd("status").out


def test_an_app_is_stopped_until_a_time(anna: Terminal) -> None:
    said = anna.mvd("suspend", "hello", "--stop", "--until", "2999-12-24T18:00")
    end = "2999-12-24 18:00 or `mvd resume hello`"
    assert said == Said(0, f"suspended: hello stops, and nothing of it is changed, until {end}\n", "")
    assert re.search(r"hello +OutOfSync +Suspended .* stopped by anna until 2999-12-24 18:00\n", anna.mvd("status").out)


def test_a_reason_in_the_place_of_an_app_is_answered_by_the_option_for_it(anna: Terminal) -> None:
    assert anna.mvd("suspend", "the", "disk", "is", "changed") == Said(
        1,
        "",
        "mvd: mvd suspend takes one app, or none for the whole server\n"
        "     give a reason by --why: mvd suspend --why 'the disk is changed'\n",
    )
    assert anna.mvd("suspend", "maintenance") == Said(
        1,
        "",
        "mvd: no app maintenance on this host; give a reason by --why: mvd suspend --why 'maintenance'\n"
        "     Apps: hello, shop\n",
    )
    assert list(anna.config.parent.glob("suspended*")) == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--stop"], "mvd: --stop is for one app: mvd suspend APP --stop\n"),
        (["hello", "--until", "tomorrow"], "mvd: not a time: tomorrow\n     an end is a duration such as 30m"),
        (["hello", "--until", "2020-01-01"], "mvd: 2020-01-01 is over already\n"),
    ],
    ids=lambda it: " ".join(it) if isinstance(it, list) else "",
)
def test_a_suspension_that_cannot_be(anna: Terminal, words: list[str], says: str) -> None:
    said = anna.mvd("suspend", *words)
    assert said.code == 1
    assert said.err.startswith(says)
    assert list(anna.config.parent.glob("suspended*")) == []


def test_resume_of_an_app_while_the_server_is_suspended(anna: Terminal) -> None:
    anna.mvd("suspend", "--until", "2h")
    assert anna.mvd("resume", "hello") == Said(1, "", "hello is not suspended; the server is: mvd resume\n")
    anna.mvd("suspend", "hello")
    assert "the server itself is still suspended: mvd resume\n" in anna.mvd("resume", "hello").out
    assert anna.mvd("status").out.splitlines()[1].startswith("suspended by anna until ")


def test_a_sync_on_a_suspended_server_says_why_it_does_nothing(
    server: Terminal, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    server.mvd("suspend", "--why", "the disk is being changed")
    said = server.mvd("sync")
    assert said.code == 1
    assert said.err == "mvd: nothing was changed\n"
    assert "this server is suspended by anna: the disk is being changed (`mvd resume`)" in caplog.text
