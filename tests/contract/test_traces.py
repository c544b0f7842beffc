"""Operations as traces, sent by the real exporter to a receiver of OTLP over HTTP that reads what comes."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from msgspec.structs import replace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gitops_mvd.api.views import DONE, FAILED, CommitView, OperationView, PhaseView, ResultView, StepView
from gitops_mvd.config.settings import Settings
from gitops_mvd.config.settings.metrics import Traces as TracesSettings
from gitops_mvd.core.errors import Unavailable
from gitops_mvd.daemon.wiring import wire
from gitops_mvd.metrics import traces
from gitops_mvd.metrics.traces import MOST_WAITING, Traces
from tests.threads import kept

COMMIT = CommitView("0123456789abcdef0123456789abcdef01234567", "Deploy shop", "anna", 999.0)
CREATE = StepView("shop", "web", "create", "unit", "mvd-shop-web-1", began=1003.0, seconds=0.5, state=DONE)
WAITED = StepView(
    "shop", "web", "wait", "unit", "mvd-shop-web-1", began=1004.0, seconds=5.0, state=FAILED, why="http /health: 404"
)
OPERATION = OperationView(
    7,
    COMMIT,
    ("push",),
    1000.0,
    1010.0,
    phases=(PhaseView("fetch", 1000.0, 1.0), PhaseView("apply", 1002.0, 8.0)),
    steps=(CREATE, WAITED),
    results=(ResultView("shop", "OutOfSync", "Healthy", "RolledBack", "http /health: 404"),),
)
GREEN = replace(OPERATION, steps=(CREATE,), results=(ResultView("shop", "Synced", "Healthy", "Succeeded"),))


@dataclass
class Receiver:
    """Takes traces at `url`, or answers with another `status`, or nothing as long as it is `silent`."""

    url: str = ""
    status: int = 200
    silent: threading.Event = field(default_factory=threading.Event)
    requests: list[ExportTraceServiceRequest] = field(default_factory=list)

    def spans(self) -> list[Span]:
        return [
            span for it in self.requests for of in it.resource_spans for scope in of.scope_spans for span in scope.spans
        ]

    def resource(self) -> dict[str, str]:
        return {it.key: it.value.string_value for it in self.requests[0].resource_spans[0].resource.attributes}


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            while receiver.silent.is_set() and not over.is_set():
                time.sleep(0.01)
            if self.path == "/v1/traces" and receiver.status == 200:
                receiver.requests.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(receiver.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            over.set()
            server.shutdown()
            thread.join(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


def until(came_true: object, within: float = 20.0) -> None:
    assert callable(came_true)
    ends = time.monotonic() + within
    while not came_true():
        assert time.monotonic() < ends
        time.sleep(0.01)


def attributes(span: Span) -> dict[str, str]:
    return {it.key: it.value.string_value for it in span.attributes if it.value.string_value}


def test_an_operation_is_a_span_with_its_phases_and_steps_below_it(receiver: Receiver) -> None:
    sender = Traces("srv1", "1.0", receiver.url)
    with kept(sender.run, sender.wake):
        sender.passed(OPERATION)
        until(receiver.spans)
    found = {span.name: span for span in receiver.spans()}
    assert set(found) == {"operation srv1", "fetch", "apply", "create unit", "wait unit"}
    assert {span.trace_id.hex() for span in found.values()} == {COMMIT.commit[:32]}
    whole, apply, gate = found["operation srv1"], found["apply"], found["wait unit"]
    assert not whole.parent_span_id
    assert (apply.parent_span_id, gate.parent_span_id) == (whole.span_id, apply.span_id)
    assert len({span.span_id for span in found.values()}) == 5
    assert (whole.start_time_unix_nano, whole.end_time_unix_nano) == (1000 * 10**9, 1010 * 10**9)
    assert (gate.start_time_unix_nano, gate.end_time_unix_nano) == (1004 * 10**9, 1009 * 10**9)
    assert (gate.status.code, gate.status.message) == (Status.STATUS_CODE_ERROR, "http /health: 404")
    assert (whole.status.code, whole.status.message) == (Status.STATUS_CODE_ERROR, "shop: http /health: 404")
    assert found["create unit"].status.code == Status.STATUS_CODE_OK
    assert attributes(gate) == {
        "mvd.app": "shop",
        "mvd.service": "web",
        "mvd.kind": "unit",
        "mvd.name": "mvd-shop-web-1",
        "mvd.verb": "wait",
        "mvd.state": "failed",
    }
    assert attributes(whole)["vcs.ref.head.revision"] == COMMIT.commit
    assert receiver.resource()["host.name"] == "srv1"
    assert sender.outcomes() == {"sent": 1, "failed": 0, "dropped": 0}


def test_two_hosts_and_passes_of_a_commit_meet_in_one_trace(receiver: Receiver) -> None:
    for host in ("srv1", "srv2"):
        sender = Traces(host, "1.0", receiver.url)
        with kept(sender.run, sender.wake):
            sender.passed(GREEN)
            sender.passed(GREEN)
            until(lambda of=sender: of.outcomes()["sent"] == 2)
    operations = [span for span in receiver.spans() if span.name.startswith("operation")]
    assert len({span.span_id for span in operations}) == 4
    assert len({span.trace_id for span in operations}) == 1
    assert {span.status.code for span in operations} == {Status.STATUS_CODE_OK}


def test_a_pass_without_a_step_is_not_sent(receiver: Receiver) -> None:
    sender = Traces("srv1", "1.0", receiver.url)
    with kept(sender.run, sender.wake):
        sender.passed(replace(OPERATION, steps=()))
        sender.passed(GREEN)
        until(receiver.spans)
    assert sender.outcomes()["sent"] == 1


@pytest.mark.parametrize("status", [400, 401, 503])
def test_a_collector_that_refuses_is_counted_and_told_once(
    receiver: Receiver, status: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "gitops_mvd")
    monkeypatch.setattr(traces, "WITHIN_SECONDS", 0.5)
    receiver.status = status
    sender = Traces("srv1", "1.0", receiver.url)
    with kept(sender.run, sender.wake):
        sender.passed(GREEN)
        sender.passed(GREEN)
        until(lambda: sender.outcomes()["failed"] == 2)
        receiver.status = 200
        sender.passed(GREEN)
        until(lambda: sender.outcomes()["sent"] == 1)
    ours = [it.message for it in caplog.records if it.name == traces.log.name]
    assert [text.partition(" at=")[0] for text in ours] == ["traces are not taken", "traces are taken again"]
    assert not [it for it in caplog.records if it.name.startswith("opentelemetry")]


def test_a_collector_that_is_silent_or_away_costs_a_few_kept_operations_and_a_count(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "WITHIN_SECONDS", 0.5)
    receiver.silent.set()
    for url in (receiver.url, "http://127.0.0.1:1"):
        sender = Traces("srv1", "1.0", url)
        with kept(sender.run, sender.wake):
            began = time.thread_time()
            for _ in range(MOST_WAITING * 5):
                sender.passed(GREEN)
            assert time.thread_time() - began < 5, "nobody waits for it"
            until(lambda of=sender: of.outcomes()["failed"])
        assert sender.outcomes()["sent"] == 0
        assert sender.outcomes()["dropped"] >= MOST_WAITING * 3


def test_without_the_extra_the_settings_are_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(str(tmp_path), state=str(tmp_path), traces=TracesSettings("http://127.0.0.1:4318"))
    wire(settings, tmp_path / "config.yaml").close()
    monkeypatch.setattr(traces, "EXTRA", "opentelemetry.nowhere.at.all")
    with pytest.raises(Unavailable, match=r"needs OpenTelemetry.*pip install 'gitops-mvd\[traces\]'"):
        wire(settings, tmp_path / "config.yaml")


def test_nothing_of_it_is_loaded_without_an_endpoint() -> None:
    program = "import sys, gitops_mvd.daemon.loop; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"opentelemetry", "google.protobuf", "prometheus_client"} & set(loaded) == set()
