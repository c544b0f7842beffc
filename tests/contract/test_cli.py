"""What an operator types on a server and reads there: the recorded server, played at its edges."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import re
import socket
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gitops_mvd.cli import install
from gitops_mvd.config.settings import Settings, read
from gitops_mvd.core.model import ThreadState, digest
from gitops_mvd.core.notice import Notice, What
from gitops_mvd.daemon.awaited import Awaited
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.mailbox import Mailbox
from gitops_mvd.daemon.webhook import webhook_thread
from gitops_mvd.daemon.wiring import wire
from gitops_mvd.state.history import SqliteHistory
from gitops_mvd.state.notices import Notices
from tests.contract import recorded
from tests.contract.terminal import ENGINE, IMAGE, SYSTEMD, Repository, Said, Terminal, compose, git
from tests.contract.test_upgrade import Server, needs_root
from tests.lab.forge import Forge
from tests.threads import kept

# sdnotify leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def recorded_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    with pytest.MonkeyPatch.context() as monkeypatch, server.running(monkeypatch) as wired:
        monkeypatch.setattr("gitops_mvd.daemon.wiring.UNITS", server.root / "etc/systemd/system")
        monkeypatch.setattr("gitops_mvd.cli.machine.DAEMON_JSON", server.root / "etc/docker/daemon.json")
        with contextlib.closing(sqlite3.connect(server.history)) as history:
            [last] = history.execute("SELECT max(id) FROM event").fetchone()
            Daemon(
                wired
            ).once()  # the first pass of this version writes the units anew, which these tests are not about
            history.execute("DELETE FROM event WHERE id > ?", (last,))
            history.commit()
        yield server


@pytest.fixture
def operator(recorded_server: Server, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys, recorded_server.settings)


def table(out: str) -> list[list[str]]:
    """The rows of a table, without its head."""
    return [re.split(r"\s{2,}", line) for line in out.splitlines()[1:]]


# ---- a server on which some deploys have failed ----------------------------------------------------------------------

NOTES = """\
# broken: not deployed: apps/broken/compose.yaml:1: services.web: has no `image` (commit 67dcb07 failed)
# paused: not deployed: web: http 500 from /health for 3 s; paused (commit 67dcb07 failed)
# undone: not deployed: web: http 500 from /health for 3 s (commit 67dcb07 failed)
# went-on: deployed, but web: http 500 from /health for 3 s (commit 67dcb07 failed)
"""


@needs_root
def test_a_plan_with_nothing_to_do_names_what_is_not_deployed(operator: Terminal) -> None:
    assert operator.mvd("plan") == Said(1, NOTES, "No changes. 7 of 10 apps match 7385d30.\n")


@needs_root
def test_a_plan_for_programs(operator: Terminal) -> None:
    said = operator.mvd("plan", "--json")
    plan = json.loads(said.out)
    assert said.code == 1, "one app cannot be deployed as it is"
    assert plan["revision"].startswith("7385d30")
    assert plan["changes"] == {}
    assert plan["apps"].keys() >= {"chatbot", "gateway", "broken"}
    assert not any(plan["apps"].values())
    assert plan["held"].keys() == {"broken", "paused", "undone", "went-on"}


@needs_root
def test_the_status_has_a_line_for_each_app_and_is_not_good(operator: Terminal) -> None:
    said = operator.mvd("status")
    assert said.code == 1
    head, *rows = said.out.splitlines()
    assert head == "web-1: OutOfSync with 7385d30 Jobs 1.1, while the forge is down (3 of 10 apps)"
    apps = {row[0]: row[1:] for row in table("\n".join(rows))}
    assert apps["images"][:2] == ["Synced", "Healthy"]
    assert apps["paused"][:2] == ["OutOfSync", "Healthy"]
    assert apps["paused"][-1] == "web: http 500 from /health for 3 s; paused"
    assert apps["chatbot"][:2] == ["Synced", "Degraded"]  # nobody answers its probe here


@needs_root
def test_threads_that_are_down_or_were_started_again_are_lines_of_status_and_doctor(
    operator: Terminal, recorded_server: Server
) -> None:
    down = ThreadState("webhooks", False, time.time() - 7, "cannot listen for webhooks at 0.0.0.0:9180: in use", 3)
    again = ThreadState("outbox", True, time.time() - 60, "internal error, see the log of gitops-mvd: KeyError", 1)
    long_ago = ThreadState("monitor", True, time.time() - 4000, "it ended by itself", 1)
    history, lock = SqliteHistory(recorded_server.history), recorded_server.history.parent / "lock"
    history.save_threads([down, again, long_ago])
    try:
        lock.write_text(f"{os.getpid()}\n")  # a daemon that runs
        said, doctor = operator.mvd("status").out.splitlines(), operator.mvd("doctor")
        told = json.loads(operator.mvd("status", "--json").out)["threads"]
        lock.write_text("0\n")
        assert "thread" not in operator.mvd("status").out
        assert "threads" not in operator.mvd("doctor").out
    finally:
        lock.unlink()
        history.save_threads([])
        history.close()
    in_use = r"webhooks not running since \d+s ago: cannot listen for webhooks at 0\.0\.0\.0:9180: in use"
    broke = r"outbox started again \d+s ago: internal error, see the log of gitops-mvd: KeyError"
    assert re.fullmatch(f"thread {in_use}", said[1])
    assert re.fullmatch(f"thread {broke}", said[2])
    assert not said[3].startswith("thread")
    assert doctor.code == 1
    assert re.search(f"fail  threads        {in_use}", doctor.out)
    assert re.search(f"warn  threads        {broke}", doctor.out)
    assert [(one["name"], one["is_up"]) for one in told] == [("webhooks", False), ("outbox", True)]


@needs_root
def test_a_status_for_programs_with_the_reason_of_a_suspension(
    operator: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "anna")
    assert operator.mvd("suspend", "--why", "the disk is changed").code == 0
    try:
        status = json.loads(operator.mvd("status", "--json").out)
        line = "suspended by anna: the disk is changed (`mvd resume` ends it)"
        assert line in operator.mvd("status").out.splitlines()
        doctor = operator.mvd("doctor").out
        assert operator.mvd("sync").code == 1
    finally:
        assert operator.mvd("resume").out.startswith("resumed: ")
    assert (status["suspended"]["by"], status["suspended"]["why"]) == ("anna", "the disk is changed")
    [images] = [app for app in status["apps"] if app["name"] == "images"]
    assert (images["sync"], images["health"], images["why"]) == ("Synced", "Healthy", "")
    assert "warn  suspended      nothing is changed here: suspended by anna: the disk is changed\n" in doctor


@needs_root
def test_the_history_is_newest_first(operator: Terminal) -> None:
    said = operator.mvd("history", "-n", "3")
    assert said.code == 0
    assert [row[1:] for row in table(said.out)] == [
        ["7385d30", "jobs", "Succeeded", "Healthy"],
        ["e020bea", "database", "Succeeded", "Healthy"],
        ["67dcb07", "leaves", "Succeeded", "Healthy"],
    ]


@needs_root
def test_the_history_of_one_app_for_programs(operator: Terminal) -> None:
    events = json.loads(operator.mvd("history", "--app", "chatbot", "--json").out)
    assert [(event["app"], event["commit"][:7]) for event in events] == [("chatbot", "eb33aaf"), ("chatbot", "d7c9ecc")]


@needs_root
def test_an_explanation_of_one_service(operator: Terminal) -> None:
    said = operator.mvd("explain", "chatbot/web")
    assert said.code == 0
    head, order, *_ = said.out.splitlines()
    assert head == "chatbot/web"
    assert order.split()[:2] == ["order", "start-first:"]
    assert json.loads(operator.mvd("explain", "chatbot/web", "--json").out)["chatbot"].keys() == {"web"}


@needs_root
def test_an_app_with_mistakes_cannot_be_explained(operator: Terminal) -> None:
    said = operator.mvd("explain", "broken")
    assert said.code == 1
    assert said.err.startswith("apps/broken/compose.yaml:1: services.web: has no `image`\n")


@needs_root
def test_the_doctor_finds_that_the_forge_is_down(operator: Terminal) -> None:
    said = operator.mvd("doctor")
    assert said.code == 1
    for line in (
        "ok    docker         20.10.24+dfsg1, overlay2",
        "ok    systemd        25 managed units",
        "warn  daemon         not running",
        "ok    fleet.yaml     web-1: region=uk, role=web",
        "ok    kong           answers; 23 managed entities",
        "                     Why: journalctl -u gitops-mvd",
    ):
        assert f"{line}\n" in said.out
    assert re.search(r"^warn  forge          statuses: \d+ sent, 3 waiting, 0 rejected by github$", said.out, re.M)
    assert re.search(r"^fail  forge          GitHub at \S+ answered 503$", said.out, re.M)


@needs_root
def test_the_doctor_says_since_when_a_receiver_of_notifications_fails(
    operator: Terminal, recorded_server: Server
) -> None:
    notices = Notices(recorded_server.history.parent / "notices.db")
    notice = Notice(0.0, "web", What.FAILED, "http 503")
    team, pager = {"name": "team", "url": "json://127.0.0.1:1"}, {"name": "pager", "url": "ntfy://a/b"}
    operator.set(notify=[team, {"url_file": "/nowhere/mail"}, pager])
    try:
        notices.keep({}, [("team", notice), ("pager", notice)])
        notices.mark_failed("team", "connection refused", time.time() - 7)
        notices.mark_failed("team", "connection refused", time.time() - 2)
        _, last = notices.waiting("pager")
        notices.mark_sent("pager", last)
        said = operator.mvd("doctor").out
    finally:
        operator.set(notify=None)
        notices.close()
    failing = r"team: failing since \d+s ago \(2 attempts\): connection refused; 1 notice waiting, 0 dropped"
    assert re.search(rf"^warn  notify         {failing}\n {{21}}Try it: mvd notify --test team$", said, re.M)
    missing = "mail: cannot read /nowhere/mail (notify.mail.url_file): No such file or directory"
    assert f"fail  notify         {missing}\n" in said
    assert "ok    notify         pager: 1 message sent\n" in said
    assert "notify" not in operator.mvd("doctor").out


@needs_root
def test_the_doctor_for_programs(operator: Terminal) -> None:
    findings = json.loads(operator.mvd("doctor", "--json").out)
    assert {"what": "docker", "verdict": "ok", "told": "20.10.24+dfsg1, overlay2", "hint": ""} in findings


@needs_root
def test_a_sync_without_a_daemon_says_how_each_app_came_out(operator: Terminal) -> None:
    said = operator.mvd("sync")
    assert said.code == 1
    assert ["images", "Succeeded", "Synced", "Healthy"] in table(said.out)
    assert ["undone", "RolledBack", "OutOfSync", "Healthy", "web: http 500 from /health for 3 s"] in table(said.out)
    outcomes = json.loads(operator.mvd("sync", "--json").out)
    assert {"app": "images", "sync": "Synced", "health": "Healthy", "operation": "Succeeded", "why": ""} in outcomes


@needs_root
def test_a_failed_version_is_planned_anew_after_a_retry(operator: Terminal) -> None:
    said = operator.mvd("retry", "undone")
    assert said == Said(0, "undone: its failed version is tried again at the next sync. Now: mvd sync\n", "")
    plan = operator.mvd("plan", "-v")
    assert plan.code == 1, "another app cannot be deployed as it is"
    assert "+ unit     mvd-undone-web-" in plan.out
    told = "undone: no downtime\n  web: image registry.lab:5000/web:1.0 → sick · health within 20 s → 3 s\n"
    assert told in plan.out
    assert plan.err == "1 of 10 apps to change at 7385d30.\n"
    assert operator.mvd("retry", "undone").code == 1


@needs_root
def test_logs_are_what_journalctl_prints_of_all_versions(
    operator: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes journalctl, and so it is the last thing that a process does: this one stays, as there is none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    said = operator.mvd("logs", "chatbot/web")
    assert said.code == 1
    assert said.err.startswith("mvd: cannot run journalctl")


@needs_root
def test_logs_of_what_never_printed_anything(
    operator: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "journalctl").write_text("#!/bin/sh\necho chatbot/web; echo sshd\n")
    (tmp_path / "journalctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    said = operator.mvd("logs", "chat")
    assert said == Said(1, "", "mvd: no output of chat in the journal\n     Apps of this server: mvd status\n")


# ---- a new server ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Newcomer:
    """A server on which nothing was deployed; `engine` and `systemd` are what Docker and systemd answer."""

    terminal: Terminal
    repository: Repository
    engine: dict[str, Any]
    systemd: dict[str, Any]


@pytest.fixture
def newcomer(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Newcomer]:
    played, engine, systemd = recorded.Played(), copy.deepcopy(dict(ENGINE)), copy.deepcopy(dict(SYSTEMD))
    with recorded.docker(engine, played) as url, recorded.systemd(systemd, played) as bus:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", bus)
        monkeypatch.setenv("DOCKER_CONFIG", "/nonexistent")
        monkeypatch.setenv("NO_PROXY", "*")
        for program in ("docker", "iptables"):  # on a machine that has none
            (tmp_path / "programs").mkdir(exist_ok=True)
            (tmp_path / "programs" / program).touch(0o755)
        monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{tmp_path}/programs")
        (tmp_path / "units").mkdir()
        monkeypatch.setattr("gitops_mvd.daemon.wiring.UNITS", tmp_path / "units")
        monkeypatch.setattr("gitops_mvd.cli.machine.DAEMON_JSON", tmp_path / "daemon.json")
        config = tmp_path / "config.yaml"
        config.write_text(f"repository: file://{tmp_path}/config.git\nhost: srv1\ndocker: {{url: '{url}'}}\n")
        terminal = Terminal(capsys, config)
        terminal.set(**{folder: str(tmp_path / folder) for folder in ("state", "files", "secrets")})
        yield Newcomer(terminal, Repository(tmp_path / "config.git"), engine, systemd)


def test_the_first_plan_has_every_step_and_takes_none(newcomer: Newcomer) -> None:
    terminal, repository = newcomer.terminal, newcomer.repository
    commit = repository.commit({"apps/hello/compose.yaml": compose()})
    told = ["hello: nothing of it runs yet", "  service web added (registry.local/hello:1)"]
    assert terminal.mvd("plan").out.splitlines() == told
    said = terminal.mvd("plan", "--verbose")
    assert said.code == 2
    assert said.out.splitlines()[:2] == told
    assert [line.split()[:2] for line in said.out.splitlines()[2:]] == [
        ["+", "config"],
        ["+", "image"],
        ["+", "network"],
        ["+", "container"],
        ["+", "unit"],
        ["?", "wait"],
    ]
    assert f" {IMAGE.rpartition(':')[0]}@sha256:" in said.out
    assert said.err == f"1 of 1 app to change at {commit[:7]}.\n"
    shown = "hello  OutOfSync  Missing  -      -       -      web: its container is missing\n"
    assert shown in terminal.mvd("status").out
    assert terminal.mvd("history").out.splitlines() == ["WHEN  COMMIT  APP  OPERATION  HEALTH"]


@pytest.mark.parametrize(
    ("service", "why"),
    [
        ("{image: registry.local/gone:1}", "registry.local/gone:1"),
        ("{image: registry.local/hello:1, environment: {A: '{file://nowhere}'}}", "nowhere"),
        ("{image: registry.local/hello:1, prots: [80]}", "services.web.prots"),
    ],
)
def test_the_plan_of_what_cannot_work_says_why_and_ends_with_1(newcomer: Newcomer, service: str, why: str) -> None:
    newcomer.repository.commit({"apps/hello/compose.yaml": f"services:\n  web: {service}\n"})
    said = newcomer.terminal.mvd("plan")
    assert said.code == 1, said
    assert said.out.startswith("# hello: not deployed: ")
    assert why in said.out


def test_what_is_done_otherwise_is_noted_in_plan_and_explanation(newcomer: Newcomer) -> None:
    services = "  web: {image: registry.local/hello:1, container_name: xx}\n  worker: {image: registry.local/hello:1}\n"
    files = {"apps/hello/compose.yaml": f"services:\n{services}", "apps/hello/compose.override.yaml": "{}"}
    terminal, commit = newcomer.terminal, newcomer.repository.commit(files)
    plan = terminal.mvd("plan")
    notes = [line for line in plan.out.splitlines() if line.startswith("# note: ")]
    assert [note.split(": ")[1] for note in notes] == [
        "apps/hello/compose.override.yaml:1",
        "apps/hello/compose.yaml:2",
    ], plan
    assert json.loads(terminal.mvd("plan", "--json").out)["notes"]["hello"] == [note[8:] for note in notes], commit
    explained = terminal.mvd("explain").out.splitlines()
    told = [line for line in explained if "note" in line]
    assert told == [f"hello: note: {notes[1][8:]}", f"hello: note: {notes[0][8:]}"], "each once, however many services"
    web = json.loads(terminal.mvd("explain", "hello/web", "--json").out)["hello"]["web"]
    assert web["notes"] == [notes[1][8:], notes[0][8:]]


def test_a_repository_without_apps_matches(newcomer: Newcomer) -> None:
    terminal, repository = newcomer.terminal, newcomer.repository
    commit = repository.commit({"README.md": "nothing yet\n"})
    assert terminal.mvd("plan") == Said(0, "", f"No changes. 0 apps match {commit[:7]}.\n")
    said = terminal.mvd("explain")
    assert said == Said(1, "", "mvd: no app on this host\n     Apps: none\n")


def test_a_branch_that_is_gone_is_told_by_sync_and_status_until_it_is_there_again(newcomer: Newcomer) -> None:
    terminal, repository = newcomer.terminal, newcomer.repository
    repository.commit({"README.md": "nothing yet\n"})
    assert terminal.mvd("sync").code == terminal.mvd("status").code == 0
    assert json.loads(terminal.mvd("status", "--json").out)["git"] is None
    git("-C", str(repository.path), "update-ref", "-d", "refs/heads/main")
    synced, status = terminal.mvd("sync"), terminal.mvd("status")
    assert (synced.code, status.code) == (1, 1)
    told = re.compile(r"Git could not be asked since \d\d:\d\d \(\d+ seconds?\): .* has no branch main", re.DOTALL)
    assert told.search(synced.err), synced
    assert told.search(status.out), status
    first = json.loads(terminal.mvd("status", "--json").out)["git"]
    assert "has no branch main" in first["why"]
    assert not first["is_refused"]
    assert terminal.mvd("sync").code == 1
    assert json.loads(terminal.mvd("status", "--json").out)["git"] == first, "since when stays as it was"
    repository.commit({"README.md": "again\n"})
    assert terminal.mvd("sync").code == terminal.mvd("status").code == 0


def test_a_commit_that_is_refused_is_told_by_sync_and_status(newcomer: Newcomer) -> None:
    terminal, repository = newcomer.terminal, newcomer.repository
    repository.commit({"README.md": "nothing yet\n"})
    repository.commit({"README.md": "more\n"})
    assert terminal.mvd("sync").code == 0
    git("-C", str(repository.path), "update-ref", "refs/heads/main", "refs/heads/main~1")
    synced, status = terminal.mvd("sync"), terminal.mvd("status")
    assert (synced.code, status.code) == (1, 1)
    assert "the newest commit is refused since " in synced.err
    assert "the newest commit is refused since " in status.out


STORING = compose(volumes=["data:/data"]) + "volumes: {data: }\n"
SHARED = "shop_data is on this host already, and "


def existing(name: str, app: str = "", digest: str = "") -> dict[str, Any]:
    labels = {"io.gitops-mvd.app": app, "io.gitops-mvd.digest": digest} if app else None
    return {"Id": name, "Name": name, "Labels": labels, "IPAM": {"Config": []}}


def test_a_volume_that_was_there_before_is_used_and_noted_until_it_is_adopted(newcomer: Newcomer) -> None:
    """As one that a backup was restored to, or that another app has left behind."""
    terminal, _ = newcomer.terminal, newcomer.repository.commit({"apps/shop/compose.yaml": STORING})
    for maker, told in (("", "not made by gitops-mvd"), ("store", "made for the app store")):
        newcomer.engine["/volumes"] = {"Volumes": [existing("shop_data", maker, "0" * 64)]}
        plan = terminal.mvd("plan", "-v")
        assert plan.code == 2
        assert "volume" not in [line.split()[1] for line in plan.out.splitlines()]
        assert f"{SHARED}{told}: it is used as it is (mvd adopt volume shop_data)" in plan.out
    said = terminal.mvd("adopt", "volume", "shop_data")
    assert said == Said(0, "volume shop_data is used by shop as it is, from the next sync on.\n", "")
    plan = terminal.mvd("plan", "-v")
    assert "volume" not in [line.split()[1] for line in plan.out.splitlines()]
    assert SHARED not in plan.out
    newcomer.engine["/volumes"] = {"Volumes": []}
    assert "+ volume" in terminal.mvd("plan", "-v").out, "it is gone, and made anew"


def test_a_volume_that_was_made_with_other_options_can_be_adopted(newcomer: Newcomer) -> None:
    terminal, _ = newcomer.terminal, newcomer.repository.commit({"apps/shop/compose.yaml": STORING})
    newcomer.engine["/volumes"] = {"Volumes": [existing("shop_data", "shop", "0" * 64)]}
    assert "~ volume" in terminal.mvd("plan", "-v").out
    said = json.loads(terminal.mvd("adopt", "volume", "shop_data", "--app", "shop", "--json").out)
    assert said == {"kind": "volume", "name": "shop_data", "app": "shop", "is_managed": False}
    assert "~ volume" not in terminal.mvd("plan", "-v").out


def test_a_network_that_was_made_by_hand_is_adopted(newcomer: Newcomer) -> None:
    text = compose(networks=["back"]) + "networks: {back: {name: backbone}}\n"
    terminal, _ = newcomer.terminal, newcomer.repository.commit({"apps/shop/compose.yaml": text})
    newcomer.engine["/networks"] = [existing("backbone")]
    told = "backbone is on this host already, and not made by gitops-mvd"
    assert told in terminal.mvd("plan", "-v").out
    assert terminal.mvd("adopt", "network", "backbone").code == 0
    assert told not in terminal.mvd("plan", "-v").out
    newcomer.engine["/networks"] = [existing("backbone", "store", "0" * 64)]
    said = terminal.mvd("adopt", "network", "backbone")
    assert (said.code, said.err.splitlines()[0]) == (
        1,
        "mvd: network backbone was made for the app store, and goes with it",
    )


def test_what_cannot_be_adopted_is_told_and_why(newcomer: Newcomer) -> None:
    terminal, _ = newcomer.terminal, newcomer.repository.commit({"apps/shop/compose.yaml": STORING})

    def why(*words: str) -> str:
        said = terminal.mvd("adopt", "volume", *words)
        assert said.code == 1
        return said.err.splitlines()[0]

    assert why("shop_data") == "mvd: this host has no volume shop_data"
    assert why("data") == "mvd: no app of this host declares the volume data"
    assert why("shop_data", "--app", "store") == "mvd: store does not declare the volume shop_data"


def test_what_was_made_for_its_app_needs_no_adoption(newcomer: Newcomer) -> None:
    terminal, _ = newcomer.terminal, newcomer.repository.commit({"apps/shop/compose.yaml": STORING})
    newcomer.engine["/volumes"] = {"Volumes": [existing("shop_data", "shop", digest({}))]}
    said = terminal.mvd("adopt", "volume", "shop_data")
    assert said == Said(0, "volume shop_data was made for shop, and is managed: nothing to adopt\n", "")


def test_a_repository_is_validated_where_it_lies(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    terminal = Terminal(capsys, tmp_path / "no-settings.yaml")
    (tmp_path / "apps/hello").mkdir(parents=True)
    (tmp_path / "apps/hello/compose.yaml").write_text(compose(imgae="x"))
    said = terminal.mvd("validate", str(tmp_path))
    assert said.code == 1
    assert said.out.startswith("apps/hello/compose.yaml:4: services.web.imgae: ")
    assert said.err == f"{tmp_path}: 1 app, any host, 1 problem\n"
    found = json.loads(terminal.mvd("validate", str(tmp_path), "--json").out)
    assert (found["apps"], found["hosts"], found["notes"]) == (1, 0, [])
    [problem] = found["problems"]
    assert (problem["file"], problem["line"], problem["key"]) == (
        "apps/hello/compose.yaml",
        4,
        "services.web.imgae",
    )
    (tmp_path / "apps/hello/compose.yaml").write_text(compose())
    (tmp_path / "fleet.yaml").write_text("hosts: {web1: , web2: }")
    assert terminal.mvd("validate", str(tmp_path)) == Said(0, "", f"{tmp_path}: 1 app, 2 hosts, 0 problems\n")


def test_what_is_noted_is_printed_and_fails_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    terminal = Terminal(capsys, tmp_path / "no-settings.yaml")
    (tmp_path / "apps/hello").mkdir(parents=True)
    web = "{image: a, logging: {options: {max-size: 1m}}}"
    (tmp_path / "apps/hello/compose.yaml").write_text(f"services:\n  web: {web}\n")
    said = terminal.mvd("validate", str(tmp_path))
    assert said.code == 0
    assert said.out.startswith("note: apps/hello/compose.yaml:2: services.web.logging.options.max-size: has no effect")
    assert said.err == f"{tmp_path}: 1 app, any host, 0 problems\n"
    [note] = json.loads(terminal.mvd("validate", str(tmp_path), "--json").out)["notes"]
    assert note["key"] == "services.web.logging.options.max-size"


def test_the_manual_is_read_page_by_page(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    terminal = Terminal(capsys, tmp_path / "no-settings.yaml")
    pages = [line.split()[0] for line in terminal.mvd("docs").out.splitlines()]
    assert {"commands", "manifest", "operations", "settings"} <= set(pages)
    for page in pages:
        assert terminal.mvd("docs", page).out.startswith("# ")


# ---- mvd doctor ------------------------------------------------------------------------------------------------------


def test_the_doctor_is_content_with_a_server_that_has_everything(newcomer: Newcomer, tmp_path: Path) -> None:
    newcomer.repository.commit({"fleet.yaml": "hosts: {srv1: {labels: {role: web}}}\n"})
    (tmp_path / "daemon.json").write_text('{"live-restore": true, "userland-proxy": false}')
    newcomer.systemd["units"] = [
        *([name, "", "loaded", "active", "running", "", f"/{n}", 0, "", "/"] for n, name in enumerate(UNITS))
    ]
    said = newcomer.terminal.mvd("doctor")
    assert said.code == 0
    assert [line.split()[1] for line in said.out.splitlines() if line.startswith("warn")] == ["kong", "forge"]
    assert "ok    systemd        1 managed unit\n" in said.out
    assert "ok    fleet.yaml     srv1: role=web\n" in said.out


UNITS = ("docker.service", "gitops-mvd.service", "mvd-hello-web-76daeee3.service")


def test_the_doctor_says_what_a_restart_of_docker_would_stop(newcomer: Newcomer, tmp_path: Path) -> None:
    newcomer.repository.commit({"README.md": "nothing yet\n"})
    newcomer.engine["/info"] = {**newcomer.engine["/info"], "LiveRestoreEnabled": False}
    said = newcomer.terminal.mvd("doctor")
    assert said.code == 0
    assert "warn  live-restore   off: every container stops while Docker restarts\n" in said.out
    assert f'Set "live-restore": true in {tmp_path}/daemon.json\n' in said.out


@pytest.mark.parametrize("state", ["active", "pending", "error", "locked"])
def test_the_doctor_advises_no_live_restore_to_a_member_of_a_swarm(
    newcomer: Newcomer, tmp_path: Path, state: str
) -> None:
    newcomer.repository.commit({"README.md": "nothing yet\n"})
    swarm = {"Swarm": {"LocalNodeState": state}, "LiveRestoreEnabled": False}
    newcomer.engine["/info"] = {**newcomer.engine["/info"], **swarm}
    said = newcomer.terminal.mvd("doctor")
    assert (said.code, "live-restore" in said.out) == (0, False)
    (tmp_path / "daemon.json").write_text('{"live-restore": true}')  # which the next start of Docker reads
    said = newcomer.terminal.mvd("doctor")
    assert said.code == 1
    assert "fail  live-restore   on: as a member of a Swarm, Docker cannot start again\n" in said.out
    assert f'Remove "live-restore" from {tmp_path}/daemon.json\n' in said.out


def test_the_doctor_finds_a_host_that_is_not_in_the_fleet(newcomer: Newcomer) -> None:
    newcomer.repository.commit({"fleet.yaml": "hosts: {srv2: {}}\n"})
    said = newcomer.terminal.mvd("doctor")
    assert said.code == 1
    assert re.search("^fail  fleet.yaml     fleet.yaml:1: .*srv1", said.out, re.M)
    assert "Compare `host` in the settings with `hosts` in fleet.yaml\n" in said.out


@pytest.fixture
def hooked(newcomer: Newcomer, tmp_path: Path) -> Iterator[Newcomer]:
    """One with webhooks, at a port that nobody has."""
    newcomer.repository.commit({"README.md": "nothing yet\n"})
    (tmp_path / "secret").write_text("a secret of many characters\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        where = f"127.0.0.1:{free.getsockname()[1]}"
    with Forge(tmp_path / "forge", token=None) as forge:
        forge.create("a/b")
        at = {"repository": "a/b", "base_url": f"{forge.url}/api/v3"}
        newcomer.terminal.set(
            forge={"kind": "github", **at, "proposals": {"plan": False}},
            webhook={"secret_file": f"{tmp_path}/secret", "listen": where},
        )
        yield newcomer


def listen_at(newcomer: Newcomer) -> str:
    text = newcomer.terminal.config.read_bytes()
    webhook = read("config.yaml", text).webhook
    assert webhook
    return webhook.listen


def test_the_doctor_finds_nobody_who_listens_for_webhooks(hooked: Newcomer) -> None:
    said = hooked.terminal.mvd("doctor")
    assert said.code == 0
    assert f"warn  webhook        nothing listens at {listen_at(hooked)}\n" in said.out
    assert "ok    forge          statuses: 0 sent, 0 waiting, 0 rejected by github\n" in said.out


def test_the_doctor_finds_the_daemon_that_listens_for_webhooks(hooked: Newcomer) -> None:
    config = hooked.terminal.config
    wired = wire(read(str(config), config.read_bytes()), config)
    assert wired.webhook
    thread = webhook_thread(wired.webhook, "main", Awaited(), Mailbox().post)
    with kept(thread.run, thread.wake) as is_open:
        assert is_open.wait(10)
        said = hooked.terminal.mvd("doctor")
    assert f"ok    webhook        the daemon listens at {listen_at(hooked)}\n" in said.out


def test_the_doctor_finds_another_program_at_the_port_of_the_webhooks(hooked: Newcomer) -> None:
    with socket.create_server(("127.0.0.1", int(listen_at(hooked).rpartition(":")[2]))):
        said = hooked.terminal.mvd("doctor")
    assert said.code == 1
    assert f"fail  webhook        another program listens at {listen_at(hooked)}\n" in said.out
    assert "Change `webhook.listen` in the settings\n" in said.out


def test_the_doctor_finds_an_address_that_is_not_of_this_server(hooked: Newcomer, tmp_path: Path) -> None:
    hooked.terminal.set(webhook={"secret_file": f"{tmp_path}/secret", "listen": "192.0.2.1:9180"})
    said = hooked.terminal.mvd("doctor")
    assert said.code == 1
    assert "fail  webhook        cannot listen at 192.0.2.1:9180: " in said.out


@needs_root
def test_the_doctor_finds_a_start_file_of_kong_that_is_not_kept(operator: Terminal, tmp_path: Path) -> None:
    before = operator.config.read_text()
    operator.set(kong={**yaml.safe_load(before)["kong"], "boot_file": f"{tmp_path}/none/kong.yaml"})
    try:
        said = operator.mvd("doctor")
    finally:
        operator.config.write_text(before)
    assert re.search("^warn  boot file      .*none", said.out, re.M)
    assert "`mvd install` lets the daemon write to the folder\n" in said.out


# ---- mvd install -----------------------------------------------------------------------------------------------------


@pytest.fixture
def bare(newcomer: Newcomer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The terminal of a server without settings, whose /etc is a folder of the test."""
    newcomer.terminal.config.unlink()
    monkeypatch.setattr(install, "UNIT", tmp_path / "gitops-mvd.service")
    completions = {"bash": tmp_path / "completions/mvd", "fish": tmp_path / "no-fish-here/mvd.fish"}
    monkeypatch.setattr(install, "COMPLETIONS", completions)
    monkeypatch.setattr(install, "JOURNAL", tmp_path / "journald.conf.d/50-gitops-mvd.conf")
    monkeypatch.setattr(install, "GROUPS", tmp_path / "sysusers.d/gitops-mvd.conf")
    (tmp_path / "completions").mkdir()
    (tmp_path / "token").write_text("a token\n")
    return newcomer.terminal


OWN_FORGE = "https://git.example/acme/config.git"


def test_an_installation_writes_the_unit_and_settings_that_can_be_read(bare: Terminal, tmp_path: Path) -> None:
    said = bare.mvd("install", "--no-start", "--repository", OWN_FORGE)
    assert said.out.splitlines() == [
        f"wrote {bare.config}",
        f"wrote {tmp_path}/gitops-mvd.service",
        f"wrote {tmp_path}/sysusers.d/gitops-mvd.conf: members of mvd may look, those of mvd-act may act",
        f"wrote {tmp_path}/completions/mvd",
        f"wrote {tmp_path}/journald.conf.d/50-gitops-mvd.conf: no line of a container is dropped",
        "Nothing was started. What this server lacks: mvd doctor",
    ]
    (tmp_path / "journald.conf.d/50-gitops-mvd.conf").write_text("[Journal]\n")
    again = bare.mvd("install", "--no-start")
    assert "journald" not in again.out
    assert (tmp_path / "journald.conf.d/50-gitops-mvd.conf").read_text() == "[Journal]\n", "it is the server's own"
    assert f"--config {bare.config} run\n" in (tmp_path / "gitops-mvd.service").read_text()
    assert "complete -o nosort -F _mvd_completion mvd" in (tmp_path / "completions/mvd").read_text()
    assert f"repository: {OWN_FORGE}\n" in bare.config.read_text()


def settings_of(terminal: Terminal) -> Settings:
    return read("config.yaml", terminal.config.read_bytes())


def test_an_installation_with_all_that_can_be_said(bare: Terminal, tmp_path: Path) -> None:
    words = [
        "--repository",
        "http://10.0.0.5:3000/acme/config.git",
        "--branch",
        "live",
        "--host",
        "web-1",
        "--insecure",
    ]
    words += ["--token-file", f"{tmp_path}/token", "--forge", "gitea", "--forge-url", "http://10.0.0.5:3001", "--kong"]
    assert bare.mvd("install", "--no-start", *words).code == 0
    settings = settings_of(bare)
    assert (settings.branch, settings.host) == ("live", "web-1")
    assert (settings.credentials.token_file, settings.credentials.insecure) == (f"{tmp_path}/token", True)
    assert settings.kong
    assert settings.kong.admin == "http://127.0.0.1:8001"
    assert settings.forge
    assert (settings.forge.kind, settings.forge.repository) == ("gitea", "acme/config")
    assert settings.forge.base_url == "http://10.0.0.5:3001"
    assert bare.mvd("install", "--no-start", *words).code == 0, "the same once more changes nothing"
    assert settings_of(bare) == settings


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://github.com/acme/config", "github"),
        ("https://codeberg.org/acme/config", "forgejo"),
        ("https://gitlab.acme.example/platform/config", "gitlab"),
        ("git@gitea.acme.example:acme/config.git", "gitea"),
        ("https://bitbucket.acme.example/scm/ACME/config.git", "bitbucket-dc"),
    ],
)
def test_the_address_of_the_repository_tells_the_forge(bare: Terminal, tmp_path: Path, url: str, kind: str) -> None:
    assert bare.mvd("install", "--no-start", "--repository", url, "--token-file", f"{tmp_path}/token").code == 0
    forge = settings_of(bare).forge
    assert forge
    assert (forge.kind, forge.token_file) == (kind, f"{tmp_path}/token")


FLAGS = "azure-devops|bitbucket-cloud|bitbucket-dc|forgejo|gitea|github|gitlab"


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ((), "cannot read {config}: no such file", "`mvd install --repository URL` writes it"),
        (
            ("--repository", OWN_FORGE, "--token-file", "{tmp}/token"),
            f"{OWN_FORGE} does not tell which forge it is",
            f"--forge {FLAGS}, or --forge none for no commit statuses",
        ),
        (
            ("--repository", OWN_FORGE, "--forge", "gitea"),
            "a forge takes statuses only with a token",
            "name its file: --token-file FILE",
        ),
        (
            ("--repository", OWN_FORGE, "--forge", "none", "--forge-url", "https://git.example"),
            "--forge-url https://git.example is the API of a forge, and --forge none is none",
            "",
        ),
        (
            ("--repository", OWN_FORGE, "--token-file", "{tmp}/none", "--forge", "gitea"),
            "cannot read {tmp}/none (--token-file): no such file",
            "write the token into it: install -D -m 600 /dev/stdin {tmp}/none",
        ),
        (
            ("--repository", "http://git.example/a/b", "--token-file", "{tmp}/token", "--forge", "gitea"),
            "http://git.example/a/b: a token over http can be read on the way",
            "use https, or --insecure on a private network",
        ),
        (
            ("--repository", OWN_FORGE, "--insecure"),
            "--insecure is about a token, and there is none",
            "name its file: --token-file FILE",
        ),
    ],
    ids=lambda it: it[:40] if isinstance(it, str) else "",
)
def test_an_installation_that_cannot_work_writes_nothing(
    bare: Terminal, tmp_path: Path, words: tuple[str, ...], message: str, hint: str
) -> None:
    said = bare.mvd("install", "--no-start", *(word.format(tmp=tmp_path) for word in words))
    lines = [f"mvd: {message}", *([f"     {hint}"] if hint else [])]
    assert said == Said(1, "", "".join(f"{line.format(config=bare.config, tmp=tmp_path)}\n" for line in lines))
    assert not bare.config.exists()
    assert not (tmp_path / "gitops-mvd.service").exists()


@pytest.mark.parametrize(
    ("words", "which"),
    [
        (("--repository", "https://git.example/other/config"), "--repository says"),
        (("--host", "web-2", "--branch", "live"), "--branch, --host say"),
        (("--forge", "github"), "--forge says"),
        (("--forge-url", "https://git.example/api"), "--forge-url says"),
        (("--insecure",), "--insecure says"),
        (("--kong",), "--kong says"),
    ],
)
def test_settings_that_are_there_are_not_contradicted_in_silence(
    bare: Terminal, tmp_path: Path, words: tuple[str, ...], which: str
) -> None:
    bare.config.write_text(f"repository: {OWN_FORGE}\n")
    said = bare.mvd("install", "--no-start", *words)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith(f"mvd: {bare.config} is there already, and {which} otherwise: nothing was changed\n")
    assert bare.config.read_text() == f"repository: {OWN_FORGE}\n"
    assert not (tmp_path / "gitops-mvd.service").exists()
