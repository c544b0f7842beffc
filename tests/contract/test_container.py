"""What is asked inside a container, of a stand-in engine whose answers take the turns that a real one seldom takes."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from gitops_mvd.core.errors import StepFailed, Unavailable
from gitops_mvd.docker.container import STAT, Ran, execute, modified, stat, text


def frame(text: str, stream: int = 1) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text.encode()


class StandIn(ThreadingHTTPServer):
    """Runs a command: `output` is sent in these pieces, each a moment after the other, and `states` tells how it is.

    After the pieces it holds the stream open until `hangs_up`, and the last of the states is told again and again.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.made: tuple[int, Any] = (201, {"Id": "e1"})
        self.output: list[bytes] = []
        self.hangs_up = threading.Event()
        self.states: list[dict[str, Any]] = [{"Running": False, "ExitCode": 0, "Pid": 0}]
        self.files: dict[str, dict[str, Any]] = {}

    def execute(self, within: float = 5) -> Ran:
        with requests.Session() as session:
            return execute(session, f"http://127.0.0.1:{self.server_port}", "web", ["a"], within)

    def modified(self, path: str) -> float | None:
        with requests.Session() as session:
            return modified(session, f"http://127.0.0.1:{self.server_port}", "web", path, 5)


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/containers/web/exec":
            return self._answer(*self.server.made)
        self.send_response(200)
        self.end_headers()
        for piece in self.server.output:
            self.wfile.write(piece)
            time.sleep(0.01)
        self.server.hangs_up.wait(10)

    def do_GET(self) -> None:
        if urlsplit(self.path).path.endswith("/archive"):
            return self._archive(*parse_qs(urlsplit(self.path).query)["path"])
        states = self.server.states
        self._answer(200, states.pop(0) if len(states) > 1 else states[0])

    def do_HEAD(self) -> None:
        [path] = parse_qs(urlsplit(self.path).query)["path"]
        stat = self.server.files.get(path)
        self.send_response(200 if stat else 500 if path == "/broken" else 404)
        if stat:
            self.send_header(
                STAT, base64.b64encode(json.dumps({"linkTarget": "", "mode": 0o644, **stat}).encode()).decode()
            )
        self.end_headers()

    def _archive(self, path: str) -> None:
        """The file in an archive, encoded for whoever does not say that it wants it plain."""
        found = self.server.files.get(path)
        if found is None:
            return self._answer(500 if path == "/broken" else 404, {"message": "mount /x: not a directory"})
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            entry, content = tarfile.TarInfo(path.rpartition("/")[2]), found["text"].encode()
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        self.send_response(200)
        if self.headers.get("Accept-Encoding") != "identity":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(buffer.getvalue())
        return None

    def _answer(self, status: int, value: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(value).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def engine() -> Iterator[StandIn]:
    with StandIn() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.hangs_up.set()
        server.shutdown()
        thread.join()


RUNS = {"Running": True, "ExitCode": None, "Pid": 0}


def test_what_is_printed_is_put_together_wherever_it_was_cut(engine: StandIn) -> None:
    engine.hangs_up.set()
    whole = frame("one\ntw") + frame("", 2) + frame("o\n", 2)
    engine.output = [whole[n : n + 1] for n in range(len(whole))]
    assert engine.execute() == Ran(0, "one\ntwo\n")


def test_only_the_end_of_what_is_printed_is_kept(engine: StandIn) -> None:
    engine.hangs_up.set()
    engine.output = [frame("x" * 30000)] * 3 + [frame("the end")]
    ran = engine.execute()
    assert (len(ran.printed), ran.printed[-8:]) == (4096, "xthe end")


def test_an_end_of_the_output_is_not_taken_for_that_of_the_command(engine: StandIn) -> None:
    engine.hangs_up.set()
    engine.states = [RUNS, RUNS, {"Running": False, "ExitCode": 7, "Pid": 0}]
    assert engine.execute() == Ran(7)


def test_a_command_that_goes_on_is_left_at_its_deadline(engine: StandIn) -> None:
    engine.output, engine.states = [frame("waiting")], [RUNS]
    began = time.monotonic()
    assert engine.execute(within=0.3) == Ran(None, killed=False)
    assert time.monotonic() - began >= 0.3


def test_a_process_of_the_host_is_never_killed(engine: StandIn) -> None:
    """An engine on another machine, or in a namespace that is not ours, counts processes in its own way."""
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as innocent:
        engine.states = [{**RUNS, "Pid": innocent.pid}]
        assert engine.execute(within=0.1) == Ran(None, killed=False)
        assert innocent.poll() is None
        innocent.kill()


def test_a_process_that_is_gone_already_counts_as_killed(engine: StandIn) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    engine.states = [{**RUNS, "Pid": gone.pid}]
    assert engine.execute(within=0.1).killed


@pytest.mark.parametrize(("status", "error"), [(409, StepFailed), (404, StepFailed), (500, Unavailable)])
def test_what_the_engine_refuses_is_told_in_its_own_words(engine: StandIn, status: int, error: type[Exception]) -> None:
    engine.made = status, {"message": "Container 0123 is paused"}
    with pytest.raises(error, match="could not run a command in container web: Container 0123 is paused"):
        engine.execute()


def test_a_file_has_its_time_whatever_the_zone_of_the_engine(engine: StandIn) -> None:
    engine.files = {
        "/utc": {"mtime": "2026-11-25T23:06:49.246369864Z"},
        "/east": {"mtime": "2026-11-26T00:06:49.246369864+01:00"},
        "/even": {"mtime": "2026-11-25T23:06:49Z"},
    }
    assert engine.modified("/utc") == engine.modified("/east") == 1795648009.246369
    assert engine.modified("/even") == 1795648009


def test_a_link_has_the_time_of_what_it_leads_to(engine: StandIn) -> None:
    engine.files = {
        "/link": {"mtime": "2026-01-01T00:00:00Z", "linkTarget": "/file"},
        "/file": {"mtime": "2026-11-25T23:06:49Z"},
        "/dangling": {"mtime": "2026-01-01T00:00:00Z", "linkTarget": "/gone"},
    }
    assert engine.modified("/link") == 1795648009
    assert engine.modified("/dangling") is None


def test_a_file_that_can_not_be_looked_at_is_not_a_missing_one(engine: StandIn) -> None:
    with pytest.raises(Unavailable, match="could not look for /broken in container web"):
        engine.modified("/broken")
    assert engine.modified("/missing") is None


def test_a_file_of_a_container_is_read_and_a_missing_one_is_none(engine: StandIn) -> None:
    engine.files["/etc/passwd"] = {"mtime": "2026-01-01T10:00:00Z", "text": "root:x:0:0\n"}
    with requests.Session() as session:
        root = f"http://127.0.0.1:{engine.server_port}"
        assert text(session, root, "web", "/etc/passwd", 5) == "root:x:0:0\n"
        assert text(session, root, "web", "/etc/group", 5) is None
        assert stat(session, root, "web", "/etc/group", 5) is None


def test_why_a_container_cannot_be_looked_into_is_told(engine: StandIn) -> None:
    """An answer to HEAD has no content, so it is asked again."""
    with (
        requests.Session() as session,
        pytest.raises(Unavailable, match=r"look for /broken .*: mount /x: not a directory"),
    ):
        stat(session, f"http://127.0.0.1:{engine.server_port}", "web", "/broken", 5)
