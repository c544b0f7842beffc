"""The Kong before several servers that the guide has: what `fleet.yaml` makes of it is a configuration of Kong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from gitops_mvd.manifest import load, read_fleet
from tests.lab.kong_standin import StandIn
from tests.pages import GUIDE, blocks
from tests.unit.memory_tree import MemoryTree

ADDRESSES = {"web-1": "10.1.0.11:8000", "web-2": "10.1.0.12:8000"}
TIMES = 20


@contextmanager
def server(name: str) -> Iterator[ThreadingHTTPServer]:
    """One of the servers behind it, which says its name."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(name)))
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *words: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield listening
        finally:
            listening.shutdown()
            thread.join()


def configuration() -> str:
    """The file of the app `front` on the host that it is for."""
    written = {block.place: block.text for block in blocks(GUIDE / "balancer.md")}  # the last fleet.yaml counts
    tree = MemoryTree({place: text for place, text in written.items() if place.startswith(("fleet", "apps/front/"))})
    [app], broken = load(tree, read_fleet(tree).host("lb-1"))
    assert not broken
    [kong] = app.services
    [file] = kong.files
    return file.files[""]


@pytest.fixture
def answers(tmp_path: Path) -> Iterator[dict[str, object]]:
    """What a Kong with that configuration answers, and its servers by name."""
    with ExitStack() as stack:
        servers = {name: stack.enter_context(server(name)) for name in ADDRESSES}
        text = configuration()
        for name, address in ADDRESSES.items():
            assert address in text
            text = text.replace(address, f"127.0.0.1:{servers[name].server_port}")
        file = tmp_path / "kong.yaml"
        file.write_text(text)
        gateway = stack.enter_context(StandIn(tmp_path / "kong", declarative=file))
        yield {"url": gateway.proxy_url, **servers}


def asked(url: object) -> list[str]:
    with requests.Session() as session:
        session.trust_env = False
        return [session.get(f"{url}/anything", timeout=5).text for _ in range(TIMES)]


def test_it_asks_both_servers_and_the_other_one_if_one_is_gone(answers: dict[str, object]) -> None:
    assert set(asked(answers["url"])) == {"web-1", "web-2"}
    gone = answers["web-1"]
    assert isinstance(gone, ThreadingHTTPServer)
    gone.shutdown()
    gone.socket.close()
    assert set(asked(answers["url"])) == {"web-2"}
