"""What a rollout asks between two waves, over a real connection."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from gitops_mvd.core.waves import Question
from gitops_mvd.daemon.gate_questions import ask


def vector(*values: str) -> str:
    return json.dumps({"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1, it]} for it in values]}})


SCALAR = '{"data": {"resultType": "scalar", "result": [1, "%s"]}}'
ANSWERS: dict[str, tuple[int, str]] = {
    "/well": (204, ""),
    "/sick": (503, "<h1>Overloaded</h1>"),
    "/moved": (302, ""),
    "/large": (200, "x" * (2 << 20)),
    "/open/api/v1/query": (200, vector("0.2")),
    "/shut/api/v1/query": (200, vector()),
    "/one/api/v1/query": (200, SCALAR % "1"),
    "/zero/api/v1/query": (200, SCALAR % "0"),
    "/page/api/v1/query": (200, "<html>"),
    "/deep/api/v1/query": (200, "[" * 100_000),
    "/wrong/api/v1/query": (400, '{"error": "parse error"}'),
}


class Handler(BaseHTTPRequestHandler):
    asked: list[tuple[str, Any]] = []  # noqa: RUF012

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization")))
        code, text = ANSWERS[self.path.partition("?")[0]]
        self.send_response(code)
        self.send_header("Content-Length", str(len(text.encode()) if code != 204 else 0))
        if code == 302:
            self.send_header("Location", "http://127.0.0.1:1/secret")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


def own_address() -> str:
    """An address of this machine that is no loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError:
            pytest.skip("this machine has no address but its loopback")
        return str(asking.getsockname()[0])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer((own_address(), 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://{made.server_address[0]}:{made.server_port}"
        made.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/well", ""),
        ("/sick", "answers 503: Overloaded"),
        ("/moved", "answers 302"),
        ("/large", "cannot ask "),
    ],
)
def test_a_page_opens_the_gate_by_200_to_299_alone(server: str, path: str, why: str) -> None:
    said = ask(Question(f"{server}{path}"))
    assert why in said
    assert bool(said) == bool(why)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/open", ""),
        ("/one", ""),
        ("/shut", "the query returns nothing"),
        ("/zero", "the query returns nothing"),
        ("/page", "answers something else than a Prometheus"),
        ("/deep", "answers something else than a Prometheus"),
        ("/wrong", "answers 400"),
    ],
)
def test_a_prometheus_opens_it_by_returning_anything(server: str, path: str, why: str) -> None:
    said = ask(Question(f"{server}{path}", 'sum(rate(errors[5m])) < 1 or up{a="b"}'))
    assert why in said
    assert bool(said) == bool(why)
    asked, login = Handler.asked[-1]
    assert asked.endswith("?query=sum%28rate%28errors%5B5m%5D%29%29+%3C+1+or+up%7Ba%3D%22b%22%7D")
    assert login is None


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "0.0.0.0"])
def test_what_only_this_server_reaches_is_not_asked(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert "leads to this server itself" in ask(Question(f"http://{host}:{port}/"))
        listening.settimeout(0.05)
        with pytest.raises(TimeoutError):
            listening.accept()


def test_nobody_there_keeps_the_gate_closed() -> None:
    with socket.create_server((own_address(), 0)) as taken:
        port = taken.getsockname()[1]
    assert ask(Question(f"http://{own_address()}:{port}/")).startswith("cannot ask ")
    assert ask(Question("http://nowhere.invalid/")) == "cannot ask nowhere.invalid: unknown host name"
