"""Stands in for a Vault with the key-value engine, version 2, and an AppRole; as sick as a test wants it.

What it answers is what Vault's API documentation has: https://developer.hashicorp.com/vault/api-docs/secret/kv/kv-v2
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hvs.the-token-of-this-host"
ROLE, SECRET_ID = "a-role-id", "a-secret-id-of-this-host"


class StandIn:
    def __init__(self) -> None:
        self.secrets: dict[str, dict[str, Any]] = {}  # path -> key -> value
        self.tokens = {TOKEN}
        self.logins = 0
        self.asked: list[tuple[str, str]] = []
        self.sick = ""  # or hang, drip, garbage, huge, sealed, redirect, odd
        self.over = threading.Event()
        self.url = ""

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, object]:
        self.asked.append((method, path))
        if path == "/v1/auth/approle/login":
            given = json.loads(body)
            if given != {"role_id": ROLE, "secret_id": SECRET_ID}:
                return 400, {"errors": ["invalid role or secret ID"]}
            self.logins += 1
            self.tokens = {f"hvs.login-{self.logins}"}
            return 200, {"auth": {"client_token": f"hvs.login-{self.logins}", "lease_duration": 3600}}
        if token not in self.tokens:
            return 403, {"errors": ["permission denied"]}
        if self.sick == "sealed":
            return 503, {"errors": ["Vault is sealed"]}
        if self.sick == "odd":
            return 200, {"data": ["not", "what", "is", "documented"]}
        data = self.secrets.get(path.removeprefix("/v1/"))
        if data is None:
            return 404, {"errors": []}
        return 200, {"data": {"data": data, "metadata": {"version": 1, "destroyed": False}}, "lease_duration": 0}


@contextmanager
def vault() -> Iterator[StandIn]:
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            sick = stand_in.sick
            if sick == "hang":
                stand_in.over.wait(30)
                return
            if sick == "garbage":
                self.wfile.write(b"\x00\xff not HTTP at all\r\n\r\n")
                self.close_connection = True
                return
            if sick == "redirect":
                self.send_response(307)
                self.send_header("Location", "http://127.0.0.1:1/v1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            token = self.headers.get("X-Vault-Token", "")
            status, answer = stand_in.answer(self.command, self.path, token, body)
            content = json.dumps(answer).encode()
            if sick == "huge":
                content += b" " * (8 << 20)
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if sick == "drip":
                for byte in content:
                    if stand_in.over.wait(0.2):
                        return
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()
            self.wfile.write(content)

        do_POST = do_GET

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:  # who hangs up in the middle is what a test is about
            pass

    server = Server(("127.0.0.1", 0), Handler)
    stand_in.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
