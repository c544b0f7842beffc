"""The local API over its real sockets, with the real daemon behind it and a recorded server behind that."""

from __future__ import annotations

import json
import logging
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gitops_mvd.api.client import Api, NotServed, Refused
from gitops_mvd.api.endpoints import ACTING_SOCKET, ENDPOINTS, SOCKET
from gitops_mvd.api.views import (
    ChangesView,
    DoneView,
    EventsView,
    HistoryView,
    HostView,
    OperationView,
)
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.core.redact import learn
from gitops_mvd.daemon import api_server
from gitops_mvd.daemon.answers import Answers
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.triggers import SYNC
from gitops_mvd.daemon.wiring import Wired
from tests.lab.bench.world import recorded
from tests.threads import kept

# sdnotify leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SERVICES = 3


@dataclass
class Served:
    """A daemon after its first pass, and its API."""

    daemon: Daemon
    wired: Wired
    api: Api
    folder: Path

    def raw(self, content: bytes, name: str = "api.sock") -> bytes:
        """All that is answered to what is not quite HTTP."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(self.folder / name))
            connection.sendall(content)
            answer = b""
            while part := connection.recv(65536):
                answer += part
            return answer


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with recorded(folder, SERVICES, "off") as world, ExitStack() as parts:
        run = folder / "run"
        settings = folder / "config.yaml"
        settings.write_text(f"repository: {world.wired.settings.repository}\n")
        wired = replace(world.wired, settings=replace(world.wired.settings, run=str(run)), settings_path=settings)
        daemon = Daemon(wired)
        logger = logging.getLogger("gitops_mvd")
        parts.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.INFO)
        parts.enter_context(daemon.events)
        [(api, wake)] = [(thread, wake) for name, thread, wake in daemon.threads() if name == "api"]
        at_work = parts.enter_context(kept(api, wake))
        assert at_work.wait(10)
        yield Served(daemon, wired, Api(str(run / Path(SOCKET).name), str(run / Path(ACTING_SOCKET).name)), run)


@pytest.fixture(scope="module")
def passed(served: Served) -> Served:
    served.daemon.reconcile_pass(frozenset({SYNC}))
    return served


def test_before_the_first_pass_it_is_alive_and_not_ready(served: Served) -> None:
    assert served.api.ask("health", DoneView).what == "the loop is at work"
    if not served.daemon.answers.last.report:
        with pytest.raises(Refused, match="there was no pass yet") as refused:
            served.api.ask("ready", DoneView)
        assert refused.value.status == 503
        assert served.api.ask("status", HostView).apps == ()


def test_the_status_has_the_commit_the_services_and_their_instances(passed: Served) -> None:
    shown = passed.api.ask("status", HostView)
    assert (shown.sync, shown.health, shown.error) == ("Synced", "Healthy", "")
    assert shown.commit
    assert (shown.commit.subject, shown.commit.author) == ("Begin", "Lab")
    assert shown.commit.at > 1.7e9
    assert len([service for app in shown.apps for service in app.services]) == SERVICES
    service = shown.apps[0].services[0]
    assert (service.ready, service.wanted, service.health) == (1, 1, "Healthy")
    assert service.digest.startswith("sha256:")
    assert service.instances[0].state == "running"
    assert passed.api.settings == str(passed.wired.settings_path)


def test_ready_once_a_pass_was_made(passed: Served) -> None:
    assert passed.api.ask("ready", DoneView).what.startswith("Git answers")


def test_every_question_that_reads_is_answered_in_its_type(passed: Served) -> None:
    assert passed.api.ask("changes", ChangesView).number > 0
    assert isinstance(passed.api.ask("operations", list[OperationView]), list)
    assert isinstance(passed.api.ask("history", list[HistoryView], limit=3), list)
    assert passed.api.ask("events", EventsView).events[0].text.startswith("revision fetched")
    assert passed.api.ask("openapi", dict[str, Any])["openapi"] == "3.1.0"


def test_a_change_ends_a_wait_at_once(passed: Served) -> None:
    known = passed.api.ask("changes", ChangesView).number
    timer = threading.Timer(0.2, passed.wired.changes.note)
    began = time.monotonic()
    timer.start()
    assert passed.api.ask("changes", ChangesView, after=known, within=20.0, timeout=30.0).number > known
    assert time.monotonic() - began < 15
    timer.join()


def test_a_wait_without_a_change_ends_with_the_same_number(passed: Served) -> None:
    known = passed.api.ask("changes", ChangesView).number
    assert passed.api.ask("changes", ChangesView, after=known, within=0.2).number == known


def test_what_acts_is_refused_on_the_socket_that_reads(passed: Served) -> None:
    reads = Api(str(passed.folder / "api.sock"), str(passed.folder / "api.sock"))
    with pytest.raises(Refused, match="this socket only reads") as refused:
        reads.ask("sync", DoneView, by="anna")
    assert refused.value.status == 403
    assert not passed.wired.mailbox.has_mail()


def test_a_sync_posts_to_the_mailbox_and_is_an_event_with_its_author(passed: Served) -> None:
    assert "reconciles now" in passed.api.ask("sync", DoneView, by="anna\x1b[31m").what
    assert passed.wired.mailbox.has_mail()
    texts = [event.text for event in passed.api.ask("events", EventsView).events]
    assert any(text.startswith("sync asked by=anna") and "\x1b" not in text for text in texts)


def test_an_app_is_suspended_with_who_and_why_and_resumed(passed: Served) -> None:
    app = passed.api.ask("status", HostView).apps[0].name
    passed.api.ask("suspend", DoneView, app=app, by="anna", why="the disk is changed")
    suspended = passed.api.ask("status", HostView).apps[0].suspended
    assert suspended
    assert (suspended.by, suspended.why) == ("anna", "the disk is changed")
    passed.api.ask("resume", DoneView, app=app, by="anna")
    assert passed.api.ask("status", HostView).apps[0].suspended is None
    with pytest.raises(Refused, match="is not suspended here"):
        passed.api.ask("resume", DoneView, app=app)


def test_a_suspended_app_is_shown_so_by_the_next_pass_and_when_probes_are_asked(passed: Served) -> None:
    app = passed.api.ask("status", HostView).apps[0].name
    passed.api.ask("suspend", DoneView, app=app, by="anna")
    passed.daemon.reconcile_pass(frozenset({SYNC}))
    for more in ({}, {"ask": True}):
        shown = passed.api.ask("status", HostView, **more)
        assert (shown.apps[0].sync, shown.apps[0].health) == ("Synced", "Suspended")
        assert shown.apps[0].why == "suspended by anna"
    passed.api.ask("resume", DoneView, app=app, by="anna")
    passed.daemon.reconcile_pass(frozenset({SYNC}))
    assert passed.api.ask("status", HostView).health == "Healthy"


@pytest.mark.parametrize(
    ("name", "given", "says", "status"),
    [
        ("suspend", {"app": "../etc"}, "no such app on this host", 404),
        ("suspend", {"app": ""} | {"until": 1.0}, "must be to come", 400),
        ("retry", {"app": "nobody"}, "no version is marked failed", 404),
        ("operations", {"limit": 10_000}, "at most 200", 400),
        ("operations", {"limit": "many"}, "not what it should be", 400),
        ("operations", {"colour": "red"}, "has no colour", 400),
        ("operation", {"id": 99}, "there is no operation 99", 404),
        ("history", {"limit": -1}, "must be at least 0", 400),
    ],
)
def test_a_question_that_is_wrong_gets_one_clear_error(
    passed: Served, name: str, given: dict[str, Any], says: str, status: int
) -> None:
    with pytest.raises(Refused, match=says) as refused:
        passed.api.ask(name, object, **given)
    assert refused.value.status == status


@pytest.mark.parametrize(
    ("request_line", "answer"),
    [
        (b"GET /v1/nothing HTTP/1.1", b"404"),
        (b"DELETE /v1/status HTTP/1.1", b"405"),
        (b"HEAD /v1/logs?name=app HTTP/1.1", b"405"),
        (b"GET /v1/logs HTTP/1.1", b"400"),
        (b"GET /v1/logs?name=--flush HTTP/1.1", b"404"),
        (b"nonsense", b"400"),
    ],
)
def test_what_is_no_question_ends_in_an_answer(passed: Served, request_line: bytes, answer: bytes) -> None:
    said = passed.raw(request_line + b"\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert said.split(b" ", 2)[1] == answer


@pytest.mark.parametrize(("path", "status"), [("/v1/status", b"200"), ("/v1/nothing", b"404")])
def test_the_answer_to_head_has_no_body(passed: Served, path: str, status: bytes) -> None:
    said = passed.raw(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, body = said.split(b"\r\n\r\n", 1)
    assert (head.split(b" ", 2)[1], body) == (status, b"")


@pytest.mark.parametrize(
    "target",
    ["/v1/explain?name=a%00b", "/v1/logs?name=a%00b", "/v1/logs?name=app&after=%00", "/v1/history?app=%00"],
)
def test_a_word_with_a_nul_in_it_is_refused(passed: Served, target: str) -> None:
    said = passed.raw(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert said.split(b" ", 2)[1] == b"400"


@pytest.mark.parametrize("app", ["../config.yaml", "a/b", ".shop", "sh\0p"])
def test_what_is_no_name_of_an_app_is_not_resumed(passed: Served, app: str) -> None:
    with pytest.raises(Refused) as refused:
        passed.api.ask("resume", DoneView, app=app)
    assert refused.value.status == 400


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"by": 1}', b'{"app": null}', b"[" * 60_000])
def test_a_body_that_is_wrong_is_refused(passed: Served, body: bytes) -> None:
    head = b"POST /v1/suspend HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert passed.raw(head + body, "act.sock").split(b" ", 2)[1] == b"400"


def test_a_body_that_is_too_large_is_refused(passed: Served) -> None:
    head = b"POST /v1/suspend HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n"
    assert passed.raw(head, "act.sock").split(b" ", 2)[1] == b"413"


def test_the_description_has_every_endpoint_and_resolves(passed: Served) -> None:
    described = passed.api.ask("openapi", dict[str, Any])
    assert {(path, method.upper()) for path, of in described["paths"].items() for method in of} == {
        (endpoint.path, endpoint.method) for endpoint in ENDPOINTS
    }
    text = json.dumps(described)
    named = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert named <= described["components"]["schemas"].keys()
    assert {"HostView", "OperationView", "ErrorView"} <= named


def test_no_known_secret_is_in_any_answer(passed: Served) -> None:
    learn("a test", "hunter2-hunter2-hunter2")
    with pytest.raises(Refused) as refused:
        passed.api.ask("retry", DoneView, app="hunter2-hunter2-hunter2")
    assert "hunter2" not in str(refused.value)


def test_more_than_the_most_that_may_wait_are_told_so_and_all_others_are_answered(passed: Served) -> None:
    known = passed.api.ask("changes", ChangesView).number
    answers: list[object] = []

    def wait() -> None:
        try:
            answers.append(passed.api.ask("changes", ChangesView, after=known, within=15.0, timeout=30.0))
        except Refused as refused:
            answers.append(refused)

    threads = [threading.Thread(target=wait) for _ in range(api_server.MOST_WAITING + 5)]
    for thread in threads:
        thread.start()
    while len(answers) < 5:
        time.sleep(0.01)
    assert passed.api.ask("status", HostView).apps
    for name, given in (("plan", {}), ("explain", {"name": "app"}), ("doctor", {}), ("status", {"ask": True})):
        with pytest.raises(Refused, match="too many wait for the daemon"):
            passed.api.ask(name, object, **given)
    passed.wired.changes.note()
    for thread in threads:
        thread.join(30)
    refused = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refused) == 5
    assert {error.status for error in refused} == {503}


def test_all_probes_are_asked_for_one_after_the_other(passed: Served) -> None:
    asking, most = 0, 0

    def ask_now() -> dict[str, Any]:
        nonlocal asking, most
        asking += 1
        most = max(most, asking)
        time.sleep(0.05)
        asking -= 1
        return {}

    monitor: Any = SimpleNamespace(ask_now=ask_now)
    wired = replace(passed.wired, monitor=monitor)
    answers = Answers(wired, wired.operations, wired.views, passed.daemon.events, wired.changes)
    with ThreadPoolExecutor(5) as pool:
        assert all(view.apps for view in pool.map(answers.status, [True] * 5))
    assert most == 1


def test_whoever_fills_the_socket_that_reads_keeps_nobody_from_the_one_that_acts(passed: Served) -> None:
    with ExitStack() as parts:
        for _ in range(3 * api_server.MOST_CONNECTIONS):
            idle = parts.enter_context(socket.socket(socket.AF_UNIX))
            idle.connect(str(passed.folder / "api.sock"))
            idle.sendall(b"GET /v1/st")
        assert "reconciles now" in passed.api.ask("sync", DoneView, by="anna", timeout=10).what


def test_a_connection_that_says_nothing_holds_up_nobody(passed: Served) -> None:
    with ExitStack() as parts:
        for _ in range(40):
            idle = parts.enter_context(socket.socket(socket.AF_UNIX))
            idle.connect(str(passed.folder / "api.sock"))
            idle.sendall(b"GET /v1/st")
        assert passed.api.ask("status", HostView).apps


def test_who_may_ask_is_in_the_rights_of_the_sockets(passed: Served) -> None:
    for name in ("api.sock", "act.sock"):
        found = (passed.folder / name).stat()
        assert stat.S_IMODE(found.st_mode) in (0o600, 0o660)
        assert found.st_mode & stat.S_IRWXO == 0
        assert found.st_uid == os.getuid()


def test_without_a_daemon_the_client_says_so(tmp_path: Path) -> None:
    with pytest.raises(NotServed, match="the daemon does not run here"):
        Api(str(tmp_path / "api.sock")).ask("status", HostView)


def test_an_answer_that_breaks_off_is_told(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "api.sock"))
        listener.listen()

        def break_off() -> None:
            connection, _ = listener.accept()
            connection.recv(1000)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            connection.close()

        thread = threading.Thread(target=break_off)
        thread.start()
        with pytest.raises(Unavailable, match=r"broke off|cannot be read"):
            Api(str(tmp_path / "api.sock")).ask("status", HostView)
        thread.join(10)
