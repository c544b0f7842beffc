"""The metrics of a real daemon over its real sockets, judged by Prometheus's own tool."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from gitops_mvd.api.client import Api, Refused
from gitops_mvd.api.endpoints import ACTING_SOCKET, SOCKET
from gitops_mvd.api.views import DoneView, HostView
from gitops_mvd.config.settings.metrics import Metrics
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.daemon import small_server
from gitops_mvd.daemon.loop import Daemon
from gitops_mvd.daemon.metrics import metrics_thread
from gitops_mvd.daemon.small_server import LogThrottle, Server, listen
from gitops_mvd.daemon.triggers import SYNC
from gitops_mvd.forges.api import limits
from gitops_mvd.metrics.names import METRICS, TRACES
from tests.lab.bench.world import World, recorded
from tests.lab.engine import LabUnavailable
from tests.lab.prometheus import programs
from tests.lab.repository import Repository
from tests.threads import kept, serving

# sdnotify leaves its socket to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SERVICES = 3
FIXTURES = Path(__file__).parent / "fixtures"
Samples = dict[str, list[tuple[dict[str, str], float]]]


@dataclass
class Served:
    """A daemon after a pass, with the local API and the port for Prometheus."""

    world: World
    daemon: Daemon
    api: Api
    folder: Path
    port: int

    def get(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """The answer at the port: its status, headers and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, headers={name.replace("_", "-"): it for name, it in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def samples(self) -> Samples:
        status, _, body = self.get("/metrics")
        assert status == 200
        return read(body.decode())


def read(text: str) -> Samples:
    """Every series of a scrape: its labels and value, by name."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def free_port() -> int:
    with listen("127.0.0.1", 0) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, port = tmp_path_factory.mktemp("measured"), free_port()
    with recorded(folder, SERVICES, "off") as world, ExitStack() as parts:
        run, settings = folder / "run", folder / "config.yaml"
        settings.write_text(f"repository: {world.wired.settings.repository}\n")
        asked = replace(world.wired.settings, run=str(run), metrics=Metrics(f"127.0.0.1:{port}"))
        daemon = Daemon(replace(world.wired, settings=asked, settings_path=settings))
        for name, thread, wake in daemon.threads():
            if name in ("api", "metrics"):
                assert parts.enter_context(kept(thread, wake)).wait(10)
        daemon.reconcile_pass(frozenset({SYNC}))
        api = Api(str(run / Path(SOCKET).name), str(run / Path(ACTING_SOCKET).name))
        yield Served(world, daemon, api, run, port)


@pytest.fixture(scope="session")
def promtool() -> str:
    try:
        return programs(lambda line: None)["promtool"]
    except LabUnavailable as why:
        pytest.skip(f"no promtool: {why}")


def raw(path: Path, request: bytes) -> bytes:
    """All that is answered on a unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


# ---- what is shown ---------------------------------------------------------------------------------------------------


def test_every_metric_of_the_list_is_exported_and_no_other(served: Served) -> None:
    _, _, body = served.get("/metrics")
    told = re.findall(r"^# TYPE (mvd_\w+) (\w+)$", body.decode(), re.MULTILINE)
    assert dict(told) == {it.name: it.kind for it in METRICS if it is not TRACES}
    for name, samples in served.samples().items():
        by_name = {it.name: it for it in METRICS}
        metric = by_name.get(name) or by_name.get(re.sub("_(bucket|sum|count)$", "", name))
        if metric:
            assert all(labels.keys() - {"le"} == set(metric.labels) for labels, _ in samples), name
        else:
            assert name.startswith("process_"), name


def test_apps_and_services_have_one_state_each(served: Served) -> None:
    found = served.samples()
    for name in ("mvd_host_health", "mvd_app_health", "mvd_app_sync", "mvd_app_operation", "mvd_service_health"):
        holds = [labels for labels, value in found[name] if value]
        assert {tuple(labels.items())[-1][1] for labels in holds} <= {"Healthy", "Synced", "Succeeded", "app-000"} | {
            f"s{number}" for number in range(SERVICES)
        }
        assert len(found[name]) > len(holds) > 0
    assert sum(value for _, value in found["mvd_service_ready"]) == SERVICES
    assert sum(value for _, value in found["mvd_service_desired"]) == SERVICES
    [app] = found["mvd_app_info"]
    assert app[0]["revision"] == "recorded"
    services = {labels["service"]: labels for labels, _ in found["mvd_service_info"]}
    assert services["s0"]["image"] == "registry.example/app-000:1.0"
    assert services["s0"]["digest"].startswith("sha256:")


def test_a_pass_is_counted_and_timed(served: Served) -> None:
    before = served.samples()
    served.daemon.reconcile_pass(frozenset({SYNC}))
    after = served.samples()

    def of(samples: Samples, name: str, **labels: str) -> float:
        [value] = [value for given, value in samples[name] if labels.items() <= given.items()]
        return value

    for name, labels in (
        ("mvd_passes_total", {"result": "complete"}),
        *(("mvd_phase_duration_seconds_count", {"phase": it}) for it in ("fetch", "read", "look", "apply")),
    ):
        assert of(after, name, **labels) == of(before, name, **labels) + 1
    assert time.time() - of(after, "mvd_last_success_timestamp_seconds") < 60
    assert of(after, "mvd_drift_repairs_total") == 0


def test_restarts_and_rate_limits_are_shown(served: Served) -> None:
    [(labels, before), *_] = served.samples()["mvd_container_restarts_total"]
    assert before == 0
    limits._last.clear()  # what forges of other tests have said in this process
    for action in ("die", "start"):
        served.daemon._wired.counts.container(action, labels["container"])
    limits.note("GitHub at api.github.com", {"X-RateLimit-Remaining": "17", "X-RateLimit-Limit": "5000"})
    try:
        found = served.samples()
    finally:
        limits._last.clear()
    assert (labels, 1.0) in found["mvd_container_restarts_total"]
    assert found["mvd_forge_rate_limit_remaining_requests"] == [({"forge": "GitHub at api.github.com"}, 17.0)]
    assert "mvd_forge_rate_limit_remaining_requests" not in served.samples()


def test_a_suspended_app_is_shown_as_suspended(served: Served) -> None:
    served.api.ask("suspend", DoneView, app="app-000", by="anna", why="the disk is changed")
    try:
        assert served.samples()["mvd_app_suspended"] == [({"app": "app-000"}, 1.0)]
    finally:
        served.api.ask("resume", DoneView, app="app-000", by="anna")
    assert served.samples()["mvd_app_suspended"] == [({"app": "app-000"}, 0.0)]


def test_a_pass_of_a_suspended_server_is_one_that_was_given_up(served: Served) -> None:
    before = dict(served.daemon._wired.counts.counted().passes)
    served.api.ask("suspend", DoneView, by="anna", why="the rack is moved")
    try:
        assert served.daemon.reconcile_pass(frozenset({SYNC})) is None
        found = served.samples()
    finally:
        served.api.ask("resume", DoneView, by="anna")
    assert found["mvd_host_suspended"] == [({}, 1.0)]
    assert ({"result": "given_up"}, before["given_up"] + 1.0) in found["mvd_passes_total"]
    assert ({"result": "complete"}, float(before["complete"])) in found["mvd_passes_total"]


def test_a_server_that_fleet_yaml_drains_is_shown_as_drained(served: Served) -> None:
    place = served.folder.parent / "config.git"
    repository = Repository("acme/config", place, place.as_uri())
    hosts = {"hosts": {served.daemon._wired.host.name: {"drain": True}}}
    assert served.samples()["mvd_host_drained"] == [({}, 0.0)]
    served.daemon._wired.mailbox.take(0)  # what other tests have asked for
    commit = repository.commit({"fleet.yaml": json.dumps(hosts)}, "Drain it")
    served.daemon.reconcile_pass(frozenset({SYNC}))
    try:
        assert served.samples()["mvd_host_drained"] == [({}, 1.0)]
        drained = served.api.ask("status", HostView).drained
        assert drained
        assert drained.since
        assert (drained.since.commit, drained.since.subject) == (commit, "Drain it")
    finally:
        repository.commit({"fleet.yaml": None}, "Undrain it")
        served.daemon.reconcile_pass(frozenset({SYNC}))
    assert served.samples()["mvd_host_drained"] == [({}, 0.0)]


def test_who_looks_on_and_breaks_ends_no_pass(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    def broken(operation: object) -> None:
        raise KeyError("broken")

    told = served.daemon._wired.operations.told
    told.insert(0, broken)
    before = served.daemon._wired.counts.counted().passes["complete"]
    try:
        assert served.daemon.reconcile_pass(frozenset({SYNC}))
    finally:
        told.remove(broken)
    assert served.daemon._wired.counts.counted().passes["complete"] == before + 1
    assert "internal error operation=" in caplog.text


def test_promtool_finds_nothing_to_lint(served: Served, promtool: str) -> None:
    limits.note("a forge", {"X-RateLimit-Remaining": "1", "X-RateLimit-Limit": "2", "X-RateLimit-Reset": "1796037356"})
    try:
        _, _, body = served.get("/metrics")
    finally:
        limits._last.clear()
    checked = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


# ---- who answers -----------------------------------------------------------------------------------------------------


def test_the_local_api_has_them_too(served: Served) -> None:
    answer = raw(served.folder / "api.sock", b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Type: text/plain; version=0.0.4; charset=utf-8" in head
    assert read(body.decode()).keys() == served.samples().keys()


def test_prometheus_gets_openmetrics_and_packed_answers_where_it_asks_for_them(served: Served) -> None:
    status, headers, body = served.get(
        "/metrics", Accept="application/openmetrics-text; version=1.0.0", Accept_Encoding="gzip"
    )
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert headers["Content-Type"].startswith("application/openmetrics-text")
    assert gzip.decompress(body).endswith(b"# EOF\n")


def test_the_checks_answer_at_the_port(served: Served) -> None:
    assert served.get("/healthz")[::2] == (200, b"the loop is at work\n")
    assert served.get("/readyz")[0] == 200
    served.daemon.answers.is_alive = lambda: False
    try:
        status, _, body = served.get("/healthz")
    finally:
        served.daemon.answers.is_alive = lambda: True
    assert (status, body.startswith(b"the loop does not go on")) == (503, True)


def test_the_port_answers_head_without_a_body(served: Served) -> None:
    for path in ("/metrics", "/healthz"):
        with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
            connection.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            said = connection.makefile("rb").read()
        assert said.startswith(b"HTTP/1.1 200 "), path
        assert said.endswith(b"\r\n\r\n"), path


def test_all_else_is_not_at_the_port(served: Served) -> None:
    for path in ("/", "/v1/status", "/metrics/", "/favicon.ico"):
        assert served.get(path)[0] == 404, path
    for path in ("/metrics", "/v1/sync"):
        assert served.get(path, method="POST")[0] == 405


def test_silent_clients_and_those_that_read_nothing_hold_up_nobody(served: Served) -> None:
    with ExitStack() as parts:
        for number in range(small_server.MOST_CONNECTIONS + 20):
            client = parts.enter_context(socket.create_connection(("127.0.0.1", served.port), timeout=30))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" if number % 2 else b"GET /met")
        assert served.get("/metrics")[0] == 200
        with pytest.raises(Refused):
            served.api.ask("operation", DoneView, id=99)


def test_whoever_does_not_read_is_cut_off_in_the_middle() -> None:
    whole = 64 << 20

    def much(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        start("200 OK", [("Content-Length", str(whole))])
        return [b"x" * whole]

    listener = listen("127.0.0.1", 0)
    server = Server(listener, much, LogThrottle(), within=0.5, refused="scrape refused")
    with serving(server), socket.create_connection(listener.getsockname(), timeout=30) as client:
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        while not server._server.active_channels:
            time.sleep(0.01)
        while server._server.active_channels:
            time.sleep(0.01)
        got = 0
        with suppress(ConnectionResetError):
            while part := client.recv(1 << 20):
                got += len(part)
    assert got < whole


def test_a_port_that_is_taken_is_an_error_that_says_what_to_change() -> None:
    with listen("127.0.0.1", 0) as taken:
        at = f"127.0.0.1:{taken.getsockname()[1]}"
        thread = metrics_thread(at, lambda: pytest.fail("nobody is served"))
        with pytest.raises(Unavailable, match=f"cannot listen for Prometheus at {at}: .*Change `metrics.listen`"):
            thread.run(None, lambda: None)  # type: ignore[arg-type]  # it ends before


def test_a_history_that_does_not_answer_is_a_scrape_that_fails(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(ask: bool) -> None:
        raise Unavailable("the history does not answer")

    monkeypatch.setattr(served.daemon.answers, "status", broken)
    status, _, body = served.get("/metrics")
    assert (status, body) == (503, b"the history does not answer\n")
    assert not [it for it in caplog.records if it.levelno >= logging.ERROR]


# ---- what reads them -------------------------------------------------------------------------------------------------


def test_the_alert_rules_say_what_they_should(promtool: str, tmp_path: Path) -> None:
    for file in (resources.files("gitops_mvd.metrics") / "rules.yaml", FIXTURES / "rules-test.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    for words in (("check", "rules", "--lint-fatal", "rules.yaml"), ("test", "rules", "rules-test.yaml")):
        ended = subprocess.run([promtool, *words], cwd=tmp_path, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_is_tested() -> None:
    rules = yaml.safe_load((resources.files("gitops_mvd.metrics") / "rules.yaml").read_text())
    tests = yaml.safe_load((FIXTURES / "rules-test.yaml").read_text())["tests"]
    fired = {it["alertname"] for test in tests for it in test["alert_rule_test"] if it.get("exp_alerts")}
    assert fired == {rule["alert"] for group in rules["groups"] for rule in group["rules"]}


def test_the_command_prints_both() -> None:
    mvd = (sys.executable, "-m", "gitops_mvd")
    for name, first in (("dashboard", "{"), ("rules", "#")):
        said = subprocess.run([*mvd, "metrics", name], capture_output=True, text=True, check=True).stdout
        assert said.startswith(first)
    listed = subprocess.run([*mvd, "metrics"], capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in listed.splitlines()} == {"dashboard", "rules"}
    wrong = subprocess.run([*mvd, "metrics", "page"], capture_output=True, text=True)
    assert (wrong.returncode, "no such file: page" in wrong.stderr) == (1, True)


def test_the_dashboard_is_whole() -> None:
    board = json.loads((resources.files("gitops_mvd.metrics") / "dashboard.json").read_text())
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [panel["gridPos"] for panel in board["panels"]]
    wide, high = ([range(it[at], it[at] + it[size]) for it in places] for at, size in (("x", "w"), ("y", "h")))
    cells = [(x, y) for xs, ys in zip(wide, high, strict=True) for x in xs for y in ys]
    assert len(set(cells)) == len(cells), "two panels lie over each other"
    assert max(x for x, _ in cells) < 24
    assert all(panel.get("description") for panel in board["panels"] if panel["type"] != "row")
