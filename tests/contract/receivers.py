"""Real receivers of notifications on this machine: a mail server, a webhook, and some that are slow, full or away."""

from __future__ import annotations

import email
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = cast(Receiver, self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        server.seen.append((self.path, json.loads(body)))
        self.send_response(server.answer)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Receiver(ThreadingHTTPServer):
    """A web server that notes what is posted to it, and answers with the code `answer`."""

    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None:
        super().__init__((host, port), Webhook)
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self.answer = 200

    @property
    def at(self) -> str:
        return f"{self.server_address[0]!s}:{self.server_address[1]}"


@contextmanager
def webhook(port: int = 0, host: str = "127.0.0.1") -> Iterator[Receiver]:
    with Receiver(port, host) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Mails:
    """The mails that a server has taken; who is not of `example.org` has no mailbox there."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.at = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if not address.endswith("@example.org"):
            return "550 no such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.taken.append(email.message_from_bytes(envelope.content))
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[Mails]:
    mails = Mails()
    controller = Controller(mails, hostname="127.0.0.1", port=free_port())
    controller.start()
    mails.at = f"127.0.0.1:{controller.port}"
    try:
        yield mails
    finally:
        controller.stop()


@contextmanager
def hanging() -> Iterator[str]:
    """The address of somebody who accepts connections, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
